//! Trees of names in the JSON that Linkerd's playground and namerd's clients read: of explanations, and of bound names.

use http::HeaderValue;
use serde::Serialize;
use serin_config::dtab::{self, BindError, Bound, Delegation, Explained, Layers, Limits, NameTree, Names, Path, Table};

use crate::endpoints::{Address, Addresses, Cluster, Place};

/// One node.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Node {
    Alt {
        #[serde(flatten)]
        head: Head,
        alt: Vec<Node>,
    },
    Delegate {
        #[serde(flatten)]
        head: Head,
        delegate: Box<Node>,
    },
    Empty {
        #[serde(flatten)]
        head: Head,
    },
    Exception {
        #[serde(flatten)]
        head: Head,
        message: String,
    },
    Fail {
        #[serde(flatten)]
        head: Head,
    },
    Leaf {
        #[serde(flatten)]
        head: Head,
        bound: Leaf,
    },
    Neg {
        #[serde(flatten)]
        head: Head,
    },
    Union {
        #[serde(flatten)]
        head: Head,
        union: Vec<Branch>,
    },
}

/// What every node has.
#[derive(Debug, Serialize)]
pub(crate) struct Head {
    /// Absent in trees of bound names.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dentry: Option<Dentry>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Dentry {
    prefix: String,
    dst: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Branch {
    weight: f64,
    tree: Node,
}

#[derive(Debug, Serialize)]
pub(crate) struct Leaf {
    addr: Addr,
    id: String,
    path: String,
}

/// What is known of a bound name's addresses.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Addr {
    Bound { addrs: Vec<Socket>, meta: Meta },
    Failed { cause: String },
    Neg,
    Pending,
}

#[derive(Debug, Serialize)]
pub(crate) struct Socket {
    ip: String,
    port: u16,
    meta: Meta,
}

/// What is known beside where it is, under the keys that Finagle gives it; what goes without saying is left out.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Meta {
    /// The `Host` that requests are to carry: of all addresses together.
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
    /// The share of one address; without it, 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_addr_weight: Option<f64>,
}

impl Addr {
    /// Of a cluster, for those who look at this process: with its Unix sockets.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let authority = cluster.authority();
        Self::new(&cluster.addresses().load().addresses, authority.as_ref(), true)
    }

    /// For peers, who are to connect there themselves: a Unix socket is this host's, and left out.
    pub(crate) fn for_peers(addresses: &Addresses, authority: Option<&HeaderValue>) -> Self {
        Self::new(addresses, authority, false)
    }

    fn new(addresses: &Addresses, authority: Option<&HeaderValue>, unix: bool) -> Self {
        match addresses {
            Addresses::Bound(addresses) => {
                let addrs = addresses.iter().filter_map(|address| socket(address, unix)).collect();
                let authority = authority.and_then(|host| host.to_str().ok()).map(str::to_owned);
                Self::Bound { addrs, meta: Meta { authority, endpoint_addr_weight: None } }
            }
            Addresses::Failed(cause) => Self::Failed { cause: cause.to_string() },
            Addresses::Absent(_) | Addresses::Neg => Self::Neg,
            Addresses::Pending => Self::Pending,
        }
    }
}

fn socket(address: &Address, unix: bool) -> Option<Socket> {
    let weight = Some(address.weight).filter(|weight| *weight != 1.0);
    let meta = Meta { authority: None, endpoint_addr_weight: weight };
    match &address.socket {
        Place::Inet(socket) => Some(Socket { ip: socket.ip().to_string(), port: socket.port(), meta }),
        Place::Unix(_) if unix => Some(Socket { ip: address.socket.to_string(), port: 0, meta }),
        Place::Unix(_) => None,
    }
}

/// Every way of a name through a dtab.
///
/// # Errors
/// The tree is too large to show, or too deep where no alternative is around it.
pub(crate) fn tree(
    table: &Table,
    names: &dyn Names,
    path: &Path,
    addr: &dyn Fn(&Path) -> Addr,
) -> Result<Node, BindError> {
    let layers = Layers { base: table, written: &[], sent: &[] };
    Ok(node(dtab::explain(&layers, names, path, &Limits::default())?, addr))
}

/// What a namerd binds a name to. Which dentries led there it does not say.
pub(crate) fn told(path: &Path, tree: &NameTree<Bound>, addr: &dyn Fn(&Path) -> Addr) -> Node {
    let head = Head { path: Some(path.to_string()), dentry: None };
    Node::Delegate { head, delegate: Box::new(bound(tree, addr)) }
}

/// A bound tree whose alternatives are decided: what a name is bound to right now.
pub(crate) fn bound(tree: &NameTree<Bound>, addr: &dyn Fn(&Path) -> Addr) -> Node {
    let head = || Head { path: None, dentry: None };
    match tree {
        NameTree::Alt(children) => {
            Node::Alt { head: head(), alt: children.iter().map(|child| bound(child, addr)).collect() }
        }
        NameTree::Empty => Node::Empty { head: head() },
        NameTree::Fail => Node::Fail { head: head() },
        NameTree::Leaf(Bound::Error(error)) => Node::Exception { head: head(), message: error.to_string() },
        NameTree::Leaf(Bound::Name { id, residual, .. }) => {
            Node::Leaf { head: head(), bound: Leaf { addr: addr(id), id: id.to_string(), path: residual.to_string() } }
        }
        NameTree::Leaf(Bound::Pending) => Node::Exception { head: head(), message: NOT_KNOWN_YET.into() },
        NameTree::Neg => Node::Neg { head: head() },
        NameTree::Union(union) => {
            let branch =
                |branch: &dtab::Branch<Bound>| Branch { weight: branch.weight.get(), tree: bound(&branch.tree, addr) };
            Node::Union { head: head(), union: union.branches.iter().map(branch).collect() }
        }
    }
}

const NOT_KNOWN_YET: &str = "the namer does not know yet";

/// As deep as the explanation, which is bounded.
pub(crate) fn node(delegation: Delegation, addr: &dyn Fn(&Path) -> Addr) -> Node {
    let dentry = delegation.dentry.map(|(prefix, dst)| Dentry { prefix, dst });
    let head = Head { path: Some(delegation.path), dentry };
    match delegation.is {
        Explained::Alt(children) => {
            Node::Alt { head, alt: children.into_iter().map(|child| node(child, addr)).collect() }
        }
        Explained::Delegate(child) => Node::Delegate { head, delegate: Box::new(node(*child, addr)) },
        Explained::Empty => Node::Empty { head },
        Explained::Exception(message) => Node::Exception { head, message },
        Explained::Fail => Node::Fail { head },
        Explained::Leaf { id, residual } => {
            Node::Leaf { head, bound: Leaf { addr: addr(&id), id: id.to_string(), path: residual.to_string() } }
        }
        Explained::Neg => Node::Neg { head },
        Explained::Pending => Node::Exception { head, message: NOT_KNOWN_YET.into() },
        Explained::Union(branches) => {
            let branch = |(weight, child): (dtab::Weight, _)| Branch { weight: weight.get(), tree: node(child, addr) };
            Node::Union { head, union: branches.into_iter().map(branch).collect() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::NameTable;
    use serin_config::dtab::Dtab;
    use std::sync::Arc;

    #[track_caller]
    fn check_json(dtab: &str, path: &str, expected: &str) {
        let table = Table::new(Arc::new(Dtab::parse(dtab).unwrap()));
        let tree = tree(&table, &NameTable::default(), &Path::parse(path).unwrap(), &|_| Addr::Neg).unwrap();
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(serde_json::to_value(tree).unwrap(), expected);
    }

    #[test]
    fn addresses_say_their_weight_and_their_host() {
        let address = |socket, weight| Address { socket, weight };
        let unix = Place::Unix(Arc::from(std::path::Path::new("/run/a")));
        let addresses = Addresses::Bound(Arc::new([
            address(Place::Inet("127.0.0.1:80".parse().unwrap()), 0.0),
            address(Place::Inet("[::1]:81".parse().unwrap()), 1.0),
            address(unix, 2.5),
        ]));
        let host = HeaderValue::from_static("web.test");
        let said = |unix| serde_json::to_value(Addr::new(&addresses, Some(&host), unix)).unwrap();
        let inet = [
            serde_json::json!({"ip": "127.0.0.1", "port": 80, "meta": {"endpoint_addr_weight": 0.0}}),
            serde_json::json!({"ip": "::1", "port": 81, "meta": {}}),
        ];
        let meta = serde_json::json!({"authority": "web.test"});
        assert_eq!(said(false), serde_json::json!({"type": "bound", "addrs": inet, "meta": meta}));
        let local = serde_json::json!({"ip": "unix:/run/a", "port": 0, "meta": {"endpoint_addr_weight": 2.5}});
        assert_eq!(said(true)["addrs"][2], local);
    }

    #[test]
    fn a_name_without_dentry_is_neg() {
        check_json("", "/svc/a", r#"{"type":"neg","path":"/svc/a"}"#);
    }

    #[test]
    fn a_delegate_shows_its_dentry_and_its_leaf() {
        let expected = r#"{"type":"delegate","path":"/svc","delegate":{
            "type":"leaf","path":"/$/inet/127.1/80","dentry":{"prefix":"/svc","dst":"/$/inet/127.1/80"},
            "bound":{"addr":{"type":"neg"},"id":"/$/inet/127.1/80","path":"/"}}}"#;
        check_json("/svc => /$/inet/127.1/80", "/svc", expected);
    }
}

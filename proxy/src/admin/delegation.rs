//! Trees of names in the JSON that Linkerd's playground and namerd's clients read: of explanations, and of bound names.

use serde::Serialize;
use serin_config::dtab::{self, BindError, Bound, Delegation, Explained, Layers, Limits, NameTree, Names, Path, Table};

use crate::endpoints::{Addresses, Cluster, Place};

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

/// Always `{}` for now: no namer here knows more.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Meta {}

impl Addr {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self::from(&cluster.addresses().load().addresses)
    }
}

impl From<&Addresses> for Addr {
    fn from(addresses: &Addresses) -> Self {
        match addresses {
            Addresses::Bound(addresses) => {
                let socket = |place: &Place| match place {
                    Place::Inet(socket) => Socket { ip: socket.ip().to_string(), port: socket.port(), meta: Meta {} },
                    Place::Unix(_) => Socket { ip: place.to_string(), port: 0, meta: Meta {} },
                };
                let addrs = addresses.iter().map(|address| socket(&address.socket));
                Self::Bound { addrs: addrs.collect(), meta: Meta {} }
            }
            Addresses::Failed(cause) => Self::Failed { cause: cause.to_string() },
            Addresses::Absent(_) | Addresses::Neg => Self::Neg,
            Addresses::Pending => Self::Pending,
        }
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

//! What a namerd says on its streams: JSON documents one behind the other. Pure.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use serin_config::dtab::{Branch, NameTree, Path, Union, Weight};

use crate::resolve::inet::parse_host;
use crate::resolve::names::Content;
use crate::resolve::targets::Target;
use crate::resolve::watches::News;

/// Octets of one document.
pub const DOCUMENT_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Octets of namerd's last word that are shown.
const WORD_OCTETS_MAX: usize = 200;
/// Nodes of one tree.
pub const TREE_NODES_MAX: usize = 10_000;

/// A bound name in a namerd's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteLeaf {
    /// This branch could not be bound, and why.
    Failed(String),
    /// A concrete name.
    Name {
        /// Up to where its namer read.
        id: Path,
        /// What follows.
        residual: Path,
    },
}

impl fmt::Display for RemoteLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "(error: {why})"),
            Self::Name { id, .. } => id.fmt(f),
        }
    }
}

/// Octets of a stream, and the documents in them.
#[derive(Default)]
pub(super) struct Documents {
    octets: Vec<u8>,
    /// What may be looked at: up to where the last octets that can end a document are.
    whole: usize,
}

impl Documents {
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<(), String> {
        if self.octets.len() + chunk.len() > DOCUMENT_OCTETS_MAX {
            return Err(format!("a document is longer than {DOCUMENT_OCTETS_MAX} octets"));
        }
        let before = self.octets.len();
        self.octets.extend_from_slice(chunk);
        // a document without its last brace is not parsed again and again
        if let Some(end) = chunk.iter().rposition(|byte| *byte == b'}') {
            self.whole = before + end + 1;
        }
        Ok(())
    }

    /// What stands at the end that is no document: namerd's reason why there will be none. It is a line; more is not shown.
    pub(super) fn last_word(&self) -> Option<String> {
        let text = self.octets.trim_ascii();
        let line = text.split(|octet| matches!(octet, b'\n' | b'\r')).next().unwrap_or_default();
        let text = String::from_utf8_lossy(&line[..line.len().min(WORD_OCTETS_MAX)]);
        let says = !text.is_empty() && !text.starts_with('{');
        says.then(|| text.trim().replace(|c: char| c.is_control(), " "))
    }

    /// `None`: no further document is whole. `Some(None)`: one that says nothing yet.
    pub(super) fn next_tree(&mut self) -> Result<Option<Option<News>>, String> {
        let Some(document) = self.next()? else { return Ok(None) };
        let mut nodes = 0;
        let tree = tree(&document, &mut nodes)?;
        let content = Content::Targets(Arc::default());
        Ok(Some(Some(News { content, authority: None, tree: Some(Arc::new(tree)) })))
    }

    /// The same for addresses.
    pub(super) fn next_addr(&mut self) -> Result<Option<Option<News>>, String> {
        let Some(document) = self.next()? else { return Ok(None) };
        let addr = serde_json::from_value(document).map_err(|error| error.to_string())?;
        let (content, authority) = match addr {
            Addr::Pending => return Ok(Some(None)),
            Addr::Neg => (Content::Absent("namerd has no address of it".into()), None),
            Addr::Failed { cause } => (Content::Failed(format!("namerd: {}", cause.unwrap_or_default()).into()), None),
            Addr::Bound { addrs, meta } => {
                let authority = meta.authority.and_then(|text| HeaderValue::try_from(text).ok());
                (Content::Targets(addrs.iter().filter_map(Address::target).collect()), authority)
            }
        };
        Ok(Some(Some(News { content, authority, tree: None })))
    }

    fn next(&mut self) -> Result<Option<Value>, String> {
        let mut documents = serde_json::Deserializer::from_slice(&self.octets[..self.whole]).into_iter::<Value>();
        match documents.next() {
            None => Ok(None),
            Some(Err(error)) if error.is_eof() => {
                self.whole = 0;
                Ok(None)
            }
            Some(Err(error)) => Err(format!("it says what is no JSON: {error}")),
            Some(Ok(document)) => {
                let read = documents.byte_offset();
                self.octets.drain(..read);
                self.whole -= read;
                Ok(Some(document))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Addr {
    Bound {
        addrs: Vec<Address>,
        #[serde(default)]
        meta: Meta,
    },
    Failed {
        cause: Option<String>,
    },
    Neg,
    Pending,
}

#[derive(Deserialize)]
struct Address {
    ip: String,
    port: u32,
    #[serde(default)]
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    authority: Option<String>,
    endpoint_addr_weight: Option<f64>,
}

impl Address {
    fn target(&self) -> Option<Target> {
        let port = u16::try_from(self.port).ok().filter(|port| *port != 0)?;
        let weight = self.meta.endpoint_addr_weight.filter(|weight| weight.is_finite() && *weight >= 0.0);
        let host = parse_host(self.ip.as_bytes()).ok()?;
        Some(Target { host, port, weight: weight.unwrap_or(1.0), rank: 0 })
    }
}

/// The tree of a `bind` answer. The depth is bounded by the reader of JSON.
fn tree(node: &Value, nodes: &mut usize) -> Result<NameTree<RemoteLeaf>, String> {
    *nodes += 1;
    if *nodes > TREE_NODES_MAX {
        return Err(format!("a tree has more than {TREE_NODES_MAX} nodes"));
    }
    let field = |name: &str| node.get(name).ok_or_else(|| format!("a node without `{name}`"));
    let text = |name: &str| Ok::<_, String>(field(name)?.as_str().unwrap_or_default());
    match text("type")? {
        "neg" => Ok(NameTree::Neg),
        "fail" => Ok(NameTree::Fail),
        "empty" => Ok(NameTree::Empty),
        "exception" => Ok(NameTree::Leaf(RemoteLeaf::Failed(text("message").unwrap_or_default().to_owned()))),
        "delegate" => tree(field("delegate")?, nodes),
        "transformation" => tree(field("tree")?, nodes),
        "leaf" => {
            let bound = field("bound")?;
            let path = |name: &str| {
                let text = bound.get(name).and_then(Value::as_str).unwrap_or("/");
                Path::parse(text).map_err(|_| format!("`{}` is no path", text.chars().take(100).collect::<String>()))
            };
            Ok(NameTree::Leaf(RemoteLeaf::Name { id: path("id")?, residual: path("path")? }))
        }
        "alt" => {
            let children = field("alt")?.as_array().ok_or("`alt` is no list")?;
            let children: Result<Vec<_>, _> = children.iter().map(|child| tree(child, nodes)).collect();
            Ok(NameTree::Alt(children?))
        }
        "union" => {
            let children = field("union")?.as_array().ok_or("`union` is no list")?;
            let mut branches = Vec::with_capacity(children.len());
            for (index, child) in (0_u16..).zip(children) {
                let weight = child.get("weight").and_then(Value::as_f64).and_then(Weight::new);
                let weight = weight.ok_or("a branch without a weight")?;
                branches.push(Branch { weight, index, tree: tree(child.get("tree").unwrap_or(&Value::Null), nodes)? });
            }
            Ok(NameTree::Union(Union { split: None, branches }))
        }
        other => Err(format!("a node of type `{}`", other.chars().take(100).collect::<String>())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_tree(document: &str, expected: &str) {
        let mut documents = Documents::default();
        documents.take(document.as_bytes()).unwrap();
        let tree = documents.next_tree().unwrap().unwrap().unwrap().tree.unwrap();
        let shown = NameTree::clone(&tree).map(&mut |leaf| match leaf {
            RemoteLeaf::Failed(why) => format!("({why})"),
            RemoteLeaf::Name { id, residual } if residual.is_empty() => id.to_string(),
            RemoteLeaf::Name { id, residual } => format!("{id} + {residual}"),
        });
        assert_eq!(shown.to_string(), expected);
    }

    const LEAF: &str = r##"{"type":"leaf","bound":{"addr":{"type":"neg"},"id":"/#/fs/a","path":"/b"}}"##;

    #[test]
    fn trees_are_read() {
        check_tree(LEAF, "/#/fs/a + /b");
        check_tree(r#"{"type":"neg"}"#, "~");
        check_tree(&format!(r#"{{"type":"alt","alt":[{LEAF},{{"type":"fail"}}]}}"#), "/#/fs/a + /b | !");
        let union = format!(
            r#"{{"type":"union","union":[{{"weight":0.001,"tree":{LEAF}}},{{"weight":1,"tree":{{"type":"empty"}}}}]}}"#
        );
        check_tree(&union, "0.001*/#/fs/a + /b & $");
        check_tree(&format!(r#"{{"type":"delegate","delegate":{LEAF}}}"#), "/#/fs/a + /b");
        check_tree(r#"{"type":"exception","message":"no"}"#, "(no)");
    }

    #[test]
    fn documents_come_in_any_pieces() {
        let stream = format!("{LEAF}\n{LEAF}\n{{\"type\":\"neg\"}}\n");
        for size in [1, 2, 7, 50, 1000] {
            let (mut documents, mut found) = (Documents::default(), 0);
            for chunk in stream.as_bytes().chunks(size) {
                documents.take(chunk).unwrap();
                while documents.next_tree().unwrap().is_some() {
                    found += 1;
                }
            }
            assert_eq!(found, 3, "in pieces of {size}");
        }
    }

    #[test]
    fn addresses_are_read_with_weight_and_host() {
        let mut documents = Documents::default();
        let text = r#"{"type":"pending"}{"type":"bound","addrs":[{"ip":"10.0.0.1","port":80,"meta":{}},
            {"ip":"10.0.0.2","port":81,"meta":{"endpoint_addr_weight":2.5}},{"ip":"x y","port":1},{"ip":"::1","port":0}],
            "meta":{"authority":"web.test"}}{"type":"neg"}"#;
        documents.take(text.as_bytes()).unwrap();
        assert_eq!(documents.next_addr(), Ok(Some(None)));
        let news = documents.next_addr().unwrap().unwrap().unwrap();
        let Content::Targets(targets) = news.content else { panic!("no targets") };
        let shown: Vec<_> = targets.iter().map(|target| (target.port, target.weight)).collect();
        assert_eq!((shown, news.authority), (vec![(80, 1.0), (81, 2.5)], Some(HeaderValue::from_static("web.test"))));
        assert!(matches!(documents.next_addr(), Ok(Some(Some(News { content: Content::Absent(_), .. })))));
        assert_eq!(documents.next_addr(), Ok(None));
    }

    #[track_caller]
    fn check_last_word(stream: &str, expected: Option<&str>) {
        let mut documents = Documents::default();
        documents.take(stream.as_bytes()).unwrap();
        while let Ok(Some(_)) = documents.next_tree() {}
        assert_eq!(documents.last_word().as_deref(), expected, "{stream}");
    }

    #[test]
    fn the_last_line_is_a_reason_unless_it_is_a_document() {
        check_last_word("Unknown namer: foo\n", Some("Unknown namer: foo"));
        check_last_word("no name {x} here\n", Some("no name {x} here"));
        check_last_word("{\"type\":\"neg\"}\nthe dtab is gone\nand more", Some("the dtab is gone"));
        check_last_word(&"x".repeat(WORD_OCTETS_MAX + 1), Some(&"x".repeat(WORD_OCTETS_MAX)));
        for none in ["", "\n", "{\"type\":\"neg\"}\n", "{\"type\":", "{\"type\":\"what\"}x"] {
            check_last_word(none, if none.ends_with('x') { Some("x") } else { None });
        }
    }

    #[test]
    fn limits_hold() {
        let mut documents = Documents::default();
        assert!(documents.take(&vec![b' '; DOCUMENT_OCTETS_MAX]).is_ok());
        assert!(documents.take(b" ").is_err());
        let alt = |count| format!(r#"{{"type":"alt","alt":[{}]}}"#, vec![r#"{"type":"neg"}"#; count].join(","));
        for (count, fits) in [(TREE_NODES_MAX - 1, true), (TREE_NODES_MAX, false)] {
            let mut documents = Documents::default();
            documents.take(alt(count).as_bytes()).unwrap();
            assert_eq!(documents.next_tree().is_ok(), fits, "{count}");
        }
        let deep = format!("{}1{}", "{\"type\":\"delegate\",\"delegate\":".repeat(1000), "}".repeat(1000));
        let mut documents = Documents::default();
        documents.take(deep.as_bytes()).unwrap();
        assert!(documents.next_tree().is_err());
    }

    proptest! {
        #[test]
        fn any_octets_are_judged_without_panic(octets in any::<Vec<u8>>(), text in "[{}\\[\\]\",:a-z0-9 ]{0,60}") {
            for bytes in [octets.as_slice(), text.as_bytes()] {
                let (mut trees, mut addrs) = (Documents::default(), Documents::default());
                let _ = (trees.take(bytes), addrs.take(bytes));
                while let Ok(Some(_)) = trees.next_tree() {}
                while let Ok(Some(_)) = addrs.next_addr() {}
            }
        }
    }
}

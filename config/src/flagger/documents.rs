//! Several documents in one file, each an object of Kubernetes.

use crate::diagnostic::{Diagnostic, Sink};
use crate::raw::{Cx, shown};
use crate::source::Source;
use crate::yaml::{self, Entry, Node, Value};

/// Documents of one file.
pub(super) const DOCUMENTS_MAX: usize = 1_000;

/// One object.
pub(super) struct Object<'n, 's> {
    /// The index of its file.
    pub(super) source: usize,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) node: &'n Node<'s>,
}

impl<'n, 's> Object<'n, 's> {
    /// `spec`
    pub(super) fn spec(&self) -> Option<&'n Node<'s>> {
        get(self.node, "spec")
    }
}

/// Each document as a source of its own, in which everything keeps its place: the others are blanked out.
///
/// A line that begins with `---` or `...` always ends a document, also inside of a block of text.
pub(super) fn split(source: &Source) -> Vec<Source> {
    let text = source.text();
    let mut starts = vec![(0, 0)];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let marker = line.get(..3).is_some_and(|three| three == "---" || three == "...");
        if marker && line.as_bytes().get(3).is_none_or(u8::is_ascii_whitespace) {
            starts.push((at, at + 3));
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]).collect::<Vec<_>>();
    let part = |((_, begin), end): (&(usize, usize), usize)| {
        let content = text.get(*begin..end).unwrap_or_default();
        let bare = content.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        (!bare).then(|| {
            let before = text.get(..*begin).unwrap_or_default();
            let blank: String = before.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
            Source::new(source.name(), format!("{blank}{content}"))
        })
    };
    starts.iter().zip(ends).filter_map(part).take(DOCUMENTS_MAX).collect()
}

/// One document, without entries that have no value: Kubernetes takes those as not written.
pub(super) fn read<'s>(part: &'s Source, sink: &mut Sink) -> Option<Node<'s>> {
    let mut tree = yaml::read(part, sink)?;
    prune(&mut tree);
    Some(tree)
}

/// The reader bounds the depth.
fn prune(node: &mut Node<'_>) {
    match &mut node.value {
        Value::Map(entries) => {
            entries.retain(|entry| !entry.value.is_null());
            entries.iter_mut().for_each(|entry| prune(&mut entry.value));
        }
        Value::List(items) => items.iter_mut().for_each(prune),
        Value::Scalar(_) => {}
    }
}

/// The objects of one document: one, or those of a `List`.
pub(super) fn objects<'n, 's>(cx: &Cx<'_>, source: usize, tree: &'n Node<'s>) -> Vec<Object<'n, 's>> {
    if text(tree, "kind").as_deref() == Some("List")
        && let Some(Node { value: Value::List(items), .. }) = get(tree, "items")
    {
        return items.iter().filter_map(|item| object(cx, source, item)).collect();
    }
    object(cx, source, tree).into_iter().collect()
}

fn object<'n, 's>(cx: &Cx<'_>, source: usize, node: &'n Node<'s>) -> Option<Object<'n, 's>> {
    let (kind, version) = (text(node, "kind"), text(node, "apiVersion").unwrap_or_default());
    let Some(kind) = kind else {
        let help = "an object of Kubernetes has `apiVersion`, `kind`, `metadata` and `spec`";
        cx.push(Diagnostic::error("import/no-object", node.span, "this has no `kind`").help(help));
        return None;
    };
    let known = ["Canary", "MetricTemplate", "AlertProvider"].contains(&kind.as_str());
    if !known || !version.starts_with("flagger.app/") {
        let message = format!("a `{}` of `{}` is nothing of Flagger's and is left out", shown(&kind), shown(&version));
        cx.push(Diagnostic::warning("import/other-object", node.span, message));
        return None;
    }
    let metadata = get(node, "metadata");
    let Some(name) = metadata.and_then(|metadata| text(metadata, "name")) else {
        cx.push(Diagnostic::error("import/no-name", node.span, "this has no `metadata.name`"));
        return None;
    };
    let namespace = metadata.and_then(|metadata| text(metadata, "namespace"));
    Some(Object { source, kind, name, namespace, node })
}

/// The value of a key.
pub(super) fn get<'n, 's>(node: &'n Node<'s>, key: &str) -> Option<&'n Node<'s>> {
    entry(node, key).map(|entry| &entry.value)
}

fn entry<'n, 's>(node: &'n Node<'s>, key: &str) -> Option<&'n Entry<'s>> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
        _ => None,
    }
}

/// The text of a key.
pub(super) fn text(node: &Node<'_>, key: &str) -> Option<String> {
    match &get(node, key)?.value {
        Value::Scalar(scalar) => Some(scalar.text.to_string()),
        _ => None,
    }
}

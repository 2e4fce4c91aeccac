//! A cursor over one map of the file: what was not asked for is unknown, and said so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use crate::diagnostic::{Diagnostic, Sink};
use crate::source::{Source, Span};
use crate::units::{Wrong, closest};
use crate::yaml::{Entry, Node, Value};

mod homes;

/// What a whole file is called in a message.
pub(crate) const FILE: &str = "the file";
/// What is shown of a value in a message, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// What every step of the compilation needs.
pub(crate) struct Cx<'a> {
    pub(crate) source: &'a Source,
    /// Asked for folders the file names: the crate itself reads no file system.
    pub(crate) exists: &'a dyn Fn(&Path) -> bool,
    sink: RefCell<Sink>,
}

impl<'a> Cx<'a> {
    pub(crate) fn new(source: &'a Source, exists: &'a dyn Fn(&Path) -> bool, sink: Sink) -> Cx<'a> {
        Cx { source, exists, sink: RefCell::new(sink) }
    }

    pub(crate) fn push(&self, diagnostic: Diagnostic) {
        self.sink.borrow_mut().push(diagnostic);
    }

    /// For who collects into a sink of its own accord.
    pub(crate) fn with_sink<T>(&self, collect: impl FnOnce(&mut Sink) -> T) -> T {
        collect(&mut self.sink.borrow_mut())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.sink.borrow().is_full()
    }

    /// Errors so far, to tell whether a step added one.
    pub(crate) fn errors(&self) -> usize {
        self.sink.borrow().errors()
    }

    pub(crate) fn into_sink(self) -> Sink {
        self.sink.into_inner()
    }

    /// A value that is not what `key` allows.
    pub(crate) fn wrong(&self, key: &str, node: &Node<'_>, wrong: Wrong) {
        // a file as a whole is no key
        let what = if key == FILE { key.to_owned() } else { format!("`{key}`") };
        self.wrong_value(&what, node, wrong);
    }

    fn wrong_value(&self, what: &str, node: &Node<'_>, wrong: Wrong) {
        let Wrong { allowed, example, help } = wrong;
        let message = format!("{what} is {}, allowed is {allowed}, for example `{example}`", found(node));
        self.push(Diagnostic::error("config/wrong-value", node.span, message).maybe_help(help));
    }

    /// A value read by one of the functions of `units`.
    pub(crate) fn scalar<T>(
        &self,
        key: &str,
        node: &Node<'_>,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        read_scalar(node, read).map_err(|wrong| self.wrong(key, node, wrong)).ok()
    }

    /// Several values: the good ones of them.
    pub(crate) fn scalars<T>(&self, key: &str, nodes: &[Node<'_>], read: impl Fn(&str) -> Result<T, Wrong>) -> Vec<T> {
        nodes.iter().filter_map(|node| self.item(key, node, &read)).collect()
    }

    /// One of several values.
    pub(crate) fn item<T>(&self, key: &str, node: &Node<'_>, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let wrong = |wrong| self.wrong_value(&format!("an entry of `{key}`"), node, wrong);
        read_scalar(node, read).map_err(wrong).ok()
    }

    /// The items of a list.
    pub(crate) fn list<'n, 's>(&self, key: &str, node: &'n Node<'s>, example: &'static str) -> &'n [Node<'s>] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.wrong(key, node, Wrong::new("a list", example));
                &[]
            }
        }
    }

    /// One value or a list of values.
    pub(crate) fn one_or_more<'n, 's>(&self, node: &'n Node<'s>) -> &'n [Node<'s>] {
        match &node.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(node),
        }
    }

    /// The entries of a map whose keys are names the user chose; of equal names the first stays.
    pub(crate) fn entries<'n, 's>(&self, key: &str, node: &'n Node<'s>, example: &'static str) -> Vec<&'n Entry<'s>> {
        let Value::Map(entries) = &node.value else {
            self.wrong(key, node, Wrong::new("a map", example));
            return Vec::new();
        };
        self.without_duplicates(entries)
    }

    fn without_duplicates<'n, 's>(&self, entries: &'n [Entry<'s>]) -> Vec<&'n Entry<'s>> {
        let mut first: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
        let mut unique = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(earlier) = first.get(&*entry.key) {
                let message = format!("`{}` is written twice", shown(&entry.key));
                let twice = Diagnostic::error("config/duplicate-key", entry.key_span, message);
                self.push(twice.label("again here").related(*earlier, "first here").help("keep one of them"));
            } else {
                first.insert(&entry.key, entry.key_span);
                unique.push(entry);
            }
        }
        unique
    }
}

fn read_scalar<T>(node: &Node<'_>, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Result<T, Wrong> {
    match &node.value {
        Value::Scalar(scalar) if !scalar.is_null() => read(&scalar.text),
        // Ask the reader anyway, with a text nothing allows: its refusal names what is allowed.
        _ => read("\u{0}").and_then(|_| Err(Wrong::new("one text", "text"))),
    }
}

/// One map with a fixed set of keys. Take what you know, then `finish`.
pub(crate) struct Fields<'n, 's> {
    /// Where the map begins, or the key that holds it.
    pub(crate) span: Span,
    entries: Vec<(&'n Entry<'s>, bool)>,
    known: Vec<&'static str>,
    /// Where the map itself stands.
    #[cfg(test)]
    node: Span,
}

impl<'n, 's> Fields<'n, 's> {
    /// Opens a map; anything else is an error and has no fields.
    pub(crate) fn open(cx: &Cx<'_>, key: &str, node: &'n Node<'s>, example: &'static str) -> Option<Fields<'n, 's>> {
        let Value::Map(entries) = &node.value else {
            cx.wrong(key, node, Wrong::new("a map", example));
            return None;
        };
        let entries: Vec<_> = cx.without_duplicates(entries).into_iter().map(|entry| (entry, false)).collect();
        let span = entries.first().map_or(node.span, |(entry, _)| entry.key_span);
        Some(Fields {
            span,
            entries,
            known: Vec::new(),
            #[cfg(test)]
            node: node.span,
        })
    }

    /// The entry of a key, if it is there and has a value.
    pub(crate) fn take(&mut self, cx: &Cx<'_>, key: &'static str) -> Option<&'n Entry<'s>> {
        self.ask(key);
        let (entry, seen) = self.entries.iter_mut().find(|(entry, _)| entry.key == key)?;
        *seen = true;
        if entry.value.is_null() {
            let message = format!("`{key}` has no value");
            let help = "give it a value, indent what belongs to it, or remove the line to get the default";
            cx.push(Diagnostic::error("config/no-value", entry.key_span, message).help(help));
            return None;
        }
        Some(entry)
    }

    fn ask(&mut self, key: &'static str) {
        self.known.push(key);
        #[cfg(test)]
        asked::note(self.node, key);
    }

    /// The entry of a key that must be there; `holder` is what needs it.
    pub(crate) fn require(
        &mut self,
        cx: &Cx<'_>,
        key: &'static str,
        holder: &str,
        help: &str,
    ) -> Option<&'n Entry<'s>> {
        if !self.has(key) {
            self.ask(key);
            let message = format!("{holder} needs `{key}`");
            cx.push(Diagnostic::error("config/missing-key", self.span, message).help(help));
            return None;
        }
        self.take(cx, key)
    }

    /// The scalar of a key.
    pub(crate) fn scalar<T>(
        &mut self,
        cx: &Cx<'_>,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let entry = self.take(cx, key)?;
        cx.scalar(key, &entry.value, read)
    }

    /// The map of a key.
    pub(crate) fn map(&mut self, cx: &Cx<'_>, key: &'static str, example: &'static str) -> Option<Fields<'n, 's>> {
        let entry = self.take(cx, key)?;
        Fields::open(cx, key, &entry.value, example)
    }

    /// Keys of Linkerd that do nothing here because nothing here needs them: (key, why).
    pub(crate) fn unneeded(&mut self, cx: &Cx<'_>, keys: &[(&'static str, &str)]) {
        for (key, why) in keys {
            #[cfg(test)]
            asked::note(self.node, key);
            if let Some(entry) = self.mark(key) {
                let message = format!("`{key}` has no effect: {why}");
                cx.push(Diagnostic::warning("config/no-effect", entry.key_span, message).help("remove the line"));
            }
        }
    }

    /// Keys that are known and not built: (key, what to do instead; may be empty).
    pub(crate) fn not_built(&mut self, cx: &Cx<'_>, keys: &[(&'static str, &str)]) {
        for (key, instead) in keys {
            if let Some(entry) = self.mark(key) {
                cx.push(not_built(entry.key_span, &format!("`{key}`"), instead));
            }
        }
    }

    /// Whatever nobody took is unknown.
    pub(crate) fn finish(self, cx: &Cx<'_>) {
        for (entry, seen) in &self.entries {
            if *seen {
                continue;
            }
            let message = format!("unknown key `{}`", shown(&entry.key));
            let near = closest(&entry.key, self.known.iter().copied());
            let help = match (near, homes::home(&entry.key)) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(home)) => {
                    format!("`{}` is a key of {home}: is the indentation right?", shown(&entry.key))
                }
                (None, None) => format!("known keys here: {}", listed(&self.known)),
            };
            cx.push(Diagnostic::error("config/unknown-key", entry.key_span, message).help(help));
        }
    }

    /// Whatever nobody took, for who says of it something else than [`Self::finish`].
    pub(crate) fn unseen(self) -> impl Iterator<Item = &'n Entry<'s>> {
        self.entries.into_iter().filter(|(_, seen)| !seen).map(|(entry, _)| entry)
    }

    /// Whether a key is written.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The entry of a key, without taking it.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Entry<'s>> {
        self.entries.iter().map(|(entry, _)| *entry).find(|entry| entry.key == key)
    }

    /// Leaves the rest unread on purpose: something said already makes it meaningless.
    pub(crate) fn abandon(self) {}

    /// Counts a key as read without making it one that is suggested.
    pub(crate) fn mark(&mut self, key: &str) -> Option<&'n Entry<'s>> {
        let (entry, seen) = self.entries.iter_mut().find(|(entry, _)| entry.key == key)?;
        *seen = true;
        Some(entry)
    }
}

/// Something Linkerd has and Serin does not have yet.
pub(crate) fn not_built(span: Span, what: &str, instead: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error("config/not-built", span, format!("{what} is not built yet"));
    if instead.is_empty() { diagnostic } else { diagnostic.help(instead) }
}

/// The value in a message: its text, or what kind of thing it is.
fn found(node: &Node<'_>) -> String {
    match &node.value {
        Value::Scalar(scalar) if scalar.is_null() => "empty".to_owned(),
        Value::Scalar(scalar) => format!("`{}`", shown(&scalar.text)),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
    }
}

/// A text of the user, short and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(visible_char).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        short.push_str("...");
    }
    short
}

fn visible_char(c: char) -> impl Iterator<Item = char> {
    let (plain, escaped) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

/// `a`, `b`, `c`
pub(crate) fn listed(names: &[&str]) -> String {
    let mut quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.sort();
    quoted.join(", ")
}

/// Which keys were asked for in which map, whether they are there or not: the test of the schema compares.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::RefCell;

    use crate::source::Span;

    thread_local! {
        static ASKED: RefCell<Vec<(Span, &'static str)>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn note(map: Span, key: &'static str) {
        ASKED.with_borrow_mut(|asked| asked.push((map, key)));
    }

    /// Everything that this thread asked since the last time.
    pub(crate) fn take() -> Vec<(Span, &'static str)> {
        ASKED.take()
    }
}

//! YAML (and so JSON) text to a tree in which every key and value knows its place.
//!
//! The only module that knows the YAML library. It reads events rather than deserialising into types: a derived
//! deserialiser stops at the first mistake and drops the places of keys, and the promise is all mistakes, each with its
//! place. What configuration files do not need is refused with words: several documents, tags, aliases.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

pub(crate) use serde_saphyr::granit_parser::ScalarStyle;
use serde_saphyr::granit_parser::{Event, Options, Parser, Span as ParserSpan};

use crate::diagnostic::{Diagnostic, Sink};
use crate::source::{SOURCE_BYTES_MAX, Source, Span};

/// Nodes (scalars, lists, maps; keys too) of one file.
pub const NODES_MAX: usize = 4_000_000;
/// Lists and maps inside each other.
pub const DEPTH_MAX: usize = 64;

/// A value with its place.
#[derive(Debug)]
pub(crate) struct Node<'s> {
    pub(crate) span: Span,
    pub(crate) value: Value<'s>,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Value<'s> {
    Scalar(Scalar<'s>),
    List(Vec<Node<'s>>),
    Map(Vec<Entry<'s>>),
}

/// One key and its value.
#[derive(Debug)]
pub(crate) struct Entry<'s> {
    pub(crate) key: Cow<'s, str>,
    pub(crate) key_span: Span,
    pub(crate) value: Node<'s>,
}

/// A text with the way it was written, which decides whether `80` is a number and how offsets map to the file.
#[derive(Debug)]
pub(crate) struct Scalar<'s> {
    pub(crate) text: Cow<'s, str>,
    pub(crate) style: ScalarStyle,
}

impl Scalar<'_> {
    /// Nothing was written, or the words YAML has for it.
    pub(crate) fn is_null(&self) -> bool {
        self.style == ScalarStyle::Plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Node<'_> {
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }
}

/// Reads the one document of a source; `None` after an error, which then is in the sink.
pub(crate) fn read<'s>(source: &'s Source, sink: &mut Sink) -> Option<Node<'s>> {
    read_file(source, 0, SOURCE_BYTES_MAX, NODES_MAX, sink)
}

/// The same for one of several joined files (0 is the main one), which may have so many bytes and values.
pub(crate) fn read_file<'s>(
    source: &'s Source,
    file: usize,
    bytes_max: usize,
    nodes_max: usize,
    sink: &mut Sink,
) -> Option<Node<'s>> {
    let range = source.file_range(file);
    let from = range.start;
    let text = source.text().get(range.clone()).unwrap_or_default();
    if let Some(at) = source.not_utf8_at().filter(|at| range.contains(at)) {
        let message = "the file is not UTF-8 text from here on";
        sink.push(
            Diagnostic::error("yaml/not-utf8", Span::at(at), message).help("save it as UTF-8; is it the right file?"),
        );
        return None;
    }
    if text.len() > bytes_max {
        let message = format!(
            "the file has {} bytes, {} MiB ({bytes_max} bytes) are allowed",
            text.len(),
            bytes_max / (1024 * 1024)
        );
        sink.push(Diagnostic::error("yaml/too-long", Span::at(from), message));
        return None;
    }
    let mut builder = Builder { sink, nodes: 0, nodes_max, open: Vec::new(), done: None, failed: false };
    let mut options = Options::default();
    options.set_emit_comments(false);
    // Keys longer than YAML's 1024 characters are an error of the library; its nesting limits stay behind ours.
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => builder.take(event, span_of(&span, from)),
            Err(error) => builder.syntax_error(from + error.marker().byte_offset().unwrap_or(0), &error.info()),
        }
        if builder.failed {
            return None;
        }
    }
    let done = builder.done;
    if done.is_none() {
        let help = "the smallest configuration is `routers: [{protocol: http, servers: [{port: 4140}]}]`";
        sink.push(Diagnostic::error("yaml/empty", Span::at(from), "the file has nothing in it").help(help));
    }
    done
}

/// What the library says where a line stands in a column that nobody expects.
const INDENTED: [&str; 3] = ["did not find expected key", "simple key expected", "did not find expected '-'"];

fn span_of(span: &ParserSpan, from: usize) -> Span {
    span.byte_range().map_or(Span::at(from), |range| Span::new(from + range.start, from + range.end))
}

/// Folds events into a tree with a stack of its own, so depth costs no call stack.
struct Builder<'s, 'k> {
    sink: &'k mut Sink,
    nodes: usize,
    nodes_max: usize,
    open: Vec<Open<'s>>,
    done: Option<Node<'s>>,
    failed: bool,
}

/// A list or a map that has not ended yet.
enum Open<'s> {
    List { span: Span, items: Vec<Node<'s>> },
    Map { span: Span, entries: Vec<Entry<'s>>, key: Option<(Cow<'s, str>, Span)> },
}

impl<'s> Builder<'s, '_> {
    fn take(&mut self, event: Event<'s>, span: Span) {
        match event {
            Event::Scalar(text, style, _, tag) => {
                self.count(span);
                self.refuse_tag(tag.is_some(), span);
                // The library writes `~` for a value that is not there at all.
                let text = if span.start == span.end && style == ScalarStyle::Plain { Cow::Borrowed("") } else { text };
                self.place(Node { span, value: Value::Scalar(Scalar { text, style }) });
            }
            Event::SequenceStart(_, _, tag) => {
                self.refuse_tag(tag.is_some(), span);
                self.open(Open::List { span, items: Vec::new() }, span);
            }
            Event::MappingStart(_, _, tag) => {
                self.refuse_tag(tag.is_some(), span);
                self.open(Open::Map { span, entries: Vec::new(), key: None }, span);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(_) => {
                self.fail("yaml/alias", span, "aliases (`*name`) are not allowed: write the value out here");
            }
            Event::DocumentStart(..) if self.done.is_some() => {
                self.fail("yaml/documents", span, "a second document begins here, a configuration is one document");
            }
            _ => {}
        }
    }

    fn syntax_error(&mut self, offset: usize, info: &str) {
        let mut help = None;
        if info.contains("tab") {
            help = Some("indent with spaces: YAML does not allow tabs there".to_owned());
        } else if info.contains("mapping values are not allowed") {
            help = Some("put quotes around a text that has `: ` in it; a key ends with `: `".to_owned());
        } else if INDENTED.iter().any(|said| info.contains(said)) {
            help = Some(
                "look at the indentation: keys of one map stand in one column, and a text below `|` stands further in"
                    .to_owned(),
            );
        }
        self.failed = true;
        let message = format!("this is not YAML: {info}");
        self.sink.push(Diagnostic::error("yaml/syntax", Span::at(offset), message).maybe_help(help));
    }

    fn fail(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.failed = true;
        self.sink.push(Diagnostic::error(code, span, message));
    }

    fn refuse_tag(&mut self, tagged: bool, span: Span) {
        if tagged {
            self.fail("yaml/tag", span, "tags (`!name`) are not allowed: write the value alone");
        }
    }

    fn count(&mut self, span: Span) {
        self.nodes += 1;
        if self.nodes > self.nodes_max {
            self.fail("yaml/too-many-nodes", span, format!("the file has more than {} values", self.nodes_max));
        }
    }

    fn open(&mut self, open: Open<'s>, span: Span) {
        self.count(span);
        if self.open.len() == DEPTH_MAX {
            self.fail("yaml/too-deep", span, format!("lists and maps are nested more than {DEPTH_MAX} deep here"));
        }
        self.open.push(open);
    }

    fn close(&mut self, end: Span) {
        let node = match self.open.pop() {
            Some(Open::List { span, items }) => Node { span: whole(span, end), value: Value::List(items) },
            Some(Open::Map { span, entries, .. }) => Node { span: whole(span, end), value: Value::Map(entries) },
            None => return,
        };
        self.place(node);
    }

    fn place(&mut self, node: Node<'s>) {
        match self.open.last_mut() {
            None => self.done = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match (key.take(), node) {
                (Some((key, key_span)), value) => entries.push(Entry { key, key_span, value }),
                (None, Node { span, value: Value::Scalar(scalar) }) => *key = Some((scalar.text, span)),
                (None, Node { span, .. }) => self.fail("yaml/key", span, "a key must be a plain text"),
            },
        }
    }
}

/// A list or map in brackets is marked whole; a block, which has no brackets, by the place where it begins.
fn whole(start: Span, end: Span) -> Span {
    if start.end > start.start { Span::new(start.start, end.end) } else { start }
}

/// Maps places in the value of a scalar back into the file, through indentation, folding, quotes and escapes.
///
/// All styles keep the visible characters in order and only change the space between them, so the n-th visible
/// character of the value is the n-th visible character of the file's text, whatever the style.
pub(crate) fn map_spans(source: &Source, node: &Node<'_>, spans: &[Span]) -> Vec<Span> {
    let Value::Scalar(scalar) = &node.value else { return vec![node.span; spans.len()] };
    let offsets = spans.iter().flat_map(|span| [span.start, span.end]);
    let ranks = visible_before(&scalar.text, offsets);
    let rank = |offset: usize| ranks.get(&offset).copied().unwrap_or_default();
    let needed = spans.iter().flat_map(|span| [rank(span.start), rank(span.end)]);
    let needed: BTreeSet<usize> = needed.flat_map(|rank| [rank, rank.saturating_sub(1)]).collect();
    let raw = source.text().get(node.span.start..node.span.end).unwrap_or_default();
    let places = visible_places(raw, scalar.style, &needed);
    let place = |rank: usize| {
        let place = places.get(&rank)?;
        Some(Span::new(node.span.start + place.start, node.span.start + place.end))
    };
    let map = |span: &Span| {
        let (first, last) = (rank(span.start), rank(span.end));
        match (place(first), first.checked_sub(1).and_then(place)) {
            (Some(begin), _) if last > first => Span::new(begin.start, place(last - 1).unwrap_or(begin).end),
            // Only white space, or nothing: the place just behind the last visible character before it.
            (_, Some(before)) => Span::at(before.end),
            _ => Span::at(node.span.start),
        }
    };
    spans.iter().map(map).collect()
}

/// For each offset how many visible characters stand before it: one walk for all.
fn visible_before(value: &str, offsets: impl Iterator<Item = usize>) -> HashMap<usize, usize> {
    let mut sorted: Vec<usize> = offsets.collect();
    sorted.sort_unstable();
    let mut ranks = HashMap::with_capacity(sorted.len());
    let mut characters = value.char_indices().peekable();
    let mut rank = 0;
    for offset in sorted {
        while let Some((_, c)) = characters.next_if(|(at, _)| *at < offset) {
            rank += usize::from(!c.is_whitespace());
        }
        ranks.insert(offset, rank);
    }
    ranks
}

/// The bytes of the visible characters of these ranks, in a scalar as it stands in the file.
fn visible_places(raw: &str, style: ScalarStyle, needed: &BTreeSet<usize>) -> HashMap<usize, Span> {
    let mut places = HashMap::with_capacity(needed.len());
    let quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
    let body_end = if quoted { raw.len().saturating_sub(1) } else { raw.len() };
    let mut at = usize::from(quoted);
    let mut rank = 0;
    while at < body_end && places.len() < needed.len() {
        let rest = raw.get(at..body_end).unwrap_or_default();
        let Some(c) = rest.chars().next() else { break };
        let (visible, length) = match (style, c) {
            (ScalarStyle::SingleQuoted, '\'') => (true, 2),
            (ScalarStyle::DoubleQuoted, '\\') => escape(rest),
            _ => (!c.is_whitespace(), c.len_utf8()),
        };
        if visible {
            if needed.contains(&rank) {
                places.insert(rank, Span::new(at, at + length));
            }
            rank += 1;
        }
        at += length;
    }
    places
}

/// Whether a `\` escape stands for a visible character, and its length in bytes.
fn escape(rest: &str) -> (bool, usize) {
    let Some(kind) = rest.chars().nth(1) else { return (true, 1) };
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => {
            return (
                !matches!(kind, 'n' | 't' | 'r' | 'v' | 'f' | ' ' | '\t' | '\n' | '\r' | 'N' | '_' | 'L' | 'P'),
                1 + kind.len_utf8(),
            );
        }
    };
    let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let visible = code.and_then(char::from_u32).is_none_or(|c| !c.is_whitespace());
    (visible, 2 + digits)
}

#[cfg(test)]
mod tests;

//! A tree with comments, and its text in YAML.

use std::fmt::Write;

use serde_saphyr::granit_parser::ScalarStyle;

use crate::yaml::{Node, Scalar, Value};

/// What is written.
#[derive(Clone, Debug)]
pub(super) enum Out {
    /// A scalar as it stands in the text.
    Word(String),
    List(Vec<Out>),
    Map(Vec<Pair>),
}

/// One key, with what is said above it.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    key: String,
    value: Out,
    comments: Vec<String>,
}

impl Pair {
    pub(super) fn new(key: &str, value: Out) -> Pair {
        Pair { key: key.to_owned(), value, comments: Vec::new() }
    }

    pub(super) fn comment(mut self, comment: impl Into<String>) -> Pair {
        self.comments.push(comment.into());
        self
    }
}

impl Out {
    /// A text of ours or of the user.
    pub(super) fn word(text: &str) -> Out {
        Out::Word(if is_plain(text) { text.to_owned() } else { quoted(text) })
    }

    pub(super) fn number(number: impl std::fmt::Display) -> Out {
        Out::Word(number.to_string())
    }

    /// What stands in the file, as it is.
    pub(super) fn of(node: &Node<'_>) -> Out {
        match &node.value {
            Value::Scalar(scalar) => Out::of_scalar(scalar),
            Value::List(items) => Out::List(items.iter().map(Out::of).collect()),
            Value::Map(entries) => {
                Out::Map(entries.iter().map(|entry| Pair::new(&entry.key, Out::of(&entry.value))).collect())
            }
        }
    }

    fn of_scalar(scalar: &Scalar<'_>) -> Out {
        match scalar.style {
            ScalarStyle::Plain => Out::word(&scalar.text),
            // whoever quoted a number wanted a text
            _ => Out::Word(quoted(&scalar.text)),
        }
    }

    /// On one line, if it is short and needs no comment.
    fn flow(&self) -> Option<String> {
        match self {
            Out::Word(text) => Some(text.clone()),
            Out::List(items) => {
                let parts: Option<Vec<String>> = items.iter().map(Out::flow_word).collect();
                Some(format!("[{}]", parts?.join(", "))).filter(|text| text.len() <= FLOW_MAX)
            }
            Out::Map(pairs) => {
                let part = |pair: &Pair| {
                    let value = pair.value.flow_word().filter(|_| pair.comments.is_empty())?;
                    Some(format!("{}: {value}", key(&pair.key)))
                };
                let parts: Option<Vec<String>> = pairs.iter().map(part).collect();
                let short = |text: &String| text.len() <= FLOW_MAX && pairs.len() <= FLOW_PAIRS_MAX;
                Some(format!("{{{}}}", parts?.join(", "))).filter(short)
            }
        }
    }

    fn flow_word(&self) -> Option<String> {
        match self {
            Out::Word(text) => Some(text.clone()),
            Out::List(_) | Out::Map(_) => None,
        }
    }
}

/// Characters of a list or map on one line.
const FLOW_MAX: usize = 60;
/// Entries of a map on one line.
const FLOW_PAIRS_MAX: usize = 2;

/// The whole text.
pub(super) fn text(pairs: &[Pair]) -> String {
    let mut text = String::new();
    for (at, pair) in pairs.iter().enumerate() {
        text.push_str(if at > 0 { "\n" } else { "" });
        put_pair(&mut text, pair, 0, "");
    }
    text
}

/// `first`: what stands in place of the indentation of the first line.
fn put_pair(text: &mut String, pair: &Pair, indent: usize, first: &str) {
    let spaces = " ".repeat(indent);
    let mut lead = if first.is_empty() { spaces.clone() } else { first.to_owned() };
    for comment in &pair.comments {
        // writing to a string cannot fail
        let _ = writeln!(text, "{lead}# {}", one_line(comment));
        lead.clone_from(&spaces);
    }
    let name = key(&pair.key);
    let block = match &pair.value {
        Out::Word(word) => unquoted_block(word, indent + 2),
        _ => None,
    };
    match (block, pair.value.flow()) {
        (Some(block), _) => {
            let _ = writeln!(text, "{lead}{name}: {block}");
        }
        (None, Some(flow)) => {
            let _ = writeln!(text, "{lead}{name}: {flow}");
        }
        (None, None) => {
            let _ = writeln!(text, "{lead}{name}:");
            put(text, &pair.value, if matches!(pair.value, Out::List(_)) { indent } else { indent + 2 });
        }
    }
}

fn put(text: &mut String, out: &Out, indent: usize) {
    let spaces = " ".repeat(indent);
    match out {
        Out::Word(word) => {
            let _ = writeln!(text, "{spaces}{word}");
        }
        Out::Map(pairs) => pairs.iter().for_each(|pair| put_pair(text, pair, indent, "")),
        Out::List(items) => {
            for item in items {
                match (item, item.flow()) {
                    (Out::Map(pairs), flow) if flow.is_none() => {
                        for (at, pair) in pairs.iter().enumerate() {
                            // a comment of the first key stands above the dash
                            let dash = format!("{spaces}- ");
                            for comment in pair.comments.iter().filter(|_| at == 0) {
                                let _ = writeln!(text, "{spaces}# {}", one_line(comment));
                            }
                            let bare = Pair { comments: Vec::new(), ..pair.clone() };
                            let pair = if at == 0 { &bare } else { pair };
                            put_pair(text, pair, indent + 2, if at == 0 { &dash } else { "" });
                        }
                    }
                    (_, Some(flow)) => {
                        let _ = writeln!(text, "{spaces}- {flow}");
                    }
                    (item, None) => {
                        let _ = writeln!(text, "{spaces}-");
                        put(text, item, indent + 2);
                    }
                }
            }
        }
    }
}

fn one_line(comment: &str) -> String {
    comment.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn key(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { quoted(name) }
}

/// Can stand without quotes wherever it is put: no character that YAML reads otherwise, in lists and maps on one line
/// neither.
fn is_plain(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'.');
    let rest = |byte: u8| first(byte) || matches!(byte, b'-' | b'%' | b'+' | b'@' | b'$');
    let words = ["null", "Null", "NULL", "~", ""];
    text.bytes().next().is_some_and(first) && text.bytes().all(rest) && !words.contains(&text)
}

/// In double quotes: a JSON text, which YAML reads too.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // writing to a string cannot fail
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A quoted text of several lines as a block, where a block says the same.
fn unquoted_block(word: &str, indent: usize) -> Option<String> {
    let inner = word.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains("\\n") {
        return None;
    }
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match (c, c == '\\') {
            (_, true) => match characters.next()? {
                'n' => text.push('\n'),
                c @ ('"' | '\\') => text.push(c),
                _ => return None,
            },
            (c, false) => text.push(c),
        }
    }
    let (body, chomp) = match text.strip_suffix('\n') {
        Some(body) => (body, ""),
        None => (text.as_str(), "-"),
    };
    let fits = !body.is_empty() && !body.starts_with([' ', '\n']) && !body.ends_with('\n');
    let lines = body
        .split('\n')
        .map(|line| if line.is_empty() { String::new() } else { format!("{}{line}", " ".repeat(indent)) });
    fits.then(|| format!("|{chomp}\n{}", lines.collect::<Vec<_>>().join("\n")))
}

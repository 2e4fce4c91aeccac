//! What is wrong with a text, and where.

use std::fmt::{self, Write as _};
use std::ops::Range;

use super::path::is_showable;

/// One mistake in a text.
///
/// Prints `<expected> expected but <found> found`; [`SyntaxError::in_text`] adds the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Bytes of the offending character in the text; empty at its end.
    pub span: Range<usize>,
    /// What could have stood there.
    pub expected: Expected,
    /// What stood there.
    pub found: Found,
}

/// What could have stood at the place of a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Not more of something than its limit.
    AtMost {
        /// Of what, in the plural.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Exactly this character.
    Char(char),
    /// Nothing more.
    EndOfInput,
    /// A hexadecimal digit.
    HexChar,
    /// A character of a label, or `\x` and two hexadecimal digits.
    LabelChar,
    /// A digit, or the only dot of a number.
    NumberChar,
    /// A path, `!`, `~`, `$` or a tree in parentheses.
    Simple,
    /// A number that is a weight.
    Weight,
}

/// What stood at the place of a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// This character.
    Char(char),
    /// Nothing.
    EndOfInput,
}

/// All mistakes of a text, in its order: at least one, at most [`SyntaxErrors::MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxErrors(Vec<SyntaxError>);

impl SyntaxError {
    /// The message with its place: `'/' expected but 'x' found at 'svc => [x]'`. A long text is cut around the place.
    pub fn in_text(&self, text: &str) -> String {
        format!("{self} at '{}'", bracketed(text, &self.span))
    }

    /// What to do about it, where that can be guessed.
    pub fn hint(&self) -> Option<String> {
        match (self.expected, self.found) {
            (Expected::EndOfInput, Found::Char('*')) => Some(
                "a weight stands before its name, as in `3 * /name`; else `*` stands for a whole element, left of `=>`"
                    .to_owned(),
            ),
            (_, Found::Char('*')) if self.expected != Expected::Simple => {
                Some("`*` stands for a whole element, and only left of `=>`".to_owned())
            }
            (Expected::EndOfInput, Found::Char('/' | '=')) => {
                Some("dentries are separated by `;`, trees by `|` or `&`".to_owned())
            }
            (Expected::Char('*'), _) => {
                Some("a weight is digits with at most one dot, then `*`, as in `0.5 * /name`".to_owned())
            }
            (Expected::EndOfInput | Expected::LabelChar | Expected::Char('=' | '/'), Found::Char(c))
                if !is_syntax(c) =>
            {
                let mut escaped = String::new();
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    write!(escaped, "\\x{byte:02x}").ok()?;
                }
                Some(format!("in a label this character is written `{escaped}`"))
            }
            (Expected::Char('/'), _) => Some("a name begins with `/`".to_owned()),
            (Expected::Char('=' | '>'), _) => Some("a dentry is `/prefix => /name`".to_owned()),
            (Expected::LabelChar, _) => Some("a path has no empty element and no `/` at its end".to_owned()),
            _ => None,
        }
    }
}

impl SyntaxErrors {
    /// Mistakes after so many are not reported.
    pub const MAX: usize = 20;

    /// `None` if there is none; those beyond [`SyntaxErrors::MAX`] are dropped.
    pub(super) fn new(mut errors: Vec<SyntaxError>) -> Option<SyntaxErrors> {
        errors.truncate(SyntaxErrors::MAX);
        if errors.is_empty() { None } else { Some(SyntaxErrors(errors)) }
    }

    /// In the order of the text.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SyntaxError> {
        self.0.iter()
    }

    /// The first one's message with its place, and how many more there are.
    pub fn in_text(&self, text: &str) -> String {
        let first = self.0.first().map(|error| error.in_text(text)).unwrap_or_default();
        match self.0.len() {
            0 | 1 => first,
            n => format!("{first} (and {} more)", n - 1),
        }
    }
}

impl From<SyntaxError> for SyntaxErrors {
    fn from(error: SyntaxError) -> SyntaxErrors {
        SyntaxErrors(vec![error])
    }
}

impl IntoIterator for SyntaxErrors {
    type Item = SyntaxError;
    type IntoIter = std::vec::IntoIter<SyntaxError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for SyntaxErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{error} at byte {}", error.span.start)?;
        }
        Ok(())
    }
}

impl std::error::Error for SyntaxErrors {}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} expected but {} found", self.expected, self.found)
    }
}

impl std::error::Error for SyntaxError {}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::AtMost { what, max } => write!(f, "at most {max} {what}"),
            Expected::Char(c) => write!(f, "'{c}'"),
            Expected::EndOfInput => f.write_str("end of input"),
            Expected::HexChar => f.write_str("hex char"),
            Expected::LabelChar => f.write_str("label char"),
            Expected::NumberChar => f.write_str("number char"),
            Expected::Simple => f.write_str("simple"),
            Expected::Weight => f.write_str("weight"),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Char(c) => write!(f, "'{c}'"),
            Found::EndOfInput => f.write_str("end of input"),
        }
    }
}

fn is_syntax(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '/' | '\\' | '*' | '(' | ')' | '|' | '&' | ';' | '=' | '>' | '!' | '~')
        || u8::try_from(c).is_ok_and(is_showable)
}

/// The text with `[` and `]` around the span, at most [`CONTEXT_BYTES`] on each side of it.
fn bracketed(text: &str, span: &Range<usize>) -> String {
    let start = floor_char_boundary(text, span.start);
    let end = floor_char_boundary(text, span.end).max(start);
    let from = floor_char_boundary(text, start.saturating_sub(CONTEXT_BYTES));
    let to = floor_char_boundary(text, end.saturating_add(CONTEXT_BYTES));
    let (before, after) = (if from > 0 { "…" } else { "" }, if to < text.len() { "…" } else { "" });
    format!("{before}{}[{}]{}{after}", &text[from..start], &text[start..end], &text[end..to])
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

const CONTEXT_BYTES: usize = 120;

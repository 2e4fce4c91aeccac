//! A configuration text with a name: what diagnostics point into.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The longest configuration file that is read, in bytes.
pub const SOURCE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A text, the name shown in diagnostics, and the folder that relative paths in it start from.
///
/// ```
/// use serin_config::source::Source;
/// let source = Source::new("serin.yaml", "admin:\n  port: 9990\n");
/// assert_eq!(source.position(9).to_string(), "2:3");
/// ```
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
    folder: PathBuf,
    not_utf8_at: Option<usize>,
    line_starts: OnceLock<Vec<usize>>,
}

impl Source {
    /// A text that came from no folder: relative paths stay as written.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        Source {
            name: name.into(),
            text: text.into(),
            folder: PathBuf::new(),
            not_utf8_at: None,
            line_starts: OnceLock::new(),
        }
    }

    /// Bytes as read from a file. Bytes that are not UTF-8 are no error yet: parsing reports where they begin.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Source {
        match String::from_utf8(bytes) {
            Ok(text) => Source::new(name, text),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                // The text before the first bad byte is unchanged, so offsets up to it stay exact.
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                Source { not_utf8_at: Some(valid), ..Source::new(name, text) }
            }
        }
    }

    /// The same text, with relative paths in it (`rootDir`) starting from `folder`.
    #[must_use]
    pub fn in_folder(self, folder: impl Into<PathBuf>) -> Source {
        Source { folder: folder.into(), ..self }
    }

    /// The name shown in diagnostics: usually the path as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The folder relative paths start from; empty if none was given.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Line and column of a byte offset; an offset past the end means the end.
    pub fn position(&self, offset: usize) -> Position {
        let offset = floor_char(&self.text, offset);
        let starts = self.line_starts();
        let line = starts.partition_point(|&start| start <= offset);
        let start = starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        Position { line: line.max(1), column }
    }

    /// The bytes of a line, counted from 1, without its line break. Empty past the last line.
    pub(crate) fn line_range(&self, line: usize) -> Range<usize> {
        let starts = self.line_starts();
        let end_of_text = self.text.len();
        let start = starts.get(line.saturating_sub(1)).copied().unwrap_or(end_of_text);
        let end = starts.get(line).copied().unwrap_or(end_of_text);
        let text = self.text.get(start..end).unwrap_or("");
        start..start + text.trim_end_matches(['\n', '\r']).len()
    }

    pub(crate) fn not_utf8_at(&self) -> Option<usize> {
        self.not_utf8_at
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(newline, _)| newline + 1)).collect()
        })
    }
}

/// Where a character stands. Prints as `line:column`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Bytes `start..end` of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte; equal to `start` for a place between two characters.
    pub end: usize,
}

impl Span {
    /// The bytes `start..end`; an `end` before `start` counts as `start`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end: end.max(start) }
    }

    /// The place just before a byte.
    pub fn at(start: usize) -> Span {
        Span { start, end: start }
    }
}

/// The closest character boundary at or before `offset`.
pub(crate) fn floor_char(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_position(text: &str, offset: usize, expected: &str) {
        assert_eq!(Source::new("t", text).position(offset).to_string(), expected);
    }

    #[test]
    fn lines_and_columns_count_from_one() {
        check_position("", 0, "1:1");
        check_position("a\nb", 0, "1:1");
        check_position("a\nb", 1, "1:2");
        check_position("a\nb", 2, "2:1");
        check_position("a\n", 2, "2:1");
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        check_position("é: x", 4, "1:4");
    }

    #[test]
    fn an_offset_past_the_end_or_inside_a_character_still_has_a_position() {
        check_position("ab", 99, "1:3");
        check_position("é", 1, "1:1");
    }

    #[test]
    fn bytes_that_are_not_utf8_keep_the_offsets_before_them() {
        let source = Source::from_bytes("t", b"ab\xffcd".to_vec());
        assert_eq!(source.not_utf8_at(), Some(2));
        assert!(source.text().starts_with("ab"));
    }
}

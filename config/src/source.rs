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
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    folder: PathBuf,
    not_utf8_at: Option<usize>,
    line_starts: OnceLock<Vec<usize>>,
    /// Team files joined behind the main file; empty for a file that stands alone.
    teams: Vec<Joined>,
}

/// A team file within a joined text.
#[derive(Clone, Debug)]
struct Joined {
    name: String,
    /// Where it begins.
    start: usize,
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
            teams: Vec::new(),
        }
    }

    /// The main file with team files behind it, as one text: each place in it still knows its file and its line there.
    /// Relative paths of all of them start from the folder of the main file.
    #[must_use]
    pub fn joined<'t>(main: &Source, teams: impl IntoIterator<Item = &'t Source>) -> Source {
        let mut whole = Source { teams: Vec::new(), line_starts: OnceLock::new(), ..main.clone() };
        for team in teams {
            if !whole.text.ends_with('\n') {
                whole.text.push('\n');
            }
            let start = whole.text.len();
            whole.teams.push(Joined { name: team.name.clone(), start });
            whole.text.push_str(&team.text);
            whole.not_utf8_at = whole.not_utf8_at.or(team.not_utf8_at.map(|at| start + at));
        }
        whole
    }

    /// How many team files are joined behind the main file.
    pub(crate) fn teams(&self) -> usize {
        self.teams.len()
    }

    /// The bytes of a file: 0 is the main file, then the teams.
    pub(crate) fn file_range(&self, file: usize) -> Range<usize> {
        let start = |file: usize| match file.checked_sub(1) {
            None => 0,
            Some(team) => self.teams.get(team).map_or(self.text.len(), |team| team.start),
        };
        start(file)..start(file + 1)
    }

    /// Which file a place is in: 0 is the main file, then the teams in their order.
    pub(crate) fn file_at(&self, offset: usize) -> usize {
        self.teams.partition_point(|team| team.start <= offset)
    }

    /// The name of the file that a place is in.
    pub fn name_at(&self, offset: usize) -> &str {
        let team = self.file_at(offset).checked_sub(1).and_then(|team| self.teams.get(team));
        team.map_or(&self.name, |team| &team.name)
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

    /// Line and column of a byte offset in its own file; an offset past the end means the end.
    pub fn position(&self, offset: usize) -> Position {
        let offset = floor_char(&self.text, offset);
        let line = self.line_of(offset);
        let start = self.line_starts().get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        let file = self.file_range(self.file_at(offset)).start;
        let above = if file == 0 { 0 } else { self.line_of(file).saturating_sub(1) };
        Position { line: (line - above.min(line)).max(1), column }
    }

    /// The line of an offset, from 1, counted from the beginning of the whole text.
    fn line_of(&self, offset: usize) -> usize {
        self.line_starts().partition_point(|&start| start <= offset)
    }

    /// The bytes of the line of an offset, without its line break.
    pub(crate) fn line_range(&self, offset: usize) -> Range<usize> {
        let line = self.line_of(offset);
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    #[track_caller]
    fn check_joined(teams: [&str; 2], offset: usize, expected: &str) {
        let main = Source::new("serin.yaml", "a\nb");
        let [one, two] = [("one.yaml", teams[0]), ("two.yaml", teams[1])].map(|(name, text)| Source::new(name, text));
        let whole = Source::joined(&main, [&one, &two]);
        assert_eq!(format!("{}:{}", whole.name_at(offset), whole.position(offset)), expected);
    }

    #[test]
    fn places_in_joined_files_know_their_file_and_line() {
        check_joined(["c\nd\n", "e"], 2, "serin.yaml:2:1");
        check_joined(["c\nd\n", "e"], 4, "one.yaml:1:1");
        check_joined(["c\nd\n", "e"], 6, "one.yaml:2:1");
        check_joined(["c\nd\n", "e"], 8, "two.yaml:1:1");
        check_joined(["c\nd\n", "e"], 9, "two.yaml:1:2");
        check_joined(["", "e"], 4, "two.yaml:1:1");
    }

    #[test]
    fn bytes_that_are_not_utf8_keep_the_offsets_before_them() {
        let source = Source::from_bytes("t", b"ab\xffcd".to_vec());
        assert_eq!(source.not_utf8_at(), Some(2));
        assert!(source.text().starts_with("ab"));
    }
}

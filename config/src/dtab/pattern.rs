//! Patterns over names, with captures: `/{port}/*/{service}`.

use std::collections::BTreeMap;
use std::fmt;

use super::Path;
use super::path::show_label;

/// A pattern over the printed labels of a name. It matches a name that starts with it; `/` matches every name.
///
/// A segment is literal, `*` (any one label), or text with captures `{name}`. A capture takes as much as it can,
/// earlier ones first.
///
/// ```
/// use serin_config::dtab::Pattern;
/// let pattern = Pattern::parse("/{port}/{namespace}/{service}").unwrap();
/// let found = pattern.captures(&"/http/prod/web".parse().unwrap()).unwrap();
/// assert_eq!(found.substitute("/k8s/{namespace}/{port}/{service}"), "/k8s/prod/http/web");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<Segment>,
}

/// What the captures of a [`Pattern`] took. Of a name used twice the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    taken: BTreeMap<String, String>,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The name of a capture may hold letters, digits, `_` and `:`.
    #[error("the name of a capture is letters, digits, `_` and `:`, as in `{{service}}`")]
    CaptureName,
    /// Two `/` in a row, or one at the end.
    #[error("an empty segment")]
    EmptySegment,
    /// A pattern starts with `/`.
    #[error("a pattern starts with `/`")]
    NoSlash,
    /// More segments than a path may have labels, or more bytes.
    #[error("longer than a path can be")]
    TooLong,
    /// A brace without its partner.
    #[error("a `{{` without `}}`, or the other way round")]
    UnpairedBrace,
    /// `*` is a whole segment.
    #[error("`*` must be a whole segment")]
    Wildcard,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Any,
    /// Literal text, then captures each with the literal text behind it.
    Text {
        head: String,
        captures: Vec<(String, String)>,
    },
}

impl Pattern {
    /// Reads a pattern; nothing may surround it.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let rest = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        if rest.is_empty() {
            return Ok(Pattern { segments: Vec::new() });
        }
        if rest.len() > Path::BYTES_MAX || rest.split('/').count() > Path::LABELS_MAX {
            return Err(PatternError::TooLong);
        }
        Ok(Pattern { segments: rest.split('/').map(segment).collect::<Result<_, _>>()? })
    }

    /// What the captures take, `None` if the pattern does not match.
    pub fn captures(&self, path: &Path) -> Option<Captures> {
        if path.len() < self.segments.len() {
            return None;
        }
        let mut taken = BTreeMap::new();
        for (segment, label) in self.segments.iter().zip(path.labels()) {
            let Segment::Text { head, captures } = segment else { continue };
            let mut printed = String::new();
            show_label(label, &mut printed).ok()?;
            take(head, captures, &printed, &mut taken)?;
        }
        Some(Captures { taken })
    }

    /// Whether it may match a name that begins with `head`.
    pub fn may_match(&self, head: &Path) -> bool {
        let fits = |(segment, label): (&Segment, &[u8])| {
            let Segment::Text { head, captures } = segment else { return true };
            let mut printed = String::new();
            show_label(label, &mut printed).is_ok() && take(head, captures, &printed, &mut BTreeMap::new()).is_some()
        };
        self.segments.iter().zip(head.labels()).all(fits)
    }

    /// The segments in front that hold no capture and are not `*`, as a path.
    pub fn literal_head(&self) -> Option<Path> {
        let literal = |segment: &Segment| match segment {
            Segment::Text { head, captures } if captures.is_empty() => Some(format!("/{head}")),
            _ => None,
        };
        let text: String = self.segments.iter().map_while(literal).collect();
        Path::parse(if text.is_empty() { "/" } else { &text }).ok()
    }

    /// The names of all captures, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments
            .iter()
            .flat_map(|segment| match segment {
                Segment::Any => [].iter(),
                Segment::Text { captures, .. } => captures.iter(),
            })
            .map(|(name, _)| name.as_str())
    }
}

impl Captures {
    /// What this capture took, printed.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.taken.get(name).map(String::as_str)
    }

    /// All captures by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.taken.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The text with each `{name}` replaced; names that are not captured stay as they are.
    pub fn substitute(&self, text: &str) -> String {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, from)) = rest.find('{').map(|at| rest.split_at(at)) {
            result.push_str(before);
            let value = from.find('}').and_then(|end| Some((self.get(&from[1..end])?, &from[end + 1..])));
            match value {
                Some((value, after)) => {
                    result.push_str(value);
                    rest = after;
                }
                None => {
                    result.push('{');
                    rest = &from[1..];
                }
            }
        }
        result.push_str(rest);
        result
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        for segment in &self.segments {
            match segment {
                Segment::Any => f.write_str("/*")?,
                Segment::Text { head, captures } => {
                    write!(f, "/{head}")?;
                    captures.iter().try_for_each(|(name, behind)| write!(f, "{{{name}}}{behind}"))?;
                }
            }
        }
        Ok(())
    }
}

fn segment(text: &str) -> Result<Segment, PatternError> {
    if text == "*" {
        return Ok(Segment::Any);
    }
    if text.is_empty() {
        return Err(PatternError::EmptySegment);
    }
    if text.contains('*') {
        return Err(PatternError::Wildcard);
    }
    let mut parts = text.split('{');
    let head = parts.next().unwrap_or_default().to_owned();
    if head.contains('}') {
        return Err(PatternError::UnpairedBrace);
    }
    let mut captures = Vec::new();
    for part in parts {
        let (name, behind) = part.split_once('}').ok_or(PatternError::UnpairedBrace)?;
        if behind.contains('}') {
            return Err(PatternError::UnpairedBrace);
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
            return Err(PatternError::CaptureName);
        }
        captures.push((name.to_owned(), behind.to_owned()));
    }
    Ok(Segment::Text { head, captures })
}

/// Places the literal texts from the right, each as far right as it goes: then every capture is as long as it can be,
/// earlier ones first.
fn take(head: &str, captures: &[(String, String)], label: &str, taken: &mut BTreeMap<String, String>) -> Option<()> {
    let mut rest = label.strip_prefix(head)?;
    let mut values = Vec::with_capacity(captures.len());
    for (place, (name, behind)) in captures.iter().enumerate().rev() {
        let is_last = place + 1 == captures.len();
        let at = if is_last { rest.strip_suffix(behind.as_str())?.len() } else { rest.rfind(behind.as_str())? };
        values.push((name, at, at + behind.len()));
        rest = &rest[..at];
    }
    // `rest` is now what the first capture took; each next one starts where the text before it ends.
    let whole = label.strip_prefix(head)?;
    let mut start = 0;
    for (name, end, next) in values.into_iter().rev() {
        taken.insert(name.clone(), whole[start..end].to_owned());
        start = next;
    }
    Some(())
}

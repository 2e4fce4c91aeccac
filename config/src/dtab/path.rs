//! Paths and prefixes: sequences of byte labels.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use super::error::SyntaxErrors;
use super::parse;

/// A logical or concrete name: a sequence of non-empty byte strings, its labels.
///
/// Cloning, [`skip`](Path::skip) and [`take`](Path::take) share one buffer. Labels may hold any byte, also `/` and NUL;
/// two paths are equal when their labels are, byte for byte. The order is that of the labels.
///
/// ```
/// use serin_config::dtab::Path;
/// let path = Path::parse("/svc/web")?;
/// assert_eq!(path.labels().collect::<Vec<_>>(), [b"svc", b"web"]);
/// assert_eq!(path.skip(1).to_string(), "/web");
/// let odd = Path::from_labels(["a/b"]).unwrap();
/// assert_eq!(odd.to_string(), r"/\x61\x2f\x62"); // one label, and it reads back as one
/// # Ok::<(), serin_config::dtab::SyntaxErrors>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Path(Encoded);

/// The left side of a dentry: labels and `*`, each of which matches exactly one label of a path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Encoded);

/// One element of a [`Prefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Elem<'a> {
    /// `*`: any one label.
    Any,
    /// This label, byte for byte.
    Label(&'a [u8]),
}

/// The labels of a path, from either end.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl Path {
    /// Most labels [`Path::parse`] and [`Path::from_labels`] accept.
    pub const LABELS_MAX: usize = 1024;
    /// Most bytes over all labels that [`Path::parse`] and [`Path::from_labels`] accept: 16 KiB.
    pub const BYTES_MAX: usize = 16 * 1024;

    /// The path without labels, printed `/`.
    pub fn root() -> Path {
        Path(Encoded::default())
    }

    /// Reads one path; white space and `#` comments may surround it.
    pub fn parse(text: &str) -> Result<Path, SyntaxErrors> {
        parse::path(text)
    }

    /// A path of these labels; `None` for an empty label, more than [`Path::LABELS_MAX`] labels or [`Path::BYTES_MAX`]
    /// bytes.
    pub fn from_labels<I>(labels: I) -> Option<Path>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut encoder = Encoder::default();
        for label in labels {
            if label.as_ref().is_empty() || !encoder.push(label.as_ref()) {
                return None;
            }
        }
        Some(Path(encoder.finish()))
    }

    /// The labels in order.
    pub fn labels(&self) -> Labels<'_> {
        self.0.labels()
    }

    /// The label at this place.
    pub fn label(&self, index: usize) -> Option<&[u8]> {
        self.labels().nth(index)
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// Is it `/`?
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// Bytes over all labels.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Are the first labels those of `head`?
    pub fn starts_with(&self, head: &Path) -> bool {
        self.0.encoded().starts_with(head.0.encoded())
    }

    /// The labels of both. Not limited: whoever joins in a loop checks [`Path::bytes`].
    #[must_use]
    pub fn join(&self, tail: &Path) -> Path {
        Path(self.0.join(&tail.0))
    }

    /// Without the first `n` labels (all of them when there are fewer).
    #[must_use]
    pub fn skip(&self, n: usize) -> Path {
        Path(self.0.split(n).1)
    }

    /// Only the first `n` labels.
    #[must_use]
    pub fn take(&self, n: usize) -> Path {
        Path(self.0.split(n).0)
    }

    /// Bytes that are equal exactly when the first `n` labels are; the index of [`super::Table`] is keyed by them.
    pub(super) fn encoded_take(&self, n: usize) -> &[u8] {
        let end = self.0.boundary(n);
        &self.0.encoded()[..end - self.0.start]
    }
}

impl Prefix {
    /// Reads one prefix; white space and comments may surround it.
    pub fn parse(text: &str) -> Result<Prefix, SyntaxErrors> {
        parse::prefix(text)
    }

    /// A prefix of these elements; `None` as for [`Path::from_labels`].
    pub fn from_elems<'a>(elems: impl IntoIterator<Item = Elem<'a>>) -> Option<Prefix> {
        let mut encoder = Encoder::default();
        for elem in elems {
            let fits = match elem {
                Elem::Any => encoder.push(b""),
                Elem::Label(b"") => false,
                Elem::Label(label) => encoder.push(label),
            };
            if !fits {
                return None;
            }
        }
        Some(Prefix(encoder.finish()))
    }

    /// The elements in order.
    pub fn elems(&self) -> impl ExactSizeIterator<Item = Elem<'_>> + DoubleEndedIterator {
        self.0.labels().map(|label| if label.is_empty() { Elem::Any } else { Elem::Label(label) })
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// Is it `/`, which matches every path?
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// Has it a `*`?
    pub fn is_wild(&self) -> bool {
        self.0.labels().any(<[u8]>::is_empty)
    }

    /// Not longer than the path, and each element is `*` or equal to the label at its place.
    pub fn matches(&self, path: &Path) -> bool {
        self.len() <= path.len()
            && self.0.labels().zip(path.labels()).all(|(elem, label)| elem.is_empty() || elem == label)
    }

    /// The same labels as a path; `None` if there is a `*`.
    pub fn to_path(&self) -> Option<Path> {
        if self.is_wild() { None } else { Some(Path(self.0.clone())) }
    }

    /// See [`Path::encoded_take`]; a `*` is a label without bytes.
    pub(super) fn encoded(&self) -> &[u8] {
        self.0.encoded()
    }
}

impl From<Path> for Prefix {
    fn from(path: Path) -> Prefix {
        Prefix(path.0)
    }
}

impl FromStr for Path {
    type Err = SyntaxErrors;

    fn from_str(text: &str) -> Result<Path, SyntaxErrors> {
        Path::parse(text)
    }
}

impl FromStr for Prefix {
    type Err = SyntaxErrors;

    fn from_str(text: &str) -> Result<Prefix, SyntaxErrors> {
        Prefix::parse(text)
    }
}

impl Default for Path {
    fn default() -> Path {
        Path::root()
    }
}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Path) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Path {
    fn cmp(&self, other: &Path) -> Ordering {
        self.labels().cmp(other.labels())
    }
}

impl PartialOrd for Prefix {
    fn partial_cmp(&self, other: &Prefix) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Prefix {
    fn cmp(&self, other: &Prefix) -> Ordering {
        self.elems().cmp(other.elems())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.labels(), f)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0.labels(), f)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({self})")
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({self})")
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let [a, b, rest @ ..] = self.bytes else { return None };
        let (label, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*a, *b])))?;
        self.bytes = rest.get(LENGTH_BYTES..)?;
        self.left -= 1;
        Some(label)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'a> DoubleEndedIterator for Labels<'a> {
    fn next_back(&mut self) -> Option<&'a [u8]> {
        let [rest @ .., a, b] = self.bytes else { return None };
        let length = usize::from(u16::from_le_bytes([*a, *b]));
        let (rest, label) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
        self.bytes = rest.get(..rest.len().checked_sub(LENGTH_BYTES)?)?;
        self.left -= 1;
        Some(label)
    }
}

impl ExactSizeIterator for Labels<'_> {}

/// May this byte stand in a label as it is?
pub(crate) fn is_showable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'.' | b'#' | b'$' | b'%' | b'-')
}

/// Prints one label: as it is if all its bytes are showable, otherwise every byte as `\x` and two digits.
pub(super) fn show_label(label: &[u8], f: &mut impl fmt::Write) -> fmt::Result {
    if label.iter().all(|&byte| is_showable(byte)) {
        return label.iter().try_for_each(|&byte| f.write_char(char::from(byte)));
    }
    label.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

fn show(labels: Labels<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if labels.len() == 0 {
        return f.write_char('/');
    }
    for label in labels {
        f.write_char('/')?;
        if label.is_empty() {
            f.write_char('*')?;
        } else {
            show_label(label, f)?;
        }
    }
    Ok(())
}

/// Labels back to back, each between two copies of its length (little endian), so that they can be walked from both
/// ends. The bytes between `start` and `end` are equal exactly when the labels are, and a run of labels is a prefix of
/// another exactly when its bytes are.
#[derive(Clone, Default)]
struct Encoded {
    buffer: Arc<[u8]>,
    start: usize,
    end: usize,
    count: usize,
}

impl Encoded {
    fn encoded(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn labels(&self) -> Labels<'_> {
        Labels { bytes: self.encoded(), left: self.count }
    }

    fn bytes(&self) -> usize {
        (self.end - self.start) - 2 * LENGTH_BYTES * self.count
    }

    /// Where the label number `n` starts in the buffer.
    fn boundary(&self, n: usize) -> usize {
        self.labels().take(n).fold(self.start, |at, label| at + label.len() + 2 * LENGTH_BYTES)
    }

    fn split(&self, n: usize) -> (Encoded, Encoded) {
        let n = n.min(self.count);
        let middle = self.boundary(n);
        let head = Encoded { end: middle, count: n, ..self.clone() };
        let tail = Encoded { start: middle, count: self.count - n, ..self.clone() };
        (head, tail)
    }

    fn join(&self, tail: &Encoded) -> Encoded {
        if tail.count == 0 {
            return self.clone();
        }
        if self.count == 0 {
            return tail.clone();
        }
        let buffer: Arc<[u8]> = [self.encoded(), tail.encoded()].concat().into();
        Encoded { start: 0, end: buffer.len(), count: self.count + tail.count, buffer }
    }
}

impl PartialEq for Encoded {
    fn eq(&self, other: &Encoded) -> bool {
        self.encoded() == other.encoded()
    }
}

impl Eq for Encoded {}

impl Hash for Encoded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.encoded().hash(state);
    }
}

/// Builds [`Encoded`] within the limits of [`Path`].
#[derive(Default)]
pub(super) struct Encoder {
    buffer: Vec<u8>,
    count: usize,
}

impl Encoder {
    /// False: it does not fit, and nothing was added. An empty label stands for `*`.
    pub(super) fn push(&mut self, label: &[u8]) -> bool {
        let bytes = self.buffer.len() - 2 * LENGTH_BYTES * self.count + label.len();
        if self.count == Path::LABELS_MAX || bytes > Path::BYTES_MAX {
            return false;
        }
        let Ok(length) = u16::try_from(label.len()) else { return false };
        self.buffer.extend(length.to_le_bytes());
        self.buffer.extend(label);
        self.buffer.extend(length.to_le_bytes());
        self.count += 1;
        true
    }

    pub(super) fn into_path(self) -> Path {
        Path(self.finish())
    }

    pub(super) fn into_prefix(self) -> Prefix {
        Prefix(self.finish())
    }

    fn finish(self) -> Encoded {
        Encoded { start: 0, end: self.buffer.len(), count: self.count, buffer: self.buffer.into() }
    }
}

/// Appends what [`Path::encoded_take`] would hold for this label; an empty one is `*`.
pub(super) fn encode_label(label: &[u8], buffer: &mut Vec<u8>) {
    let length = u16::try_from(label.len()).unwrap_or(u16::MAX).to_le_bytes();
    buffer.extend(length);
    buffer.extend(label);
    buffer.extend(length);
}

const LENGTH_BYTES: usize = 2;
const _: () = assert!(Path::BYTES_MAX <= u16::MAX as usize);

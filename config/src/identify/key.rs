//! Names as bytes: one that says where the name comes from, then each label behind its length.

use crate::dtab::Path;

/// Octets of a key: all labels of a name that a request gets, each with two for its length.
pub const NAME_BYTES_MAX: usize = 2048;

/// Octets before each label.
const LENGTH_BYTES: usize = 2;
const MADE: u8 = 0;
const WRITTEN: u8 = 1;

/// Starts a key with these labels. `written`: the whole name comes from the file, nothing of it from a request.
pub(super) fn begin(out: &mut Vec<u8>, prefix: &Path, written: bool) {
    out.clear();
    out.push(if written { WRITTEN } else { MADE });
    prefix.labels().for_each(|label| push(out, label));
}

/// One more label. One that is too long for a name makes the key too long for one.
pub(super) fn push(out: &mut Vec<u8>, label: &[u8]) {
    let kept = &label[..label.len().min(NAME_BYTES_MAX + 1)];
    out.extend_from_slice(&u16::try_from(kept.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(kept);
}

/// The same, in lower case.
pub(super) fn push_lower(out: &mut Vec<u8>, label: &[u8]) {
    push(out, label);
    let at = out.len().saturating_sub(label.len());
    out[at..].make_ascii_lowercase();
}

/// The key of a name that the file writes. `None`: it is too long to be one.
#[must_use]
pub fn written_key(name: &Path) -> Option<Box<[u8]>> {
    let mut out = Vec::new();
    begin(&mut out, name, true);
    (out.len() <= NAME_BYTES_MAX).then(|| out.into())
}

/// Does the whole name come from the file, and nothing of it from a request.
#[must_use]
pub fn is_written(key: &[u8]) -> bool {
    key.first() == Some(&WRITTEN)
}

/// The name. `None`: these bytes are no key.
#[must_use]
pub fn path(key: &[u8]) -> Option<Path> {
    let mut rest = key.get(1..)?;
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let (label, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        labels.push(label);
        rest = behind;
    }
    Path::from_labels(labels)
}

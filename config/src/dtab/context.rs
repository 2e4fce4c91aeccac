//! Dtabs that come in request headers.

use super::{Dtab, SyntaxErrors};

/// Why the dtab of a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderDtabError {
    /// A value is not a dtab.
    #[error("{header}: {message}")]
    Syntax {
        /// Which header.
        header: &'static str,
        /// The first mistake with its place.
        message: String,
        /// All mistakes.
        errors: SyntaxErrors,
    },
    /// A value is not text.
    #[error("{header}: not UTF-8")]
    Text {
        /// Which header.
        header: &'static str,
    },
    /// More dentries than [`HEADER_DENTRIES_MAX`].
    #[error("more than {HEADER_DENTRIES_MAX} dentries in l5d-ctx-dtab and l5d-dtab")]
    TooMany,
    /// More bytes than [`HEADER_BYTES_MAX`].
    #[error("more than {HEADER_BYTES_MAX} bytes in l5d-ctx-dtab and l5d-dtab")]
    TooLarge,
}

/// Bytes of all dtab header values of one request.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Dentries of all dtab header values of one request.
pub const HEADER_DENTRIES_MAX: usize = 100;

/// The override dtab of a request: all values of `l5d-ctx-dtab`, then all of `l5d-dtab`, each a whole dtab. `None` if
/// they hold no dentry. Printed, it is what goes on as `l5d-ctx-dtab`.
///
/// ```
/// use serin_config::dtab::override_dtab;
/// let dtab = override_dtab([&b"/a => /c"[..]].into_iter(), [&b"/a => /d"[..]].into_iter()).unwrap().unwrap();
/// assert_eq!(dtab.to_string(), "/a=>/c;/a=>/d");
/// ```
pub fn override_dtab<'a>(
    ctx: impl Iterator<Item = &'a [u8]>,
    user: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<Dtab>, HeaderDtabError> {
    let values = ctx.map(|value| ("l5d-ctx-dtab", value)).chain(user.map(|value| ("l5d-dtab", value)));
    let (mut all, mut bytes) = (Dtab::default(), 0_usize);
    for (header, value) in values {
        bytes = bytes.saturating_add(value.len());
        if bytes > HEADER_BYTES_MAX {
            return Err(HeaderDtabError::TooLarge);
        }
        let text = std::str::from_utf8(value).map_err(|_| HeaderDtabError::Text { header })?;
        let dtab = Dtab::parse(text).map_err(|errors| HeaderDtabError::Syntax {
            header,
            message: errors.in_text(text),
            errors,
        })?;
        all.0.extend(dtab.0);
        if all.0.len() > HEADER_DENTRIES_MAX {
            return Err(HeaderDtabError::TooMany);
        }
    }
    Ok(if all.is_empty() { None } else { Some(all) })
}

//! Dtabs that come in request headers.

use std::collections::HashSet;

use super::{Dentry, Dtab, SyntaxErrors, is_showable};

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

/// What goes on as `l5d-ctx-dtab`: what this hop adds, without the dentries that were sent along already, then what was sent.
/// A dentry that stands again further behind is an alternative that was tried before it, so the same rule at each hop makes the
/// list no longer.
///
/// ```
/// use serin_config::dtab::{Dtab, travelling};
/// let (rule, sent) = (Dtab::parse("/a => /c")?, Dtab::parse("/a => /c; /a => /d")?);
/// assert_eq!(travelling(&[&rule], &[&sent]), sent);
/// # Ok::<(), serin_config::dtab::SyntaxErrors>(())
/// ```
pub fn travelling(added: &[&Dtab], sent: &[&Dtab]) -> Dtab {
    // splits are of one process: what is written alike is the same
    let text = |dentry: &Dentry| format!("{}=>{}", dentry.prefix, dentry.destination);
    let known: HashSet<String> = sent.iter().flat_map(|dtab| &dtab.0).map(text).collect();
    let new = added.iter().flat_map(|dtab| &dtab.0).filter(|dentry| known.is_empty() || !known.contains(&text(dentry)));
    Dtab(new.chain(sent.iter().flat_map(|dtab| &dtab.0)).cloned().collect())
}

/// A dtab as it goes on: printed, and shorter where the next hop would refuse that as too long. Then only octets that need it
/// are escaped, and no blank stands around separators: no longer than the shortest text that says the same, nearly.
pub fn context_text(dtab: &Dtab) -> String {
    let printed = dtab.to_string();
    if printed.len() <= HEADER_BYTES_MAX { printed } else { compact(&printed) }
}

fn compact(printed: &str) -> String {
    let mut text = String::with_capacity(printed.len());
    let mut rest = printed;
    while let Some(next) = rest.chars().next() {
        let escaped =
            rest.strip_prefix("\\x").and_then(|hex| hex.get(..2)).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) if is_showable(byte) => {
                text.push(char::from(byte));
                rest = &rest[4..];
            }
            // a weight: a star stands nowhere else behind a digit
            None if rest.starts_with(".00*") => {
                text.push('*');
                rest = &rest[4..];
            }
            _ => {
                if next != ' ' {
                    text.push(next);
                }
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    text
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dtab::arb;

    fn dtab(text: &str) -> Dtab {
        Dtab::parse(text).unwrap()
    }

    #[track_caller]
    fn check_travels(added: &str, sent: &str, expected: &str) {
        assert_eq!(travelling(&[&dtab(added)], &[&dtab(sent)]).to_string(), dtab(expected).to_string());
    }

    #[test]
    fn what_came_along_already_is_not_added_again() {
        check_travels("/a=>/b", "", "/a=>/b");
        check_travels("/a=>/b", "/a=>/b", "/a=>/b");
        check_travels("/a=>/b;/a=>/c", "/x=>/y;/a=>/b;/a=>/d", "/a=>/c;/x=>/y;/a=>/b;/a=>/d");
        check_travels("/a=>2*/b & /c", "/a => 2.0 * /b & 1 * /c", "/a=>2*/b & /c");
        check_travels("/a=>2*/b & /c", "/a=>/b", "/a=>2*/b & /c;/a=>/b");
        // twice as sent is the sender's
        check_travels("/a=>/b", "/a=>/c;/a=>/c", "/a=>/b;/a=>/c;/a=>/c");
    }

    #[test]
    fn a_long_text_is_no_longer_at_the_next_hop() {
        let label = format!("/svc/foo => /cl/{}\\x2f", "a".repeat(4000));
        let many = format!("/s=>{}", ["/a"; 2000].join("|"));
        let weights = format!("/s=>{}", ["2*/a"; 1000].join("&"));
        for text in [label, many, weights] {
            let sent = dtab(&text);
            assert!(text.len() <= HEADER_BYTES_MAX);
            let goes_on = context_text(&sent);
            assert!(goes_on.len() <= HEADER_BYTES_MAX, "{} of {}", goes_on.len(), text.len());
            let heard = override_dtab([goes_on.as_bytes()].into_iter(), [].into_iter());
            assert_eq!(heard.unwrap().unwrap(), sent);
        }
        assert_eq!(
            context_text(&dtab("/a => 2 * /b & /c\\x2f")),
            "/a=>2.00*/b & /\\x63\\x2f",
            "a short one is printed"
        );
    }

    proptest! {
        #[test]
        fn the_short_form_says_the_same(dtab in arb::dtab()) {
            let printed = dtab.to_string();
            let short = compact(&printed);
            prop_assert!(short.len() <= printed.len());
            prop_assert_eq!(Dtab::parse(&short), Ok(dtab));
        }
    }
}

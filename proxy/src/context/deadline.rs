//! `l5d-ctx-deadline`: until when a caller waits. Advice, for those who come after: it refuses nobody.

use http::{HeaderMap, HeaderName};

/// `<when it was written> <until when>`, both in nanoseconds since 1970.
pub const CTX_DEADLINE: HeaderName = HeaderName::from_static("l5d-ctx-deadline");

/// The longest text: two numbers and a space.
pub const TEXT_MAX: usize = 41;

/// Values of one request that are looked at.
const VALUES_MAX: usize = 16;

/// A deadline as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When it was set, in nanoseconds since 1970.
    pub set_ns: u64,
    /// Nobody waits after it, in nanoseconds since 1970.
    pub until_ns: u64,
}

impl Deadline {
    /// All deadlines of a request as one. `None`: it has none that can be read.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(CTX_DEADLINE).iter().take(VALUES_MAX);
        values.filter_map(|value| Self::parse(value.as_bytes())).reduce(Self::and)
    }

    /// The one that both allow: the later beginning, the earlier end.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { set_ns: self.set_ns.max(other.set_ns), until_ns: self.until_ns.min(other.until_ns) }
    }

    /// From one value. `None`: it is not two numbers with a space between them.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let space = text.iter().position(|&byte| byte == b' ')?;
        let (set_ns, until_ns) = (number(&text[..space])?, number(&text[space + 1..])?);
        Some(Self { set_ns, until_ns })
    }

    /// Writes the value; returns its length.
    pub fn write(&self, text: &mut [u8; TEXT_MAX]) -> usize {
        let first = push_decimal(text, 0, self.set_ns);
        text[first] = b' ';
        push_decimal(text, first + 1, self.until_ns)
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    if !digits { None } else { std::str::from_utf8(text).ok()?.parse().ok() }
}

/// Writes a number at this place of a text; returns where it ends.
pub fn push_decimal(text: &mut [u8], at: usize, number: u64) -> usize {
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut rest = number;
    for place in text[at..at + digits].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    at + digits
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(values: &[&str], expected: Option<(u64, u64)>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CTX_DEADLINE, HeaderValue::from_str(value).unwrap());
        }
        let expected = expected.map(|(set_ns, until_ns)| Deadline { set_ns, until_ns });
        assert_eq!(Deadline::read(&headers), expected, "{values:?}");
    }

    #[test]
    fn several_deadlines_are_the_narrowest() {
        check(&["1 10"], Some((1, 10)));
        check(&["1 10", "5 20"], Some((5, 10)));
        check(&["1 10", "junk", "3 9"], Some((3, 9)));
        check(&[], None);
    }

    #[test]
    fn junk_is_no_deadline() {
        for junk in ["", "1", "1 ", " 1", "1  2", "1 2 3", "-1 2", "+1 2", "0x1 2", "1 99999999999999999999"] {
            check(&[junk], None);
        }
    }

    #[test]
    fn only_so_many_values_are_looked_at() {
        let mut values = vec!["1 100"; VALUES_MAX - 1];
        values.push("1 50");
        check(&values, Some((1, 50)));
        values.insert(0, "1 100");
        check(&values, Some((1, 100)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(set_ns: u64, until_ns: u64) {
            let (deadline, mut text) = (Deadline { set_ns, until_ns }, [0; TEXT_MAX]);
            let len = deadline.write(&mut text);
            prop_assert_eq!(Deadline::parse(&text[..len]), Some(deadline));
        }

        #[test]
        fn combining_never_widens(a: (u64, u64), b: (u64, u64)) {
            let of = |(set_ns, until_ns)| Deadline { set_ns, until_ns };
            let both = of(a).and(of(b));
            prop_assert!(both.until_ns <= a.1 && both.until_ns <= b.1 && both == of(b).and(of(a)));
        }

        #[test]
        fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _any = Deadline::parse(&text);
        }
    }
}

//! PURE: the version of a stored dtab, and its text in `ETag` and `If-Match`.

use std::fmt;

/// A version of one stored dtab. Grows with each write, and is never used twice for one name.
///
/// Its text is namerd's: the base64 of eight bytes, big end first. The first version prints `AAAAAAAAAAE=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u64);

impl Version {
    /// Larger numbers are not taken from a file, so that one can always be added.
    pub const MAX: u64 = 1 << 62;

    /// The version with this number, from 1 to [`Version::MAX`].
    pub fn new(number: u64) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The one that follows the version with this number; 0 stands for none.
    pub(super) fn after(number: u64) -> Self {
        Self(number.saturating_add(1))
    }

    /// Reads what [`Version`] prints; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, bytes) = (text.strip_suffix('=')?.as_bytes(), &mut [0; 8]);
        if digits.len() != DIGITS {
            return None;
        }
        let mut held = (0_u32, 0_u32);
        let mut at = bytes.iter_mut();
        for digit in digits {
            let value = ALPHABET.iter().position(|known| known == digit)?;
            held = ((held.0 << 6) | u32::try_from(value).ok()?, held.1 + 6);
            if held.1 >= 8 {
                *at.next()? = u8::try_from((held.0 >> (held.1 - 8)) & 0xff).ok()?;
                held.1 -= 8;
            }
        }
        // the bits that are left over say nothing, and must say it by being 0
        let spare = held.0 & ((1 << held.1) - 1);
        (spare == 0).then(|| Self(u64::from_be_bytes(*bytes)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.to_be_bytes().chunks(3) {
            let value =
                chunk.iter().fold(0_u32, |value, byte| (value << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for digit in 0..4 {
                let index = (value >> (18 - 6 * digit)) & 0x3f;
                let letter = if digit as usize <= chunk.len() { ALPHABET[index as usize] } else { b'=' };
                write!(f, "{}", char::from(letter))?;
            }
        }
        Ok(())
    }
}

/// Letters before the `=`.
const DIGITS: usize = 11;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_version_prints_as_that_of_namerd() {
        assert_eq!(Version::after(0).to_string(), "AAAAAAAAAAE=");
        assert_eq!(Version(u64::MAX).to_string(), "//////////8=");
        assert_eq!(Version(0x0102_0304_0506_0708).to_string(), "AQIDBAUGBwg=");
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in
            ["", "=", "AAAAAAAAAAE", "AAAAAAAAAAF=", "\"AAAAAAAAAAE=\"", "AAAAAAAAAA==", "AAAAAAAAAA E=", "1", "*"]
        {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_from_files_have_room_above_them() {
        assert_eq!((Version::new(0), Version::new(Version::MAX + 1)), (None, None));
        assert_eq!(Version::new(Version::MAX).map(Version::get), Some(Version::MAX));
    }

    proptest! {
        #[test]
        fn print_then_parse_gives_back_the_version(number in any::<u64>()) {
            prop_assert_eq!(Version::parse(&Version(number).to_string()), Some(Version(number)));
        }

        #[test]
        fn only_one_text_means_a_version(text in "[A-D/+89a-z]{11}=") {
            if let Some(version) = Version::parse(&text) {
                prop_assert_eq!(version.to_string(), text);
            }
        }
    }
}

//! Base64 (RFC 4648 section 4) of a trace id: 32 or 40 octets, into and out of memory of fixed size.

/// Characters of the longest text: 40 octets with their padding.
pub const TEXT_MAX: usize = 56;
/// The longest message, in octets.
pub const OCTETS_MAX: usize = 40;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes the text of `octets`, padded; returns its length. Octets beyond [`OCTETS_MAX`] are left out.
pub fn encode(octets: &[u8], text: &mut [u8; TEXT_MAX]) -> usize {
    let (groups, rest) = octets[..octets.len().min(OCTETS_MAX)].as_chunks::<3>();
    let (quads, _) = text.as_chunks_mut::<4>();
    for (quad, group) in quads.iter_mut().zip(groups) {
        *quad = characters(*group);
    }
    if let (Some(quad), Some(&first)) = (quads.get_mut(groups.len()), rest.first()) {
        *quad = characters([first, rest.get(1).copied().unwrap_or(0), 0]);
        quad[1 + rest.len()..].fill(b'=');
    }
    4 * (groups.len() + usize::from(!rest.is_empty()))
}

fn characters(group: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
    [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize])
}

/// The octets of a text with or without its padding, and how many. `None`: it is no Base64, or longer than
/// [`OCTETS_MAX`] octets.
pub fn decode(text: &[u8]) -> Option<([u8; OCTETS_MAX], usize)> {
    if text.len() > TEXT_MAX {
        return None;
    }
    let bare = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if bare.len() % 4 == 1 || (bare.len() != text.len() && !text.len().is_multiple_of(4)) {
        return None;
    }
    let (mut octets, mut len) = ([0; OCTETS_MAX], 0);
    for group in bare.chunks(4) {
        let bits = bits(group)?;
        for place in 0..group.len() - 1 {
            *octets.get_mut(len)? = (bits >> (16 - 8 * place)) as u8;
            len += 1;
        }
    }
    Some((octets, len))
}

/// The same for a text of any length, padded: what is not on the path of requests. The caller bounds it.
pub fn decode_any(text: &[u8]) -> Option<Vec<u8>> {
    let bare = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut octets = Vec::with_capacity(text.len());
    for group in bare.chunks(4) {
        let bits = bits(group)?;
        (1..group.len()).for_each(|place| octets.push((bits >> (24 - 8 * place)) as u8));
    }
    Some(octets)
}

/// Up to four characters, as 24 bits.
fn bits(group: &[u8]) -> Option<u32> {
    (0..4)
        .try_fold(0, |bits, place| Some(bits << 6 | group.get(place).map_or(Some(0), |&character| sextet(character))?))
}

fn sextet(character: u8) -> Option<u32> {
    Some(u32::from(match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(octets: &[u8], expected: &str) {
        let mut text = [0; TEXT_MAX];
        let len = encode(octets, &mut text);
        assert_eq!(std::str::from_utf8(&text[..len]).unwrap(), expected);
        let (back, len) = decode(expected.as_bytes()).unwrap();
        assert_eq!(&back[..len], octets);
    }

    #[test]
    fn the_vectors_of_the_standard_hold() {
        for (octets, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            check(octets.as_bytes(), text);
        }
        check(&[0xff; OCTETS_MAX], &format!("{}/w==", "/".repeat(52)));
    }

    #[test]
    fn what_is_no_text_of_a_trace_is_refused() {
        for text in ["A", "Zg=", "Zg", "Zm 9", "Zm-_", "====", "Zg==Zg=="] {
            assert_eq!(decode(text.as_bytes()).is_some(), text == "Zg", "{text}");
        }
        assert!(decode(&[b'A'; TEXT_MAX]).is_none(), "42 octets are too many");
        assert!(decode(&[b'A'; TEXT_MAX + 1]).is_none());
    }

    proptest! {
        #[test]
        fn any_octets_come_back(octets in proptest::collection::vec(any::<u8>(), 0..=OCTETS_MAX)) {
            let mut text = [0; TEXT_MAX];
            let len = encode(&octets, &mut text);
            let (back, count) = decode(&text[..len]).unwrap();
            prop_assert_eq!(&back[..count], &octets[..]);
            prop_assert_eq!(decode_any(&text[..len]), Some(octets));
        }

        #[test]
        fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _any = (decode(&text), decode_any(&text));
        }
    }
}

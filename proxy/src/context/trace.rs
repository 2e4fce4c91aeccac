//! Where a request stands in a trace: read from the hop before, written for the next one.
//!
//! Serin records no spans. It keeps a trace whole that others record: each hop is a child of the one before it.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::base64;

/// The trace of Linkerd: Base64 of span, parent and trace id and of the flags.
pub const CTX_TRACE: HeaderName = HeaderName::from_static("l5d-ctx-trace");
/// The share of traces to sample, from 0 to 1.
pub const SAMPLE: HeaderName = HeaderName::from_static("l5d-sample");
/// Zipkin's fields.
pub const B3: [HeaderName; 5] = [
    HeaderName::from_static("x-b3-traceid"),
    HeaderName::from_static("x-b3-spanid"),
    HeaderName::from_static("x-b3-parentspanid"),
    HeaderName::from_static("x-b3-sampled"),
    HeaderName::from_static("x-b3-flags"),
];

/// Bit of [`Trace::flags`]: sampled whatever the rate.
pub const DEBUG: u64 = 1;
/// Bit of [`Trace::flags`]: whether it is sampled has been decided.
pub const SAMPLING_KNOWN: u64 = 1 << 1;
/// Bit of [`Trace::flags`]: it is sampled.
pub const SAMPLED: u64 = 1 << 2;

/// Draws of `l5d-sample` lie below it: a rate counts to four decimals.
const SAMPLE_POINTS: u64 = 10_000;
/// A rate is a short number.
const RATE_OCTETS_MAX: usize = 32;

/// The ids of one hop of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Of this hop.
    pub span: u64,
    /// Of the hop before it; of the first hop its own.
    pub parent: u64,
    /// Of the whole request on all its hops: the lower half, which is all there is of an id of 64 bits.
    pub id: u64,
    /// The upper half of an id of 128 bits.
    pub id_high: Option<u64>,
    /// [`DEBUG`], [`SAMPLING_KNOWN`], [`SAMPLED`]; other bits are passed on.
    pub flags: u64,
}

impl Trace {
    /// A trace that begins here.
    pub fn root(span: u64) -> Self {
        Self { span, parent: span, id: span, id_high: None, flags: 0 }
    }

    /// The next hop.
    pub fn child(self, span: u64) -> Self {
        Self { span, parent: self.span, ..self }
    }

    /// Decides about sampling by `l5d-sample`, unless somebody before has. `salt` is of this process, so that a caller
    /// cannot choose ids that are always sampled.
    pub fn sampled_at(mut self, rate: f64, salt: u64) -> Self {
        if self.flags & (SAMPLING_KNOWN | DEBUG) == 0 {
            let point = (self.id ^ salt).cast_signed().unsigned_abs() % SAMPLE_POINTS;
            let sampled = (point as f64) < rate * SAMPLE_POINTS as f64;
            self.flags |= SAMPLING_KNOWN | if sampled { SAMPLED } else { 0 };
        }
        self
    }

    /// From the text of `l5d-ctx-trace`. `None`: it is none.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let (octets, len) = base64::decode(text)?;
        let word = |at: usize| octets[8 * at..][..8].iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        let id_high = match len {
            32 => None,
            40 => Some(word(4)),
            _ => return None,
        };
        Some(Self { span: word(0), parent: word(1), id: word(2), id_high, flags: word(3) })
    }

    /// The text of `l5d-ctx-trace`; returns its length.
    pub fn encode(&self, text: &mut [u8; base64::TEXT_MAX]) -> usize {
        let mut octets = [0; base64::OCTETS_MAX];
        let words = [self.span, self.parent, self.id, self.flags, self.id_high.unwrap_or(0)];
        for (place, word) in octets.chunks_mut(8).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        base64::encode(&octets[..if self.id_high.is_some() { 40 } else { 32 }], text)
    }

    /// From Zipkin's fields. `None`: one that must be there is missing or no id.
    pub fn from_b3(headers: &HeaderMap) -> Option<Self> {
        let [trace, span, parent, sampled, flags] = &B3;
        let hex = |name: &HeaderName| parse_hex(headers.get(name)?.as_bytes());
        let text = headers.get(trace)?.as_bytes();
        let (id_high, id) = match text.len() {
            17..=32 => {
                let (high, low) = text.split_at(text.len() - 16);
                (Some(parse_hex(high)?), parse_hex(low)?)
            }
            _ => (None, parse_hex(text)?),
        };
        let span = hex(span)?;
        let said = match headers.get(sampled).map(HeaderValue::as_bytes) {
            Some(b"1" | b"true") => SAMPLING_KNOWN | SAMPLED,
            Some(b"0" | b"false") => SAMPLING_KNOWN,
            _ => 0,
        };
        let debug = if headers.get(flags).is_some_and(|flags| flags == "1") { DEBUG } else { 0 };
        Some(Self { span, parent: hex(parent).unwrap_or(span), id, id_high, flags: said | debug })
    }

    /// Is it sampled; `None`: nobody has decided.
    pub fn sampled(&self) -> Option<bool> {
        let known = self.flags & (SAMPLING_KNOWN | DEBUG) != 0;
        known.then_some(self.flags & (SAMPLED | DEBUG) != 0)
    }
}

/// The rate of the first `l5d-sample` that is a number, from 0 to 1.
pub fn rate(headers: &HeaderMap) -> Option<f64> {
    let number = |value: &HeaderValue| {
        let text = value.to_str().ok().filter(|text| text.len() <= RATE_OCTETS_MAX)?;
        text.trim().parse::<f64>().ok().filter(|rate| !rate.is_nan())
    };
    headers.get_all(SAMPLE).iter().find_map(number).map(|rate| rate.clamp(0.0, 1.0))
}

/// 16 digits in lower case.
pub fn hex(id: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|place| DIGITS[(id >> (60 - 4 * place) & 15) as usize])
}

/// 1 to 16 digits.
fn parse_hex(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().try_fold(0, |id, &digit| Some(id << 4 | u64::from(char::from(digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(trace: &Trace) -> String {
        let mut text = [0; base64::TEXT_MAX];
        let len = trace.encode(&mut text);
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    #[test]
    fn a_trace_is_span_parent_trace_and_flags_in_that_order() {
        let trace = Trace { span: 1, parent: 2, id: 3, id_high: None, flags: 6 };
        assert_eq!(text(&trace), "AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAY=");
        let wide = Trace { id_high: Some(4), ..trace };
        assert_eq!(text(&wide), "AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAYAAAAAAAAABA==");
    }

    #[test]
    fn a_child_keeps_the_trace_and_the_decision_about_it() {
        let before = Trace { span: 7, parent: 1, id: 1, id_high: Some(5), flags: SAMPLING_KNOWN };
        assert_eq!(before.child(9), Trace { span: 9, parent: 7, ..before });
        assert_eq!(before.sampled_at(1.0, 0), before, "decided already");
        assert_eq!(before.sampled(), Some(false));
    }

    #[test]
    fn a_rate_decides_by_the_id_and_the_salt() {
        let at = |id, rate, salt| Trace::root(id).sampled_at(rate, salt).sampled().unwrap();
        assert!(at(1, 1.0, 0) && !at(1, 0.0, 0) && !at(0, 0.0, 0));
        assert!(at(4_999, 0.5, 0) && !at(5_000, 0.5, 0) && at(5_000, 0.5, 5_000));
        // the absolute value of a number with its highest bit set
        assert!(at(u64::MAX, 0.0002, 0) && !at(u64::MAX, 0.0001, 0) && at(1 << 63, 1.0, 0));
    }

    #[track_caller]
    fn check_rate(values: &[&str], expected: Option<f64>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SAMPLE, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(rate(&headers), expected, "{values:?}");
    }

    #[test]
    fn rates_are_clamped_and_junk_is_none() {
        check_rate(&["0.25"], Some(0.25));
        check_rate(&["7"], Some(1.0));
        check_rate(&["-1"], Some(0.0));
        check_rate(&["inf"], Some(1.0));
        check_rate(&["much"], None);
        check_rate(&["NaN", "0.5"], Some(0.5));
        check_rate(&["0.50000000000000000000000000000000000000000"], None);
        check_rate(&[], None);
    }

    fn b3(fields: &[(&str, &str)]) -> Option<Trace> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        Trace::from_b3(&headers)
    }

    #[test]
    fn zipkin_fields_make_a_trace() {
        let ids = [("x-b3-traceid", "0000000000000001"), ("x-b3-spanid", "a2fb4a1d1a96d312")];
        let span = 0xa2fb_4a1d_1a96_d312;
        assert_eq!(b3(&ids), Some(Trace { span, parent: span, id: 1, id_high: None, flags: 0 }));
        let more = [ids[1], ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"), ("x-b3-parentspanid", "5")];
        let wide = b3(&more).unwrap();
        assert_eq!((wide.id_high, wide.id, wide.parent), (Some(0x463a_c35c_9f64_13ad), 0x4848_5a39_53bb_6124, 5));
        for (value, sampled) in [("1", Some(true)), ("true", Some(true)), ("0", Some(false)), ("x", None)] {
            assert_eq!(b3(&[ids[0], ids[1], ("x-b3-sampled", value)]).unwrap().sampled(), sampled, "{value}");
        }
        assert_eq!(b3(&[ids[0], ids[1], ("x-b3-flags", "1")]).unwrap().sampled(), Some(true));
        assert_eq!(b3(&ids[..1]), None);
        assert_eq!(b3(&[ids[1], ("x-b3-traceid", "g")]), None);
        assert_eq!(b3(&[ids[1], ("x-b3-traceid", "123456789012345678901234567890123")]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(span: u64, parent: u64, id: u64, id_high: Option<u64>, flags: u64) {
            let trace = Trace { span, parent, id, id_high, flags };
            prop_assert_eq!(Trace::decode(text(&trace).as_bytes()), Some(trace));
        }

        #[test]
        fn junk_is_no_trace_and_no_panic(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(Trace::decode(&text).is_none() || (43..=56).contains(&text.len()));
        }

        #[test]
        fn an_id_in_hexadecimal_is_that_id(id: u64) {
            prop_assert_eq!(parse_hex(&hex(id)), Some(id));
        }
    }
}

//! What must hold for any octets. The properties and the fuzz target call the same checks; each of them panics where its
//! law is broken.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{
    BodyLength, CHUNK_END, Chunk, ChunkedDecoder, FIELDS_MAX, Framing, H1Error, HEAD_BYTES_MAX, RequestHead,
    ResponseHead, encode_chunk_head, encode_last_chunk, encode_request, parse_response,
};

/// Written and read again by a second parser, a request is one message and the same one.
pub(crate) fn check_request(head: &RequestHead<'_>) {
    let mut out = b"kept".to_vec();
    encode_request(&mut out, head);
    let read = read_request(out.strip_prefix(b"kept").expect("what stood in the buffer stays"));
    assert_eq!(read.method, head.method.as_str());
    assert_eq!(read.target, expected_target(head.target));
    assert_eq!(read.fields, expected_fields(head));
    let count = |name: &str| read.fields.iter().filter(|(have, _)| have == name).count();
    assert_eq!(count("host"), 1, "one host");
    assert_eq!(count("content-length"), usize::from(matches!(head.framing, Framing::Length(_))));
    assert_eq!(count("transfer-encoding"), usize::from(head.framing == Framing::Chunked));
}

/// Whatever part of a response has been read, the verdict is the final one or there is none yet; a head is legal.
pub(crate) fn check_response(octets: &[u8], method: &Method, reads: impl IntoIterator<Item = usize>) {
    let all = Bytes::copy_from_slice(octets);
    let whole = parse_response(&all, method, HeaderMap::new()).map(|head| head.map(Summary::of));
    for read in reads.into_iter().map(|read| read.min(octets.len())) {
        match parse_response(&all.slice(..read), method, HeaderMap::new()).map(|head| head.map(Summary::of)) {
            Ok(None) => assert!(
                !matches!(&whole, Ok(Some(head)) if head.used <= read),
                "{read} octets hold the head and it was not found"
            ),
            verdict => assert_eq!(verdict, whole, "after {read} octets"),
        }
    }
    if let Ok(Some(head)) = whole {
        head.check(octets, method);
    }
}

/// However a chunked body is cut into reads, it gives the same data, trailers, end or error, and no more than went in.
pub(crate) fn check_chunked(octets: &[u8], cuts: impl IntoIterator<Item = usize>) {
    let whole = decode([octets]);
    let mut reads = Vec::new();
    let mut rest = octets;
    for cut in cuts {
        let (read, later) = rest.split_at(cut.min(rest.len()));
        reads.push(read);
        rest = later;
    }
    reads.push(rest);
    assert_eq!(decode(reads), whole);
    assert!(whole.data.len() <= octets.len(), "more data than octets");
    let trailers: usize = whole.trailers.iter().flatten().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(whole.data.len() + trailers <= whole.used.unwrap_or(octets.len()), "more came out than went in");
}

/// What is written as chunks reads back as the same data and trailers, and nothing is left over.
pub(crate) fn check_chunked_round_trip(pieces: &[Vec<u8>], trailers: &HeaderMap) {
    let mut out = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        encode_chunk_head(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(CHUNK_END);
    }
    encode_last_chunk(&mut out, Some(trailers));
    let decoded = decode([&out[..]]);
    assert_eq!((decoded.error, decoded.used), (None, Some(out.len())));
    assert_eq!(decoded.data, pieces.concat());
    for (name, value) in decoded.trailers.iter().flatten() {
        let sent = trailers.get_all(name).iter().any(|sent| trimmed(sent.as_bytes()) == value.as_bytes());
        assert!(sent, "{name}: {value:?} was not among the trailers");
        assert!(!name.as_str().starts_with("l5d-"), "context in trailers");
    }
}

/// Any octets as fields: lines of `name:value`, those that are none left out. Few enough for every limit.
pub(crate) fn fields_of(octets: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in octets.split(|&octet| octet == b'\n').take(20) {
        let mut halves = line.splitn(2, |&octet| octet == b':');
        let (name, value) = (halves.next().unwrap_or(b""), halves.next().unwrap_or(b""));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    fields
}

/// A request as the strict parser reads it.
pub(crate) struct Read {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

/// Reads exactly one request head, by the letter of RFC 9112 and without a second thought.
pub(crate) fn read_request(octets: &[u8]) -> Read {
    let head = octets.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    for line in &lines {
        let control = line.iter().find(|&&octet| (octet < b' ' && octet != b'\t') || octet == 0x7f);
        assert_eq!(control, None, "a control character in {line:?}");
    }
    let parts: Vec<&[u8]> = lines[0].split(|&octet| octet == b' ').collect();
    let [method, target, b"HTTP/1.1"] = parts[..] else { panic!("not a request line: {:?}", lines[0]) };
    assert!(is_token(method) && !target.is_empty());
    let fields = lines[1..].iter().map(|line| {
        let colon = line.iter().position(|&octet| octet == b':').expect("a field has a colon");
        assert!(is_token(&line[..colon]), "not a field name: {:?}", &line[..colon]);
        (String::from_utf8(line[..colon].to_vec()).expect("a token is ASCII"), trimmed(&line[colon + 1..]).to_vec())
    });
    let method = String::from_utf8(method.to_vec()).expect("a token is ASCII");
    Read { method, target: target.to_vec(), fields: fields.collect() }
}

fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().all(|octet| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet))
}

fn trimmed(value: &[u8]) -> &[u8] {
    let inside = |octet: &u8| *octet != b' ' && *octet != b'\t';
    let start = value.iter().position(inside).unwrap_or(value.len());
    let end = value.iter().rposition(inside).map_or(start, |last| last + 1);
    &value[start..end]
}

fn expected_target(target: &str) -> Vec<u8> {
    if target != "*" && !target.starts_with('/') {
        return expected_target(&format!("/{target}"));
    }
    if target.is_empty() {
        return b"/".to_vec();
    }
    let octets = target.bytes().map(|octet| match octet {
        0..=0x20 | 0x7f => format!("%{octet:02X}").into_bytes(),
        _ => vec![octet],
    });
    octets.collect::<Vec<_>>().concat()
}

fn expected_fields(head: &RequestHead<'_>) -> Vec<(String, Vec<u8>)> {
    let clean = |value: &[u8]| -> Vec<u8> {
        let legal = value.iter().map(|&octet| if (octet < 32 && octet != 9) || octet == 127 { b' ' } else { octet });
        trimmed(&legal.collect::<Vec<_>>()).to_vec()
    };
    let own = [
        "host",
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let mut fields = vec![("host".to_owned(), clean(head.host))];
    for name in head.headers.keys().filter(|name| !own.contains(&name.as_str())) {
        let values: Vec<&[u8]> = head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let values =
            if name == "cookie" { vec![values.join(&b"; "[..])] } else { values.into_iter().map(Vec::from).collect() };
        fields.extend(values.into_iter().map(|value| (name.to_string(), trimmed(&value).to_vec())));
    }
    if head.headers.get_all("te").iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        fields.push(("te".to_owned(), b"trailers".to_vec()));
        fields.push(("connection".to_owned(), b"te".to_vec()));
    }
    fields.extend(head.extra.iter().map(|(name, value)| ((*name).to_owned(), clean(value))));
    match head.framing {
        Framing::Chunked => fields.push(("transfer-encoding".to_owned(), b"chunked".to_vec())),
        Framing::Length(octets) => fields.push(("content-length".to_owned(), octets.to_string().into_bytes())),
        Framing::None => {}
    }
    fields
}

/// A response head in comparable form.
#[derive(Debug, PartialEq)]
struct Summary {
    status: u16,
    headers: HeaderMap,
    used: usize,
    body: BodyLength,
    keep: bool,
}

impl Summary {
    fn of(head: ResponseHead) -> Self {
        let ResponseHead { status, headers, used, body, keep } = head;
        Self { status: status.as_u16(), headers, used, body, keep }
    }

    fn check(&self, octets: &[u8], method: &Method) {
        assert!((100..=599).contains(&self.status) && self.status != 101);
        assert!(self.used <= octets.len().min(HEAD_BYTES_MAX) && octets[..self.used].ends_with(b"\n"));
        assert!(self.headers.len() <= FIELDS_MAX);
        let passed: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(passed <= self.used, "more came out than went in");
        for hop in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"] {
            assert!(!self.headers.contains_key(hop), "{hop} ends at this hop");
        }
        assert!(self.headers.get_all("content-length").iter().count() <= 1, "one length");
        assert!(!(self.keep && self.body == BodyLength::UntilClose), "a closed connection carries no more");
        let none = *method == Method::HEAD || self.status < 200 || [204, 304].contains(&self.status);
        assert!(!none || self.body == BodyLength::None, "a body where there is none");
        if let BodyLength::Known(octets) = self.body {
            let said = self.headers["content-length"].to_str().ok().and_then(|digits| digits.parse().ok());
            assert_eq!(said, Some(octets), "what is passed on says another length");
        }
    }
}

/// What came of a chunked body.
#[derive(Debug, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    error: Option<H1Error>,
    /// Octets of the body, once it is over.
    used: Option<usize>,
}

fn decode<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = ChunkedDecoder::new();
    let mut decoded = Decoded { data: Vec::new(), trailers: None, error: None, used: None };
    let mut used = 0;
    for read in reads {
        let mut buf = Bytes::copy_from_slice(read);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Chunk::Data(data)) => {
                    assert!(!data.is_empty(), "data without data");
                    decoded.data.extend_from_slice(&data);
                }
                Ok(Chunk::End(trailers)) => {
                    used += read.len() - buf.len();
                    assert!(decoder.is_over());
                    return Decoded { trailers, used: Some(used), ..decoded };
                }
                Ok(Chunk::NeedMore) => {
                    assert!(buf.is_empty(), "asks for more and has some");
                    break;
                }
                Err(error) => {
                    assert_eq!(decoder.decode(&mut buf).err(), Some(error), "a broken body stays broken");
                    return Decoded { error: Some(error), ..decoded };
                }
            }
        }
        used += read.len();
    }
    decoded
}

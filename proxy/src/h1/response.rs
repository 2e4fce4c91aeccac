//! Response heads, read.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::field::{Field, may_be_nominated};
use super::{FIELDS_ALLOWED_MAX, FIELDS_MAX, H1Error, HEAD_BYTES_MAX, NOMINATIONS_MAX};

/// A response head that has one reading.
#[derive(Debug)]
pub struct ResponseHead {
    /// 100 to 599; 101 only from [`parse_upgrade_response`]. Otherwise below 200 it is an interim response: another head follows.
    pub status: StatusCode,
    /// Fields to pass on, without those that end at this hop. At most one `content-length`, and it agrees with `body`
    /// unless the response has no body by its nature.
    pub headers: HeaderMap,
    /// Octets of the head: what comes behind them in the buffer is body.
    pub used: usize,
    /// How the body ends.
    pub body: BodyLength,
    /// Whether the connection may carry another exchange once the body is over.
    pub keep: bool,
}

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// With the last chunk: read it through a [`ChunkedDecoder`](super::ChunkedDecoder).
    Chunked,
    /// After so many octets.
    Known(u64),
    /// There is none, whatever the fields say. Octets that follow are not a body: close the connection then.
    None,
    /// When the upstream closes, so a cut cannot be told from the end.
    UntilClose,
}

/// What is borne of a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Octets, status line and last CRLF included.
    pub bytes: usize,
    /// Fields; at most [`FIELDS_ALLOWED_MAX`].
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: HEAD_BYTES_MAX, fields: FIELDS_MAX }
    }
}

/// [`parse_response_within`] the default limits.
///
/// # Errors
/// The head has no reading, or two, or is too large.
pub fn parse_response(buf: &Bytes, method: &Method, map: HeaderMap) -> Result<Option<ResponseHead>, H1Error> {
    parse_response_within(buf, method, map, HeadLimits::default())
}

/// Reads a response head from the start of `buf`. `None` means: read more and call again with all of it.
///
/// `method` is the request's. `map` is a spare, empty map: its memory is used, so that a head with ordinary names
/// allocates nothing (names that `http` does not know cost one allocation each). Values are slices of `buf` and keep it
/// alive. No octet of `buf` beyond the limit is looked at.
///
/// # Errors
/// The head has no reading, or two, or is too large.
pub fn parse_response_within(
    buf: &Bytes,
    method: &Method,
    map: HeaderMap,
    limits: HeadLimits,
) -> Result<Option<ResponseHead>, H1Error> {
    parse(buf, method, map, limits, false)
}

/// The same for a request that asked for a WebSocket: 101 is an answer, if it agrees to just that. What stands behind
/// its head belongs to the new protocol.
///
/// # Errors
/// The head has no reading, or two, or is too large, or switches to something else.
pub fn parse_upgrade_response(
    buf: &Bytes,
    method: &Method,
    map: HeaderMap,
    limits: HeadLimits,
) -> Result<Option<ResponseHead>, H1Error> {
    parse(buf, method, map, limits, true)
}

fn parse(
    buf: &Bytes,
    method: &Method,
    map: HeaderMap,
    limits: HeadLimits,
    asked: bool,
) -> Result<Option<ResponseHead>, H1Error> {
    debug_assert!(map.is_empty(), "a spare map is empty");
    let window = &buf[..buf.len().min(limits.bytes)];
    if matches!(window.first(), Some(b'\r' | b'\n')) {
        return Err(H1Error::Version); // left over from the message before: nobody knows from which
    }
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_ALLOWED_MAX];
    let fields = &mut fields[..limits.fields.min(FIELDS_ALLOWED_MAX)];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let used = match config.parse_response_with_uninit_headers(&mut parsed, window, fields) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) if window.len() == limits.bytes => return Err(H1Error::HeadSize),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal(error)),
    };
    let status = status(parsed.code)?;
    if status == StatusCode::SWITCHING_PROTOCOLS && !(asked && switches(parsed.headers)) {
        return Err(H1Error::SwitchedProtocols);
    }
    let survey = Survey::of(parsed.headers)?;
    let http_1_0 = parsed.version == Some(0);
    let body = survey.body_length(method, status, http_1_0)?;
    let headers = copy_fields(buf, parsed.headers, &survey, status, map)?;
    let keep = survey.keeps(http_1_0) && body != BodyLength::UntilClose && !survey.contradicts(method, status);
    Ok(Some(ResponseHead { status, headers, used, body, keep }))
}

fn refusal(error: httparse::Error) -> H1Error {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => H1Error::HeadSyntax,
        httparse::Error::NewLine | httparse::Error::Token => H1Error::HeadSyntax,
        httparse::Error::Status => H1Error::Status,
        httparse::Error::TooManyHeaders => H1Error::HeadFields,
        httparse::Error::Version => H1Error::Version,
    }
}

/// Does a 101 name the one protocol that is ever asked for (RFC 9110 section 7.8).
fn switches(fields: &[httparse::Header<'_>]) -> bool {
    let mut named = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("upgrade"));
    named.next().is_some_and(|field| field.value.eq_ignore_ascii_case(b"websocket")) && named.next().is_none()
}

fn status(code: Option<u16>) -> Result<StatusCode, H1Error> {
    let code = code.filter(|code| (100..=599).contains(code)).ok_or(H1Error::Status)?;
    StatusCode::from_u16(code).map_err(|_| H1Error::Status)
}

/// What the fields say about the message itself: gathered before any field is copied, since a nomination may stand
/// behind the field it names.
struct Survey<'b> {
    chunked: bool,
    close: bool,
    keep_alive: bool,
    length: Option<Length<'b>>,
    nominated: Nominated<'b>,
}

/// A content length and the digits that say it.
struct Length<'b> {
    octets: u64,
    digits: &'b [u8],
}

/// Names in `Connection` that take a field away. Bounded, on the stack.
struct Nominated<'b> {
    names: [&'b [u8]; NOMINATIONS_MAX],
    count: usize,
}

impl<'b> Survey<'b> {
    fn of(fields: &[httparse::Header<'b>]) -> Result<Self, H1Error> {
        let nominated = Nominated { names: [&[]; NOMINATIONS_MAX], count: 0 };
        let mut survey = Survey { chunked: false, close: false, keep_alive: false, length: None, nominated };
        for field in fields {
            match Field::of(field.name.as_bytes()) {
                Field::Connection => survey.read_connection(field.value)?,
                Field::ContentLength => survey.read_length(field.value)?,
                Field::TransferEncoding => {
                    if survey.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(H1Error::TransferEncoding);
                    }
                    survey.chunked = true;
                }
                Field::Hop | Field::Host | Field::Other | Field::Te => {}
            }
        }
        if survey.chunked && survey.length.is_some() {
            return Err(H1Error::LengthAndEncoding);
        }
        Ok(survey)
    }

    fn read_connection(&mut self, value: &'b [u8]) -> Result<(), H1Error> {
        for option in value.split(|&octet| octet == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !option.is_empty() && may_be_nominated(option) {
                self.nominated.add(option)?;
            }
        }
        Ok(())
    }

    fn read_length(&mut self, value: &'b [u8]) -> Result<(), H1Error> {
        for digits in value.split(|&octet| octet == b',').map(<[u8]>::trim_ascii) {
            let octets = decimal_63(digits).ok_or(H1Error::ContentLength)?;
            match &self.length {
                Some(length) if length.octets != octets => return Err(H1Error::ContentLength),
                Some(_) => {}
                None => self.length = Some(Length { octets, digits }),
            }
        }
        Ok(())
    }

    fn body_length(&self, method: &Method, status: StatusCode, http_1_0: bool) -> Result<BodyLength, H1Error> {
        if self.chunked && http_1_0 {
            return Err(H1Error::TransferEncoding);
        }
        Ok(match &self.length {
            _ if has_no_body(method, status) => BodyLength::None,
            Some(length) => BodyLength::Known(length.octets),
            None if self.chunked => BodyLength::Chunked,
            None => BodyLength::UntilClose,
        })
    }

    fn keeps(&self, http_1_0: bool) -> bool {
        !self.close && (!http_1_0 || self.keep_alive)
    }

    /// Whether the upstream frames a body where there cannot be one, so that nobody knows what it sends next.
    fn contradicts(&self, method: &Method, status: StatusCode) -> bool {
        let announced = self.chunked || self.length.as_ref().is_some_and(|length| length.octets > 0);
        (forbids_length(status) && announced) || (*method == Method::CONNECT && status.is_success())
    }
}

impl<'b> Nominated<'b> {
    fn add(&mut self, name: &'b [u8]) -> Result<(), H1Error> {
        let slot = self.names.get_mut(self.count).ok_or(H1Error::Nominations)?;
        *slot = name;
        self.count += 1;
        Ok(())
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.names[..self.count].iter().any(|nominated| nominated.eq_ignore_ascii_case(name))
    }
}

fn copy_fields(
    buf: &Bytes,
    fields: &[httparse::Header<'_>],
    survey: &Survey<'_>,
    status: StatusCode,
    mut map: HeaderMap,
) -> Result<HeaderMap, H1Error> {
    let mut length = survey.length.as_ref().filter(|_| !forbids_length(status));
    for field in fields {
        let name = field.name.as_bytes();
        let value = match Field::of(name) {
            Field::Connection | Field::Hop | Field::Te | Field::TransferEncoding => continue,
            Field::ContentLength => match length.take() {
                Some(length) => length.digits,
                None => continue,
            },
            Field::Host | Field::Other if survey.nominated.contains(name) => continue,
            Field::Host | Field::Other => field.value,
        };
        let name = HeaderName::from_bytes(name).map_err(|_| H1Error::HeadSyntax)?;
        let value = HeaderValue::from_maybe_shared(buf.slice_ref(value)).map_err(|_| H1Error::HeadSyntax)?;
        map.try_append(name, value).map_err(|_| H1Error::HeadFields)?;
    }
    Ok(map)
}

/// A head of this kind ends its message, whatever follows and whatever its fields say (RFC 9112 section 6.3).
pub(crate) fn has_no_body(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || forbids_length(status)
        || status == StatusCode::NOT_MODIFIED
        || (*method == Method::CONNECT && status.is_success())
}

/// Interim responses and 204 carry neither a body nor a length of one (RFC 9110 8.6).
fn forbids_length(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

/// Digits only, below 2^63.
fn decimal_63(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (number < 1 << 63).then_some(number)
}

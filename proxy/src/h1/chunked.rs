//! Chunked bodies: read without copying the data, written with one head for each piece.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::field::may_be_trailer;
use super::request::push_field;
use super::{CHUNK_EXTENSIONS_MAX, CHUNK_LINE_MAX, H1Error, TRAILER_FIELDS_MAX, TRAILERS_BYTES_MAX};

/// Takes a chunked body apart, whatever the reads it comes in.
///
/// ```text
///            digit           `;`                              CRLF, size > 0
///   Size ──────────▶ Size ─────────▶ Extension ──CR──▶ SizeLf ──────────────▶ Data ──CR──▶ DataLf
///    ▲                 └───────────────CR───────────────▲  │                                 │
///    └─────────────────────────────────────────────────────┼──────────────LF─────────────────┘
///                                                          │ CRLF, size = 0
///                                                          └────▶ Trailers ──empty line──▶ Over
///   a broken rule leads from anywhere to Broken, for good
/// ```
///
/// Between calls it holds numbers only, and of an unfinished trailer section its octets.
#[derive(Debug, Default)]
pub struct ChunkedDecoder {
    phase: Phase,
    /// Octets of the current chunk-size line.
    line: usize,
    /// Octets of extensions in this body.
    extensions: usize,
    /// A trailer section as far as it was read.
    trailers: Vec<u8>,
    limits: ChunkLimits,
}

/// What is borne of a chunked body. All but the last are octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Of a chunk-size line, its CRLF not counted.
    pub line: usize,
    /// Of the extensions of one body.
    pub extensions: usize,
    /// Of the trailer section, its last CRLF included.
    pub trailer_bytes: usize,
    /// Trailer fields.
    pub trailer_fields: usize,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self {
            line: CHUNK_LINE_MAX,
            extensions: CHUNK_EXTENSIONS_MAX,
            trailer_bytes: TRAILERS_BYTES_MAX,
            trailer_fields: TRAILER_FIELDS_MAX,
        }
    }
}

/// What the next octets of a chunked body are.
#[derive(Debug)]
pub enum Chunk {
    /// Some data, never empty: a chunk, or the part of it that was read.
    Data(Bytes),
    /// The body is complete. With the trailer fields that may be passed on, if there are any; framing, routing,
    /// authentication, forwarding and context fields are not among them.
    End(Option<HeaderMap>),
    /// All of the buffer is used up: read more.
    NeedMore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Broken(H1Error),
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Extension {
        size: u64,
    },
    Over,
    /// Blanks behind the digits: legal only in front of an extension.
    Padding {
        size: u64,
    },
    Size {
        size: u64,
        digits: u8,
    },
    SizeLf {
        size: u64,
    },
    Trailers,
}

impl Default for Phase {
    fn default() -> Self {
        Phase::Size { size: 0, digits: 0 }
    }
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder at the start of a body that may be so large.
    pub fn within(limits: ChunkLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next piece from the front of `buf`. What lies behind the end of the body stays in `buf`.
    ///
    /// After the end it goes on to say so, after an error it repeats the error; both leave `buf` alone.
    pub fn decode(&mut self, buf: &mut Bytes) -> Result<Chunk, H1Error> {
        loop {
            match self.phase {
                Phase::Broken(error) => return Err(error),
                Phase::Over => return Ok(Chunk::End(None)),
                Phase::Data { left } if !buf.is_empty() => return Ok(Chunk::Data(self.take_data(buf, left))),
                Phase::Trailers => match self.take_trailers(buf) {
                    Ok(Some(trailers)) => {
                        self.phase = Phase::Over;
                        return Ok(Chunk::End(Some(trailers).filter(|trailers| !trailers.is_empty())));
                    }
                    Ok(None) => return Ok(Chunk::NeedMore),
                    Err(error) => self.phase = Phase::Broken(error),
                },
                phase => {
                    let Some(&octet) = buf.first() else { return Ok(Chunk::NeedMore) };
                    match self.step(phase, octet) {
                        Ok(next) => {
                            buf.advance(1);
                            self.phase = next;
                        }
                        Err(error) => self.phase = Phase::Broken(error),
                    }
                }
            }
        }
    }

    /// Whether the body has ended as it should.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn take_data(&mut self, buf: &mut Bytes, left: u64) -> Bytes {
        let octets = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let left = left - octets as u64; // not below 0: octets is the smaller of the two
        self.phase = if left == 0 { Phase::DataCr } else { Phase::Data { left } };
        buf.split_to(octets)
    }

    /// One octet outside of data and trailers.
    fn step(&mut self, phase: Phase, octet: u8) -> Result<Phase, H1Error> {
        match (phase, octet) {
            (Phase::Size { digits: 1.., size }, b'\r') | (Phase::Extension { size }, b'\r') => {
                Ok(Phase::SizeLf { size })
            }
            (Phase::SizeLf { size }, b'\n') => {
                self.line = 0;
                Ok(if size == 0 { Phase::Trailers } else { Phase::Data { left: size } })
            }
            (Phase::SizeLf { .. }, _) => Err(H1Error::ChunkSize),
            (Phase::DataCr, b'\r') => Ok(Phase::DataLf),
            (Phase::DataLf, b'\n') => Ok(Phase::default()),
            (Phase::DataCr | Phase::DataLf, _) => Err(H1Error::ChunkData),
            _ => {
                self.line += 1;
                if self.line > self.limits.line { Err(H1Error::ChunkSizeLine) } else { self.step_in_line(phase, octet) }
            }
        }
    }

    /// One octet of a chunk-size line, its end excepted.
    fn step_in_line(&mut self, phase: Phase, octet: u8) -> Result<Phase, H1Error> {
        match (phase, octet) {
            (Phase::Size { digits: 1.., size }, b';') | (Phase::Padding { size }, b';') => self.extend(size),
            (Phase::Size { digits: 1.., size }, b' ' | b'\t') | (Phase::Padding { size }, b' ' | b'\t') => {
                Ok(Phase::Padding { size })
            }
            (Phase::Size { size, digits }, _) if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(octet).to_digit(16).ok_or(H1Error::ChunkSize)?;
                Ok(Phase::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (Phase::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => self.extend(size),
            (Phase::Extension { .. }, _) => Err(H1Error::ChunkExtensions),
            _ => Err(H1Error::ChunkSize),
        }
    }

    fn extend(&mut self, size: u64) -> Result<Phase, H1Error> {
        self.extensions += 1;
        if self.extensions > self.limits.extensions {
            Err(H1Error::ChunkExtensions)
        } else {
            Ok(Phase::Extension { size })
        }
    }

    /// Gathers the trailer section up to its empty line. Nearly always that is all there is, and it is here already.
    fn take_trailers(&mut self, buf: &mut Bytes) -> Result<Option<HeaderMap>, H1Error> {
        if self.trailers.is_empty() && buf.starts_with(b"\r\n") {
            buf.advance(2);
            return Ok(Some(HeaderMap::new()));
        }
        while let Some(&octet) = buf.first() {
            if self.trailers.len() == self.limits.trailer_bytes {
                return Err(H1Error::TrailerSize);
            }
            if (octet == b'\n') != (self.trailers.last() == Some(&b'\r')) {
                return Err(H1Error::TrailerSyntax); // CR and LF only as a pair
            }
            buf.advance(1);
            self.trailers.push(octet);
            if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                let section = Bytes::from(std::mem::take(&mut self.trailers));
                return parse_trailers(section, self.limits.trailer_fields).map(Some);
            }
        }
        Ok(None)
    }
}

fn parse_trailers(section: Bytes, fields_max: usize) -> Result<HeaderMap, H1Error> {
    let mut fields = vec![httparse::EMPTY_HEADER; fields_max];
    let fields = match httparse::parse_headers(&section, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Ok(httparse::Status::Partial) => return Err(H1Error::TrailerSyntax),
        Err(httparse::Error::TooManyHeaders) => return Err(H1Error::TrailerFields),
        Err(_) => return Err(H1Error::TrailerSyntax),
    };
    let mut trailers = HeaderMap::new();
    for field in fields.iter().filter(|field| may_be_trailer(field.name.as_bytes())) {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| H1Error::TrailerSyntax)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value));
        let value = value.map_err(|_| H1Error::TrailerSyntax)?;
        trailers.try_append(name, value).map_err(|_| H1Error::TrailerFields)?;
    }
    Ok(trailers)
}

/// Appends the line in front of `len` octets of data; [`CHUNK_END`] goes behind them. Empty data is no chunk, and the
/// caller passes over it: a size of 0 would end the body and turn what follows into another request, so it is never
/// written.
pub fn encode_chunk_head(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0, "a chunk of size 0 ends the body");
    if len == 0 {
        return; // a lone CHUNK_END is refused by every reader
    }
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(HEX_LOWER[(len >> (4 * digit)) & 15]);
    }
    out.extend_from_slice(CHUNK_END);
}

/// Appends the end of a body, with those trailer fields that may stand there.
pub fn encode_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if may_be_trailer(name.as_str().as_bytes()) {
            push_field(out, name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(CHUNK_END);
}

/// What closes the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Of a chunk size: then it fits 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

//! HTTP/1.1 towards upstreams: heads and chunks as bytes, without IO, clock or task.
//!
//! Serialise from the parsed form only: [`encode_request`] writes a head that has exactly one reading, and
//! [`parse_response`] refuses a head that has none or two. Bodies keep their bytes: [`ChunkedDecoder`] hands out slices
//! of what was read. The grammar is RFC 9112; every limit is a constant of this module.
//!
//! Whatever fails here costs the upstream connection: after an [`H1Error`] it must be closed, never pooled.
//!
//! ```
//! use bytes::Bytes;
//! use http::{HeaderMap, Method};
//! use serin::h1::{BodyLength, parse_response};
//!
//! let read = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi");
//! let head = parse_response(&read, &Method::GET, HeaderMap::new()).unwrap().unwrap();
//! assert_eq!((head.status.as_u16(), head.body, head.keep), (200, BodyLength::Known(2), true));
//! assert_eq!(&read[head.used..], b"hi");
//! assert!(!head.headers.contains_key("connection"));
//! ```

mod chunked;
mod field;
mod request;
mod response;

#[cfg(test)]
pub(crate) mod laws;
#[cfg(test)]
mod tests;

pub use chunked::{CHUNK_END, Chunk, ChunkLimits, ChunkedDecoder, encode_chunk_head, encode_last_chunk};
pub(crate) use field::{begins, may_be_trailer, reads_as};
pub use request::{Framing, RequestHead, encode_request};
pub(crate) use response::has_no_body;
pub use response::{
    BodyLength, HeadLimits, ResponseHead, parse_response, parse_response_within, parse_upgrade_response,
};

/// Why bytes of an upstream could not be understood. Each of them is a 502 where a head has not been passed on yet,
/// and a torn body where it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum H1Error {
    /// The data of a chunk is not followed by CRLF.
    #[error("chunk data does not end where its size says")]
    ChunkData,
    /// Too many octets of chunk extensions in one body, or a control character in one.
    #[error("chunk extensions are malformed or too long")]
    ChunkExtensions,
    /// A chunk size that is not 1 to 16 hexadecimal digits.
    #[error("chunk size is not a hexadecimal number")]
    ChunkSize,
    /// A chunk-size line that is too long.
    #[error("chunk-size line is too long")]
    ChunkSizeLine,
    /// `Content-Length` is not a number below 2^63, or there are several that differ.
    #[error("content-length is not one number")]
    ContentLength,
    /// Too many fields in the head.
    #[error("response head has too many fields")]
    HeadFields,
    /// The head did not end within its limit.
    #[error("response head is too large")]
    HeadSize,
    /// A field name or value, or a line end, breaks the grammar.
    #[error("response head is malformed")]
    HeadSyntax,
    /// Both `Content-Length` and `Transfer-Encoding`: the body has two readings.
    #[error("both content-length and transfer-encoding")]
    LengthAndEncoding,
    /// More than [`NOMINATIONS_MAX`] field names in `Connection`.
    #[error("connection names more than {NOMINATIONS_MAX} fields")]
    Nominations,
    /// The status line breaks the grammar, or its code lies outside 100 to 599.
    #[error("status is not a number from 100 to 599")]
    Status,
    /// 101 without a request for it.
    #[error("switched protocols without being asked")]
    SwitchedProtocols,
    /// Too many trailer fields.
    #[error("too many trailer fields")]
    TrailerFields,
    /// The trailer section did not end within its limit.
    #[error("trailer section is too large")]
    TrailerSize,
    /// A trailer field or its line end breaks the grammar.
    #[error("trailer section is malformed")]
    TrailerSyntax,
    /// `Transfer-Encoding` is not exactly `chunked`, or came with HTTP/1.0.
    #[error("transfer-encoding is not exactly chunked")]
    TransferEncoding,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("not an HTTP/1 response")]
    Version,
}

/// Octets of a response head, status line and last CRLF included, if nothing else is said.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Fields of a response head, if nothing else is said.
pub const FIELDS_MAX: usize = 200;
/// Fields that can be allowed: there is room for so many on the stack.
pub const FIELDS_ALLOWED_MAX: usize = 1000;
/// Names in the `Connection` fields of a response, those not counted that are dropped or kept in any case. Each is
/// compared with each field, so their number bounds the work.
pub const NOMINATIONS_MAX: usize = 32;
/// Octets of a chunk-size line, its CRLF not counted, if nothing else is said.
pub const CHUNK_LINE_MAX: usize = 256;
/// Octets of chunk extensions in one body, if nothing else is said.
pub const CHUNK_EXTENSIONS_MAX: usize = 16 << 10;
/// Fields of a trailer section, if nothing else is said.
pub const TRAILER_FIELDS_MAX: usize = 32;
/// Octets of a trailer section, its last CRLF included, if nothing else is said.
pub const TRAILERS_BYTES_MAX: usize = 16 << 10;

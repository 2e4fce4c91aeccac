//! Chunked bodies: what they give, and what is refused.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::h1::{
    CHUNK_EXTENSIONS_MAX, CHUNK_LINE_MAX, Chunk, ChunkedDecoder, H1Error, TRAILER_FIELDS_MAX, TRAILERS_BYTES_MAX,
    encode_chunk_head, encode_last_chunk,
};

/// Data, trailers and what is left of the input.
fn decode(text: &str) -> Result<(String, HeaderMap, String), H1Error> {
    let (mut decoder, mut buf) = (ChunkedDecoder::new(), Bytes::copy_from_slice(text.as_bytes()));
    let mut data = Vec::new();
    loop {
        match decoder.decode(&mut buf)? {
            Chunk::Data(piece) => data.extend_from_slice(&piece),
            Chunk::End(trailers) => {
                let left = String::from_utf8(buf.to_vec()).unwrap();
                return Ok((String::from_utf8(data).unwrap(), trailers.unwrap_or_default(), left));
            }
            Chunk::NeedMore => panic!("`{text}` has no end"),
        }
    }
}

#[track_caller]
fn check_data(text: &str, data: &str, left: &str) {
    let (have, trailers, rest) = decode(text).unwrap();
    assert_eq!((have.as_str(), trailers.len(), rest.as_str()), (data, 0, left));
}

#[track_caller]
fn check_trailers(lines: &str, fields: &[(&str, &str)]) {
    let (_, trailers, left) = decode(&format!("0\r\n{lines}\r\n")).unwrap();
    let have: Vec<_> = trailers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!((have.as_slice(), left.as_str()), (fields, ""));
}

#[track_caller]
fn check_refused(text: &str, error: H1Error) {
    assert_eq!(decode(text).map(|(data, ..)| data), Err(error), "{text}");
}

#[test]
fn chunks_are_joined_and_what_follows_is_left() {
    check_data("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", "");
    check_data("1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK", "a", "HTTP/1.1 200 OK");
    check_data("0\r\n\r\n", "", "");
    check_data("000000000000000a\r\n0123456789\r\n0000000000000000\r\n\r\n", "0123456789", "");
    check_data("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", "");
}

#[test]
fn extensions_are_skipped() {
    check_data("1;name\r\na\r\n1 ; name=\"quoted; \t\"\r\nb\r\n0;last\r\n\r\n", "ab", "");
}

#[test]
fn data_of_a_chunk_comes_as_it_is_read() {
    let (mut decoder, mut buf) = (ChunkedDecoder::new(), Bytes::from_static(b"FF\r\nabc"));
    assert!(matches!(decoder.decode(&mut buf), Ok(Chunk::Data(data)) if data == "abc"));
    assert!(matches!(decoder.decode(&mut buf), Ok(Chunk::NeedMore)) && !decoder.is_over());
}

#[test]
fn end_and_error_are_repeated() {
    let (mut decoder, mut buf) = (ChunkedDecoder::new(), Bytes::from_static(b"0\r\n\r\nnext"));
    for _ in 0..2 {
        assert!(matches!(decoder.decode(&mut buf), Ok(Chunk::End(None))) && decoder.is_over());
    }
    assert_eq!(buf, "next");
    let (mut decoder, mut buf) = (ChunkedDecoder::new(), Bytes::from_static(b"zz\r\n"));
    for _ in 0..2 {
        assert_eq!(decoder.decode(&mut buf).err(), Some(H1Error::ChunkSize));
    }
}

#[test]
fn size_that_is_not_hexadecimal_is_refused() {
    for size in ["", "-1", "+1", "0x1", "1_0", " 1", "g", "1g", "1.", "1 ", "1 \t", "00000000000000001", "\u{ff11}"] {
        check_refused(&format!("{size}\r\na\r\n0\r\n\r\n"), H1Error::ChunkSize);
    }
    check_refused("1\na\n0\n\n", H1Error::ChunkSize);
    check_refused("1\r1\r\na\r\n", H1Error::ChunkSize);
}

#[test]
fn largest_size_is_a_size() {
    let (mut decoder, mut buf) = (ChunkedDecoder::new(), Bytes::from_static(b"ffffffffffffffff\r\na"));
    assert!(matches!(decoder.decode(&mut buf), Ok(Chunk::Data(data)) if data == "a"));
}

#[test]
fn data_longer_or_shorter_than_its_size_is_refused() {
    check_refused("2\r\nabc\r\n0\r\n\r\n", H1Error::ChunkData);
    check_refused("4\r\nabc\r\n0\r\n\r\n", H1Error::ChunkData);
    check_refused("1\r\na\n0\r\n\r\n", H1Error::ChunkData);
    check_refused("1\r\na0\r\n\r\n", H1Error::ChunkData);
    check_refused("1\r\na\rx", H1Error::ChunkData);
}

#[test]
fn control_characters_in_extensions_are_refused() {
    for text in ["1;a\nb\r\na\r\n", "1;\0\r\n", "1;\x7f\r\n"] {
        check_refused(text, H1Error::ChunkExtensions);
    }
    check_refused("1;a\rb\r\na\r\n", H1Error::ChunkSize);
}

#[test]
fn size_line_has_a_limit() {
    let line = |octets: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(octets - 2));
    check_data(&line(CHUNK_LINE_MAX), "a", "");
    check_refused(&line(CHUNK_LINE_MAX + 1), H1Error::ChunkSizeLine);
    check_refused(&format!("1{}", " ".repeat(CHUNK_LINE_MAX)), H1Error::ChunkSizeLine);
}

#[test]
fn extensions_of_a_body_have_a_limit() {
    let chunks = |count: usize| format!("1;{}\r\na\r\n", "x".repeat(127)).repeat(count);
    let just = CHUNK_EXTENSIONS_MAX / 128;
    check_data(&format!("{}0\r\n\r\n", chunks(just)), &"a".repeat(just), "");
    check_refused(&format!("{}0;\r\n\r\n", chunks(just)), H1Error::ChunkExtensions);
}

#[test]
fn trailers_pass_in_order() {
    check_trailers(
        "Grpc-Status: 0\r\nx-sum:\r\ngrpc-message: a b \r\n",
        &[("grpc-status", "0"), ("x-sum", ""), ("grpc-message", "a b")],
    );
    check_trailers("", &[]);
}

#[test]
fn trailers_carry_no_framing_routing_or_context() {
    let lines = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: x\r\nConnection: close\r\nTE: x\r\nTrailer: x\r\n\
        Authorization: x\r\nSet-Cookie: x\r\nContent-Type: x\r\nL5D-dtab: x\r\nl5d_ctx_dtab: x\r\nX-Forwarded-For: x\r\n\
        dtab-local: x\r\nX-Dtab-00-A: x\r\nVia: x\r\nForwarded: x\r\nx-ok: 1\r\n";
    check_trailers(lines, &[("x-ok", "1")]);
}

#[test]
fn malformed_trailers_are_refused() {
    for section in
        ["x\r\n\r\n", "x y: z\r\n\r\n", " x: y\r\n\r\n", "x: y\n\r\n", "x: y\r\r\n\r\n", "x: \0\r\n\r\n", "\n", "\rx"]
    {
        check_refused(&format!("0\r\n{section}"), H1Error::TrailerSyntax);
    }
}

#[test]
fn trailer_fields_have_a_limit() {
    let section = |count: usize| format!("0\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(decode(&section(TRAILER_FIELDS_MAX)).unwrap().1.len(), TRAILER_FIELDS_MAX);
    check_refused(&section(TRAILER_FIELDS_MAX + 1), H1Error::TrailerFields);
}

#[test]
fn trailer_octets_have_a_limit() {
    let section = |octets: usize| format!("0\r\nx: {}\r\n\r\n", "y".repeat(octets - "x: \r\n\r\n".len()));
    assert_eq!(decode(&section(TRAILERS_BYTES_MAX)).unwrap().1.len(), 1);
    check_refused(&section(TRAILERS_BYTES_MAX + 1), H1Error::TrailerSize);
}

#[track_caller]
fn check_chunk_head(len: usize, line: &str) {
    let mut out = Vec::new();
    encode_chunk_head(&mut out, len);
    assert_eq!(String::from_utf8(out).unwrap(), line);
}

#[test]
fn chunk_head_is_the_size_in_hexadecimal() {
    check_chunk_head(1, "1\r\n");
    check_chunk_head(15, "f\r\n");
    check_chunk_head(16, "10\r\n");
    check_chunk_head(64 << 10, "10000\r\n");
    check_chunk_head(usize::MAX, "ffffffffffffffff\r\n");
}

#[test]
fn last_chunk_carries_only_what_may_stand_there() {
    let mut trailers = HeaderMap::new();
    for name in ["grpc-status", "content-length", "l5d-err", "x-sum"] {
        trailers.append(name, HeaderValue::from_static("1"));
    }
    let mut out = Vec::new();
    encode_last_chunk(&mut out, Some(&trailers));
    encode_last_chunk(&mut out, None);
    assert_eq!(out, b"0\r\ngrpc-status: 1\r\nx-sum: 1\r\n\r\n0\r\n\r\n");
}

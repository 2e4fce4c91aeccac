//! The laws, with octets that are nearly right: what is quite wrong is left to the fuzz target.

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::laws::{check_chunked, check_chunked_round_trip, check_request, check_response, fields_of};
use super::{Framing, RequestHead};

mod chunked;
mod request;
mod response;

/// Lines of fields, those of interest often.
fn arb_fields() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        Just("cookie"),
        Just("te"),
        Just("trailer"),
        Just("connection"),
        Just("content-length"),
        Just("host"),
        Just("keep-alive"),
        Just("l5d-dtab"),
        Just("x-a"),
        Just("x-b"),
        Just("grpc-status"),
        Just("transfer-encoding"),
    ];
    let value = prop_oneof![Just("trailers".to_owned()), Just("close, x-a".to_owned()), "[ -~\t]{0,12}", "[0-9]{1,3}"];
    let line = (name, value).prop_map(|(name, value)| format!("{name}:{value}\n"));
    proptest::collection::vec(line, 0..8).prop_map(|lines| fields_of(lines.concat().as_bytes()))
}

/// Pieces of a response head put together, mostly in an order that makes sense.
fn arb_response() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => Just("HTTP/1.1 200 OK"), 2 => Just("HTTP/1.0 200 OK"), 1 => Just("HTTP/1.1 204 "), 1 => Just("HTTP/1.1 304 "),
        1 => Just("HTTP/1.1 101 x"), 1 => Just("HTTP/1.1 103 x"), 1 => Just("HTTP/1.1 099 x"), 1 => Just("HTTP/2.0 200 x"),
        1 => Just("\r\nHTTP/1.1 200 OK"), 1 => Just("HTTP/1.1 200"), 1 => Just("ICY 200 OK"),
    ];
    let field = prop_oneof![
        Just("content-length: 5"),
        Just("Content-Length: 5, 5"),
        Just("content-length: 6"),
        Just("content-length: +5"),
        Just("Transfer-Encoding: chunked"),
        Just("transfer-encoding: gzip, chunked"),
        Just("connection: close"),
        Just("Connection: Keep-Alive, X-Gone"),
        Just("x-gone: 1"),
        Just("set-cookie: a=b"),
        Just("set-cookie: c=d"),
        Just("keep-alive: 5"),
        Just("upgrade: h2c"),
        Just("empty:"),
        Just("x y: z"),
        Just(" folded"),
        Just("trailer: x"),
    ];
    let fields = proptest::collection::vec(field, 0..5);
    let end = prop_oneof![6 => Just("\r\n"), 1 => Just("\n")];
    (line, fields, end, "[ -~]{0,8}").prop_map(|(line, fields, end, body)| {
        let lines = std::iter::once(line).chain(fields).chain([""]);
        lines
            .map(|line| format!("{line}{end}"))
            .collect::<String>()
            .into_bytes()
            .into_iter()
            .chain(body.into_bytes())
            .collect()
    })
}

/// Pieces of a chunked body put together.
fn arb_chunked() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => Just("3\r\nabc\r\n"), 2 => Just("0005 ;x=\"y\"\r\nabcde\r\n"), 2 => Just("A\r\n0123456789\r\n"),
        2 => Just("0\r\n\r\n"), 1 => Just("0\r\nx-a: 1\r\nhost: evil\r\n\r\n"), 1 => Just("0;e\r\ngrpc-status: 0\r\n\r\n"),
        1 => Just("-1\r\n"), 1 => Just("2\r\nabc\r\n"), 1 => Just("3\nabc\n"), 1 => Just("0\r\nbad line\r\n\r\n"),
        1 => Just("ffffffffffffffff\r\n"), 1 => Just("10000000000000000\r\n"), 1 => Just("\r\n"), 1 => Just("0\r\na: b\n\r\n"),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn request_reads_back_as_one_equal_request(
        method in "[A-Z]{1,8}", target in "\\PC{0,20}|[\\x00-\\x7f]{0,20}", host in proptest::collection::vec(any::<u8>(), 0..20),
        headers in arb_fields(), extra in proptest::collection::vec(any::<u8>(), 0..20), length in any::<u64>(), framing in 0..3,
    ) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let framing = [Framing::None, Framing::Chunked, Framing::Length(length)][framing as usize];
        let extra = [("via", &extra[..]), ("l5d-reqid", b"7")];
        check_request(&RequestHead { method: &method, target: &target, host: &host, headers: &headers, extra: &extra, upgrade: false, framing });
    }

    #[test]
    fn response_is_the_same_however_it_is_cut(octets in arb_response(), head in any::<bool>()) {
        let method = if head { Method::HEAD } else { Method::GET };
        check_response(&octets, &method, 0..=octets.len());
    }

    #[test]
    fn any_octets_as_a_response_are_refused_or_one_head(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
        check_response(&octets, &Method::GET, 0..=octets.len());
        check_response(&[b"HTTP/1.1 200 OK\r\n", &octets[..], b"\r\n\r\n"].concat(), &Method::GET, 0..=80);
    }

    #[test]
    fn chunked_body_is_the_same_however_it_is_cut(
        octets in arb_chunked(), cuts in proptest::collection::vec(0_usize..9, 0..12),
    ) {
        check_chunked(&octets, cuts);
        check_chunked(&octets, std::iter::repeat_n(1, octets.len()));
    }

    #[test]
    fn any_octets_as_chunks_are_safe(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
        check_chunked(&octets, std::iter::repeat_n(1, octets.len()));
        check_chunked(&[b"0\r\n", &octets[..], b"\r\n\r\n"].concat(), std::iter::repeat_n(2, octets.len()));
    }

    #[test]
    fn chunks_written_read_back(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6), trailers in arb_fields(),
    ) {
        check_chunked_round_trip(&pieces, &trailers);
    }
}

//! Response heads: what each says, and what is refused.

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::h1::{
    BodyLength, FIELDS_MAX, H1Error, HEAD_BYTES_MAX, HeadLimits, NOMINATIONS_MAX, ResponseHead, parse_response,
    parse_upgrade_response,
};

fn parse(method: Method, text: &str) -> Result<Option<ResponseHead>, H1Error> {
    parse_response(&Bytes::copy_from_slice(text.as_bytes()), &method, HeaderMap::new())
}

/// `lines` are what follows the version, ends written as `|`.
fn head(method: Method, lines: &str) -> Result<Option<ResponseHead>, H1Error> {
    parse(method, &format!("HTTP/1.1 {}\r\n\r\n", lines.replace('|', "\r\n")))
}

#[track_caller]
fn check_body(method: Method, lines: &str, body: BodyLength, keep: bool) {
    let head = head(method, lines).unwrap().unwrap();
    assert_eq!((head.body, head.keep), (body, keep), "{lines}");
}

#[track_caller]
fn check_http_1_0(lines: &str, body: BodyLength, keep: bool) {
    let text = format!("HTTP/1.0 200 OK\r\n{}\r\n\r\n", lines.replace('|', "\r\n"));
    let head = parse(Method::GET, &text).unwrap().unwrap();
    assert_eq!((head.body, head.keep), (body, keep), "{lines}");
}

#[track_caller]
fn check_passed(lines: &str, fields: &[(&str, &str)]) {
    let head = head(Method::GET, lines).unwrap().unwrap();
    let passed: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(passed, fields, "{lines}");
}

#[track_caller]
fn check_refused(lines: &str, error: H1Error) {
    assert_eq!(head(Method::GET, lines).map(|head| head.map(|head| head.status)), Err(error), "{lines}");
}

#[track_caller]
fn check_refused_text(text: &str, error: H1Error) {
    assert_eq!(parse(Method::GET, text).map(|head| head.map(|head| head.status)), Err(error), "{text}");
}

#[test]
fn length_encoding_or_close_end_a_body() {
    check_body(Method::GET, "200 OK|content-length: 5", BodyLength::Known(5), true);
    check_body(Method::GET, "200 OK|Transfer-Encoding: Chunked", BodyLength::Chunked, true);
    check_body(Method::GET, "200 OK", BodyLength::UntilClose, false);
    check_body(Method::POST, "404|Content-Length: 0", BodyLength::Known(0), true);
}

#[test]
fn some_responses_have_no_body_whatever_they_say() {
    check_body(Method::HEAD, "200 OK|content-length: 5", BodyLength::None, true);
    check_body(Method::HEAD, "200 OK|transfer-encoding: chunked", BodyLength::None, true);
    check_body(Method::HEAD, "200 OK", BodyLength::None, true);
    check_body(Method::GET, "304 Not Modified|content-length: 5", BodyLength::None, true);
    check_body(Method::GET, "204 No Content", BodyLength::None, true);
    check_body(Method::GET, "103 Early Hints|link: x", BodyLength::None, true);
}

#[test]
fn body_where_there_cannot_be_one_costs_the_connection() {
    check_body(Method::GET, "204 No Content|content-length: 5", BodyLength::None, false);
    check_body(Method::GET, "204 No Content|transfer-encoding: chunked", BodyLength::None, false);
    check_body(Method::GET, "204 No Content|content-length: 0", BodyLength::None, true);
    check_body(Method::CONNECT, "200 OK|content-length: 5", BodyLength::None, false);
}

#[test]
fn close_is_obeyed_in_any_field_and_case() {
    check_body(Method::GET, "200|content-length: 1|connection: x, CLOSE", BodyLength::Known(1), false);
    check_body(Method::GET, "200|content-length: 1|connection: x|connection: close", BodyLength::Known(1), false);
    check_body(Method::GET, "200|content-length: 1|connection: closed", BodyLength::Known(1), true);
}

#[test]
fn http_1_0_closes_unless_it_says_otherwise() {
    check_http_1_0("content-length: 1", BodyLength::Known(1), false);
    check_http_1_0("content-length: 1|connection: keep-alive", BodyLength::Known(1), true);
    check_http_1_0("content-length: 1|connection: keep-alive, close", BodyLength::Known(1), false);
    check_http_1_0("connection: keep-alive", BodyLength::UntilClose, false);
    check_refused_text("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", H1Error::TransferEncoding);
}

#[test]
fn fields_pass_in_order_with_their_repetition() {
    check_passed(
        "200|Set-Cookie: a|X-B: |set-cookie: b|x-c:  c \t",
        &[("set-cookie", "a"), ("set-cookie", "b"), ("x-b", ""), ("x-c", "c")],
    );
}

#[test]
fn hop_by_hop_fields_end_here() {
    check_passed(
        "200|Keep-Alive: 5|Proxy-Connection: x|TE: trailers|Transfer-Encoding: chunked|Upgrade: h2c|Connection: x|trailer: t",
        &[("trailer", "t")],
    );
}

#[test]
fn nominated_fields_end_here_wherever_they_stand() {
    check_passed("200|x-gone: 1|Connection: X-Gone ,, x-also|x-also: 2|X-GONE: 3|x-stays: 4", &[("x-stays", "4")]);
}

#[test]
fn nominations_do_not_reach_what_the_proxy_relies_on() {
    check_passed(
        "200|connection: content-length, set-cookie, via, trailer, l5d-err, X-Forwarded-For|content-length: 5|set-cookie: a\
         |via: b|trailer: c|l5d-err: d|x-forwarded-for: e",
        &[
            ("content-length", "5"),
            ("set-cookie", "a"),
            ("via", "b"),
            ("trailer", "c"),
            ("l5d-err", "d"),
            ("x-forwarded-for", "e"),
        ],
    );
}

#[test]
fn identical_lengths_become_one() {
    check_passed("200|content-length: 5|x-a: 1|content-length: 5", &[("content-length", "5"), ("x-a", "1")]);
    check_passed("200|content-length: 5, 5 ,5", &[("content-length", "5")]);
    check_body(Method::GET, "200|content-length: 5, 5|content-length: 05", BodyLength::Known(5), true);
}

#[test]
fn length_of_a_head_response_passes_and_one_of_204_does_not() {
    let of = |method, lines| head(method, lines).unwrap().unwrap().headers.contains_key("content-length");
    assert!(of(Method::HEAD, "200|content-length: 5"));
    assert!(!of(Method::GET, "204|content-length: 5"));
}

#[test]
fn length_that_is_not_one_number_is_refused() {
    for length in
        ["", "+5", "-5", "5x", "0x5", "5 5", "5,6", "5,", ",5", "5;5", "9223372036854775808", "99999999999999999999"]
    {
        check_refused(&format!("200|content-length: {length}"), H1Error::ContentLength);
    }
    check_refused("200|content-length: 5|content-length: 6", H1Error::ContentLength);
    check_body(Method::GET, "200|content-length: 9223372036854775807", BodyLength::Known(i64::MAX as u64), true);
}

#[test]
fn encoding_that_is_not_exactly_chunked_is_refused() {
    for encoding in ["", "gzip", "gzip, chunked", "chunked, chunked", "chunked;q=1", "identity", "xchunked", "chunked,"]
    {
        check_refused(&format!("200|transfer-encoding: {encoding}"), H1Error::TransferEncoding);
    }
    check_refused("200|transfer-encoding: chunked|transfer-encoding: chunked", H1Error::TransferEncoding);
}

#[test]
fn length_beside_encoding_is_refused() {
    check_refused("200|content-length: 5|transfer-encoding: chunked", H1Error::LengthAndEncoding);
    check_refused("200|transfer-encoding: chunked|content-length: 5", H1Error::LengthAndEncoding);
}

#[test]
fn status_outside_the_known_range_is_refused() {
    for status in ["099 x", "600 x", "999 x", "000 x", "20 x", "2000 x", "abc x", "-20 x", "", "200OK"] {
        check_refused(status, H1Error::Status);
    }
    check_body(Method::GET, "599 |content-length: 0", BodyLength::Known(0), true);
    check_refused("101 Switching Protocols|upgrade: websocket|connection: upgrade", H1Error::SwitchedProtocols);
}

#[test]
fn a_switch_to_what_was_asked_for_is_an_answer() {
    let parsed = |lines: &str| {
        let text = format!("HTTP/1.1 101 X\r\n{}\r\n\r\nrest", lines.replace('|', "\r\n"));
        parse_upgrade_response(&Bytes::from(text), &Method::GET, HeaderMap::new(), HeadLimits::default())
    };
    let head = parsed("connection: upgrade|upgrade: WebSocket|x-a: b").unwrap().unwrap();
    assert_eq!((head.status.as_u16(), head.body, head.headers.len()), (101, BodyLength::None, 1));
    for lines in
        ["connection: upgrade", "upgrade: h2c", "upgrade: websocket, h2c", "upgrade: websocket|upgrade: websocket"]
    {
        assert_eq!(parsed(lines).unwrap_err(), H1Error::SwitchedProtocols, "{lines}");
    }
}

#[test]
fn other_versions_and_leftovers_are_refused() {
    for text in [
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "<html>",
        "hi HTTP/1.1 200 OK\r\n\r\n",
    ] {
        check_refused_text(text, H1Error::Version);
    }
    check_refused_text("\r\nHTTP/1.1 200 OK\r\n\r\n", H1Error::Version);
    check_refused_text("\n\n\n", H1Error::Version);
}

#[test]
fn malformed_fields_are_refused() {
    for field in
        ["x y: z", "x : z", ": z", "x", " x: z", "x: a|  folded", "x: a\0b", "x: a\rb", "x: a\x7fb", "x\0: a", "ü: a"]
    {
        check_refused(&format!("200|{field}"), H1Error::HeadSyntax);
    }
}

#[test]
fn obs_text_in_values_passes() {
    let head = parse_response(
        &Bytes::from_static(b"HTTP/1.1 200 \xe4\r\nx: \xe4\xff\r\n\r\n"),
        &Method::GET,
        HeaderMap::new(),
    );
    assert_eq!(head.unwrap().unwrap().headers["x"].as_bytes(), b"\xe4\xff");
}

#[test]
fn values_are_slices_of_what_was_read() {
    let read = Bytes::from_static(b"HTTP/1.1 200 OK\r\nserver: some name\r\n\r\n");
    let head = parse_response(&read, &Method::GET, HeaderMap::new()).unwrap().unwrap();
    assert!(read.as_ptr_range().contains(&head.headers["server"].as_bytes().as_ptr()));
}

#[test]
fn body_behind_the_head_is_left_alone() {
    let head = parse(Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap().unwrap();
    assert_eq!(head.used, 38);
}

#[test]
fn one_field_too_many_is_refused() {
    let fields = |count: usize| format!("200{}", "|x: y".repeat(count));
    assert_eq!(head(Method::GET, &fields(FIELDS_MAX)).unwrap().unwrap().headers.len(), FIELDS_MAX);
    check_refused(&fields(FIELDS_MAX + 1), H1Error::HeadFields);
}

#[test]
fn one_octet_too_many_is_refused() {
    let of_size = |size: usize| {
        let frame = "HTTP/1.1 200 OK\r\nx: \r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(size - frame))
    };
    assert_eq!(parse(Method::GET, &of_size(HEAD_BYTES_MAX)).unwrap().unwrap().used, HEAD_BYTES_MAX);
    check_refused_text(&of_size(HEAD_BYTES_MAX + 1), H1Error::HeadSize);
    let endless = of_size(2 * HEAD_BYTES_MAX);
    assert!(matches!(parse(Method::GET, &endless[..HEAD_BYTES_MAX - 1]), Ok(None)));
    check_refused_text(&endless[..HEAD_BYTES_MAX], H1Error::HeadSize);
}

#[test]
fn one_nomination_too_many_is_refused() {
    let nominated = |count: usize| {
        let names: Vec<String> = (0..count).map(|index| format!("x-{index}")).collect();
        format!("200|connection: close, keep-alive, te, {}", names.join(","))
    };
    assert!(head(Method::GET, &nominated(NOMINATIONS_MAX)).is_ok());
    check_refused(&nominated(NOMINATIONS_MAX + 1), H1Error::Nominations);
}

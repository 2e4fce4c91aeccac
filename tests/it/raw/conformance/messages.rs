//! RFC 9113 section 8: what a request is made of.

use super::Want::{self, Reset, Status};
use super::{MALFORMED, NO_FIELD, PROTOCOL, WHOLE, check_rows, encode, fields, row};
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, block};

/// The head of an upload whose origin answers when it has all of it.
fn upload() -> Vec<u8> {
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/bad"), (":authority", "web")];
    encode(HEADERS, END_HEADERS, 1, &block(&pseudo))
}

/// A request of these fields alone, without a body.
fn of(fields: &[(&str, &str)]) -> Vec<u8> {
    encode(HEADERS, WHOLE, 1, &block(fields))
}

#[test]
fn pseudo_fields_are_complete_known_and_in_front() {
    const METHOD: (&str, &str) = (":method", "GET");
    const SCHEME: (&str, &str) = (":scheme", "http");
    const PATH: (&str, &str) = (":path", "/bad");
    const WEB: (&str, &str) = (":authority", "web");
    const CONNECT: (&str, &str) = (":method", "CONNECT");
    let tunnel: &[Want] = &[Reset(1, PROTOCOL), Status(1, 400), Status(1, 405), Status(1, 501)];
    let bad = |what, fields: &[(&str, &str)]| row(what, &[of(fields)], MALFORMED);
    let none = |what, fields: &[(&str, &str)]| row(what, &[of(fields)], NO_FIELD);
    check_rows(&[
        bad("8.3: a pseudo-field of a response", &[METHOD, SCHEME, PATH, WEB, (":status", "200")]),
        none("8.3: an unknown pseudo-field", &[METHOD, SCHEME, PATH, WEB, (":what", "ever")]),
        bad("8.3: a pseudo-field behind a field", &[METHOD, SCHEME, WEB, ("x-a", "b"), PATH]),
        none("8.3: a pseudo-field in capitals", &[METHOD, SCHEME, WEB, (":Path", "/bad")]),
        bad("8.2.1: a space behind a path", &[METHOD, SCHEME, (":path", "/bad "), WEB]),
        bad("8.3.1: no method", &[SCHEME, PATH, WEB]),
        bad("8.3.1: no scheme", &[METHOD, PATH, WEB]),
        bad("8.3.1: no path", &[METHOD, SCHEME, WEB]),
        bad("8.3.1: an empty path", &[METHOD, SCHEME, (":path", ""), WEB]),
        bad("8.3.1: the method twice", &[METHOD, METHOD, SCHEME, PATH, WEB]),
        bad("8.3.1: the scheme twice", &[METHOD, SCHEME, SCHEME, PATH, WEB]),
        bad("8.3.1: the path twice", &[METHOD, SCHEME, PATH, PATH, WEB]),
        bad("8.3.1: the authority twice", &[METHOD, SCHEME, PATH, WEB, WEB]),
        bad("8.3.1: an authority with a user", &[METHOD, SCHEME, PATH, (":authority", "me@web")]),
        bad("8.3.1: another host", &[METHOD, SCHEME, PATH, WEB, ("host", "other")]),
        bad("8.3.1: * for GET", &[METHOD, SCHEME, (":path", "*"), WEB]),
        row("8.5: CONNECT with a path", &[of(&[CONNECT, SCHEME, PATH, WEB])], tunnel),
        row("8.5: CONNECT without authority", &[of(&[CONNECT])], tunnel),
        row("8.5: CONNECT", &[of(&[CONNECT, WEB])], tunnel),
    ]);
}

#[test]
fn fields_and_bodies_are_those_of_http_2() {
    let head = |name, value| encode(HEADERS, WHOLE, 1, &fields("/bad", &[(name, value)]));
    let with = |what, name, value| row(what, &[head(name, value)], MALFORMED);
    let none = |what, name, value| row(what, &[head(name, value)], NO_FIELD);
    let length = |what, length, frames: &[&str]| {
        let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/bad"), (":authority", "web")];
        let head = block(&[&pseudo[..], &[("content-length", length)]].concat());
        let data = frames.iter().enumerate().map(|(index, text)| {
            encode(DATA, if index + 1 == frames.len() { END_STREAM } else { 0 }, 1, text.as_bytes())
        });
        let head = encode(HEADERS, if frames.is_empty() { WHOLE } else { END_HEADERS }, 1, &head);
        row(what, &[vec![head], data.collect()].concat(), MALFORMED)
    };
    check_rows(&[
        none("8.2.1: a name in capitals", "X-A", "b"),
        none("8.2.1: a name with a space", "x a", "b"),
        none("8.2.1: a name with a colon", "x:a", "b"),
        none("8.2.1: a name with a quote", "x\"a", "b"),
        none("8.2.1: a name beyond ASCII", "x-\u{e9}", "b"),
        none("8.2.1: no name", "", "b"),
        none("8.2.1: NUL in a value", "x-a", "b\0"),
        none("8.2.1: CR in a value", "x-a", "b\rc"),
        none("8.2.1: LF in a value", "x-a", "b\nc"),
        with("8.2.1: a space in front of a value", "x-a", " b"),
        with("8.2.1: a space behind a value", "x-a", "b "),
        with("8.2.1: a tab in front of a value", "x-a", "\tb"),
        with("8.2.1: a tab behind a value", "x-a", "b\t"),
        with("8.2.1: a value that is a space", "x-a", " "),
        with("8.2.1: a space behind te", "te", "trailers "),
        row(
            "8.2.1: blanks within a value",
            &[encode(HEADERS, WHOLE, 1, &fields("/", &[("x-a", "b \t c")]))],
            &[Status(1, 200)],
        ),
        row(
            "8.2.1: a space behind the value of a trailer",
            &[upload(), encode(DATA, 0, 1, b"x"), encode(HEADERS, WHOLE, 1, &block(&[("x-sum", "5 ")]))],
            MALFORMED,
        ),
        with("8.2.2: connection", "connection", "keep-alive"),
        with("8.2.2: keep-alive", "keep-alive", "timeout=5"),
        with("8.2.2: proxy-connection", "proxy-connection", "keep-alive"),
        with("8.2.2: transfer-encoding", "transfer-encoding", "chunked"),
        with("8.2.2: upgrade", "upgrade", "websocket"),
        with("8.2.2: te", "te", "trailers, deflate"),
        row(
            "8.2.2: te: trailers",
            &[encode(HEADERS, WHOLE, 1, &fields("/", &[("te", "trailers")]))],
            &[Status(1, 200)],
        ),
        length("8.1.1: a length and no body", "5", &[]),
        length("8.1.1: a body shorter than its length", "5", &["four"]),
        length("8.1.1: a longer one", "3", &["four"]),
        length("8.1.1: a shorter one in frames", "9", &["four", "four"]),
        length("8.1.1: a longer one in frames", "7", &["four", "four"]),
        length("8.1.1: a length that is none", "x", &["four"]),
    ]);
}

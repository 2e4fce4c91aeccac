//! Request heads, octet by octet.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::h1::{Framing, RequestHead, encode_request};

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let fields =
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    fields.fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

#[track_caller]
fn check_written(head: &RequestHead<'_>, text: &str) {
    let mut out = Vec::new();
    encode_request(&mut out, head);
    assert_eq!(String::from_utf8(out).unwrap(), text);
}

/// The lines between `host` and the end, of a GET with these fields.
#[track_caller]
fn check_fields(fields: &[(&'static str, &str)], lines: &str) {
    let headers = map(fields);
    let head = RequestHead {
        method: &Method::GET,
        target: "/",
        host: b"web",
        headers: &headers,
        extra: &[],
        upgrade: false,
        framing: Framing::None,
    };
    check_written(&head, &format!("GET / HTTP/1.1\r\nhost: web\r\n{lines}\r\n"));
}

#[track_caller]
fn check_target(target: &str, written: &str) {
    let head = RequestHead {
        method: &Method::GET,
        target,
        host: b"web",
        headers: &HeaderMap::new(),
        extra: &[],
        upgrade: false,
        framing: Framing::None,
    };
    check_written(&head, &format!("GET {written} HTTP/1.1\r\nhost: web\r\n\r\n"));
}

#[track_caller]
fn check_framing(framing: Framing, line: &str) {
    let head = RequestHead {
        method: &Method::POST,
        target: "/",
        host: b"web",
        headers: &HeaderMap::new(),
        extra: &[],
        upgrade: false,
        framing,
    };
    check_written(&head, &format!("POST / HTTP/1.1\r\nhost: web\r\n{line}\r\n"));
}

#[test]
fn fields_keep_their_order_and_repetition() {
    check_fields(
        &[("x-b", "2"), ("x-a", "1"), ("x-a", "0"), ("empty", "")],
        "x-b: 2\r\nx-a: 1\r\nx-a: 0\r\nempty: \r\n",
    );
}

#[test]
fn cookie_crumbs_become_one_field() {
    check_fields(
        &[("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3"), ("x-b", "2")],
        "x-a: 1\r\ncookie: a=1; b=2; c=3\r\nx-b: 2\r\n",
    );
    check_fields(&[("cookie", "a=1; b=2")], "cookie: a=1; b=2\r\n");
}

#[test]
fn fields_that_the_codec_writes_are_passed_over() {
    check_fields(
        &[
            ("host", "evil"),
            ("content-length", "7"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("upgrade", "h2c"),
            ("x-a", "1"),
        ],
        "x-a: 1\r\n",
    );
}

#[test]
fn te_passes_for_trailers_only() {
    check_fields(&[("te", "trailers"), ("trailer", "x-sum")], "trailer: x-sum\r\nte: trailers\r\nconnection: te\r\n");
    check_fields(&[("te", "gzip")], "");
    check_fields(&[("te", "trailers, gzip;q=0.5")], "");
}

#[test]
fn body_is_announced_as_it_is_framed() {
    check_framing(Framing::None, "");
    check_framing(Framing::Length(0), "content-length: 0\r\n");
    check_framing(Framing::Length(u64::MAX), "content-length: 18446744073709551615\r\n");
    check_framing(Framing::Chunked, "transfer-encoding: chunked\r\n");
}

#[test]
fn extra_fields_come_last() {
    let headers = map(&[("x-a", "1")]);
    let extra = [("via", &b"1.1 serin"[..]), ("l5d-dst-client", b"/#/clusters/world")];
    let head = RequestHead {
        method: &Method::GET,
        target: "*",
        host: b"[::1]:80",
        headers: &headers,
        extra: &extra,
        upgrade: false,
        framing: Framing::None,
    };
    check_written(
        &head,
        "GET * HTTP/1.1\r\nhost: [::1]:80\r\nx-a: 1\r\nvia: 1.1 serin\r\nl5d-dst-client: /#/clusters/world\r\n\r\n",
    );
}

#[test]
fn target_stays_as_it_came() {
    check_target("/a/../b//c%2f%2F?q=%zz&r=a;b", "/a/../b//c%2f%2F?q=%zz&r=a;b");
    check_target("/grün", "/grün");
    check_target("", "/");
}

#[test]
fn nothing_ends_the_request_line_early() {
    check_target("/ HTTP/1.1\r\nevil: 1\r\n\r\n", "/%20HTTP/1.1%0D%0Aevil:%201%0D%0A%0D%0A");
    check_target("/\0\t\x7f", "/%00%09%7F");
}

#[test]
fn nothing_ends_a_field_early() {
    let head = RequestHead {
        method: &Method::GET,
        target: "/",
        host: b"a\r\nevil: 1",
        headers: &HeaderMap::new(),
        extra: &[("via", b"1.1 x\r\n\r\nGET / HTTP/1.1")],
        upgrade: false,
        framing: Framing::None,
    };
    check_written(&head, "GET / HTTP/1.1\r\nhost: a  evil: 1\r\nvia: 1.1 x    GET / HTTP/1.1\r\n\r\n");
}

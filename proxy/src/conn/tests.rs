use super::laws::{Outcome, Seen, check_connection, frames_of, request_of};
use proptest::prelude::*;

/// What came through, and what was said, however the octets are cut.
fn check_seen(octets: &[u8], wanted: &[(&str, &str, Option<&str>)], begins: &str) {
    for sizes in [&[usize::MAX][..], &[7], &[1, 40]] {
        let Outcome { seen, answer } = check_connection(octets, sizes);
        let found: Vec<_> =
            seen.iter().map(|Seen { method, target, body, .. }| (&**method, &**target, body.as_deref())).collect();
        let wanted: Vec<_> =
            wanted.iter().map(|(method, target, body)| (*method, *target, body.map(str::as_bytes))).collect();
        assert_eq!(found, wanted, "{sizes:?}");
        assert!(answer.starts_with(begins.as_bytes()), "{sizes:?}: {}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn a_connection_is_served_whatever_the_writes_of_its_client() {
    let get = b"GET /a HTTP/1.1\r\nHost: web\r\nl5d-dtab: /a=>/b\r\n\r\nPOST /b HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    check_seen(get, &[("GET", "/a", Some("")), ("POST", "/b", Some("ok"))], "HTTP/1.1 200 OK\r\n");
    check_seen(b"GET / HTTP/1.1\r\n\r\nGET /behind HTTP/1.1\r\nHost: web\r\n\r\n", &[], "HTTP/1.1 400 Bad Request\r\n");
    check_seen(b"G(T / HTTP/1.1\r\n\r\n", &[], "HTTP/1.1 400 Bad Request\r\nl5d-err: bad-request\r\n");
}

#[test]
fn a_request_over_http_2_is_one_over_http_1() {
    let wire = request_of(b":path:/a?b\ncookie:a=b\ncookie:c=d\nx-a:b", b"body", b"x-sum:5\nl5d-x:y");
    for sizes in [&[usize::MAX][..], &[9], &[1, 40]] {
        let Outcome { seen, .. } = check_connection(&wire, sizes);
        let [one] = &seen[..] else { panic!("{sizes:?}: {seen:?}") };
        assert_eq!(
            (&*one.method, &*one.target, one.body.as_deref()),
            ("POST", "/a?b", Some(&b"body"[..])),
            "{sizes:?}"
        );
        assert!(one.fields.contains(&("cookie".into(), b"a=b; c=d".to_vec())), "{sizes:?}: {one:?}");
    }
    for (fields, trailers) in [
        (&b"x-a: b"[..], &b""[..]),
        (b"x-a:b", b"x-sum:5 "),
        (b"host:other", b""),
        (b"x\"a:b", b""),
        (b"x-a:b", b"\"x:5"),
        (b"content-length:5", b""),
    ] {
        let Outcome { seen, .. } = check_connection(&request_of(fields, b"body", trailers), &[usize::MAX]);
        assert!(seen.iter().all(|seen| seen.body.is_none()), "{seen:?}");
    }
}

#[test]
fn frames_in_a_few_octets_are_frames() {
    let ping = frames_of(b"\x06\0\0\x0812345678");
    assert!(ping.ends_with(b"\0\0\x08\x06\0\0\0\0\x0012345678"), "{ping:?}");
    let Outcome { answer, .. } = check_connection(&ping, &[usize::MAX]);
    assert!(answer.windows(17).any(|frame| frame == b"\0\0\x08\x06\x01\0\0\0\x0012345678"), "{answer:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_octets_behind_a_request_line_keep_the_laws(rest in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
        check_connection(&[b"POST /a HTTP/1.1\r\nHost: web\r\n", &rest[..]].concat(), &[size]);
    }
}

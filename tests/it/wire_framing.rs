//! HTTP/1.1 requests byte by byte: what can be read in two ways goes nowhere, what is sound arrives as it was sent.

use super::support::http1::{End, exchange, request};
use super::support::upstream::reply;
use super::support::wire::latin1;
use super::support::{Client, Serin, Setup, Upstream, eventually};

const HOST: &str = "Host: web\r\n";

/// An echoing origin behind host `web`.
fn front() -> (Upstream, Serin) {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    (origin, serin)
}

/// One answer with one of these statuses, then the end; a request hidden behind it is never answered.
fn check_refused(serin: &Serin, what: &str, bytes: &[u8], statuses: &[u16]) {
    assert_eq!(refused(serin, bytes, statuses), Ok(()), "{what}");
}

/// What went otherwise.
fn refused(serin: &Serin, bytes: &[u8], statuses: &[u16]) -> Result<(), String> {
    let mut client = Client::connect(serin.address());
    client.send(bytes);
    let answer = client.try_read("GET").map_err(|error| format!("no answer: {error}"))?;
    if !statuses.contains(&answer.status) {
        return Err(format!("{} {}", answer.status, answer.text()));
    }
    if !client.at_end() {
        return Err(format!("the connection stays open, or answers more: {:?}", client.wire.buf));
    }
    Ok(())
}

/// Every case is refused, with a smuggled request behind it, and the origin sees nothing at all.
fn check_all_refused(cases: &[(&str, Vec<u8>)], statuses: &[u16]) {
    let (origin, serin) = front();
    let mut wrong = Vec::new();
    for (what, bytes) in cases {
        let mut bytes = bytes.clone();
        bytes.extend(b"GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n");
        wrong.extend(refused(&serin, &bytes, statuses).err().map(|error| format!("{what:?}: {error}")));
    }
    assert!(wrong.is_empty(), "not refused: {wrong:#?}");
    assert_eq!(serin.get("web", "/fine").status, 200, "the proxy goes on");
    let targets: Vec<String> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/fine"], "nothing of a refused request goes upstream");
}

/// Cases made of field lines behind `GET / HTTP/1.1`.
fn with_fields(lines: &[&str]) -> Vec<(&'static str, Vec<u8>)> {
    lines.iter().map(|line| (leak(line), format!("GET / HTTP/1.1\r\n{line}\r\n").into_bytes())).collect()
}

/// Cases made of a first line.
fn with_first_line(lines: &[&str]) -> Vec<(&'static str, Vec<u8>)> {
    lines.iter().map(|line| (leak(line), format!("{line}\r\n{HOST}\r\n").into_bytes())).collect()
}

/// Cases made of framing fields and a body.
fn with_body(cases: &[(&str, &str)]) -> Vec<(&'static str, Vec<u8>)> {
    let text = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n{body}").into_bytes();
    cases.iter().map(|(fields, body)| (leak(fields), text(fields, body))).collect()
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

#[test]
fn a_host_that_is_missing_repeated_or_malformed_is_refused() {
    let cases = with_fields(&[
        "",
        "Host:\r\n",
        "Host: \r\n",
        "Host: web\r\nHost: web\r\n",
        "Host: web\r\nhost: other\r\n",
        "Host: web, other\r\n",
        "Host: web other\r\n",
        "Host: web/path\r\n",
        "Host: user@web\r\n",
        "Host: web:port\r\n",
        "Host: web:80:80\r\n",
        "Host: [::1\r\n",
        "Host: web?x\r\n",
        "Host: web#x\r\n",
        "Host: web\\x\r\n",
    ]);
    check_all_refused(&cases, &[400]);
}

#[test]
fn a_content_length_with_two_readings_is_refused() {
    check_all_refused(
        &with_body(&[
            ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
            ("Content-Length: 5, 6\r\n", "hello"),
            ("Content-Length: +5\r\n", "hello"),
            ("Content-Length: -5\r\n", "hello"),
            ("Content-Length: 0x5\r\n", "hello"),
            ("Content-Length: 5 5\r\n", "hello"),
            ("Content-Length: 5;\r\n", "hello"),
            ("Content-Length: five\r\n", "hello"),
            ("Content-Length:\r\n", "hello"),
            ("Content-Length: 5,\r\n", "hello"),
            ("Content-Length: 9223372036854775808\r\n", ""),
            ("Content-Length: 99999999999999999999999\r\n", ""),
        ]),
        &[400],
    );
}

#[test]
fn a_transfer_encoding_other_than_one_chunked_is_refused() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let fields = [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    ];
    let cases: Vec<(&str, &str)> = fields.iter().map(|line| (*line, body)).collect();
    check_all_refused(&with_body(&cases), &[400, 501]);
    let old = format!("POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{body}");
    check_all_refused(&[("chunked in HTTP/1.0", old.into_bytes())], &[400, 501]);
}

#[test]
fn a_malformed_field_line_is_refused() {
    let lines: &[&str] = &[
        "X-A : b\r\n",
        "X A: b\r\n",
        "X-A\t: b\r\n",
        ": b\r\n",
        "no colon\r\n",
        "X-A: b\r\n folded\r\n",
        "X-A: b\r\n\tfolded: c\r\n",
        "X-A: b\0c\r\n",
        "X-A: b\rc\r\n",
        "X-A: b\r\r\n",
        "X-A: b\x01c\r\n",
        "X-A: b\x1bc\r\n",
        "X-A: b\x7fc\r\n",
        "X-(A): b\r\n",
        "X-\u{e9}: b\r\n",
        "\0X: b\r\n",
    ];
    let lines: Vec<String> = lines.iter().map(|line| format!("{HOST}{line}")).collect();
    check_all_refused(&with_fields(&lines.iter().map(String::as_str).collect::<Vec<_>>()), &[400]);
    check_all_refused(&with_fields(&[" Host: web\r\n", "\tX: y\r\nHost: web\r\n"]), &[400]);
}

#[test]
fn a_malformed_request_line_is_refused() {
    let cases = with_first_line(&[
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /a\x01 HTTP/1.1",
        "GET /a\0b HTTP/1.1",
        "GET /a\x7f HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.1x",
        "GET / HTTP/01.1",
        "GET / HTTP 1.1",
        "GET /",
        "GET",
        "GET nowhere HTTP/1.1",
    ]);
    check_all_refused(&cases, &[400]);
    let versions = with_first_line(&["GET / HTTP/1.2", "GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/3"]);
    check_all_refused(&versions, &[400, 505]);
}

#[test]
fn chunked_beside_a_length_never_reaches_the_origin_in_two_readings() {
    let (origin, serin) = front();
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n";
    for fields in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 200\r\n",
        "Transfer-Encoding: CHUNKED\r\nContent-Length: 0\r\n",
    ] {
        let mut client = Client::connect(serin.address());
        client.send(format!("POST /both HTTP/1.1\r\n{HOST}{fields}\r\n5\r\nhello\r\n0\r\n\r\n{hidden}"));
        let answer = client.read("POST");
        assert!(matches!(answer.status, 200 | 400), "{fields}: {}", answer.status);
        assert!(client.at_end(), "{fields}: the connection closes after it");
    }
    for request in origin.requests() {
        assert_eq!(request.target, "/both", "nothing behind an ambiguous message is read");
        assert!(!request.fields.has("content-length"), "the length is dropped");
        assert_eq!(request.body.data, b"hello");
    }
}

#[test]
fn equal_lengths_become_one_or_nothing() {
    let (origin, serin) = front();
    for fields in ["Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5, 5\r\n"] {
        let answer = exchange(serin.address(), format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\nhello")).unwrap();
        assert!(matches!(answer.status, 200 | 400), "{fields}: {}", answer.status);
    }
    for request in origin.requests() {
        assert_eq!(request.field("content-length").as_deref(), Some("5"), "sent as one");
        assert_eq!(request.body.data, b"hello");
    }
}

#[test]
fn lines_ended_by_lf_alone_are_refused_or_rewritten() {
    let (origin, serin) = front();
    for bytes in [
        "GET /lf HTTP/1.1\nHost: web\n\n",
        "GET /lf HTTP/1.1\r\nHost: web\nX-A: b\r\n\r\n",
        "GET /lf HTTP/1.1\r\nHost: web\r\nX-A: b\n\r\n",
    ] {
        let answer = exchange(serin.address(), bytes).unwrap();
        assert!(matches!(answer.status, 200 | 400), "{bytes:?}: {}", answer.status);
    }
    assert!(origin.requests().iter().all(|request| request.target == "/lf" && request.field("host").is_some()));
}

#[test]
fn a_malformed_chunk_is_never_a_whole_body() {
    let (origin, serin) = front();
    let sum = format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(200)).repeat(100));
    let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(33));
    let bodies: &[&str] = &[
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
        "5\r\nhello\r\n0\r\n: nameless\r\n\r\n",
        &many,
        &sum,
    ];
    let mut wrong = Vec::new();
    for body in bodies {
        let mut client = Client::connect(serin.address());
        client.send(format!("POST /cut HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{body}"));
        let _ = client.wire.send("GET /smuggled HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
        let answer = client.wire.read_to_end().map_or_else(|error| error.to_string(), |bytes| latin1(&bytes));
        let refused =
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1 ").count() == 1;
        if !refused {
            wrong.push(format!("{:?}: {answer}", body.chars().take(40).collect::<String>()));
        }
    }
    assert!(wrong.is_empty(), "taken for sound: {wrong:#?}");
    eventually("no upstream connection of a broken exchange stays", || origin.open() == 0);
    for request in origin.requests() {
        assert_eq!(request.target, "/cut");
        assert!(!request.body.complete, "the origin must not take {:?} for whole", request.body.data);
    }
}

#[test]
fn chunks_and_trailers_of_an_upload_arrive_without_extensions() {
    let (origin, serin) = front();
    let mut client = Client::connect(serin.address());
    let body = "5;ext=1\r\nhello\r\n006\r\n world\r\n0;last\r\nx-sum: 11\r\nx-empty:\r\ncontent-length: 3\r\n\
        transfer-encoding: gzip\r\nhost: evil\r\nauthorization: x\r\nl5d-dtab: /svc => !\r\ncookie: a=b\r\n\r\n";
    let head = format!("POST /up HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nTrailer: x-sum, x-empty\r\n\r\n");
    client.send(head + body);
    assert_eq!(client.read("POST").status, 200);
    assert_eq!(client.get("web", "/after", &[]).status, 200, "the connection goes on");
    let up = &origin.requests()[0];
    assert_eq!(up.body.data, b"hello world");
    assert_eq!(up.body.trailers.get("x-sum").as_deref(), Some("11"), "trailers travel");
    for name in ["content-length", "transfer-encoding", "host", "authorization", "l5d-dtab"] {
        assert!(!up.body.trailers.has(name), "{name} does not pass as a trailer");
    }
    assert!(!up.fields.has("x-sum"), "trailers are not merged into the head");
}

#[test]
fn chunks_and_trailers_of_a_response_arrive() {
    let origin = Upstream::reply(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5;e\r\nhello\r\n6\r\n world\r\n0\r\n\
          x-sum: 11\r\n\r\n"
            .to_vec()
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let mut client = Client::connect(serin.address());
    for _ in 0..3 {
        let answer = client.get("web", "/", &["TE: trailers", "Connection: TE"]);
        assert_eq!((answer.status, answer.text().as_str(), answer.end), (200, "hello world", End::Clean));
        assert_eq!(answer.trailers.get("x-sum").as_deref(), Some("11"));
    }
    assert_eq!(client.get("web", "/", &[]).text(), "hello world", "without te: trailers the body still arrives");
    assert_eq!(origin.connections(), 1, "the upstream connection is reused");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (origin, serin) = front();
    let mut client = Client::connect(serin.address());
    let mut bytes = String::new();
    for n in 0..20 {
        let body = if n % 3 == 0 { "some body" } else { "" };
        let method = if n % 3 == 0 { "POST" } else { "GET" };
        bytes.push_str(&request(method, &format!("/{n}"), "web", &[], body));
    }
    bytes.push_str(&format!("POST /chunked HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"));
    bytes.push_str(&request("GET", "/last", "web", &[], ""));
    client.send(bytes);
    for n in 0..20 {
        assert_eq!(client.read("GET").json()["target"], format!("/{n}"));
    }
    let chunked = client.read("POST").json();
    assert_eq!((&chunked["target"], &chunked["length"]), (&"/chunked".into(), &2.into()));
    assert_eq!(client.read("GET").json()["target"], "/last");
    assert_eq!(origin.connections(), 1, "one after the other on one upstream connection");
}

#[test]
fn a_request_that_comes_octet_by_octet_is_served() {
    let (_origin, serin) = front();
    let mut client = Client::connect(serin.address());
    for byte in request("POST", "/slow", "web", &[], "body").as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.read("POST").json()["length"], 4);
    client.send("\r\n"); // an empty line before a request is skipped (RFC 9112, 2.2)
    assert_eq!(client.get("web", "/next", &[]).json()["target"], "/next");
}

#[test]
fn http_1_0_gets_a_plain_body_until_the_close() {
    let origin = Upstream::reply(|request| match request.target.as_str() {
        "/chunked" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
        _ => reply(200, &[], "hello"),
    });
    let serin = Setup::web(&origin.endpoint()).start();
    for target in ["/chunked", "/length"] {
        let mut client = Client::connect(serin.address());
        client.send(format!("GET {target} HTTP/1.0\r\n{HOST}\r\n"));
        let answer = client.read("GET");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{target}");
        assert!(!answer.fields.has("transfer-encoding"), "HTTP/1.0 knows no chunks");
        assert!(answer.end == End::UntilClose || client.at_end(), "{target}: without keep-alive it closes");
    }
    assert!(origin.requests().iter().all(|request| request.version == "HTTP/1.1"), "the proxy's own version");
}

#[test]
fn answers_without_body_keep_the_connection_in_step() {
    let origin = Upstream::reply(|request| match request.target.as_str() {
        "/head" => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nx-is: head\r\n\r\n".to_vec(),
        "/head-chunked" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        "/204" => b"HTTP/1.1 204 No Content\r\nx-is: 204\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: \"x\"\r\n\r\n".to_vec(),
        _ => reply(200, &[], "body"),
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let mut client = Client::connect(serin.address());
    for round in 0..3 {
        client.send(request("HEAD", "/head", "web", &[], ""));
        let head = client.read("HEAD");
        assert_eq!((head.status, head.field("content-length").as_deref()), (200, Some("1000")), "round {round}");
        client.send(request("HEAD", "/head-chunked", "web", &[], ""));
        assert_eq!(client.read("HEAD").status, 200);
        let empty = client.get("web", "/204", &[]);
        assert_eq!(empty.status, 204);
        assert!(!empty.fields.has("content-length") && !empty.fields.has("transfer-encoding"), "RFC 9110, 8.6");
        let same = client.get("web", "/304", &[]);
        assert_eq!((same.status, same.field("etag").as_deref()), (304, Some("\"x\"")));
        assert_eq!(client.get("web", "/body", &[]).text(), "body", "nothing is left over");
    }
    assert_eq!(origin.requests().iter().filter(|request| request.method == "HEAD").count(), 6, "HEAD stays HEAD");
    assert_eq!(origin.connections(), 1, "all on one upstream connection");
}

#[test]
fn a_head_beyond_its_limits_is_431_and_a_long_target_414() {
    let (origin, serin) = front();
    let field = |octets: usize| format!("X-Long: {}\r\n", "x".repeat(octets));
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\n{HOST}{lines}\r\n").into_bytes();
    let target = |octets: usize| format!("/{}", "t".repeat(octets - 1));
    for (what, bytes) in [
        ("a target of 16 KiB", get(&target(16_384), "")),
        ("a head of 31 KiB", get("/", &field(15_900).repeat(2))),
        ("100 fields with Host", get("/", &fields(99))),
    ] {
        assert_eq!(exchange(serin.address(), bytes).unwrap().status, 200, "{what}");
    }
    let sound = origin.count();
    check_refused(&serin, "a target of one more", &get(&target(16_385), ""), &[414]);
    check_refused(&serin, "a target of 30 KiB", &get(&target(30_720), ""), &[414]);
    check_refused(&serin, "a target of 100 KiB, which is a large head too", &get(&target(102_400), ""), &[414, 431]);
    check_refused(&serin, "a head of 33 KiB", &get("/", &field(11_000).repeat(3)), &[431]);
    check_refused(&serin, "a field of 40 KiB", &get("/", &field(40_960)), &[431]);
    check_refused(&serin, "101 fields", &get("/", &fields(100)), &[431]);
    check_refused(&serin, "1000 fields", &get("/", &fields(1000)), &[431]);
    check_refused(&serin, "a megabyte", &get("/", &field(1 << 20)), &[431]);
    assert_eq!(origin.count(), sound, "none of these goes upstream");
}

#[test]
fn targets_and_values_travel_octet_by_octet() {
    let (origin, serin) = front();
    let mut client = Client::connect(serin.address());
    let targets = "/a%2Fb%2f/./../c//d;p=1?x=%C3%A9&y=a+b&&z=?/:@!$'()*,~ /%7euser/%41 //double//slash/ /? /?? /. /.. /a/%2e%2e/b";
    for target in targets.split(' ') {
        assert_eq!(client.get("web", target, &[]).json()["target"], target);
    }
    origin.forget();
    let mut bytes = b"GET / HTTP/1.1\r\nHost: web\r\nX-Many: 1\r\nX-Raw: caf\xe9 \xff\r\nX-Many: 2\r\n".to_vec();
    bytes.extend(b"X-Empty:\r\nX-Many: 3, 4\r\nX-Tab: a\tb  c\r\nX-Quote: \"a\\\"b\"\r\nAccept:\r\n\r\n");
    client.send(bytes);
    assert_eq!(client.read("GET").status, 200);
    let seen = origin.only().fields;
    assert_eq!(seen.all("x-many"), ["1", "2", "3, 4"], "number and order");
    assert_eq!(seen.get("x-raw").as_deref(), Some("caf\u{e9} \u{ff}"), "octets above 127");
    assert_eq!(seen.get("x-empty").as_deref(), Some(""), "empty values");
    assert_eq!(seen.get("x-tab").as_deref(), Some("a\tb  c"));
    assert_eq!(seen.get("x-quote").as_deref(), Some("\"a\\\"b\""));
    assert_eq!(seen.get("accept").as_deref(), Some(""));
}

#[test]
fn fields_of_a_response_travel_octet_by_octet() {
    let origin = Upstream::reply(|_| {
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT\r\nX-Raw: \xe9\r\nSet-Cookie: b=2\r\n\
          Vary: a\r\nSet-Cookie: a=3\r\nVary: b\r\nX-Empty:\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: mine\r\n\
          Content-Length: 2\r\n\r\nok"
            .to_vec()
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let answer = serin.get("web", "/");
    let cookies = answer.fields.all("set-cookie");
    assert_eq!(cookies, ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2", "a=3"], "order and number");
    assert_eq!(answer.fields.all("vary"), ["a", "b"]);
    assert_eq!(answer.field("x-raw").as_deref(), Some("\u{e9}"));
    assert_eq!(answer.field("x-empty").as_deref(), Some(""));
    assert_eq!(answer.field("date").as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"), "the origin's date, once");
    assert_eq!(answer.field("server").as_deref(), Some("mine"), "the origin's server, once");
}

#[test]
fn the_authority_of_an_absolute_target_replaces_host() {
    let (origin, serin) = front();
    let mut client = Client::connect(serin.address());
    for (target, wanted) in [
        ("http://web/a%2Fb?x=1", "/a%2Fb?x=1"),
        ("http://web", "/"),
        ("http://web?x", "/?x"),
        ("HTTP://WEB/up", "/up"),
        ("http://web:80/port", "/port"),
    ] {
        assert_eq!(client.get("other", target, &[]).status, 200, "{target}");
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.target, wanted, "{target} in origin form");
        let host = seen.field("host").unwrap();
        assert!(host.to_ascii_lowercase().starts_with("web"), "{target}: host {host}");
    }
    client.send(request("OPTIONS", "*", "web", &[], ""));
    assert_eq!(client.read("OPTIONS").json()["target"], "*");
}

#[test]
fn expecting_100_continue_the_body_still_arrives() {
    let origin = Upstream::reply(|_| reply(200, &[], "got it"));
    let serin = Setup::web(&origin.endpoint()).start();
    let mut client = Client::connect(serin.address());
    client.send(format!("POST / HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    let interim = client.read_head().unwrap();
    assert!(interim.first.starts_with("HTTP/1.1 100"), "{}", interim.first);
    client.send("hello");
    assert_eq!(client.read("POST").text(), "got it");
    assert_eq!(origin.only().body.data, b"hello");
}

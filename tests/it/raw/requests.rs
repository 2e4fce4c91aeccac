//! Requests over HTTP/1.1: framing, targets, hosts, fields, chunks (RFC 9112), and what of their fields goes on
//! (RFC 9110 section 7).

use crate::support::{Client, Serin, Upstream};

use super::{Reaches, Row, Then, check_rows, front, refused, served};

const HOST: &str = "Host: web\r\n";

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{HOST}{lines}\r\n")
}

fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\n{HOST}{lines}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// An upload that must never be whole at the origin.
fn torn(what: &'static str, body: &str) -> Row {
    refused(what, chunked(body), &[400]).reaches(Reaches::NothingWhole)
}

#[test]
fn lengths_and_codings_have_one_reading() {
    let (origin, serin) = front("exposure: edge");
    let five = "5\r\nhello\r\n0\r\n\r\n";
    let rows = [
        served("a length", post("Content-Length: 5\r\n", "hello"), &["content-length: 5", "=hello"]),
        served("a length with zeros in front", post("Content-Length: 005\r\n", "hello"), &["=hello"]),
        served("a length of 0", post("Content-Length: 0\r\n", ""), &["content-length: 0", "="]),
        refused("a sign in front", post("Content-Length: +5\r\n", "hello"), &[400]),
        refused("a negative length", post("Content-Length: -1\r\n", ""), &[400]),
        refused("hexadecimal", post("Content-Length: 0x5\r\n", "hello"), &[400]),
        refused("two numbers", post("Content-Length: 5 5\r\n", "hello"), &[400]),
        refused("an underscore", post("Content-Length: 1_0\r\n", "hello"), &[400]),
        refused("no digits", post("Content-Length:\r\n", ""), &[400]),
        refused("64 bits", post("Content-Length: 9223372036854775808\r\n", ""), &[400]),
        refused("more than 64 bits", post("Content-Length: 18446744073709551621\r\n", ""), &[400]),
        refused("a list of two", post("Content-Length: 5, 6\r\n", "hello"), &[400]),
        refused("two fields", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), &[400]),
        served("equal fields", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), &["content-length: 5"])
            .reaches(Reaches::Perhaps(&["content-length: 5", "=hello"]))
            .back(&[200, 400])
            .then(Then::Any),
        served("chunked", chunked(five), &["transfer-encoding: chunked", "!content-length", "=hello"]),
        served("Chunked", post("Transfer-Encoding: Chunked\r\n", five), &["transfer-encoding: chunked", "=hello"]),
        refused("chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", five), &[400, 501]),
        refused("chunked in two fields", post("Transfer-Encoding: chunked\r\n".repeat(2).as_str(), five), &[400, 501]),
        refused("gzip before chunked", post("Transfer-Encoding: gzip, chunked\r\n", five), &[400, 501]),
        refused("chunked not last", post("Transfer-Encoding: chunked, gzip\r\n", five), &[400, 501]),
        refused("identity", post("Transfer-Encoding: identity\r\n", five), &[400, 501]),
        refused("an empty coding", post("Transfer-Encoding:\r\n", five), &[400, 501]),
        refused("a tab in front", post("Transfer-Encoding:\tx chunked\r\n", five), &[400, 501]),
        refused("chunked with a parameter", post("Transfer-Encoding: chunked;a=b\r\n", five), &[400, 501]),
        refused("chunked in HTTP/1.0", chunked(five).replace("HTTP/1.1", "HTTP/1.0"), &[400, 501]),
        served("both", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", five), &[])
            .reaches(Reaches::Perhaps(&["!content-length", "transfer-encoding: chunked", "=hello"]))
            .back(&[200, 400])
            .then(Then::Closes),
        served("both, the other way round", post("Transfer-Encoding: chunked\r\nContent-Length: 90\r\n", five), &[])
            .reaches(Reaches::Perhaps(&["!content-length", "transfer-encoding: chunked", "=hello"]))
            .back(&[200, 400])
            .then(Then::Closes),
        served("a body of GET", get("/", "Content-Length: 2\r\n") + "ab", &["content-length: 2", "=ab"]),
    ];
    check_rows(&origin, &serin, &rows);
}

#[test]
fn fields_are_tokens_and_lines_end_once() {
    let (origin, serin) = front("exposure: edge");
    let rows = [
        refused("a space before the colon", get("/", "X-A : b\r\n"), &[400]),
        refused("a tab before the colon", get("/", "X-A\t: b\r\n"), &[400]),
        refused("a length with a space before the colon", post("Content-Length : 5\r\n", "hello"), &[400]),
        refused("a name with a space", get("/", "X A: b\r\n"), &[400]),
        refused("no name", get("/", ": b\r\n"), &[400]),
        refused("no colon", get("/", "X-A\r\n"), &[400]),
        refused("a continuation line", get("/", "X-A: b\r\n c\r\n"), &[400]),
        refused("a continuation by a tab", get("/", "X-A: b\r\n\tc\r\n"), &[400]),
        refused("a first line that continues", "GET / HTTP/1.1\r\n X: y\r\nHost: web\r\n\r\n", &[400]),
        refused("CR in a value", get("/", "X-A: b\rc\r\n"), &[400]),
        refused("CR before CRLF", get("/", "X-A: b\r\r\n"), &[400]),
        refused("NUL in a value", get("/", "X-A: b\0c\r\n"), &[400]),
        refused("a control in a value", get("/", "X-A: b\x01c\r\n"), &[400]),
        refused("DEL in a value", get("/", "X-A: b\x7fc\r\n"), &[400]),
        refused("NUL in a name", get("/", "X\0A: b\r\n"), &[400]),
        refused("octets above 127 in a name", get("/", "X-\u{e9}: b\r\n"), &[400]),
        refused("brackets in a name", get("/", "X[a]: b\r\n"), &[400]),
        served("LF alone", "GET /lf HTTP/1.1\nHost: web\n\n", &[])
            .reaches(Reaches::Perhaps(&["GET /lf", "host: web"]))
            .back(&[200, 400])
            .then(Then::Any),
        served("an empty line in front", format!("\r\n{}", get("/", "")), &["GET /"]),
        served("blanks around a value", get("/", "X-A: \t b c \t\r\n"), &["x-a: b c"]),
        served("an empty value", get("/", "X-A:\r\n"), &["x-a:"]),
        served("every token character", get("/", "!#$%&'*+-.^_`|~09azAZ: b\r\n"), &["!#$%&'*+-.^_`|~09azAZ: b"])
            .reaches(Reaches::Whole(&[])),
        served(
            "repeated fields in order",
            get("/", "X-A: 1\r\nX-B: x\r\nX-A: 2, 3\r\nx-a: 4\r\n"),
            &["x-a: 1 | 2, 3 | 4"],
        ),
        served("obs-text", b"GET / HTTP/1.1\r\nHost: web\r\nX-A: \xe9\xff\r\n\r\n", &["x-a: \u{e9}\u{ff}"]),
    ];
    check_rows(&origin, &serin, &rows);
}

#[test]
fn there_is_one_host_and_the_target_wins() {
    let (origin, serin) = front("exposure: edge");
    let rows = [
        refused("no host", "GET / HTTP/1.1\r\n\r\n", &[400]),
        refused("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", &[400]),
        refused("two hosts", get("/", "Host: web\r\n"), &[400]),
        refused("two hosts that differ", get("/", "Host: other\r\n"), &[400]),
        refused("a list", "GET / HTTP/1.1\r\nHost: web, other\r\n\r\n", &[400]),
        refused("a list without blank", "GET / HTTP/1.1\r\nHost: web,other\r\n\r\n", &[400]),
        refused("a host with a blank", "GET / HTTP/1.1\r\nHost: web other\r\n\r\n", &[400]),
        refused("userinfo", "GET / HTTP/1.1\r\nHost: me@web\r\n\r\n", &[400]),
        refused("a path in it", "GET / HTTP/1.1\r\nHost: web/x\r\n\r\n", &[400]),
        refused("a query in it", "GET / HTTP/1.1\r\nHost: web?x\r\n\r\n", &[400]),
        refused("a port that is none", "GET / HTTP/1.1\r\nHost: web:http\r\n\r\n", &[400]),
        refused("two ports", "GET / HTTP/1.1\r\nHost: web:80:80\r\n\r\n", &[400]),
        served("a port", "GET / HTTP/1.1\r\nHost: web:8080\r\n\r\n", &["host: web:8080"]),
        served("an absolute target", "GET http://web/a?b HTTP/1.1\r\nHost: web\r\n\r\n", &["GET /a?b", "host: web"]),
        served(
            "an absolute target against host",
            "GET http://web/a HTTP/1.1\r\nHost: evil\r\n\r\n",
            &["GET /a", "host: web"],
        ),
        served(
            "an absolute target without path",
            "GET http://web HTTP/1.1\r\nHost: x\r\n\r\n",
            &["GET /", "host: web"],
        ),
        served("an absolute target with a query alone", "GET http://web?q HTTP/1.1\r\nHost: x\r\n\r\n", &["GET /?q"]),
        refused("an absolute target with two hosts", "GET http://web/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
        refused("an absolute target with userinfo", "GET http://me@web/ HTTP/1.1\r\nHost: web\r\n\r\n", &[400]),
        refused("another scheme", "GET ftp://web/ HTTP/1.1\r\nHost: web\r\n\r\n", &[400]),
        refused("the form of an authority", "GET web:80 HTTP/1.1\r\nHost: web\r\n\r\n", &[400]),
        served("* for OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: web\r\n\r\n", &["OPTIONS *"]),
        refused("* for GET", "GET * HTTP/1.1\r\nHost: web\r\n\r\n", &[400]),
    ];
    check_rows(&origin, &serin, &rows);
}

#[test]
fn a_request_line_has_three_parts_and_single_spaces() {
    let (origin, serin) = front("exposure: edge");
    let line = |line: &str| format!("{line}\r\n{HOST}\r\n");
    let rows = [
        refused("two spaces", line("GET  / HTTP/1.1"), &[400]),
        refused("a tab", line("GET\t/ HTTP/1.1"), &[400]),
        refused("a space in the target", line("GET /a b HTTP/1.1"), &[400]),
        refused("a space behind", line("GET / HTTP/1.1 "), &[400]),
        refused("a space in front", line(" GET / HTTP/1.1"), &[400]),
        refused("a control in the target", line("GET /\x01 HTTP/1.1"), &[400]),
        refused("DEL in the target", line("GET /\x7f HTTP/1.1"), &[400]),
        refused("NUL in the target", line("GET /\0 HTTP/1.1"), &[400]),
        refused("CR in the target", line("GET /\rX HTTP/1.1"), &[400]),
        refused("a method that is no token", line("GE(T / HTTP/1.1"), &[400]),
        refused("HTTP/0.9", "GET /\r\n\r\n", &[400]),
        refused("HTTP/1.2", line("GET / HTTP/1.2"), &[400, 505]),
        refused("HTTP/2.0", line("GET / HTTP/2.0"), &[400, 505]),
        refused("HTTP/1.10", line("GET / HTTP/1.10"), &[400, 505]),
        refused("http/1.1", line("GET / http/1.1"), &[400]),
        served("a method nobody knows", line("BREW /pot HTTP/1.1"), &["BREW /pot"]),
        served("a method in lower case", line("get /x HTTP/1.1"), &["get /x"]),
        served(
            "percent-encoding",
            line("GET /a%2Fb%2f..%00%zz/%41?%20&x=%C3%A9 HTTP/1.1"),
            &["GET /a%2Fb%2f..%00%zz/%41?%20&x=%C3%A9"],
        ),
        served("dots and slashes", line("GET //a/./b/..//c/%2e%2e/? HTTP/1.1"), &["GET //a/./b/..//c/%2e%2e/?"]),
        served(
            "what RFC 3986 allows",
            line("GET /-._~!$&'()*+,;=:@/?/?-._~!$&'()*+,;=:@ HTTP/1.1"),
            &["GET /-._~!$&'()*+,;=:@/?/?-._~!$&'()*+,;=:@"],
        ),
        served("what browsers send beyond it", line("GET /a?x={\"a\":[1|2^`]} HTTP/1.1"), &[])
            .reaches(Reaches::Perhaps(&["GET /a?x={\"a\":[1|2^`]}"]))
            .back(&[200, 400])
            .then(Then::Any),
    ];
    check_rows(&origin, &serin, &rows);
}

/// A head that is refused with this status and label, and all that came behind it, whether it is the first of its connection,
/// the second, or stands behind another in one packet.
fn check_unreadable(origin: &Upstream, serin: &Serin, what: &str, head: &[u8], wanted: (u16, &str)) {
    let fine = get("/fine", "");
    for front in ["", "sent", "pipelined"] {
        origin.forget();
        let mut client = Client::connect(serin.address());
        if front == "sent" {
            assert_eq!(client.get("web", "/fine", &[]).status, 200);
        }
        let together = if front == "pipelined" { fine.as_bytes() } else { b"" };
        client.send([together, head, fine.as_bytes()].concat());
        if front == "pipelined" {
            assert_eq!(client.read("GET").status, 200, "{what}");
        }
        let answer = client.read("GET");
        assert_eq!((answer.status, answer.field("l5d-err").as_deref()), (wanted.0, Some(wanted.1)), "{what}, {front}");
        assert!(client.at_end(), "{what}, {front}");
        let seen = origin.requests();
        assert!(seen.iter().all(|one| one.target == "/fine") && seen.len() < 2, "{what}, {front}: {seen:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let (origin, serin) = front("exposure: edge, clearContext: true");
    let line = |line: &str| format!("{line}\r\n{HOST}\r\n").into_bytes();
    let check = |what: &str, head: &[u8], wanted| check_unreadable(&origin, &serin, what, head, wanted);
    for octet in ["<", ">"] {
        check("a bracket in a target", &line(&format!("GET /a{octet}b HTTP/1.1")), (400, "bad-request"));
        check("a bracket in a query", &line(&format!("GET /a?{octet} HTTP/1.1")), (400, "bad-request"));
    }
    check("no method", &line("G(T / HTTP/1.1"), (400, "bad-request"));
    check("another version", &line("GET / HTTP/1.7"), (400, "bad-request"));
    check("a name with a blank", &line("GET / HTTP/1.1\r\nX A: b"), (400, "bad-request"));
    check("two lengths", &line("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2"), (400, "bad-request"));
    let long = |octets: usize| format!("GET /{} HTTP/1.1", "t".repeat(octets - 1));
    check("a long target", &line(&long(16_385)), (414, "uri-too-long"));
    check("a longer target", &line(&long(70_000)), (414, "uri-too-long"));
    check("too many fields", &line(&format!("GET / HTTP/1.1{}", "\r\na: b".repeat(101))), (431, "headers-too-large"));
    check("a large field", &line(&format!("GET / HTTP/1.1\r\na: {}", "b".repeat(16_400))), (431, "headers-too-large"));
}

/// Far more than is ever read of a head: what hyper holds by then decides, so it must be the first of its connection.
#[test]
fn a_head_without_end_is_refused_by_what_is_too_long() {
    let (origin, serin) = front("exposure: edge, clearContext: true");
    for (what, head, wanted) in [
        ("a target", "GET /".to_owned() + &"t".repeat(300_000), (414, "uri-too-long")),
        ("a field", format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(300_000)), (431, "headers-too-large")),
        ("fields", format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(50_000)), (431, "headers-too-large")),
    ] {
        let mut client = Client::connect(serin.address());
        client.send(head + "\r\n\r\n" + &get("/behind", ""));
        let answer = client.read("GET");
        assert_eq!((answer.status, answer.field("l5d-err").as_deref()), (wanted.0, Some(wanted.1)), "{what}");
        assert!(client.at_end(), "{what}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_target_has_no_fragment() {
    let (origin, serin) = front("exposure: edge, clearContext: true");
    let line = |target: &str| format!("GET {target} HTTP/1.1\r\n{HOST}\r\n");
    for target in ["/a#b", "/#", "/a?b#c", "http://web/a#b", "http://web#b", "/a#b#c"] {
        let mut again = Client::connect(serin.address());
        assert_eq!(again.get("web", "/fine", &[]).status, 200);
        for mut client in [Client::connect(serin.address()), again] {
            origin.forget();
            client.send(line(target) + &get("/behind", ""));
            let answer = client.read("GET");
            assert_eq!((answer.status, answer.field("l5d-err").as_deref()), (400, Some("bad-request")), "{target}");
            assert!(client.at_end(), "{target}");
            assert_eq!(origin.count(), 0, "{target}");
        }
    }
    let rows = [
        served("# in a value", get("/a", "X-A: /a#b\r\n"), &["GET /a", "x-a: /a#b"]),
        served("# escaped", get("/a%23b", ""), &["GET /a%23b"]),
        served("# in a body", post("Content-Length: 18\r\n", "POST /#b HTTP/1.1\r"), &["POST /"]),
    ];
    check_rows(&origin, &serin, &rows);
}

#[test]
fn chunks_have_one_reading() {
    let (origin, serin) = front("exposure: edge");
    let extensions = format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(240)).repeat(80));
    let many = format!("1\r\nx\r\n0\r\n{}\r\n", "x-t: y\r\n".repeat(33));
    let rows = [
        served("zeros in front", chunked("005\r\nhello\r\n0\r\n\r\n"), &["=hello"]),
        served(
            "upper and lower case",
            chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
            &["=01234567890123456789"],
        ),
        served("an extension", chunked("5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n"), &["=hello"]),
        torn("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        torn("a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        torn("a separator", "1_0\r\nhello\r\n0\r\n\r\n"),
        torn("no digits", ";a\r\nhello\r\n0\r\n\r\n"),
        torn("an empty size", "\r\nhello\r\n0\r\n\r\n"),
        // more than 16 digits, but one number: read as that number, or refused
        served("17 digits", chunked("00000000000000005\r\nhello\r\n0\r\n\r\n"), &[])
            .reaches(Reaches::Perhaps(&["=hello"]))
            .back(&[200, 400])
            .then(Then::Any),
        torn("an overflow", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        torn("a blank before the size", " 5\r\nhello\r\n0\r\n\r\n"),
        torn("LF behind a size", "5\nhello\r\n0\r\n\r\n"),
        torn("CR alone behind a size", "5\rhello\r\n0\r\n\r\n"),
        torn("LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        torn("CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        torn("data longer than its size", "5\r\nhelloXX\r\n0\r\n\r\n"),
        torn("data without CRLF", "5\r\nhello0\r\n\r\n"),
        torn("data ended by LF", "5\r\nhello\n0\r\n\r\n"),
        torn("too many octets of extensions", &extensions),
        torn("a trailer without colon", "5\r\nhello\r\n0\r\nbad\r\n\r\n"),
        torn("a trailer without name", "5\r\nhello\r\n0\r\n: x\r\n\r\n"),
        torn("a trailer that continues", "5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n"),
        torn("too many trailers", &many),
        served(
            "trailers pass, cleaned",
            trailers(),
            &[
                "=hello",
                "+x-sum: 5",
                "-content-length",
                "-transfer-encoding",
                "-host",
                "-authorization",
                "-cookie",
                "-l5d-ctx-dtab",
                "-l5d_ctx_dtab",
                "-x-forwarded-for",
                "-via",
                "-trailer",
                "-connection",
                "!x-sum",
                "!authorization",
            ],
        ),
    ];
    check_rows(&origin, &serin, &rows);
}

fn trailers() -> String {
    let fields = [
        "x-sum: 5",
        "Content-Length: 9",
        "Transfer-Encoding: chunked",
        "Host: evil",
        "Authorization: x",
        "Cookie: a=b",
        "L5D-Ctx-Dtab: /svc=>!",
        "l5d_ctx_dtab: x",
        "X-Forwarded-For: 1.2.3.4",
        "Via: 1.1 x",
        "Trailer: y",
        "Connection: close",
    ];
    let end = fields.map(|field| format!("{field}\r\n")).concat();
    post("Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n", &format!("5\r\nhello\r\n0\r\n{end}\r\n"))
}

#[test]
fn a_hop_keeps_its_own_fields_to_itself() {
    let (origin, serin) = front("exposure: edge, clearContext: true");
    let rows = [
        served(
            "connection and what it names",
            get("/", "Connection: keep-alive, X-A\r\nX-A: 1\r\nKeep-Alive: 5\r\n"),
            &["!x-a", "!keep-alive"],
        ),
        served(
            "two fields of connection",
            get("/", "Connection: x-a\r\nConnection: ,X-B ,\r\nX-A: 1\r\nx-b: 1\r\n"),
            &["!x-a", "!x-b"],
        ),
        served("proxy-connection", get("/", "Proxy-Connection: keep-alive\r\n"), &["!proxy-connection"]),
        served("te: trailers", get("/", "TE: trailers, gzip;q=0\r\nConnection: TE\r\n"), &["te: trailers"]),
        served("te of another kind", get("/", "TE: gzip\r\nConnection: TE\r\n"), &["!te"]),
        served(
            "upgrade to h2c",
            get("/", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
            &["!upgrade", "!http2-settings"],
        ),
        served("upgrade to what nobody knows", get("/", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n"), &["!upgrade"]),
        served("upgrade that connection does not name", get("/", "Upgrade: websocket\r\n"), &["!upgrade"]),
        served(
            "a length nominated away",
            post("Connection: Content-Length\r\nContent-Length: 2\r\n", "ab"),
            &["content-length: 2", "=ab"],
        )
        .reaches(Reaches::Perhaps(&["content-length: 2", "=ab"]))
        .back(&[200, 400])
        .then(Then::Any),
        served(
            "host nominated away",
            get("/", "Connection: host, cookie, authorization\r\nCookie: a=b\r\nAuthorization: c\r\n"),
            &[],
        )
        .reaches(Reaches::Perhaps(&["host: web", "cookie: a=b", "authorization: c"]))
        .back(&[200, 400])
        .then(Then::Any),
        served(
            "forwarding fields of a stranger",
            get(
                "/",
                "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX-Forwarded-Client-Cert: x\r\nX-Forwarded-Prefix: /\r\n",
            ),
            &[
                "x-forwarded-for: 127.0.0.1",
                "!forwarded",
                "!x-real-ip",
                "!x-forwarded-client-cert",
                "!x-forwarded-prefix",
            ],
        ),
        served(
            "context of a stranger",
            get(
                "/",
                "l5d-ctx-dtab: /svc=>!\r\nL5D-DTAB: /svc=>!\r\nl5d_ctx_trace: x\r\nDtab-Local: /svc=>!\r\nX-Dtab-00-A: x\r\nl5d-sample: 1\r\nl5d-ctx-deadline: 1 2\r\n",
            ),
            &["!l5d-dtab", "!l5d_ctx_trace", "!dtab-local", "!x-dtab-00-a", "!l5d-sample"],
        ),
        served("via is appended", get("/", "Via: 1.1 before\r\n"), &["via: 1.1 before, 1.1 serin"]),
        served("an older version is named in via", get("/", "").replace("HTTP/1.1", "HTTP/1.0"), &["via: 1.0 serin"])
            .then(Then::Closes),
        served("cookies stay as they are", get("/", "Cookie: a=1; b=2\r\n"), &["cookie: a=1; b=2"]),
        served(
            "max-forwards counts down",
            get("/", "Max-Forwards: 7\r\n").replace("GET", "OPTIONS"),
            &["max-forwards: 6"],
        ),
        refused("TRACE", get("/", "").replace("GET", "TRACE"), &[405, 501]).then(Then::Any),
        refused("a method without end", get("/", "").replace("GET", &"A".repeat(65)), &[405]).then(Then::Any),
        refused("CONNECT", "CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n", &[400, 405, 501]).then(Then::Any),
    ];
    check_rows(&origin, &serin, &rows);
}

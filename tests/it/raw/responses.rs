//! What an HTTP/1.1 origin may not say: the client gets 502 or an answer that is visibly cut, whatever it speaks, and the
//! upstream connection is not used again. What an origin may say, and seldom does, arrives.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderValue, Response};

use Want::{Bad, Cut, Either, More, Whole};

use crate::support::h2peer::{self, H2Upstream};
use crate::support::http1::{End, request};
use crate::support::upstream::{next_request, reply};
use crate::support::{Client, Serin, Setup, Upstream, eventually};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// 502.
    Bad,
    /// Never an end that looks clean; 502 when the fault was seen in time.
    Cut,
    /// `hello`, or no body where there is none; the upstream connection goes on.
    Whole,
    /// 502, or what the one safe reading says. Not used again.
    Either,
    /// The answer arrives whole. The connection is not used again, as more octets came than it has.
    More,
}

struct Row {
    what: &'static str,
    method: &'static str,
    says: Vec<u8>,
    want: Want,
}

fn row(what: &'static str, says: impl AsRef<[u8]>, want: Want) -> Row {
    Row { what, method: "GET", says: says.as_ref().to_vec(), want }
}

/// 200 with these lines, and five octets.
fn with(what: &'static str, lines: &str, want: Want) -> Row {
    row(what, format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nhello"), want)
}

/// This first line, and five octets.
fn first(what: &'static str, line: &str, want: Want) -> Row {
    row(what, format!("{line}\r\nContent-Length: 5\r\n\r\nhello"), want)
}

/// 200 with this body in chunks.
fn chunks(what: &'static str, body: &str, want: Want) -> Row {
    row(what, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), want)
}

fn check_rows(rows: Vec<Row>) {
    let rows = Arc::new(rows);
    let script = Arc::clone(&rows);
    // counts connections that end behind the answer of a row
    let origin = Upstream::raw(move |wire, seen, index| {
        let mut said = false;
        while let Some(request) = next_request(wire, seen, index) {
            let row = request.target.strip_prefix("/row/").map(|row| &script[row.parse::<usize>().unwrap()]);
            said = row.is_some();
            let answer = row.map_or_else(|| reply(200, &[], "mine"), |row| row.says.clone());
            if wire.send(answer).is_err() {
                break;
            }
        }
        if said {
            seen.add(1);
        }
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        for play in [over_http1, over_http2] {
            origin.seen.counter.store(0, Ordering::Release);
            origin.forget();
            if let Err(found) = play(&serin, &origin, index, row) {
                wrong.push(format!("{}: {found}, not {:?}", row.what, row.want));
            }
            if row.want != Whole {
                eventually(row.what, || origin.seen.counter.load(Ordering::Acquire) == 1);
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows went otherwise:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn over_http1(serin: &Serin, origin: &Upstream, index: usize, row: &Row) -> Result<(), String> {
    let mut client = Client::connect(serin.address());
    client.send(request(row.method, &format!("/row/{index}"), "web", &[], ""));
    let read = client.try_read(row.method);
    let answer = read.ok().map(|answer| (answer.status, answer.text(), answer.end != End::Cut));
    check_answer(row, answer.as_ref())?;
    if !answer.is_some_and(|(_, _, whole)| whole) {
        client = Client::connect(serin.address());
    }
    let next = client.get("web", "/next", &[]);
    check_next(row, origin, next.status, &next.text())
}

fn over_http2(serin: &Serin, origin: &Upstream, index: usize, row: &Row) -> Result<(), String> {
    let over = |method: &str, path: &str| {
        let request = h2peer::get("web", path).method(method).body(()).unwrap();
        h2peer::exchange(serin.address(), request, None).ok()
    };
    let answer = over(row.method, &format!("/row/{index}"));
    let answer = answer.map(|answer| (answer.status, answer.text(), answer.reset.is_none()));
    check_answer(row, answer.as_ref()).map_err(|found| format!("HTTP/2: {found}"))?;
    let next = over("GET", "/next").ok_or("HTTP/2: no answer to the next")?;
    if row.want == Whole { Ok(()) } else { check_next(row, origin, next.status, &next.text()) }
}

fn check_answer(row: &Row, answer: Option<&(u16, String, bool)>) -> Result<(), String> {
    let fits = match (row.want, answer) {
        (Bad | Either | Cut, Some((502, _, true))) => true,
        (Cut, answer) => answer.is_none_or(|(status, _, whole)| *status == 200 && !whole),
        (Either | Whole | More, Some((status, text, true))) => *status < 400 && (text == "hello" || text.is_empty()),
        (_, _) => false,
    };
    if fits { Ok(()) } else { Err(format!("{answer:?}")) }
}

/// The next request is served, by the same connection if the row was clean, and by another if not.
fn check_next(row: &Row, origin: &Upstream, status: u16, text: &str) -> Result<(), String> {
    if (status, text) != (200, "mine") {
        return Err(format!("the next request gets {status} {text}"));
    }
    let seen = origin.requests();
    let same = seen.first().map(|one| one.connection) == seen.last().map(|one| one.connection);
    match (same, row.want == Whole) {
        (true, false) => Err("the upstream connection is used again".into()),
        (false, true) => Err("the upstream connection is not used again".into()),
        _ => Ok(()),
    }
}

#[test]
fn a_status_line_is_read_strictly() {
    check_rows(vec![
        first("no reason", "HTTP/1.1 200 ", Whole),
        first("a reason in Latin-1", "HTTP/1.1 200 Tr\u{e8}s bien", Whole),
        first("no protocol", "200 OK", Bad),
        first("another protocol", "ICY 200 OK", Bad),
        first("a protocol in small letters", "http/1.1 200 OK", Bad),
        first("HTTP/2.0", "HTTP/2.0 200 OK", Bad),
        first("HTTP/1.10", "HTTP/1.10 200 OK", Bad),
        first("HTTP/11", "HTTP/11 200 OK", Bad),
        first("no space", "HTTP/1.1200 OK", Bad),
        first("two spaces", "HTTP/1.1  200 OK", Bad),
        first("a tab", "HTTP/1.1\t200 OK", Bad),
        first("a status of two digits", "HTTP/1.1 20 OK", Bad),
        first("a status of four digits", "HTTP/1.1 2000 OK", Bad),
        first("a status of letters", "HTTP/1.1 2OO OK", Bad),
        first("a signed status", "HTTP/1.1 +20 OK", Bad),
        first("status 000", "HTTP/1.1 000 Zero", Bad),
        first("status 099", "HTTP/1.1 099 Low", Bad),
        first("status 600", "HTTP/1.1 600 High", Bad),
        first("a control in the reason", "HTTP/1.1 200 O\0K", Bad),
        first("CR in the reason", "HTTP/1.1 200 O\rK", Bad),
        first("a space in front", " HTTP/1.1 200 OK", Bad),
        row("HTTP/0.9", "<html>hello</html>\r\n\r\n", Bad),
        row("101 that nobody asked for", "HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", Bad),
    ]);
}

#[test]
fn the_length_of_an_answer_has_one_reading() {
    check_rows(vec![
        with("a length twice", "Content-Length: 5\r\nContent-Length: 5", Whole),
        with("a length twice in a line", "Content-Length: 5, 5", Whole),
        with("two lengths", "Content-Length: 5\r\nContent-Length: 6", Bad),
        with("two lengths in a line", "Content-Length: 5, 6", Bad),
        with("an empty length", "Content-Length: ", Bad),
        with("a signed length", "Content-Length: +5", Bad),
        with("a negative length", "Content-Length: -5", Bad),
        with("a length in sixteens", "Content-Length: 0x5", Bad),
        with("a length with a fraction", "Content-Length: 5.0", Bad),
        with("a length with a space", "Content-Length: 5 5", Bad),
        with("a length beyond 63 bits", "Content-Length: 9223372036854775808", Bad),
        with("a length beyond 64 bits", "Content-Length: 18446744073709551621", Bad),
        with("an unknown coding", "Transfer-Encoding: gzip", Bad),
        with("chunked, then another coding", "Transfer-Encoding: chunked, gzip", Bad),
        with("another coding, then chunked", "Transfer-Encoding: gzip, chunked", Bad),
        with("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Bad),
        with("chunked in quotes", "Transfer-Encoding: \"chunked\"", Bad),
        with("chunked with a vertical tab", "Transfer-Encoding: \u{b}chunked", Bad),
        with("no coding", "Transfer-Encoding: ", Bad),
        with("identity beside a length", "Transfer-Encoding: identity\r\nContent-Length: 5", Bad),
        row(
            "chunked beside a length",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Either,
        ),
        row(
            "chunked by HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Either,
        ),
        row(
            "chunked in capitals",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Whole,
        ),
    ]);
}

#[test]
fn fields_of_an_answer_are_well_formed() {
    let and = |what, line: &str, want| with(what, &format!("{line}\r\nContent-Length: 5"), want);
    check_rows(vec![
        and("an empty value", "X-A:", Whole),
        and("octets beyond ASCII", "X-A: \u{e9}", Whole),
        and("a space in a name", "X A: b", Bad),
        and("a space before the colon", "X-A : b", Bad),
        and("no colon", "X-A", Bad),
        and("no name", ": b", Bad),
        and("a name that is no token", "X(A): b", Bad),
        and("a name beyond ASCII", "X-\u{e9}: b", Bad),
        and("a continued line", "X-A: b\r\n c", Bad),
        and("a first line that continues", " X-A: b", Bad),
        and("NUL in a value", "X-A: b\0c", Bad),
        and("CR in a value", "X-A: b\rc", Bad),
        and("a control in a value", "X-A: b\u{7}c", Either),
        row("lines that end in LF", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", Whole),
    ]);
}

#[test]
fn chunks_of_an_answer_are_read_strictly() {
    check_rows(vec![
        chunks("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n", Whole),
        chunks("leading zeros", "0005\r\nhello\r\n0\r\n\r\n", Whole),
        chunks("a trailer", "5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n", Whole),
        chunks("a sign", "+5\r\nhello\r\n0\r\n\r\n", Cut),
        chunks("a prefix", "0x5\r\nhello\r\n0\r\n\r\n", Cut),
        chunks("a separator", "0_5\r\nhello\r\n0\r\n\r\n", Cut),
        chunks("a negative size", "-5\r\nhello\r\n0\r\n\r\n", Cut),
        chunks("no size", "\r\nhello\r\n0\r\n\r\n", Cut),
        chunks("a size of letters", "g\r\nhello\r\n0\r\n\r\n", Cut),
        chunks("a space in front", " 5\r\nhello\r\n0\r\n\r\n", Cut),
        chunks("seventeen digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", Cut),
        chunks("a size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n", Cut),
        chunks("data that goes on", "5\r\nhello!\r\n0\r\n\r\n", Cut),
        chunks("data without an end of line", "5\r\nhello0\r\n\r\n", Cut),
        chunks("a trailer that is no field", "5\r\nhello\r\n0\r\nX Sum: 5\r\n\r\n", Cut),
        chunks("NUL in a trailer", "5\r\nhello\r\n0\r\nX-Sum: \0\r\n\r\n", Cut),
    ]);
}

#[test]
fn octets_behind_an_answer_belong_to_nobody() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let behind = |what, method, says: &str| {
        let says = format!("{says}{evil}").into_bytes();
        Row { what, method, says, want: More }
    };
    check_rows(vec![
        behind("behind a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        behind("behind chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        behind("behind 204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        behind("behind 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        behind("behind the answer to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        behind("behind chunked HEAD", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ]);
}

#[test]
fn values_of_an_answer_over_http_2_have_no_blanks_around_them() {
    // what, in an interim answer, in the head, in the trailers
    let rows = [
        ("in the head", None, Some(" b"), None),
        ("a tab behind", None, Some("b\t"), None),
        ("in an interim answer", Some(" b"), None, None),
        ("in the trailers", None, None, Some("b ")),
        ("within", Some("a b"), Some("a \t b"), Some("a b")),
    ];
    for (what, interim, head, trailer) in rows {
        let origin = H2Upstream::start(move |mut exchange| async move {
            if let Some(value) = interim {
                let early = Response::builder().status(103).header("x-a", value).body(()).unwrap();
                exchange.respond.send_informational(early).unwrap();
            }
            let response = Response::builder().header("x-a", head.unwrap_or("fine")).body(()).unwrap();
            let mut send = exchange.respond.send_response(response, false).unwrap();
            let _may_be_reset = send.send_data("hello".into(), false);
            let trailers = [("x-sum".parse().unwrap(), HeaderValue::from_static(trailer.unwrap_or("fine")))];
            let _may_be_reset = send.send_trailers(trailers.into_iter().collect());
        });
        let serin = Setup::web(&origin.endpoint()).router("client: {protocol: h2}").start();
        let mut client = Client::connect(serin.address());
        client.send(request("GET", "/", "web", &[], ""));
        let over_http_1 = client.try_read("GET");
        let whole = over_http_1.map(|answer| (answer.status, answer.end != End::Cut));
        let answer = h2peer::exchange(serin.address(), h2peer::get("web", "/").body(()).unwrap(), None).ok();
        let over_http_2 = answer.map(|answer| (answer.status, answer.reset.is_none()));
        match what {
            "within" => assert_eq!((whole.ok(), over_http_2), (Some((200, true)), Some((200, true))), "{what}"),
            "in the trailers" => {
                assert!(whole.is_err() || whole.is_ok_and(|(_, whole)| !whole), "{what}, HTTP/1.1");
                assert!(over_http_2.is_none_or(|(_, whole)| !whole), "{what}, HTTP/2");
            }
            _ => assert_eq!((whole.ok(), over_http_2), (Some((502, true)), Some((502, true))), "{what}"),
        }
    }
}

#[test]
fn a_body_that_looks_like_an_answer_of_our_own_stays_as_it_is() {
    const BODY: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let origin = Upstream::raw(|wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            let front = if request.target == "/all" { "" } else { "see: " };
            let length = front.len() + BODY.len();
            let _ = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{front}"));
            // the end comes alone
            std::thread::park_timeout(std::time::Duration::from_millis(100));
            let _ = wire.send(BODY);
        }
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let mut client = Client::connect(serin.address());
    for (target, front) in [("/all", ""), ("/end", "see: "), ("/all", "")] {
        client.send(request("GET", target, "web", &[], ""));
        assert_eq!(client.read("GET").text(), format!("{front}{BODY}"), "{target}");
    }
}

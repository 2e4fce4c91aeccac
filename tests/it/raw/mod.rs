//! The wire, line by line: what a proxy at a trust boundary must do with each kind of message, as tables. A row says which
//! octets come in, what of them may reach the other side, what comes back, and whether the connection lives on.
//!
//! Peers are scripted by bytes (HTTP/1.1) and by frames (HTTP/2), on both sides. `SERIN_BIN` names the binary to test.

mod conformance;
mod exchanges;
mod h2_origins;
mod requests;
mod responses;
mod unix;

use super::support::http1::End;
use super::support::upstream::{Request, reply};
use super::support::{Client, Serin, Setup, Upstream, eventually};

/// What the origin sees of a request.
pub(crate) enum Reaches {
    /// Not an octet.
    Nothing,
    /// Nothing, or a request whose body never ends.
    NothingWhole,
    /// One whole request. `name: value`: this field, once or several times, in this order; `!name`: no such field;
    /// `=text`: this body; `METHOD target`: the first line; `+name: value`: this trailer, `-name`: no such trailer.
    Whole(&'static [&'static str]),
    /// Either nothing or that.
    Perhaps(&'static [&'static str]),
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Another request on it is served.
    Open,
    /// It closes, and what stands behind the message is never read.
    Closes,
    /// Either.
    Any,
}

/// One line of the requirements.
pub(crate) struct Row {
    what: &'static str,
    send: Vec<u8>,
    reaches: Reaches,
    back: &'static [u16],
    then: Then,
}

/// A request that must be refused: nothing goes upstream, the connection closes.
pub(crate) fn refused(what: &'static str, send: impl AsRef<[u8]>, back: &'static [u16]) -> Row {
    Row { what, send: send.as_ref().to_vec(), reaches: Reaches::Nothing, back, then: Then::Closes }
}

/// A request that must be served.
pub(crate) fn served(what: &'static str, send: impl AsRef<[u8]>, seen: &'static [&'static str]) -> Row {
    Row { what, send: send.as_ref().to_vec(), reaches: Reaches::Whole(seen), back: &[200], then: Then::Open }
}

impl Row {
    pub(crate) fn reaches(mut self, reaches: Reaches) -> Row {
        self.reaches = reaches;
        self
    }

    pub(crate) fn back(mut self, back: &'static [u16]) -> Row {
        self.back = back;
        self
    }

    pub(crate) fn then(mut self, then: Then) -> Row {
        self.then = then;
        self
    }

    /// The method, which decides how the answer is read.
    fn method(&self) -> String {
        self.send
            .split(|&byte| byte == b' ')
            .next()
            .map(|word| String::from_utf8_lossy(word).into())
            .unwrap_or_default()
    }
}

/// An origin that answers everything with 200 and `ok`, behind host `web`.
pub(crate) fn front(server: &str) -> (Upstream, Serin) {
    let origin = Upstream::reply(|_| reply(200, &[], "ok"));
    let serin = Setup::web(&origin.endpoint()).server(server).start();
    (origin, serin)
}

/// Plays every row, and fails with the list of those that went otherwise.
pub(crate) fn check_rows(origin: &Upstream, serin: &Serin, rows: &[Row]) {
    let mut torn = false;
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            origin.forget();
            let late = torn;
            torn |= matches!(row.reaches, Reaches::NothingWhole);
            play(origin, serin, row, late).err().map(|error| format!("{}: {error}", row.what))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} rows went otherwise:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert_eq!(serin.get("web", "/after-all").status, 200, "the proxy goes on");
}

/// `late`: what the origin has of a broken request may be of a row before, whose connection it had not yet read.
fn play(origin: &Upstream, serin: &Serin, row: &Row, late: bool) -> Result<(), String> {
    let open = origin.open();
    let mut client = Client::connect(serin.address());
    client.send(&row.send);
    let _may_be_closed = client.wire.send("GET /behind HTTP/1.1\r\nHost: web\r\n\r\n");
    match client.try_read(&row.method()) {
        Ok(answer) if !row.back.contains(&answer.status) => return Err(format!("{} {}", answer.status, answer.text())),
        Ok(answer) if answer.end == End::Cut => return Err("the answer is cut".into()),
        Ok(_) => {}
        Err(_) if row.back.is_empty() => {}
        Err(error) => return Err(format!("no answer: {error}")),
    }
    let behind = client.try_read("GET");
    match (row.then, &behind) {
        (Then::Open, Ok(answer)) if answer.status == 200 => {}
        (Then::Open, _) => return Err("the connection does not go on".into()),
        (Then::Closes, Ok(answer)) => return Err(format!("what stands behind it is answered: {}", answer.status)),
        (Then::Closes, Err(_)) | (Then::Any, _) => {}
    }
    let mut seen = origin.requests();
    if behind.is_ok() {
        seen.retain(|request| request.target != "/behind");
    }
    if late {
        seen.retain(|request| request.body.complete);
    }
    check_seen(&row.reaches, &seen)?;
    if matches!(row.reaches, Reaches::NothingWhole) {
        eventually("the upstream connection of a broken exchange is closed", || origin.open() <= open);
    }
    Ok(())
}

fn check_seen(reaches: &Reaches, seen: &[Request]) -> Result<(), String> {
    if let Some(hidden) = seen.iter().find(|request| request.target.contains("smuggled") || request.target == "/behind")
    {
        return Err(format!("a hidden request reaches the origin: {} {}", hidden.method, hidden.target));
    }
    match (reaches, seen) {
        (Reaches::Nothing | Reaches::NothingWhole | Reaches::Perhaps(_), []) => Ok(()),
        (Reaches::NothingWhole, seen) if seen.iter().all(|request| !request.body.complete) => Ok(()),
        (Reaches::Whole(wanted) | Reaches::Perhaps(wanted), [one]) => check_request(one, wanted),
        (_, seen) => Err(format!("the origin sees {:?}", seen.iter().map(|one| &one.target).collect::<Vec<_>>())),
    }
}

fn check_request(seen: &Request, wanted: &[&str]) -> Result<(), String> {
    if !seen.body.complete {
        return Err("the origin sees a body that does not end".into());
    }
    for line in wanted {
        check_line(seen, line).map_err(|found| format!("wanted `{line}`, the origin sees {found}"))?;
    }
    Ok(())
}

fn check_line(seen: &Request, line: &str) -> Result<(), String> {
    let holds = |holds: bool, found: String| if holds { Ok(()) } else { Err(found) };
    let values = |fields: &super::support::wire::Fields, line: &str| {
        let (name, values) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        let found = fields.all(name);
        holds(found == values.split(" | ").collect::<Vec<_>>(), format!("{found:?}"))
    };
    if let Some(name) = line.strip_prefix('!') {
        return holds(!seen.fields.has(name), format!("{:?}", seen.fields.all(name)));
    }
    if let Some(body) = line.strip_prefix('=') {
        return holds(seen.body.data == body.as_bytes(), format!("{:?}", String::from_utf8_lossy(&seen.body.data)));
    }
    if let Some(name) = line.strip_prefix('-') {
        return holds(!seen.body.trailers.has(name), format!("{:?}", seen.body.trailers));
    }
    if let Some(trailer) = line.strip_prefix('+') {
        return values(&seen.body.trailers, trailer);
    }
    if line.contains(": ") || line.ends_with(':') {
        return values(&seen.fields, line);
    }
    let first = format!("{} {}", seen.method, seen.target);
    holds(first == line, first)
}

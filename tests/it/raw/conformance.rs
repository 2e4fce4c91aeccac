//! HTTP/2 by the letter: RFC 9113, sections 3 to 8, one row for each thing a client may not do, or may do and seldom does.
//! Where the RFC leaves a choice, the row lists all of it.

mod messages;

use Want::{Closed, Goaway, Reset, Served, Status};

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    block, encode,
};
use crate::support::upstream::{next_request, reply};
use crate::support::{DEADLINE, Serin, Setup, Upstream, now};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const WINDOW_UPDATE: u8 = 8;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
const WHOLE: u8 = END_STREAM | END_HEADERS;

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;

/// The stream of the request that shows that the connection goes on.
const BEHIND: u32 = 101;
/// A connection error.
const ENDED: &[Want] = &[Goaway(PROTOCOL)];
const WRONG_SIZE: &[Want] = &[Goaway(FRAME_SIZE)];
/// The h2 crate says PROTOCOL_ERROR where the RFC has COMPRESSION_ERROR (4.3): the connection ends all the same.
const UNREADABLE: &[Want] = &[Goaway(COMPRESSION), Goaway(PROTOCOL)];
/// Frames whose size is fixed. The h2 crate says PROTOCOL_ERROR where the RFC has FRAME_SIZE_ERROR (4.2).
const MISSIZED: &[Want] = &[Goaway(FRAME_SIZE), Goaway(PROTOCOL)];
/// Malformed requests (8.1.1); a server may say 400 first.
const MALFORMED: &[Want] = &[Reset(1, PROTOCOL), Status(1, 400)];
/// Names and values that no field has. The h2 crate finds them in the decoder, and ends the connection, which 5.4.1 allows.
const NO_FIELD: &[Want] = &[Reset(1, PROTOCOL), Status(1, 400), Goaway(PROTOCOL)];
/// Frames on a stream that the client has ended (5.1). The h2 crate ends the connection with PROTOCOL_ERROR.
const TOO_LATE: &[Want] = &[Reset(1, STREAM_CLOSED), Goaway(STREAM_CLOSED), Goaway(PROTOCOL)];
/// A window by a setting (6.5.2). The h2 crate says PROTOCOL_ERROR.
const TOO_WIDE: &[Want] = &[Goaway(FLOW_CONTROL), Goaway(PROTOCOL)];
const HARMLESS: &[Want] = &[Served];

/// What may come back first.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// This error ends the connection.
    Goaway(u32),
    /// The connection ends without a word.
    Closed,
    /// This error ends the stream, and only it.
    Reset(u32, u32),
    /// An answer on this stream; the connection goes on.
    Status(u32, u16),
    /// Nothing: the next request is served.
    Served,
}

struct Row {
    what: &'static str,
    send: Vec<u8>,
    wants: &'static [Want],
}

/// These frames, behind preface and SETTINGS.
fn row(what: &'static str, frames: &[Vec<u8>], wants: &'static [Want]) -> Row {
    let start = [PREFACE.to_vec(), encode(SETTINGS, 0, 0, &[])];
    Row { what, send: [&start, frames].concat().concat(), wants }
}

fn bare(what: &'static str, send: &[&[u8]], wants: &'static [Want]) -> Row {
    Row { what, send: send.concat(), wants }
}

/// A connection must go on after a stream's error, unless it said goodbye (GOAWAY without an error, then the answer), and
/// end after its own. Nothing for `/bad` may arrive whole.
fn check_rows(rows: &[Row]) {
    let origin = Upstream::raw(|wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            if request.target != "/wait" && wire.send(reply(200, &[], "ok")).is_err() {
                return;
            }
        }
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| play(&serin, row).err().map(|error| format!("{}: {error}, not {:?}", row.what, row.wants)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} rows went otherwise:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert_eq!(serin.get("web", "/after-all").status, 200, "the proxy goes on");
    let bad = origin.requests().into_iter().find(|request| request.target == "/bad" && request.body.complete);
    assert!(bad.is_none(), "a malformed request reaches the origin: {bad:?}");
}

fn play(serin: &Serin, row: &Row) -> Result<(), String> {
    let (start, mut frames) = (now(), Frames::bare(serin.address()));
    let _may_be_closed = frames.write(&row.send);
    let harmless = row.wants.iter().any(|want| matches!(want, Served));
    if harmless {
        let _may_be_closed = frames.write(&get(BEHIND, "/behind"));
    }
    let mut leaves = false;
    let event = frames.until(|frame| {
        let graceful = frame.kind == GOAWAY && frame.code() == 0;
        leaves |= graceful;
        !graceful && matches!(frame.kind, GOAWAY | RST_STREAM | HEADERS)
    });
    if event.is_none() && now() - start >= DEADLINE {
        return Err("nothing happens".into());
    }
    if !row.wants.iter().any(|want| want.is(event.as_ref())) {
        return Err(said(event.as_ref()));
    }
    let Some(event) = event else { return Ok(()) };
    if event.kind == GOAWAY || leaves {
        let ended = frames.until(|_| false).is_none() && now() - start < DEADLINE;
        return if ended { Ok(()) } else { Err("the connection stays open".into()) };
    }
    if event.stream != BEHIND {
        if !harmless {
            frames.write(&get(BEHIND, "/behind"));
        }
        let behind = frames.until(|frame| frame.kind == GOAWAY || frame.kind == HEADERS && frame.stream == BEHIND);
        if !Served.is(behind.as_ref()) {
            return Err(format!("the connection does not go on: {}", said(behind.as_ref())));
        }
    }
    Ok(())
}

impl Want {
    fn is(self, event: Option<&Frame>) -> bool {
        match (self, event) {
            (Closed, None) => true,
            (Goaway(code), Some(frame)) => frame.kind == GOAWAY && frame.code() == code,
            (Reset(stream, code), Some(frame)) => {
                (frame.kind, frame.stream) == (RST_STREAM, stream) && frame.code() == code
            }
            (Status(stream, status), Some(frame)) => {
                (frame.kind, frame.stream) == (HEADERS, stream) && frame.has_status(status)
            }
            (Served, Some(_)) => Status(BEHIND, 200).is(event),
            (_, _) => false,
        }
    }
}

fn said(event: Option<&Frame>) -> String {
    match event {
        None => "the connection ends".into(),
        Some(frame) if frame.kind == GOAWAY => format!("GOAWAY {}", frame.code()),
        Some(frame) if frame.kind == RST_STREAM => format!("RST_STREAM {} on {}", frame.code(), frame.stream),
        Some(frame) => format!("HEADERS on {}: {:?}", frame.stream, frame.payload),
    }
}

fn fields<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "web")];
    block(&[&pseudo, more].concat())
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    encode(HEADERS, WHOLE, stream, &fields(path, &[]))
}

/// An upload that goes on, for an origin that says nothing.
fn open(stream: u32) -> Vec<u8> {
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/wait"), (":authority", "web")];
    encode(HEADERS, END_HEADERS, stream, &block(&pseudo))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    encode(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    encode(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn cancel(stream: u32) -> Vec<u8> {
    encode(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// The first nine octets of a frame that says it is this long.
fn long(kind: u8, flags: u8, stream: u32, length: u32) -> Vec<u8> {
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes()].concat()
}

/// A header block of these octets behind a request that is fine.
fn packed(octets: &[u8]) -> Vec<Vec<u8>> {
    vec![encode(HEADERS, WHOLE, 1, &[&fields("/bad", &[])[..], octets].concat())]
}

#[test]
fn a_connection_begins_with_the_preface_and_settings() {
    let settings = encode(SETTINGS, 0, 0, &[]);
    check_rows(&[
        bare(
            "3.4: a preface with a wrong end",
            &[b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &settings],
            &[Closed, Goaway(1)],
        ),
        bare(
            "3.4: a preface with a wrong begin",
            &[b"PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings],
            &[Closed, Goaway(1)],
        ),
        bare("3.4: SETTINGS without preface", &[&settings, &get(1, "/bad")], &[Closed, Goaway(1)]),
        // h2 takes frames in any order from the first on
        bare("3.4: PING before SETTINGS", &[PREFACE, &encode(PING, 0, 0, &[0; 8]), &settings], &[Goaway(1), Served]),
        bare("3.4: settings with values", &[PREFACE, &setting(3, 100)], HARMLESS),
    ]);
}

#[test]
fn frames_have_a_known_size_and_unknown_ones_are_passed_over() {
    check_rows(&[
        row("4.1: a frame of an unknown kind", &[encode(0x42, 0xff, 0, b"what?")], HARMLESS),
        row("4.1: of an unknown kind, on an idle stream", &[encode(0x42, 0, 7, b"what?")], HARMLESS),
        row("4.1: flags that mean nothing", &[encode(PING, 0xfe, 0, &[0; 8])], HARMLESS),
        row("4.1: the reserved bit", &[encode(PING, 0, 1 << 31, &[0; 8])], HARMLESS),
        row(
            "4.2: DATA beyond 16,384",
            &[open(1), long(DATA, 0, 1, 0x0f_ffff)],
            &[Goaway(FRAME_SIZE), Reset(1, FRAME_SIZE)],
        ),
        row("4.2: HEADERS beyond it", &[long(HEADERS, WHOLE, 1, 0x0f_ffff)], WRONG_SIZE),
        row("4.2: SETTINGS beyond it", &[long(SETTINGS, 0, 0, 0x0f_fffc)], WRONG_SIZE),
        row("4.2: an unknown kind beyond it", &[long(0x42, 0, 0, 0x0f_ffff)], WRONG_SIZE),
        row("6.3: PRIORITY of four octets", &[encode(PRIORITY, 0, 1, &[0; 4])], MISSIZED),
        row("6.4: RST_STREAM of three octets", &[open(1), encode(RST_STREAM, 0, 1, &[0; 3])], MISSIZED),
        row("6.4: RST_STREAM of five octets", &[open(1), encode(RST_STREAM, 0, 1, &[0; 5])], MISSIZED),
        row("6.5: SETTINGS of five octets", &[encode(SETTINGS, 0, 0, &[0; 5])], MISSIZED),
        row("6.5: an acknowledgement with values", &[encode(SETTINGS, 1, 0, &[0; 6])], MISSIZED),
        row("6.7: PING of six octets", &[encode(PING, 0, 0, &[0; 6])], MISSIZED),
        row("6.7: PING of nine octets", &[encode(PING, 0, 0, &[0; 9])], MISSIZED),
        row("6.8: GOAWAY of seven octets", &[encode(GOAWAY, 0, 0, &[0; 7])], MISSIZED),
        row("6.9: WINDOW_UPDATE of three octets", &[encode(WINDOW_UPDATE, 0, 0, &[0; 3])], MISSIZED),
        row("6.9: WINDOW_UPDATE of five octets", &[encode(WINDOW_UPDATE, 0, 0, &[0; 5])], MISSIZED),
    ]);
}

#[test]
fn a_header_block_that_does_not_decode_ends_the_connection() {
    check_rows(&[
        row("4.3: index 0", &packed(&[0x80]), UNREADABLE),
        row("4.3: an index beyond the table", &packed(&[0xff, 0x40]), UNREADABLE),
        row("4.3: a name beyond the table", &packed(&[0x7f, 0x40, 1, b'x']), UNREADABLE),
        row("4.3: an index without end", &packed(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), UNREADABLE),
        row("4.3: a length beyond the block", &packed(&[0, 1, b'x', 9, b'y']), UNREADABLE),
        row("4.3: a block that ends in a field", &packed(&[0, 1]), UNREADABLE),
        row("4.3: Huffman code with its end in it", &packed(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), UNREADABLE),
        row("4.3: Huffman code padded by zeros", &packed(&[0, 1, b'x', 0x81, 0x18]), UNREADABLE),
        row("4.3: Huffman code padded by an octet", &packed(&[0, 1, b'x', 0x82, 0x1f, 0xff]), UNREADABLE),
        row(
            "4.3: a table beyond the setting",
            &[encode(HEADERS, WHOLE, 1, &[&[0x3f, 0xe1, 0xff, 0x03], &fields("/bad", &[])[..]].concat())],
            UNREADABLE,
        ),
        row("4.3: a new table size behind a field", &packed(&[0x20]), UNREADABLE),
        row(
            "4.3: a smaller table",
            &[encode(HEADERS, WHOLE, 1, &[&[0x20], &fields("/", &[])[..]].concat())],
            &[Status(1, 200)],
        ),
    ]);
}

#[test]
fn streams_are_used_in_their_states() {
    let head = |stream| get(stream, "/bad");
    let trailer = |flags| encode(HEADERS, END_HEADERS | flags, 1, &block(&[("x-sum", "1")]));
    check_rows(&[
        row("5.1: DATA on an idle stream", &[encode(DATA, END_STREAM, 1, b"x")], ENDED),
        row("5.1: RST_STREAM on an idle stream", &[cancel(1)], ENDED),
        row("5.1: WINDOW_UPDATE on an idle stream", &[window(1, 1)], ENDED),
        row("5.1: CONTINUATION on an idle stream", &[encode(CONTINUATION, END_HEADERS, 1, b"")], ENDED),
        row("5.1: PRIORITY on an idle stream", &[encode(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])], HARMLESS),
        row("5.1: DATA behind the end", &[get(1, "/wait"), encode(DATA, END_STREAM, 1, b"x")], TOO_LATE),
        row("5.1: HEADERS behind the end", &[get(1, "/wait"), trailer(END_STREAM)], TOO_LATE),
        row(
            "5.1: CONTINUATION behind the end",
            &[get(1, "/wait"), encode(CONTINUATION, END_HEADERS, 1, b"")],
            &[Goaway(PROTOCOL), Goaway(STREAM_CLOSED)],
        ),
        row("5.1: WINDOW_UPDATE behind the end", &[get(1, "/wait"), window(1, 1)], HARMLESS),
        row("5.1: PRIORITY behind the end", &[get(1, "/wait"), encode(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])], HARMLESS),
        row("5.1: RST_STREAM behind the end", &[get(1, "/wait"), cancel(1)], HARMLESS),
        // frames may be under way when a stream is reset: h2 passes over them for a while
        row(
            "5.1: DATA behind a reset",
            &[open(1), cancel(1), encode(DATA, END_STREAM, 1, b"x")],
            &[Reset(1, STREAM_CLOSED), Goaway(STREAM_CLOSED), Served],
        ),
        row(
            "5.1: HEADERS behind a reset",
            &[open(1), cancel(1), trailer(END_STREAM)],
            &[Reset(1, STREAM_CLOSED), Goaway(STREAM_CLOSED), Goaway(PROTOCOL)],
        ),
        row("5.1: RST_STREAM twice", &[open(1), cancel(1), cancel(1)], HARMLESS),
        row("5.1: WINDOW_UPDATE behind a reset", &[open(1), cancel(1), window(1, 1)], HARMLESS),
        row("5.1.1: an even stream", &[head(2)], ENDED),
        row("5.1.1: a stream below the last", &[get(5, "/wait"), head(3)], &[Goaway(PROTOCOL), Goaway(STREAM_CLOSED)]),
        row(
            "5.3.1: PRIORITY on itself",
            &[encode(PRIORITY, 0, 1, &[0, 0, 0, 1, 1])],
            &[Reset(1, PROTOCOL), Goaway(PROTOCOL), Served],
        ),
        row(
            "5.3.1: HEADERS that depend on themselves",
            &[encode(HEADERS, WHOLE | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 1], &fields("/", &[])[..]].concat())],
            &[Reset(1, PROTOCOL), Goaway(PROTOCOL), Status(1, 200)],
        ),
        row("8.1: trailers that end nothing", &[open(1), trailer(0)], MALFORMED),
    ]);
}

#[test]
fn each_kind_of_frame_has_its_stream_and_its_padding() {
    let padded = |padding: u8| [&[padding], &fields("/", &[])[..]].concat();
    check_rows(&[
        row("6.1: DATA on stream 0", &[encode(DATA, 0, 0, b"x")], ENDED),
        row("6.1: DATA that is padded beyond its end", &[open(1), encode(DATA, PADDED, 1, &[3, 0, 0])], ENDED),
        row(
            "6.1: DATA without room for its padding",
            &[open(1), encode(DATA, PADDED, 1, &[])],
            &[Goaway(PROTOCOL), Goaway(FRAME_SIZE)],
        ),
        row("6.2: HEADERS on stream 0", &[get(0, "/bad")], ENDED),
        row(
            "6.2: HEADERS that are padded beyond their end",
            &[encode(HEADERS, WHOLE | PADDED, 1, &padded(255))],
            ENDED,
        ),
        row(
            "6.2: padded HEADERS",
            &[encode(HEADERS, WHOLE | PADDED, 1, &[&padded(3)[..], &[0; 3]].concat())],
            &[Status(1, 200)],
        ),
        row(
            "6.2: HEADERS without room for their priority",
            &[encode(HEADERS, WHOLE | WITH_PRIORITY, 1, &[0; 4])],
            &[Goaway(PROTOCOL), Goaway(FRAME_SIZE)],
        ),
        row("6.3: PRIORITY on stream 0", &[encode(PRIORITY, 0, 0, &[0, 0, 0, 1, 1])], ENDED),
        row("6.4: RST_STREAM on stream 0", &[cancel(0)], ENDED),
        row("6.5: SETTINGS on a stream", &[encode(SETTINGS, 0, 1, &[])], ENDED),
        row(
            "6.6: PUSH_PROMISE of a client",
            &[open(1), encode(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &fields("/bad", &[])[..]].concat())],
            ENDED,
        ),
        row("6.7: PING on a stream", &[encode(PING, 0, 1, &[0; 8])], ENDED),
        row("6.8: GOAWAY on a stream", &[encode(GOAWAY, 0, 1, &[0; 8])], ENDED),
    ]);
}

#[test]
fn settings_and_windows_stay_within_their_bounds() {
    check_rows(&[
        row("6.5.2: ENABLE_PUSH of 2", &[setting(2, 2)], ENDED),
        row("6.5.2: INITIAL_WINDOW_SIZE beyond 2^31 - 1", &[setting(4, 1 << 31)], TOO_WIDE),
        row("6.5.2: INITIAL_WINDOW_SIZE of 2^31 - 1", &[setting(4, (1 << 31) - 1)], HARMLESS),
        row("6.5.2: MAX_FRAME_SIZE below 16,384", &[setting(5, 16_383)], ENDED),
        row("6.5.2: MAX_FRAME_SIZE beyond 2^24 - 1", &[setting(5, 1 << 24)], ENDED),
        row("6.5.2: MAX_FRAME_SIZE of 2^24 - 1", &[setting(5, (1 << 24) - 1)], HARMLESS),
        row("6.5.2: a setting that nobody knows", &[setting(0xfff, 7)], HARMLESS),
        row("6.5.2: no header table", &[setting(1, 0)], HARMLESS),
        row("6.9: a window of 0 more", &[window(0, 0)], ENDED),
        row("6.9: a window of 0 more for a stream", &[open(1), window(1, 0)], &[Reset(1, PROTOCOL), Goaway(PROTOCOL)]),
        row("6.9: the reserved bit of an increment", &[window(0, 1 << 31 | 1)], HARMLESS),
        row("6.9.1: a window beyond 2^31 - 1", &[window(0, (1 << 31) - 1)], &[Goaway(FLOW_CONTROL)]),
        row(
            "6.9.1: of a stream",
            &[open(1), window(1, (1 << 31) - 1)],
            &[Reset(1, FLOW_CONTROL), Goaway(FLOW_CONTROL)],
        ),
        row(
            "6.9.2: by a setting",
            &[open(1), window(1, (1 << 30) - 1), setting(4, (1 << 31) - 1)],
            &[Goaway(FLOW_CONTROL), Reset(1, FLOW_CONTROL)],
        ),
        row(
            "6.9.1: DATA beyond every window",
            &[vec![open(1)], vec![encode(DATA, 0, 1, &[0; 16_384]); 640]].concat(),
            &[Goaway(FLOW_CONTROL), Reset(1, FLOW_CONTROL), Closed],
        ),
    ]);
}

#[test]
fn a_header_block_is_continued_at_once_or_not_at_all() {
    let begun = encode(HEADERS, END_STREAM, 1, &fields("/bad", &[]));
    let rest = |stream| encode(CONTINUATION, END_HEADERS, stream, &block(&[("x", "y")]));
    check_rows(&[
        row(
            "6.10: a block in two frames",
            &[encode(HEADERS, END_STREAM, 1, &fields("/", &[])), rest(1)],
            &[Status(1, 200)],
        ),
        row("6.10: on another stream", &[begun.clone(), rest(3)], ENDED),
        row("6.10: on stream 0", &[begun.clone(), rest(0)], ENDED),
        row(
            "6.10: behind the end of the block",
            &[get(1, "/wait"), rest(1)],
            &[Goaway(PROTOCOL), Goaway(STREAM_CLOSED)],
        ),
        row("6.10: DATA in between", &[begun.clone(), encode(DATA, 0, 1, b"x"), rest(1)], ENDED),
        row("6.10: HEADERS in between", &[begun.clone(), get(3, "/bad"), rest(1)], ENDED),
        row("6.10: SETTINGS in between", &[begun.clone(), encode(SETTINGS, 0, 0, &[]), rest(1)], ENDED),
        row("6.10: PING in between", &[begun.clone(), encode(PING, 0, 0, &[0; 8]), rest(1)], ENDED),
        row("6.10: RST_STREAM in between", &[begun.clone(), cancel(1), rest(1)], ENDED),
        row("6.10: a frame of an unknown kind in between", &[begun, encode(0x42, 0, 0, b""), rest(1)], ENDED),
    ]);
}

use std::task::Waker;

use http::HeaderValue;
use serin_metrics::Metrics;

use super::*;

fn room() -> (Arc<Metrics>, Rc<RetryRoom>) {
    let metrics = Metrics::new(1, 10);
    let room = Rc::new(RetryRoom::new(&metrics.shard(0)));
    (metrics, room)
}

/// What was refused: for its length, for want of room.
fn refused(room: &RetryRoom) -> (u64, u64) {
    let cells = room.shard.worker();
    (cells.unheld_too_long.get(), cells.unheld_no_room.get())
}

fn body(pieces: Vec<Piece>) -> Body {
    pieces.into_iter().rev().fold(Body::default(), |rest, piece| Body::behind(piece, rest))
}

fn data(octets: impl Into<Bytes>) -> Piece {
    Piece::Data(octets.into())
}

fn trailers() -> Piece {
    let mut fields = HeaderMap::new();
    fields.insert("checksum", HeaderValue::from_static("abc"));
    Piece::Trailers(fields)
}

fn poll(source: &mut Source) -> Option<Piece> {
    match source.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(piece))) => Some(piece),
        _ => None,
    }
}

fn next(source: &mut Source) -> Option<Bytes> {
    match poll(source) {
        Some(Piece::Data(data)) => Some(data),
        _ => None,
    }
}

/// All octets up to the end, and the trailers.
fn read(source: &mut Source) -> (Vec<u8>, Option<HeaderMap>) {
    let mut octets = Vec::new();
    while !source.is_end() {
        match poll(source) {
            Some(Piece::Data(data)) => octets.extend_from_slice(&data),
            Some(Piece::Trailers(fields)) => return (octets, Some(fields)),
            None => break,
        }
    }
    (octets, None)
}

#[test]
fn a_body_of_one_piece_can_be_sent_again_and_again() {
    let mut source = Source::new(Body::full("hello"));
    for _ in 0..3 {
        assert_eq!(source.length(), Some(5));
        assert_eq!(next(&mut source).as_deref(), Some(b"hello".as_slice()));
        assert_eq!(source.whole().as_deref(), Some(b"hello".as_slice()));
        assert!(source.is_end() && source.rewind());
    }
}

#[test]
fn a_large_piece_is_not_kept() {
    let mut source = Source::new(Body::full(vec![0; KEPT_MAX + 1]));
    assert!(source.rewind());
    assert!(next(&mut source).is_some());
    assert!(!source.rewind() && source.whole().is_none());
}

#[test]
fn only_what_fits_is_held_for_a_retry() {
    let mut source = Source::new(Body::full("hello"));
    assert!(source.is_untouched() && source.is_held(0));
    assert!(next(&mut source).is_some());
    assert!(!source.is_untouched() && source.is_held(5) && !source.is_held(4));
    assert!(source.rewind() && source.is_held(5) && !source.is_held(4));
    let _ = source.take_rest();
    assert!(!source.is_held(usize::MAX) && !source.rewind());
}

#[test]
fn no_body_is_always_replayable() {
    let mut source = Source::new(Body::default());
    assert!(source.is_end() && source.rewind() && next(&mut source).is_none() && source.rewind());
}

#[test]
fn a_body_of_pieces_is_spent_where_nobody_asks_for_it_again() {
    let mut source = Source::new(body(vec![data("a"), data("b")]));
    assert_eq!(read(&mut source).0, b"ab");
    assert!(!source.is_held(usize::MAX) && !source.rewind() && source.whole().is_none());
}

/// The pieces, held within `max`, and sent three times.
#[track_caller]
fn check_held(pieces: Vec<Piece>, max: usize, octets: &[u8], trailed: bool) {
    let (_metrics, room) = room();
    let mut source = Source::new(body(pieces));
    source.hold(&room, max, None);
    for attempt in 0..3 {
        let (seen, fields) = read(&mut source);
        assert_eq!((seen.as_slice(), fields.is_some()), (octets, trailed), "attempt {attempt}");
        assert!(source.is_held(max) && source.rewind(), "attempt {attempt}");
        assert_eq!(source.length(), (!trailed).then_some(octets.len() as u64), "a known length has no trailers");
    }
    assert_eq!(refused(&room), (0, 0));
    drop(source);
    assert_eq!(room.taken.get(), 0, "all of it is given back");
}

#[test]
fn pieces_and_trailers_are_held_for_a_retry() {
    check_held(vec![data("a"), data("bc"), data("d")], 4, b"abcd", false);
    check_held(vec![data("a"), data("bc"), trailers()], 1000, b"abc", true);
    check_held(vec![trailers()], 1000, b"", true);
    let long = vec![b'x'; 100_000];
    check_held(vec![data(long.clone())], 100_000, &long, false);
    check_held((0..100).map(|_| data(long[..1000].to_vec())).collect(), 100_000, &long, false);
}

#[test]
fn a_replay_that_broke_off_begins_anew() {
    let (_metrics, room) = room();
    let mut source = Source::new(body(vec![data("a"), data("b"), trailers()]));
    source.hold(&room, 1000, None);
    read(&mut source);
    assert!(source.rewind());
    assert_eq!(next(&mut source).as_deref(), Some(b"ab".as_slice()));
    assert!(!source.is_end() && source.rewind(), "its trailers were not given out");
    let (octets, fields) = read(&mut source);
    assert!(octets == b"ab" && fields.is_some());
}

#[test]
fn a_body_that_is_not_whole_is_not_sent_again() {
    let (_metrics, room) = room();
    let mut source = Source::new(body(vec![data("a"), data("b"), data("c")]));
    source.hold(&room, 10, None);
    assert!(next(&mut source).is_some() && next(&mut source).is_some());
    assert!(!source.is_held(10) && !source.rewind());
    assert_eq!(next(&mut source).as_deref(), Some(b"c".as_slice()), "and goes on");
    assert!(source.is_held(10) && source.rewind());
}

/// One octet more than `max`, however it comes.
#[track_caller]
fn check_too_long(pieces: Vec<Piece>, max: usize, announced: Option<u64>) {
    let (_metrics, room) = room();
    let mut source = Source::new(body(pieces));
    source.hold(&room, max, announced);
    read(&mut source);
    assert!(!source.is_held(max));
    assert_eq!((room.taken.get(), refused(&room)), (0, (1, 0)), "counted once, and let go");
}

#[test]
fn a_body_beyond_the_buffer_is_let_go_and_counted() {
    check_too_long(vec![data("abc"), data("d"), data("e")], 3, None);
    check_too_long(vec![data("abc"), data("d")], 3, Some(4));
    check_too_long(vec![data("abcd")], 3, None);
    check_too_long(vec![data("abc"), trailers()], 3, None);
    check_too_long(vec![data(vec![0; KEPT_MAX + 1]), data("a")], KEPT_MAX + 1, None);
}

#[test]
fn all_requests_together_hold_no_more_than_their_worker_may() {
    let (_metrics, room) = room();
    let half = vec![b'x'; RETRY_BYTES_MAX / 2];
    let take = |octets: &[u8]| {
        let mut source = Source::new(body(vec![data(octets.to_vec())]));
        source.hold(&room, RETRY_BYTES_MAX, None);
        assert!(next(&mut source).is_some());
        source
    };
    let (first, second) = (take(&half), take(&half));
    assert!(first.is_held(RETRY_BYTES_MAX) && second.is_held(RETRY_BYTES_MAX));
    assert_eq!((room.taken.get(), refused(&room)), (RETRY_BYTES_MAX, (0, 0)));
    let mut third = Source::new(body(vec![data("a"), data("b")]));
    third.hold(&room, 10, None);
    assert_eq!(read(&mut third).0, b"ab", "it is sent");
    assert!(!third.rewind(), "once");
    assert_eq!(refused(&room), (0, 1));
    drop(first);
    assert!(take(&half[1..]).is_held(RETRY_BYTES_MAX), "room that came back");
}

#[test]
fn an_answer_that_has_begun_ends_what_is_held() {
    let (_metrics, room) = room();
    let mut source = Source::new(body(vec![data("a"), data("b"), data("c")]));
    source.hold(&room, 10, None);
    assert!(next(&mut source).is_some() && next(&mut source).is_some() && room.taken.get() > 0);
    let mut rest = source.take_rest();
    assert_eq!((room.taken.get(), read(&mut rest).0), (0, b"c".to_vec()));
    assert!(!rest.rewind() && !source.rewind());
}

#[test]
fn a_replay_goes_on_behind_an_answer_that_has_begun() {
    let (_metrics, room) = room();
    let mut source = Source::new(body(vec![data("a"), data("b")]));
    source.hold(&room, 10, None);
    read(&mut source);
    assert!(source.rewind());
    assert_eq!(read(&mut source.take_rest()).0, b"ab");
    assert_eq!(room.taken.get(), 0);
}

use proptest::prelude::*;

use super::laws::{SMALL, check_any_split};
use super::*;

const SECOND: u64 = 1_000_000;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

fn ping() -> Vec<u8> {
    frame(0x6, 0, &[0; 8])
}

fn origin() -> Floods {
    Floods::of_origin(SMALL, 0)
}

/// So many of these in a row pass, and one more is this flood.
fn check_passes(octets: &[u8], passes: usize, flood: Flood) {
    let mut floods = origin();
    assert_eq!(floods.read(&octets.repeat(passes), 0), Ok(()), "{octets:?}");
    assert_eq!(floods.read(octets, 0), Err(flood), "{octets:?}");
}

#[test]
fn each_kind_of_frame_that_serves_nothing_has_a_limit() {
    for (kind, payload) in [(0x2, 5), (0x3, 4), (0x4, 0), (0x4, 6), (0x6, 8), (0x7, 8), (0x8, 4), (0x10, 5), (0xff, 0)]
    {
        check_passes(&frame(kind, 0, &vec![0; payload]), 5, Flood::Frames);
        check_passes(&frame(kind, 1, &vec![0; payload]), 5, Flood::Frames);
    }
    check_passes(&frame(0x0, 0, b""), 3, Flood::EmptyData);
}

#[test]
fn answers_that_nobody_reads_have_a_limit() {
    for kind in [0x4, 0x6] {
        let mut floods = Floods::of_origin(Budgets { unread: 10, frames_burst: 1_000, ..SMALL }, 0);
        let frame = frame(kind, 0, &[0; 8]);
        for _ in 0..10 {
            assert_eq!(floods.read(&frame.repeat(10), 0), Ok(()));
            floods.wrote(10 * 17);
        }
        assert_eq!(floods.read(&frame.repeat(11), 0), Err(Flood::Unread));
    }
}

#[test]
fn octets_of_bodies_and_the_ends_of_streams_cost_nothing() {
    let mut floods = origin();
    for _ in 0..1_000 {
        assert_eq!(floods.read(&frame(0x0, 0, b"x"), 0), Ok(()));
        assert_eq!(floods.read(&frame(0x0, 1, b""), 0), Ok(()));
    }
}

#[test]
fn time_earns_frames_up_to_the_burst() {
    let mut floods = origin();
    assert_eq!(floods.read(&ping().repeat(5), 0), Ok(()));
    // 50 a second is one in 20 ms
    assert_eq!(floods.read(&ping(), SECOND / 50), Ok(()));
    assert_eq!(floods.read(&ping().repeat(5), 3600 * SECOND), Ok(()));
    assert_eq!(floods.read(&ping(), 3600 * SECOND), Err(Flood::Frames));
    assert_eq!(floods.read(&ping(), 7200 * SECOND), Err(Flood::Frames), "a verdict stays");
}

#[test]
fn a_clock_that_goes_back_earns_nothing() {
    let mut floods = Floods::of_origin(SMALL, SECOND);
    assert_eq!(floods.read(&ping().repeat(5), 0), Ok(()));
    assert_eq!(floods.read(&ping(), SECOND), Err(Flood::Frames));
}

#[test]
fn who_is_answered_may_measure_the_way_and_move_windows() {
    let mut floods = origin();
    for _ in 0..10_000 {
        // a call: a window for its stream, one for the connection, a PING, and our answer to all of it
        floods.wrote(120 + 17);
        let call = [frame(0x1, 0x5, b"head"), frame(0x8, 0, &[0; 4]), frame(0x8, 0, &[0; 4]), ping()].concat();
        assert_eq!(floods.read(&call, 0), Ok(()));
    }
}

#[test]
fn the_answer_to_a_ping_does_not_pay_for_the_next() {
    let mut floods = origin();
    let ended = (0..100).position(|_| {
        floods.wrote(17);
        floods.read(&ping(), 0).is_err()
    });
    assert_eq!(ended, Some(6));
}

#[test]
fn a_header_block_has_few_frames_and_fewer_empty_ones() {
    let open = |more: &[Vec<u8>]| [&[frame(0x1, 0, b"head")], more].concat().concat();
    let (full, empty, last) = (frame(0x9, 0, b"x"), frame(0x9, 0, b""), frame(0x9, 0x4, b""));
    for (blocks, verdict) in [
        (open(&[full.clone(), last.clone()]), Ok(())),
        (open(&[empty.clone(), last.clone()]), Ok(())),
        (open(&[full.clone(), full.clone(), full.clone()]), Ok(())),
        (open(&[full.clone(), full.clone(), full.clone(), last.clone()]), Err(Flood::HeaderBlock)),
        (open(&[empty.clone(), empty.clone(), last.clone()]), Ok(())),
        (open(&[empty.clone(), empty.clone(), empty.clone()]), Err(Flood::HeaderBlock)),
        // each block has its own count
        (open(&[full, last.clone()]).repeat(100), Ok(())),
        (open(&[empty, last]).repeat(100), Ok(())),
    ] {
        assert_eq!(origin().read(&blocks, 0), verdict, "{blocks:?}");
    }
}

#[test]
fn a_block_or_frame_that_has_not_ended_is_known() {
    let mut floods = Floods::of_client(SMALL, 0);
    assert!(floods.is_within(), "the preface has not come");
    floods.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0).unwrap();
    assert!(!floods.is_within());
    floods.read(&frame(0x1, 0, b"head"), 0).unwrap();
    assert!(floods.is_within());
    floods.read(&frame(0x9, 0x4, b"tail"), 0).unwrap();
    assert!(!floods.is_within());
    floods.read(&[0, 0], 0).unwrap();
    assert!(floods.is_within());
}

#[test]
fn resets_are_bounded_in_time() {
    let mut floods = Floods::of_client(SMALL, 0);
    for at_us in 0..3 {
        assert_eq!(floods.reset(at_us), Ok(()));
    }
    assert_eq!(floods.reset(RESETS_US), Ok(()), "the first one is old");
    assert_eq!(floods.reset(RESETS_US), Err(Flood::Resets));
    assert_eq!(floods.flood(), Some(Flood::Resets));
    assert_eq!(floods.read(b"", 9 * SECOND), Err(Flood::Resets), "it ends the connection");
}

#[test]
fn half_of_the_last_streams_may_be_reset_however_slowly() {
    let mut floods = Floods::of_client(SMALL, 0);
    let mut now_us = 0;
    let mut streams = |resets: usize, answers: usize| {
        (0..resets).try_for_each(|_| {
            now_us += RESETS_US;
            floods.reset(now_us)
        })?;
        (0..answers).for_each(|_| floods.answered());
        Ok(())
    };
    for _ in 0..10 {
        assert_eq!(streams(100, 100), Ok(()));
    }
    assert_eq!(streams(100, 99), Ok(()));
    assert_eq!(streams(1, 0), Err(Flood::ResetShare));
}

proptest! {
    #[test]
    fn any_octets_in_any_reads_get_the_same_verdict(
        octets in prop::collection::vec(any::<u8>(), 0..200),
        sizes in prop::collection::vec(1_usize..40, 1..8),
    ) {
        check_any_split(&octets, &sizes);
    }

    #[test]
    fn frames_in_any_reads_get_the_same_verdict(
        frames in prop::collection::vec((0_u8..12, any::<u8>(), 0_usize..20), 0..20),
        sizes in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let mut octets = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frames.iter().for_each(|(kind, flags, length)| octets.extend(frame(*kind, *flags, &vec![7; *length])));
        check_any_split(&octets, &sizes);
        check_any_split(&octets[24..], &sizes);
    }

    #[test]
    fn nobody_sends_more_than_burst_and_rate_allow(gaps in prop::collection::vec(0_u64..40_000, 1..200)) {
        let (mut floods, mut now_us) = (origin(), 0);
        for (sent, gap) in (0_u64..).zip(gaps) {
            now_us += gap;
            let allowed = sent < 5 + now_us * 50 / SECOND;
            if floods.read(&ping(), now_us).is_ok() {
                prop_assert!(allowed, "{sent} frames in {now_us} us");
            } else {
                break;
            }
        }
    }
}

//! Is the origin of an HTTP/2 connection still there.
//!
//! TCP says nothing for a quarter of an hour when a machine has gone, or a firewall has forgotten the connection, while
//! octets are on their way to it. So a connection on which something is open and nothing comes is asked by a PING, and it is
//! given up if not an octet comes then. Nothing is armed for a request: the worker's sweep looks at all connections.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::h2conn::Streams;

/// PINGs between two answers of the origin. gRPC servers bear two that they find needless, and close the connection at the
/// third, whatever is open on it (`GRPC_ARG_HTTP2_MAX_PING_STRIKES`).
const ASKS_MAX: u32 = 2;
/// After them, between two PINGs, in microseconds: what those servers find in order is five minutes.
const REST_US: u64 = 310_000_000;

/// All HTTP/2 connections of one worker that are driven, those too that take no more streams.
#[derive(Debug, Default)]
pub struct Pulses(RefCell<Vec<Weak<Streams>>>);

impl Pulses {
    /// Asks those that have been silent for too long, and gives those up that did not answer.
    pub fn sweep(&self, now_us: u64) {
        self.0.borrow_mut().retain(|streams| streams.upgrade().is_some_and(|streams| streams.look(now_us)));
    }

    pub(super) fn add(&self, streams: &Rc<Streams>) {
        self.0.borrow_mut().push(Rc::downgrade(streams));
    }
}

/// What is known of one connection.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Reads that brought something.
    heard: Cell<u64>,
    /// A stream was opened, and nothing has been heard since.
    waits: Cell<bool>,
    /// An attempt got no answer in its time, and nothing else has come since it began.
    doubted: Cell<bool>,
    /// When a sweep first found it silent, in microseconds; 0: it is not, or nobody waits.
    quiet_us: Cell<u64>,
    /// When it was asked, if nothing has come since; 0: it was not.
    asked_us: Cell<u64>,
    /// A sweep has found the answer late. The next one decides: if this process was stopped, the answer is read between them.
    late: Cell<bool>,
    /// PINGs since the origin last answered a request.
    asks: Cell<u32>,
    /// When the last one was sent.
    last_us: Cell<u64>,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Wait,
    /// A PING.
    Ask,
    /// It is to be closed.
    Lost,
}

impl Pulse {
    /// Octets came; `carried`: HEADERS or DATA among them.
    pub(super) fn hear(&self, carried: bool) {
        self.heard.set(self.heard.get().wrapping_add(1));
        self.waits.set(false);
        self.doubted.set(false);
        self.quiet_us.set(0);
        self.asked_us.set(0);
        self.late.set(false);
        if carried {
            self.asks.set(0);
        }
    }

    /// Changes whenever something is heard.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// A stream is opened.
    pub(super) fn expect(&self) {
        self.waits.set(true);
    }

    /// An attempt got no answer in its time. Says if nothing at all has been heard since `heard`: then no stream is opened
    /// until something is.
    pub(super) fn doubt(&self, heard: u64) -> bool {
        let silent = self.heard.get() == heard;
        if silent {
            self.doubted.set(true);
        }
        silent
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.get()
    }

    /// Is the answer to a PING awaited.
    pub(super) fn is_asked(&self) -> bool {
        self.asked_us.get() != 0
    }

    /// May a PING be sent now.
    pub(super) fn may_ask(&self, now_us: u64) -> bool {
        let rested = now_us.saturating_sub(self.last_us.get()) >= REST_US;
        !self.is_asked() && (self.asks.get() < ASKS_MAX || rested)
    }

    /// A PING is sent now.
    pub(super) fn asked(&self, now_us: u64) {
        self.asked_us.set(now_us.max(1));
        self.last_us.set(now_us);
        self.asks.set(self.asks.get().saturating_add(1));
    }

    /// `busy`: streams are open. It is asked after so many microseconds of silence, and lost after as many more.
    pub(super) fn look(&self, now_us: u64, busy: bool, after_us: u64) -> Look {
        if !busy && !self.waits.get() {
            self.quiet_us.set(0);
            return Look::Wait;
        }
        let (quiet_us, asked_us) = (self.quiet_us.get(), self.asked_us.get());
        if quiet_us == 0 {
            self.quiet_us.set(now_us.max(1));
        } else if asked_us != 0 {
            let late = now_us.saturating_sub(asked_us) > after_us;
            if late && self.late.replace(late) {
                return Look::Lost;
            }
        } else if now_us.saturating_sub(quiet_us) > after_us && self.may_ask(now_us) {
            return Look::Ask;
        }
        Look::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER_US: u64 = 10_000_000;
    const SWEEP_US: u64 = 500_000;

    /// Sweeps with a stream open, from `now_us` on, until something is to be done; says when, and notes a PING.
    fn next(pulse: &Pulse, now_us: &mut u64) -> Look {
        for _ in 0..1000 {
            *now_us += SWEEP_US;
            match pulse.look(*now_us, true, AFTER_US) {
                Look::Wait => {}
                Look::Ask => {
                    pulse.asked(*now_us);
                    return Look::Ask;
                }
                Look::Lost => return Look::Lost,
            }
        }
        Look::Wait
    }

    #[test]
    fn silence_is_asked_after_its_time_and_lost_after_as_much_again() {
        let (pulse, mut now_us) = (Pulse::default(), 1_000_000);
        assert_eq!((next(&pulse, &mut now_us), now_us), (Look::Ask, 1_000_000 + AFTER_US + 2 * SWEEP_US));
        let asked_us = now_us;
        assert_eq!((next(&pulse, &mut now_us), now_us), (Look::Lost, asked_us + AFTER_US + 2 * SWEEP_US));
    }

    #[test]
    fn a_late_answer_that_waits_to_be_read_is_read() {
        let (pulse, mut now_us) = (Pulse::default(), 0);
        assert_eq!(next(&pulse, &mut now_us), Look::Ask);
        // the process was stopped for a minute: one sweep comes before what has arrived is read
        assert_eq!(pulse.look(now_us + 60_000_000, true, AFTER_US), Look::Wait);
        pulse.hear(false);
        assert_eq!(pulse.look(now_us + 60_500_000, true, AFTER_US), Look::Wait);
        assert!(!pulse.is_asked());
    }

    #[test]
    fn nobody_is_asked_on_behalf_of_nobody() {
        let pulse = Pulse::default();
        assert!((1..100).all(|sweep| pulse.look(sweep * SWEEP_US, false, AFTER_US) == Look::Wait));
        // but a stream that was given up without an answer leaves its question
        pulse.expect();
        assert!((100..200).any(|sweep| pulse.look(sweep * SWEEP_US, false, AFTER_US) == Look::Ask));
    }

    #[test]
    fn an_origin_that_answers_pings_gets_two_between_answers_and_then_one_in_five_minutes() {
        let (pulse, mut now_us) = (Pulse::default(), 0);
        let mut at_us = Vec::new();
        for _ in 0..4 {
            while next(&pulse, &mut now_us) != Look::Ask {}
            pulse.hear(false);
            at_us.push(now_us);
        }
        let pauses: Vec<_> = at_us.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses[0] < 2 * AFTER_US, "{pauses:?}");
        assert!(pauses[1..].iter().all(|pause| *pause >= REST_US && *pause < REST_US + 2 * SWEEP_US), "{pauses:?}");
        pulse.hear(true);
        assert!(pulse.may_ask(now_us + 1), "an answer gives it two more");
    }

    #[test]
    fn doubt_needs_silence_and_ends_with_it() {
        let pulse = Pulse::default();
        let heard = pulse.heard();
        pulse.hear(false);
        assert!(!pulse.doubt(heard) && !pulse.is_doubted());
        assert!(pulse.doubt(pulse.heard()) && pulse.is_doubted());
        pulse.hear(false);
        assert!(!pulse.is_doubted());
    }
}

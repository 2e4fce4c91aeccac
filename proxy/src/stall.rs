//! Peers that owe octets, or room for octets, and do not move.
//!
//! A place is taken only when something is blocked, and given back with the next octet: an exchange that flows, and one that
//! comes whole, never touch this. The worker's sweep looks at all places once a second, so no timer is armed.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::worker::Worker;

/// All that is blocked on one worker. As many places as there are directions of exchanges in flight, at most.
#[derive(Debug, Default)]
pub struct Stalls {
    places: RefCell<Vec<Place>>,
    free: RefCell<Vec<usize>>,
}

#[derive(Debug, Default)]
struct Place {
    limit_us: u64,
    /// When a sweep first saw it; 0: none has.
    since_us: u64,
    passed: bool,
    /// `None`: the place is free, or its owner has been woken.
    waker: Option<Waker>,
}

impl Stalls {
    /// Wakes those who have waited for longer than they would.
    pub fn sweep(&self, now_us: u64) {
        for place in self.places.borrow_mut().iter_mut().filter(|place| place.waker.is_some()) {
            if place.since_us == 0 {
                place.since_us = now_us.max(1);
            } else if now_us.saturating_sub(place.since_us) > place.limit_us {
                place.passed = true;
                if let Some(waker) = place.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Places that are taken.
    pub fn len(&self) -> usize {
        self.places.borrow().len() - self.free.borrow().len()
    }

    /// Is nothing blocked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&self, limit_us: u64, waker: &Waker) -> usize {
        let mut places = self.places.borrow_mut();
        let key = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(Place::default());
            places.len() - 1
        });
        places[key] = Place { limit_us, since_us: 0, passed: false, waker: Some(waker.clone()) };
        key
    }

    fn give_back(&self, key: usize) {
        self.places.borrow_mut()[key] = Place::default();
        self.free.borrow_mut().push(key);
    }
}

/// Who keeps a direction from going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Who sends: nothing came.
    #[default]
    Source,
    /// Who takes: there is no room.
    Sink,
}

/// How long one direction of one exchange waits for a peer without progress.
#[derive(Debug, Default)]
pub struct Patience {
    taken: Option<Taken>,
    at: (Side, u64),
}

#[derive(Debug)]
struct Taken {
    worker: Rc<Worker>,
    key: usize,
}

impl Patience {
    /// The direction is blocked by `side` after having moved so much. Says if that has not changed for longer than `limit`;
    /// otherwise this task is woken when it has. Without a limit it is never over.
    pub fn is_over(
        &mut self,
        worker: &Rc<Worker>,
        (side, moved): (Side, u64),
        limit: Option<Duration>,
        cx: &Context<'_>,
    ) -> bool {
        if self.at != (side, moved) {
            self.at = (side, moved);
            self.moved();
        }
        let Some(limit) = limit else { return false };
        let Some(taken) = &self.taken else {
            let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
            let key = worker.stalls.take(limit_us, cx.waker());
            self.taken = Some(Taken { worker: Rc::clone(worker), key });
            return false;
        };
        let place = &mut worker.stalls.places.borrow_mut()[taken.key];
        if !place.passed && !place.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            place.waker = Some(cx.waker().clone());
        }
        place.passed
    }

    /// Something moved, or nothing is owed any more.
    pub fn moved(&mut self) {
        self.taken = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.worker.stalls.give_back(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_passes_after_its_time_and_not_before() {
        let stalls = Stalls::default();
        let (short, long) = (stalls.take(1_000, Waker::noop()), stalls.take(1_000_000, Waker::noop()));
        let passed = |key: usize| stalls.places.borrow()[key].passed;
        // the first sweep that sees it starts its time
        stalls.sweep(5_000_000);
        stalls.sweep(5_001_000);
        assert!(!passed(short) && !passed(long));
        stalls.sweep(5_001_001);
        assert!(passed(short) && !passed(long));
    }

    #[test]
    fn places_are_used_again() {
        let stalls = Stalls::default();
        let first = stalls.take(1, Waker::noop());
        stalls.sweep(1);
        stalls.sweep(1000);
        stalls.give_back(first);
        assert!(stalls.is_empty());
        let again = stalls.take(1, Waker::noop());
        assert_eq!((again, stalls.len(), stalls.places.borrow()[again].passed), (first, 1, false));
    }
}

//! Connections to a registry that is asked name by name: whose question may stay open there.
//!
//! A name that exists keeps its question open, so that its changes are heard at once. A name that the registry has not
//! heard of keeps nothing: it asks in turn with the others, has its answer, and asks again after [`AGAIN`] as long as
//! somebody uses it. So strangers who make names up take no place of a name that serves. Names that exist beyond the
//! places ask in turn as well.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serin_config::model::HostPort;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Names asked in turn wait so long between two questions.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// A name that is gone keeps its place for so long after its last good answer: it may be on its way to another machine.
const GONE_KEPT: Duration = Duration::from_secs(30);
/// Questions in turn at once, to one registry.
pub const TURNS_MAX: usize = 32;
/// An answer in turn comes within this time.
pub(super) const TURN_LIMIT: Duration = Duration::from_secs(10);

/// The places at one registry, for all namers and names that ask it.
#[derive(Debug)]
pub(super) struct Slots {
    held: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Slots {
    /// So many names keep their question open.
    pub(super) fn new(held_max: usize) -> Arc<Self> {
        Arc::new(Self { held: Arc::new(Semaphore::new(held_max)), turns: Arc::new(Semaphore::new(TURNS_MAX)) })
    }
}

/// The places at every registry that is asked now.
#[derive(Debug, Default)]
pub(super) struct Registries(HashMap<HostPort, Weak<Slots>>);

impl Registries {
    /// Those at this one; `held_max` counts when it is new.
    pub(super) fn at(&mut self, at: &HostPort, held_max: usize) -> Arc<Slots> {
        if let Some(known) = self.0.get(at).and_then(Weak::upgrade) {
            return known;
        }
        self.0.retain(|_, slots| slots.strong_count() > 0);
        let slots = Slots::new(held_max);
        self.0.insert(at.clone(), Arc::downgrade(&slots));
        slots
    }
}

/// How one name stands with its registry.
#[derive(Debug)]
pub(super) struct Standing {
    slots: Arc<Slots>,
    place: Option<OwnedSemaphorePermit>,
    good_at: Option<Instant>,
}

impl Standing {
    /// A name of which nothing is known.
    pub(super) fn new(slots: &Arc<Slots>) -> Self {
        Self { slots: Arc::clone(slots), place: None, good_at: None }
    }

    /// May its question stay open.
    pub(super) fn is_held(&self) -> bool {
        self.place.is_some()
    }

    /// Waits for its turn, if it has no place of its own. To be dropped when the answer is there.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        match self.place {
            Some(_) => None,
            None => Arc::clone(&self.slots.turns).acquire_owned().await.ok(),
        }
    }

    /// The registry has said whether there is such a name. One that is there takes a place if one is free.
    pub(super) fn heard(&mut self, is_there: bool, now: Instant) {
        if is_there {
            self.good_at = Some(now);
            self.place = self.place.take().or_else(|| Arc::clone(&self.slots.held).try_acquire_owned().ok());
        } else if self.gone_at().is_none_or(|at| at <= now) {
            self.place = None;
        }
    }

    /// When a name that is gone gives its place up.
    pub(super) fn gone_at(&self) -> Option<Instant> {
        self.good_at.map(|at| at + GONE_KEPT)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn only_names_that_exist_have_places_and_only_so_many() {
        let (slots, now) = (Slots::new(2), Instant::now());
        let mut names: Vec<Standing> = (0..4).map(|_| Standing::new(&slots)).collect();
        names.iter_mut().for_each(|name| name.heard(false, now));
        assert!(names.iter().all(|name| !name.is_held()));
        names.iter_mut().take(3).for_each(|name| name.heard(true, now));
        let held: Vec<bool> = names.iter().map(Standing::is_held).collect();
        assert_eq!(held, [true, true, false, false], "two, and the one beyond asks in turn");
        names[0].heard(false, now + GONE_KEPT / 2);
        assert!(names[0].is_held(), "it may come back");
        names[0].heard(false, now + GONE_KEPT);
        names[2].heard(true, now);
        assert_eq!((names[0].is_held(), names[2].is_held()), (false, true), "its place is free");
        drop(names.remove(1));
        names[2].heard(true, now);
        assert!(names[2].is_held(), "so is that of a name that nobody uses");
    }

    fn turn_of(name: &Standing) -> Poll<Option<OwnedSemaphorePermit>> {
        std::pin::pin!(name.turn()).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn turns_are_limited_and_names_with_a_place_need_none() {
        let slots = Slots::new(1);
        let name = Standing::new(&slots);
        let mut turns: Vec<_> = (0..TURNS_MAX).map(|_| turn_of(&name)).collect();
        assert!(turns.iter().all(|turn| matches!(turn, Poll::Ready(Some(_)))));
        assert!(turn_of(&name).is_pending(), "one beyond waits");
        let mut held = Standing::new(&slots);
        held.heard(true, Instant::now());
        assert!(matches!(turn_of(&held), Poll::Ready(None)));
        turns.pop();
        assert!(matches!(turn_of(&name), Poll::Ready(Some(_))));
    }

    #[test]
    fn all_who_ask_one_registry_share_its_places() {
        let at = |port| HostPort { host: serin_config::model::Host::Name("localhost".to_owned()), port };
        let mut registries = Registries::default();
        let slots = registries.at(&at(8500), 1);
        assert!(Arc::ptr_eq(&slots, &registries.at(&at(8500), 1)));
        let other = registries.at(&at(8501), 1);
        assert!(!Arc::ptr_eq(&slots, &other));
        drop((slots, other));
        registries.at(&at(1), 1);
        assert_eq!(registries.0.len(), 1, "those that nobody asks any more are forgotten");
    }
}

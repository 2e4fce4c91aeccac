//! Where a request goes that is tried once more.

use std::rc::Rc;
use std::sync::Arc;

use serin_config::dtab::{Outcome, SplitId, Weight, Weights};
use serin_rollout::Arm;

use super::pick;
use crate::arms::Bases;
use crate::bindings::{Binding, Leaf, Target};
use crate::exchange::Exchange;
use crate::inflight::Handle;
use crate::local::Watched;
use crate::snapshot::SplitWeights;
use crate::worker::Worker;

/// A retry keeps its arm, or it would hide the arm's failures behind the other's successes. But an arm that has no
/// weight any more gets no retries either: the judge took the traffic away between the attempts, and the request goes
/// to the other arm. `None`: it stays where it was.
pub fn again(worker: &Worker, exchange: &Exchange, binding: &Binding, handle: Handle) -> Option<Rc<Leaf>> {
    if !worker.in_flight.is_watched(handle) {
        return None;
    }
    let (watched, gone) = without_weight(worker, exchange, handle)?;
    // drawn as it was, so that all other unions on the way choose as they did
    let mut rest = fastrand::Rng::with_seed(exchange.seed);
    let (mut session, mut bases) = (exchange.session.clone(), Bases::default());
    let weights = Instead { weights: &exchange.local.snapshot.weights, gone };
    match pick(worker, exchange, binding, &mut session, &weights, &mut rest, &mut bases).outcome {
        Outcome::Leaf(Target::Name(leaf)) if leaf.cluster.answer.is_none() => {
            worker.in_flight.moved(handle, &watched);
            Some(Rc::clone(leaf))
        }
        _ => None,
    }
}

/// The arm that serves the request, if it has no weight in the newest snapshot while the other one has some: with its
/// split in the request's own snapshot, and its place there. A rollout that is gone, or has other arms, moves nobody.
fn without_weight(worker: &Worker, exchange: &Exchange, handle: Handle) -> Option<(Rc<Watched>, (SplitId, u16))> {
    let newest = worker.current();
    let now = &newest.snapshot;
    let mut found = None;
    worker.in_flight.each_watched(handle, &mut |watched, ticket| {
        let ledger = watched.ledger.borrow();
        let own = exchange.local.snapshot.structure.rollout(&watched.name);
        let Some(((own, _), (id, rollout))) = own.zip(now.structure.rollout(&watched.name)) else { return };
        let (place, other) = match ledger.serving(ticket) {
            Arm::Canary => (0, 1),
            Arm::Primary => (1, 0),
        };
        let is_zero = |index| now.weights.weight(id, index).is_none_or(Weight::is_zero);
        if Arc::ptr_eq(&rollout.evidence, ledger.evidence()) && is_zero(place) && !is_zero(other) {
            found = Some((Rc::clone(watched), (own, place)));
        }
    });
    found
}

/// The weights that were in force, but for a branch that has none any more, and what stands beside it.
struct Instead<'w> {
    weights: &'w SplitWeights,
    gone: (SplitId, u16),
}

impl Weights for Instead<'_> {
    fn weight(&self, split: SplitId, index: u16) -> Option<Weight> {
        match self.gone {
            (gone, place) if gone == split => Some(if place == index { Weight::ZERO } else { Weight::ONE }),
            _ => self.weights.weight(split, index),
        }
    }
}

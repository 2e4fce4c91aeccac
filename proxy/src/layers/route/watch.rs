//! What the draws of a request tell: counters of every split, and the book of each rollout.
//!
//! | request | counted by a rollout that drew it |
//! |---|---|
//! | no override, no copy | yes; randomised, unless rules of A/B sent it |
//! | with an override of a rule or a peer, or the copy of another | routed only |
//! | the arm's name is not resolved yet, and the other arm takes it | routed only: it says nothing of the arm |
//! | the arm has nobody who can serve | yes: a failure of the arm, whoever serves it |

use http::header::CONTENT_LENGTH;
use serin_config::dtab::{Draw, LeafState, NameTree, Outcome, Picked};
use serin_rollout::{Arm, Ppm};

use super::MIRRORED;
use crate::arms::{Bases, Basis};
use crate::bindings::{Binding, Target};
use crate::exchange::Exchange;
use crate::inflight::Handle;
use crate::ledger::{Drawn, Out};
use crate::local;
use crate::mirror::branch;
use crate::worker::Worker;

/// The canary's place in the union of a rollout.
const CANARY: u16 = 0;

/// Notes the draws of one pick. A pick that has to wait is made again, and noted then.
pub(super) fn note(
    worker: &Worker,
    exchange: &Exchange,
    handle: Handle,
    binding: &Binding,
    picked: &Picked<'_, Target>,
    bases: &Bases,
) {
    if matches!(picked.outcome, Outcome::Pending(_)) {
        return;
    }
    let tried = Tried::new(&picked.outcome);
    for draw in picked.draws.as_slice() {
        let Some(split) = draw.split.map(|id| &exchange.local.shape.splits[local::index(id)]) else { continue };
        split.count(draw.drawn, draw.redistributed);
        if split.watched.is_some() && binding.context.is_none() && !exchange.parts.headers.contains_key(MIRRORED) {
            watch(worker, exchange, handle, binding, tried, draw, bases);
        }
    }
}

/// A draw that counts.
fn watch(
    worker: &Worker,
    exchange: &Exchange,
    handle: Handle,
    binding: &Binding,
    tried: Tried,
    draw: &Draw,
    bases: &Bases,
) {
    let Some(id) = draw.split else { return };
    let Some(watched) = &exchange.local.shape.splits[local::index(id)].watched else { return };
    let (arm, share) = arm_and_share(draw);
    // of a request that had to wait for a name the wait is over
    let now_us = worker.coarse_us.get().max(exchange.started_us);
    let trouble = draw.redistributed || tried != Tried::Served;
    let branch = if trouble { branch(&binding.tree, id, draw.drawn) } else { None };
    let out = branch.map(|branch| why_out(worker, branch));
    if draw.redistributed && out == Some(Out::Pending) {
        return;
    }
    let mut ledger = watched.ledger.borrow_mut();
    match out {
        Some(out) => ledger.out(arm, out, now_us),
        None if trouble => {}
        None => ledger.served(arm),
    }
    let weights = exchange.local.snapshot.weights.weights.get(local::index(id));
    let canary_wanted = weights.and_then(|weights| weights.first()).is_some_and(|weight| !weight.is_zero());
    if share == Ppm::ZERO && canary_wanted {
        // its name leads nowhere: it was not even in the draw
        ledger.out(Arm::Canary, Out::Absent, now_us);
    }
    drop(ledger);
    let basis = bases.of(id);
    let drawn = Drawn {
        arm,
        redistributed: draw.redistributed,
        share,
        session: if let Basis::Session(hash) = basis { Some(hash) } else { None },
        randomised: basis != Basis::Apart,
        streams: streams(exchange),
    };
    worker.in_flight.watch(handle, watched, drawn, now_us);
    if tried == Tried::Nobody && !draw.redistributed {
        worker.in_flight.unserved(handle);
    }
}

/// The arm that the weights chose, and the canary's share.
fn arm_and_share(draw: &Draw) -> (Arm, Ppm) {
    let share = Ppm::clamped(i64::from(draw.share_ppm));
    if draw.drawn == CANARY { (Arm::Canary, share) } else { (Arm::Primary, share.rest()) }
}

/// Who gets the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    /// An endpoint that can serve.
    Served,
    /// An ejected endpoint, because there is no other.
    Ejected,
    /// Nobody.
    Nobody,
}

impl Tried {
    fn new(outcome: &Outcome<'_, Target>) -> Self {
        match outcome {
            Outcome::Leaf(_) => Self::Served,
            Outcome::Unusable(Target::Name(leaf)) if leaf.cluster.has_endpoints() => Self::Ejected,
            _ => Self::Nobody,
        }
    }
}

/// Why a branch cannot serve. What is not known yet may still do so; an endpoint that is ejected is there at least.
fn why_out(worker: &Worker, tree: &NameTree<Target>) -> Out {
    let of_all = |all: &mut dyn Iterator<Item = Out>| {
        all.fold(Out::Absent, |so_far, one| match (so_far, one) {
            (Out::Pending, _) | (_, Out::Pending) => Out::Pending,
            (Out::Ejected, _) | (_, Out::Ejected) => Out::Ejected,
            (Out::Absent, Out::Absent) => Out::Absent,
        })
    };
    match tree {
        NameTree::Alt(children) => of_all(&mut children.iter().map(|child| why_out(worker, child))),
        NameTree::Union(union) => of_all(&mut union.branches.iter().map(|branch| why_out(worker, &branch.tree))),
        NameTree::Leaf(target) if target.state(worker) == LeafState::Pending => Out::Pending,
        NameTree::Leaf(Target::Name(leaf)) if leaf.cluster.has_endpoints() => Out::Ejected,
        NameTree::Leaf(_) | NameTree::Neg | NameTree::Fail | NameTree::Empty => Out::Absent,
    }
}

/// Is it still being sent, for nobody knows how long.
fn streams(exchange: &Exchange) -> bool {
    !exchange.body.is_end() && exchange.body.length().is_none() && !exchange.parts.headers.contains_key(CONTENT_LENGTH)
}

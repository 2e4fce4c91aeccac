//! PURE: what the state of a rollout means for routing.

use serin_config::dtab::Path;
use serin_config::model;
use serin_rollout::{Ppm, Revision, State};

use crate::snapshot::{Arms, Routing};

/// The name that a revision is reached by: what stands before `@`, which no printed path contains.
pub(crate) fn path_of(revision: &Revision) -> Option<Path> {
    let name = revision.as_str().split('@').next().unwrap_or_default();
    Path::parse(name).ok()
}

/// The revision of a primary: its name, as the file has no other word for it.
pub(crate) fn revision_of(path: &Path) -> Option<Revision> {
    path.to_string().parse().ok()
}

/// The routing that `state` asks for. `before`: what was asked for last. A state that was made for another canary, or
/// another primary of the file, asks for nothing: the next tick brings it up to date. What was promoted last serves
/// wherever the file names it again, whatever ran in between; `failed`: what the last run rolled back.
pub(crate) fn routing(
    file: &model::Rollout,
    state: &State,
    failed: Option<&Revision>,
    before: Option<&Routing>,
) -> Routing {
    let origin = state.origin.as_ref().and_then(path_of).unwrap_or_else(|| file.primary.clone());
    let proven = state.proven().and_then(path_of).unwrap_or_else(|| origin.clone());
    let arms = arms(file, &origin, &proven, before);
    let holders = [&state.applied, &state.serving].into_iter().flatten();
    let holders = holders.filter(|revision| path_of(revision).as_ref() == Some(&file.canary));
    let current = state.applied.as_ref().and_then(path_of).as_ref() == Some(&file.canary);
    let (share, mirrored) = if origin != file.primary {
        (Ppm::ZERO, false)
    } else if serves_again(file, state, failed) {
        (Ppm::WHOLE, false)
    } else {
        let share = holders.map(|revision| state.share_of(revision)).max().unwrap_or(Ppm::ZERO);
        (share, current && state.mirrored && state.dry.is_none())
    };
    Routing { origin, proven, arms, share, mirrored }
}

/// Does the file name what was promoted last, and is it not just what runs, or what was rolled back, by a person's word?
fn serves_again(file: &model::Rollout, state: &State, failed: Option<&Revision>) -> bool {
    let is_applied = state.applied.as_ref() == Some(&file.revision);
    let is_tried_again = is_applied && (state.phase.is_active() || failed == Some(&file.revision));
    state.promoted.as_ref() == Some(&file.revision) && state.dry.is_none() && !is_tried_again
}

/// Between which names the share holds. A promotion changes no name, so that taking it back needs none either: the
/// canary stays where it is with all of the traffic, and the primary keeps its place beside it.
fn arms(file: &model::Rollout, origin: &Path, proven: &Path, before: Option<&Routing>) -> Arms {
    let canary = file.canary.clone();
    if *proven != canary {
        return Arms { primary: proven.clone(), canary };
    }
    let kept = before.map(|before| &before.arms).filter(|arms| arms.canary == canary && arms.primary != canary);
    let primary = kept.map_or_else(|| origin.clone(), |arms| arms.primary.clone());
    Arms { primary, canary }
}

/// Does `to` send the canary more than `from` does? Then it is durable before it is published.
pub(crate) fn is_raise(from: &Routing, to: &Routing) -> bool {
    let (share, mirrored) = if from.arms == to.arms { (from.share, from.mirrored) } else { (Ppm::ZERO, false) };
    to.share > share || (to.mirrored && !mirrored)
}

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
/// another primary of the file, asks for nothing: the next tick brings it up to date.
pub(crate) fn routing(file: &model::Rollout, state: &State, before: Option<&Routing>) -> Routing {
    let origin = state.origin.as_ref().and_then(path_of).unwrap_or_else(|| file.primary.clone());
    let proven = state.proven().and_then(path_of).unwrap_or_else(|| origin.clone());
    let arms = arms(file, &origin, &proven, before);
    let current = state.applied.as_ref().and_then(path_of).as_ref() == Some(&file.canary) && origin == file.primary;
    let (share, mirrored) = if current { (state.canary_share(), state.mirrored) } else { (Ppm::ZERO, false) };
    Routing { origin, proven, arms, share, mirrored }
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

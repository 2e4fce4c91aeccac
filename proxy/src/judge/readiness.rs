//! Has the name of an arm an address?

use std::sync::Arc;

use serin_config::dtab::{self, Bound, Layers, Limits, NameTree, Path};
use serin_rollout::Readiness;

use crate::endpoints::{Addresses, Cluster, EndpointTable, Place};
use crate::snapshot::Structure;

/// What is known of an arm's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Presence {
    /// None: no such name, or nobody home.
    None,
    /// At least one.
    Some,
    /// Nothing is known yet.
    #[default]
    Unknown,
}

/// Binds the name of an arm over the structure in force, and asks where it is served. What it bound is kept in `held`,
/// so that the resolver looks after it also while no request goes there.
pub(crate) fn presence(
    structure: &Structure,
    router: &str,
    arm: &Path,
    endpoints: &EndpointTable,
    held: &mut Vec<Arc<Cluster>>,
    now_ms: u64,
) -> Presence {
    let Some(router) = structure.routers.iter().find(|one| *one.label == *router) else { return Presence::None };
    let layers = Layers { base: &router.table, written: &[], sent: &[] };
    let tree = dtab::bind(&layers, &*structure.names, arm, &Limits::default());
    let mut found = Vec::new();
    let presence = in_tree(&tree, &mut |bound| match bound {
        Bound::Pending => Presence::Unknown,
        Bound::Error(_) => Presence::None,
        Bound::Name { id, written, .. } => match endpoints.get(id, !written, None, now_ms) {
            Ok(cluster) => {
                let known = of_addresses(&cluster.addresses().load().addresses);
                if found.len() < HELD_MAX {
                    found.push(cluster);
                }
                known
            }
            Err(_) => Presence::Unknown,
        },
    });
    *held = found;
    presence
}

/// Names of one arm that are kept awake.
const HELD_MAX: usize = 64;

/// Where a request could go: any alternative that is not nothing, any branch of a union that may be drawn.
fn in_tree(tree: &NameTree<Bound>, leaf: &mut impl FnMut(&Bound) -> Presence) -> Presence {
    match tree {
        NameTree::Leaf(bound) => leaf(bound),
        NameTree::Alt(list) => best(list.iter().map(|one| in_tree(one, leaf))),
        NameTree::Union(union) => {
            best(union.branches.iter().filter(|one| !one.weight.is_zero()).map(|one| in_tree(&one.tree, leaf)))
        }
        NameTree::Neg | NameTree::Fail | NameTree::Empty => Presence::None,
    }
}

/// One that is there is enough; none is only certain when all are known.
fn best(list: impl Iterator<Item = Presence>) -> Presence {
    list.fold(Presence::None, |best, one| match (best, one) {
        (Presence::Some, _) | (_, Presence::Some) => Presence::Some,
        (Presence::Unknown, _) | (_, Presence::Unknown) => Presence::Unknown,
        (Presence::None, Presence::None) => Presence::None,
    })
}

fn of_addresses(addresses: &Addresses) -> Presence {
    match addresses {
        Addresses::Bound(list) if list.iter().any(|address| is_usable(&address.socket)) => Presence::Some,
        Addresses::Absent(_) | Addresses::Bound(_) | Addresses::Failed(_) | Addresses::Neg => Presence::None,
        Addresses::Pending => Presence::Unknown,
    }
}

/// A port of 0 is nowhere.
fn is_usable(socket: &Place) -> bool {
    !matches!(socket, Place::Inet(socket) if socket.port() == 0)
}

/// Since when an arm has no endpoint.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    since_ms: Option<u64>,
}

impl Waiting {
    /// How ready an arm is that waits for an endpoint no longer than this.
    pub(crate) fn readiness(&mut self, presence: Presence, deadline_ms: u64, now_ms: u64) -> Readiness {
        if presence == Presence::Some {
            self.since_ms = None;
            return Readiness::Ready;
        }
        let since = *self.since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since) >= deadline_ms { Readiness::Deadline } else { Readiness::Retriable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_may_wait_until_its_deadline_and_each_return_begins_anew() {
        let mut waiting = Waiting::default();
        let mut check = |presence, now, expected| assert_eq!(waiting.readiness(presence, 100, now), expected, "{now}");
        check(Presence::Unknown, 0, Readiness::Retriable);
        check(Presence::None, 99, Readiness::Retriable);
        check(Presence::None, 100, Readiness::Deadline);
        check(Presence::Some, 101, Readiness::Ready);
        check(Presence::None, 150, Readiness::Retriable);
        check(Presence::None, 249, Readiness::Retriable);
        check(Presence::None, 250, Readiness::Deadline);
    }

    #[test]
    fn one_branch_that_is_there_is_enough_and_none_is_said_only_of_what_is_known() {
        use Presence::{None, Some, Unknown};
        for (list, expected) in [
            (vec![], None),
            (vec![None, None], None),
            (vec![None, Unknown], Unknown),
            (vec![Unknown, Some, None], Some),
        ] {
            assert_eq!(best(list.iter().copied()), expected, "{list:?}");
        }
    }
}

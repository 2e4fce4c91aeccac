//! Where the requests for a name end, and this one.

use std::collections::{BTreeMap, BTreeSet};

use serin_config::dtab::{self, Bound, LeafState, NameTree, Outcome, Rules, SplitId};
use serin_config::model::Router;

use super::{Ask, World};
use crate::pool;
use crate::resolve::Remote;
use crate::router::{self, PeerKey};
use crate::snapshot::SplitInfo;
use crate::sticky;

/// Where trees end, for one request.
pub(super) struct Ends<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) model: &'a Router,
    pub(super) ask: &'a Ask,
    /// Whose namerd binds, if one does.
    pub(super) remote: Option<&'a Remote>,
}

impl Ends<'_> {
    pub(super) fn traffic(&self, tree: &NameTree<Bound>) -> (BTreeMap<String, f64>, BTreeSet<String>) {
        let (mut traffic, mut notes) = (BTreeMap::new(), BTreeSet::new());
        let unhealthy = |split: Option<SplitId>| {
            split.and_then(|split| self.info(split)).map_or(self.model.on_unhealthy, |info| info.on_unhealthy)
        };
        let rules = Rules { failover: self.model.failover, on_unhealthy: &unhealthy };
        for bound in tree.leaves() {
            if let (LeafState::Absent, Bound::Name { id, .. }) = (self.state(bound), bound) {
                notes.insert(format!("{id} does not exist at this moment: its namer says so"));
            }
        }
        for (outcome, share) in dtab::shares(tree, self.world.weights, &|bound: &Bound| self.state(bound), &rules) {
            if let Outcome::Unusable(Bound::Name { id, .. }) = outcome {
                notes.insert(format!("{id} has no endpoint that can serve"));
            }
            if let Outcome::Error(Bound::Error(error)) = outcome {
                notes.insert(error.to_string());
            }
            *traffic.entry(end(&outcome)).or_insert(0.0) += share;
        }
        (traffic, notes)
    }

    /// Where the request goes if every draw on its way hashes a key it carries, or there is only one way.
    pub(super) fn certain(&self, tree: &NameTree<Bound>, traffic: &BTreeMap<String, f64>) -> Option<String> {
        let mut ends = traffic.iter().filter(|(_, share)| **share > 0.0);
        if let (Some((only, _)), None) = (ends.next(), ends.next()) {
            return Some(only.clone());
        }
        let peer = PeerKey::from(self.ask.source);
        let mut chance = false;
        let mut draw = |split: Option<SplitId>| {
            let info = split.and_then(|split| self.info(split));
            let keyed = info.and_then(|info| {
                let key = router::sticky_key(info.sticky.as_ref()?, &self.ask.headers, &peer)?;
                Some(sticky::draw(info.name.as_bytes(), key))
            });
            chance |= keyed.is_none();
            keyed.unwrap_or(0)
        };
        let unhealthy = |split: Option<SplitId>| {
            split.and_then(|split| self.info(split)).map_or(self.model.on_unhealthy, |info| info.on_unhealthy)
        };
        let rules = Rules { failover: self.model.failover, on_unhealthy: &unhealthy };
        let picked = dtab::pick(tree, &mut draw, self.world.weights, &|bound: &Bound| self.state(bound), &rules);
        let end = end(&picked.outcome);
        (!chance).then_some(end)
    }

    fn info(&self, split: SplitId) -> Option<&SplitInfo> {
        self.world.structure.splits.get(usize::try_from(split.0).ok()?)
    }

    fn state(&self, bound: &Bound) -> LeafState {
        match bound {
            Bound::Error(_) => LeafState::Error,
            Bound::Name { id, .. } if pool::fixed_answer(id).is_some() => LeafState::Usable,
            Bound::Name { id, written, .. } => match self.remote.map(|remote| remote.addr(id, !written)) {
                None => (self.world.state)(id),
                Some(at) => at.map_or(LeafState::Error, |at| (self.world.state)(&at)),
            },
            Bound::Pending => LeafState::Pending,
        }
    }
}

fn end(outcome: &Outcome<'_, Bound>) -> String {
    match outcome {
        Outcome::Empty => "$".to_owned(),
        Outcome::Fail => "!".to_owned(),
        Outcome::Neg => "~".to_owned(),
        Outcome::Leaf(bound) | Outcome::Unusable(bound) | Outcome::Error(bound) | Outcome::Pending(bound) => {
            match bound {
                Bound::Error(_) => "error".to_owned(),
                Bound::Name { id, .. } => id.to_string(),
                Bound::Pending => "pending".to_owned(),
            }
        }
    }
}

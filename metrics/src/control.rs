//! What the control thread reports: reloads, the published snapshot, the weights of splits, endpoints of bound names.
//! These change rarely, so prometheus-client's own types hold them where they fit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::table::{limited, lock};

/// How reading the configuration ended; the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is new, and it serves now.
    Applied,
    /// It has mistakes; what served before still serves.
    Rejected,
    /// It is what already serves.
    Unchanged,
}

impl Reload {
    /// Every outcome, in declaration order.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Rejected, Self::Unchanged];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Unchanged => "unchanged",
        }
    }
}

/// How a write to a stored dtab ended; the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtabWrite {
    /// A namespace is new.
    Created,
    /// A namespace is gone.
    Deleted,
    /// The storage could not be written; nothing changed.
    Failed,
    /// It is there already, not there, of another version, or over a limit.
    Refused,
    /// A namespace has another dtab.
    Updated,
}

impl DtabWrite {
    /// Every outcome, in declaration order.
    pub const ALL: [Self; 5] = [Self::Created, Self::Deleted, Self::Failed, Self::Refused, Self::Updated];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Updated => "updated",
        }
    }
}

/// The weights of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitWeights {
    /// Label of the router.
    pub router: Arc<str>,
    /// Name of the split.
    pub split: Arc<str>,
    /// Branch and its share from 0 to 1; shares of branches with the same name add up.
    pub shares: Vec<(Arc<str>, f64)>,
}

/// States of a team file.
pub const TEAM_STATES: usize = 3;

/// How it goes for one team file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TeamGauge<'a> {
    /// Its name.
    pub team: &'a str,
    /// Each state, and whether it is in it.
    pub states: [(&'static str, bool); TEAM_STATES],
    /// Unix time in seconds at which the version that serves came into force.
    pub since: Option<f64>,
}

/// What is kept of one team file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TeamCells {
    pub(crate) states: [(&'static str, bool); TEAM_STATES],
    pub(crate) since: Option<f64>,
}

/// How it goes for one namer that is asked for each name.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NamerGauge {
    /// Since the answer that is the oldest among those of the names in use, s. `None`: there was none yet.
    pub age_s: Option<f64>,
    /// Names in use whose last question failed.
    pub failing: u64,
}

/// Gauges and counters that the control thread writes. Methods take `&self` and lock for moments; none is for the
/// request path.
#[derive(Debug)]
pub struct Control {
    pub(crate) reload_successful: Gauge,
    pub(crate) reload_timestamp: Gauge<f64, AtomicU64>,
    /// In the order of [`Reload::ALL`].
    pub(crate) reloads: [Counter; Reload::ALL.len()],
    pub(crate) snapshot_version: Gauge<u64, AtomicU64>,
    pub(crate) dtab_namespaces: Gauge<u64, AtomicU64>,
    /// In the order of [`DtabWrite::ALL`].
    pub(crate) dtab_writes: [Counter; DtabWrite::ALL.len()],
    // Shared pointers, so that a scrape copies a pointer under the lock and prints outside it.
    splits: Mutex<Arc<SplitShares>>,
    endpoints: Mutex<Arc<BTreeMap<String, u64>>>,
    namers: Mutex<Arc<BTreeMap<String, NamerGauge>>>,
    teams: Mutex<Arc<BTreeMap<String, TeamCells>>>,
    series_max: usize,
    dropped: Arc<AtomicU64>,
}

/// Router and split to branch to share.
pub(crate) type SplitShares = BTreeMap<(String, String), BTreeMap<String, f64>>;

impl Control {
    /// Nothing reported yet. At most `series_max` branches and as many bound names are kept; `dropped` counts the rest.
    pub(crate) fn new(series_max: usize, dropped: Arc<AtomicU64>) -> Self {
        Self {
            reload_successful: Gauge::default(),
            reload_timestamp: Gauge::default(),
            reloads: Default::default(),
            snapshot_version: Gauge::default(),
            dtab_namespaces: Gauge::default(),
            dtab_writes: Default::default(),
            splits: Mutex::default(),
            endpoints: Mutex::default(),
            namers: Mutex::default(),
            teams: Mutex::default(),
            series_max,
            dropped,
        }
    }

    /// Reports that the configuration was read. `unix_seconds` is now; it is kept when the configuration was applied.
    ///
    /// `Unchanged` means equal to what serves: it ends an alarm that a rejected version began.
    pub fn reload(&self, outcome: Reload, unix_seconds: f64) {
        self.reloads[outcome as usize].inc();
        self.reload_successful.set(i64::from(outcome != Reload::Rejected));
        if outcome == Reload::Applied {
            self.reload_timestamp.set(unix_seconds);
        }
    }

    /// Reports the version of the snapshot that was published last.
    pub fn set_snapshot_version(&self, version: u64) {
        self.snapshot_version.set(version);
    }

    /// Reports how many stored dtab namespaces there are.
    pub fn set_dtab_namespaces(&self, count: usize) {
        self.dtab_namespaces.set(count as u64);
    }

    /// Reports a write to a stored dtab.
    pub fn dtab_write(&self, outcome: DtabWrite) {
        self.dtab_writes[outcome as usize].inc();
    }

    /// Reports the weights of one split, in place of those it had; no shares remove the split.
    pub fn set_split_weights(&self, router: &str, split: &str, shares: &[(&str, f64)]) {
        let mut splits = lock(&self.splits);
        let splits = Arc::make_mut(&mut splits);
        let key = (limited(router), limited(split));
        splits.remove(&key);
        let held = splits.values().map(BTreeMap::len).sum();
        self.insert_shares(splits, held, key, shares.iter().copied());
    }

    /// Reports the weights of all splits, in place of all that were there: for a new structure.
    pub fn replace_split_weights(&self, all: &[SplitWeights]) {
        let mut splits = SplitShares::new();
        let mut held = 0;
        for one in all {
            let key = (limited(&one.router), limited(&one.split));
            let shares = one.shares.iter().map(|(branch, share)| (&**branch, *share));
            held += self.insert_shares(&mut splits, held, key, shares);
        }
        *lock(&self.splits) = Arc::new(splits);
    }

    /// Reports how many endpoints each bound name has, in place of all that were there; counts of equal names add up.
    pub fn replace_endpoints<'a>(&self, counts: impl IntoIterator<Item = (&'a str, u64)>) {
        let mut endpoints = BTreeMap::new();
        for (client, count) in counts {
            let client = limited(client);
            if endpoints.len() < self.series_max || endpoints.contains_key(&client) {
                let sum: &mut u64 = endpoints.entry(client).or_default();
                *sum = sum.saturating_add(count);
            } else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        *lock(&self.endpoints) = Arc::new(endpoints);
    }

    /// Reports how it goes for namers that are asked for each name, in place of all that were there.
    pub fn replace_namers<'a>(&self, all: impl IntoIterator<Item = (&'a str, NamerGauge)>) {
        let mut namers = BTreeMap::new();
        for (namer, gauge) in all {
            if namers.len() < self.series_max {
                namers.insert(limited(namer), gauge);
            } else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        *lock(&self.namers) = Arc::new(namers);
    }

    /// Reports how it goes for team files, in place of all that were there.
    pub fn replace_teams<'a>(&self, all: impl IntoIterator<Item = TeamGauge<'a>>) {
        let mut teams = BTreeMap::new();
        for TeamGauge { team, states, since } in all {
            let team = limited(team);
            if teams.len() < self.series_max || teams.contains_key(&team) {
                teams.insert(team, TeamCells { states, since });
            } else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        *lock(&self.teams) = Arc::new(teams);
    }

    /// The teams as last reported.
    pub(crate) fn teams(&self) -> Arc<BTreeMap<String, TeamCells>> {
        Arc::clone(&lock(&self.teams))
    }

    /// The splits as last reported.
    pub(crate) fn split_shares(&self) -> Arc<SplitShares> {
        Arc::clone(&lock(&self.splits))
    }

    /// The namers as last reported.
    pub(crate) fn namers(&self) -> Arc<BTreeMap<String, NamerGauge>> {
        Arc::clone(&lock(&self.namers))
    }

    /// The endpoints as last reported.
    pub(crate) fn endpoint_counts(&self) -> Arc<BTreeMap<String, u64>> {
        Arc::clone(&lock(&self.endpoints))
    }

    /// Adds the shares of one split while there is room besides the `held` ones; returns how many became series.
    fn insert_shares<'a>(
        &self,
        splits: &mut SplitShares,
        held: usize,
        key: (String, String),
        shares: impl Iterator<Item = (&'a str, f64)>,
    ) -> usize {
        let mut added = 0;
        for (branch, share) in shares {
            let branch = limited(branch);
            let known = splits.get(&key).is_some_and(|branches| branches.contains_key(&branch));
            if !known && held + added >= self.series_max {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            added += usize::from(!known);
            let sum = splits.entry(key.clone()).or_default().entry(branch).or_default();
            *sum = in_unit_range(*sum + in_unit_range(share));
        }
        added
    }
}

/// A share is from 0 to 1; what is no number is none.
fn in_unit_range(share: f64) -> f64 {
    if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(series_max: usize) -> Control {
        Control::new(series_max, Arc::default())
    }

    #[track_caller]
    fn check_shares(control: &Control, expected: &[(&str, &str, &str, f64)]) {
        let splits = control.split_shares();
        let found: Vec<_> = splits
            .iter()
            .flat_map(|((router, split), branches)| {
                branches.iter().map(move |(branch, share)| (router.as_str(), split.as_str(), branch.as_str(), *share))
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn check_reload(control: &Control, outcome: Reload, now: f64, successful: i64, timestamp: f64) {
        control.reload(outcome, now);
        assert_eq!((control.reload_successful.get(), control.reload_timestamp.get()), (successful, timestamp));
    }

    #[test]
    fn a_rejected_file_is_an_alarm_until_a_good_one_is_read() {
        let control = control(10);
        check_reload(&control, Reload::Applied, 100.0, 1, 100.0);
        check_reload(&control, Reload::Rejected, 200.0, 0, 100.0);
        check_reload(&control, Reload::Unchanged, 300.0, 1, 100.0);
        check_reload(&control, Reload::Applied, 400.0, 1, 400.0);
        assert_eq!(control.reloads[0].get(), 2);
    }

    #[test]
    fn new_weights_replace_those_of_their_split_only() {
        let control = control(10);
        control.set_split_weights("out", "a", &[("v1", 0.9), ("v2", 0.1)]);
        control.set_split_weights("out", "b", &[("v1", 1.0)]);
        control.set_split_weights("out", "a", &[("v2", 0.5), ("v3", 0.5)]);
        check_shares(&control, &[("out", "a", "v2", 0.5), ("out", "a", "v3", 0.5), ("out", "b", "v1", 1.0)]);
        control.set_split_weights("out", "a", &[]);
        check_shares(&control, &[("out", "b", "v1", 1.0)]);
    }

    #[test]
    fn a_new_structure_replaces_all_weights() {
        let control = control(10);
        control.set_split_weights("out", "a", &[("v1", 1.0)]);
        let shares = vec![("v2".into(), 0.25), ("v2".into(), 0.5), ("v3".into(), 0.25)];
        control.replace_split_weights(&[SplitWeights { router: "out".into(), split: "b".into(), shares }]);
        check_shares(&control, &[("out", "b", "v2", 0.75), ("out", "b", "v3", 0.25)]);
    }

    #[test]
    fn shares_stay_between_none_and_all() {
        let control = control(10);
        let odd = [("a", f64::NAN), ("b", -1.0), ("c", f64::INFINITY), ("d", f64::NEG_INFINITY)];
        control.set_split_weights("out", "odd", &odd);
        let expected = [("a", 0.0), ("b", 0.0), ("c", 1.0), ("d", 0.0)];
        check_shares(&control, &expected.map(|(branch, share)| ("out", "odd", branch, share)));
    }

    #[test]
    fn branches_fill_the_cap_and_one_more_is_dropped() {
        let control = control(3);
        control.set_split_weights("out", "a", &[("v1", 0.5), ("v2", 0.5)]);
        control.set_split_weights("out", "b", &[("v1", 0.5)]);
        assert_eq!(control.dropped.load(Ordering::Relaxed), 0);
        control.set_split_weights("out", "b", &[("v1", 0.5), ("v2", 0.5)]);
        assert_eq!(control.dropped.load(Ordering::Relaxed), 1);
        check_shares(&control, &[("out", "a", "v1", 0.5), ("out", "a", "v2", 0.5), ("out", "b", "v1", 0.5)]);
    }

    #[test]
    fn teams_fill_the_cap_and_one_more_is_dropped() {
        let control = control(2);
        let team = |team| TeamGauge { team, states: [("a", true), ("b", false), ("c", false)], since: None };
        control.replace_teams(["x", "y", "x"].map(team));
        assert_eq!((control.dropped.load(Ordering::Relaxed), control.teams().len()), (0, 2));
        control.replace_teams(["x", "y", "z"].map(team));
        assert_eq!((control.dropped.load(Ordering::Relaxed), control.teams().len()), (1, 2));
    }

    #[test]
    fn endpoints_fill_the_cap_and_one_more_is_dropped() {
        let control = control(2);
        control.replace_endpoints([("a", 1), ("b", 2), ("a", 3)]);
        assert_eq!(control.dropped.load(Ordering::Relaxed), 0);
        control.replace_endpoints([("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(control.dropped.load(Ordering::Relaxed), 1);
        assert_eq!(control.endpoint_counts().values().sum::<u64>(), 3);
    }
}

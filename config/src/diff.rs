//! What changed from one configuration to the next, for the log of a reload.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::dtab::Dtab;
use crate::model::{Alert, Cluster, Config, MetricSource, Rollout, Router};

/// Changes listed of one reload; further ones are only counted.
pub const CHANGES_MAX: usize = 50;

/// What happened to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// It is another.
    Changed,
    /// It is gone.
    Removed,
}

/// One change. Prints as `changed clusters.world-v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// To what: its place in the file, such as `routers.outgoing.servers 127.0.0.1:4140`.
    pub what: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.kind {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Removed => "removed",
        };
        write!(f, "{verb} {}", self.what)
    }
}

/// The differences, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// At most [`CHANGES_MAX`].
    pub list: Vec<Change>,
    /// How many more there are.
    pub omitted: usize,
}

impl Changes {
    /// Nothing changed: the same meaning, perhaps with other comments.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn push(&mut self, kind: Kind, what: impl FnOnce() -> String) {
        if self.list.len() < CHANGES_MAX {
            self.list.push(Change { kind, what: what() });
        } else {
            self.omitted += 1;
        }
    }

    fn value<T: PartialEq>(&mut self, what: &str, old: &T, new: &T) {
        if old != new {
            self.push(Kind::Changed, || what.to_owned());
        }
    }

    /// Compares two lists whose items have a name of their own.
    fn named<T: PartialEq>(&mut self, what: &str, old: &[T], new: &[T], name: impl Fn(&T) -> String) {
        let before: HashMap<String, &T> = old.iter().map(|item| (name(item), item)).collect();
        let after: HashSet<String> = new.iter().map(&name).collect();
        for item in new {
            let name = name(item);
            match before.get(&name) {
                None => self.push(Kind::Added, || format!("{what} {name}")),
                Some(old) if *old != item => self.push(Kind::Changed, || format!("{what} {name}")),
                Some(_) => {}
            }
        }
        for name in old.iter().map(&name).filter(|name| !after.contains(name)) {
            self.push(Kind::Removed, || format!("{what} {name}"));
        }
    }
}

/// What a reload from `old` to `new` changes.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    changes.value("admin", &old.admin, &new.admin);
    changes.value("workers", &old.workers, &new.workers);
    changes.named("clusters", &old.clusters, &new.clusters, |cluster: &Cluster| cluster.name.clone());
    changes.value("namers", &old.namers, &new.namers);
    let before: HashMap<&str, &Router> = old.routers.iter().map(|router| (router.label.as_str(), router)).collect();
    let after: HashSet<&str> = new.routers.iter().map(|router| router.label.as_str()).collect();
    for router in &new.routers {
        match before.get(router.label.as_str()) {
            None => changes.push(Kind::Added, || format!("routers.{}", router.label)),
            Some(old) => diff_router(&mut changes, old, router),
        }
    }
    for router in old.routers.iter().filter(|router| !after.contains(router.label.as_str())) {
        changes.push(Kind::Removed, || format!("routers.{}", router.label));
    }
    changes.value("egress", &old.egress, &new.egress);
    changes.value("drain", &old.drain, &new.drain);
    changes.named("metricTemplates", &old.metric_templates, &new.metric_templates, |template| template.name.clone());
    changes.named("alertProviders", &old.alert_providers, &new.alert_providers, |provider| provider.name.clone());
    diff_rollouts(&mut changes, old, new);
    changes.value("storage", &old.storage, &new.storage);
    changes.value("interfaces", &old.interfaces, &new.interfaces);
    changes
}

fn diff_rollouts(changes: &mut Changes, old: &Config, new: &Config) {
    let before: HashMap<&str, &Rollout> = old.rollouts.iter().map(|rollout| (rollout.name.as_str(), rollout)).collect();
    let after: HashSet<&str> = new.rollouts.iter().map(|rollout| rollout.name.as_str()).collect();
    for rollout in &new.rollouts {
        let Some(old_one) = before.get(rollout.name.as_str()) else {
            changes.push(Kind::Added, || format!("rollouts.{}", rollout.name));
            continue;
        };
        // Templates and providers are indices, which move with the lists: what they stand for is compared.
        let (was, is) = (resolved(old, old_one), resolved(new, rollout));
        diff_rollout(changes, &was, &is);
    }
    for rollout in old.rollouts.iter().filter(|rollout| !after.contains(rollout.name.as_str())) {
        changes.push(Kind::Removed, || format!("rollouts.{}", rollout.name));
    }
}

/// A rollout with the names of what it refers to.
struct Resolved<'a> {
    rollout: &'a Rollout,
    metrics: Vec<(MetricSource, Option<&'a str>)>,
    alerts: Vec<(Alert, Option<&'a str>)>,
}

fn resolved<'a>(config: &'a Config, rollout: &'a Rollout) -> Resolved<'a> {
    let metric = |source: &MetricSource| match source {
        MetricSource::Template { template, window, variables } => {
            let name = config.metric_templates.get(*template).map(|template| template.name.as_str());
            (MetricSource::Template { template: 0, window: *window, variables: variables.clone() }, name)
        }
        other => (other.clone(), None),
    };
    let alert = |alert: &Alert| {
        let name = config.alert_providers.get(alert.provider).map(|provider| provider.name.as_str());
        (Alert { provider: 0, ..alert.clone() }, name)
    };
    let metrics = rollout.metrics.iter().map(metric).collect();
    Resolved { rollout, metrics, alerts: rollout.alerts.iter().map(alert).collect() }
}

fn diff_rollout(changes: &mut Changes, was: &Resolved<'_>, is: &Resolved<'_>) {
    let (old, new) = (was.rollout, is.rollout);
    let at = |key: &str| format!("rollouts.{}.{key}", new.name);
    changes.value(&at("router"), &old.router, &new.router);
    changes.value(&at("path"), &old.path, &new.path);
    changes.value(&at("primary"), &old.primary, &new.primary);
    changes.value(&at("canary"), &old.canary, &new.canary);
    if old.canary == new.canary {
        changes.value(&at("revision"), &old.revision, &new.revision);
    }
    changes.value(&at("fallback"), &old.fallback, &new.fallback);
    changes.value(&at("stickiness"), &old.stickiness, &new.stickiness);
    changes.value(&at("onUnhealthy"), &old.on_unhealthy, &new.on_unhealthy);
    changes.value(&at("judge"), &old.judge, &new.judge);
    changes.value(&at("suspend"), &old.suspend, &new.suspend);
    changes.value(&at("skipAnalysis"), &old.skip_analysis, &new.skip_analysis);
    changes.value(&at("progressDeadlineSeconds"), &old.progress_deadline, &new.progress_deadline);
    // One block of the file.
    let before = (&old.pace, &old.strategy, &old.affinity, &old.hooks, &was.metrics, &was.alerts);
    let after = (&new.pace, &new.strategy, &new.affinity, &new.hooks, &is.metrics, &is.alerts);
    changes.value(&at("analysis"), &before, &after);
}

fn diff_router(changes: &mut Changes, old: &Router, new: &Router) {
    let at = |key: &str| format!("routers.{}.{key}", new.label);
    changes.value(&at("dstPrefix"), &old.dst_prefix, &new.dst_prefix);
    changes.value(&at("rules"), &old.rules, &new.rules);
    changes.value(&at("identifier"), &old.identifiers, &new.identifiers);
    diff_dtab(changes, &at("dtab"), &old.dtab, &new.dtab);
    changes.value(&at("overrides"), &old.overrides, &new.overrides);
    changes.value(&at("splits"), &old.splits, &new.splits);
    changes.value(&at("failover"), &old.failover, &new.failover);
    changes.value(&at("onUnhealthy"), &old.on_unhealthy, &new.on_unhealthy);
    changes.named(&at("servers"), &old.servers, &new.servers, |server| match &server.unix {
        Some(unix) => unix.path.display().to_string(),
        None => server.address.to_string(),
    });
    changes.value(&at("client"), &(&old.client, &old.client_parts), &(&new.client, &new.client_parts));
    changes.value(&at("service"), &(&old.service, &old.service_parts), &(&new.service, &new.service_parts));
    changes.value(&at("binding"), &old.binding, &new.binding);
    changes.value(&at("interpreter"), &old.interpreter, &new.interpreter);
}

/// Dentries by their text, as often as they stand there; a mere change of order is one change.
fn diff_dtab(changes: &mut Changes, what: &str, old: &Dtab, new: &Dtab) {
    if old == new {
        return;
    }
    let mut balance: HashMap<String, i64> = HashMap::new();
    for dentry in &old.0 {
        *balance.entry(dentry.to_string()).or_default() -= 1;
    }
    for dentry in &new.0 {
        *balance.entry(dentry.to_string()).or_default() += 1;
    }
    let mut moved = true;
    for (dentries, kind, sign) in [(&new.0, Kind::Added, 1), (&old.0, Kind::Removed, -1)] {
        for dentry in dentries {
            let text = dentry.to_string();
            if let Some(count) = balance.get_mut(&text)
                && *count * sign > 0
            {
                *count -= sign;
                moved = false;
                changes.push(kind, || format!("{what} {text}"));
            }
        }
    }
    if moved {
        changes.push(Kind::Changed, || format!("{what} (order of dentries)"));
    }
}

#[cfg(test)]
mod tests;

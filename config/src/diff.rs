//! What changed from one configuration to the next, for the log of a reload.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::dtab::Dtab;
use crate::model::{Cluster, Config, Router};

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
    changes
}

fn diff_router(changes: &mut Changes, old: &Router, new: &Router) {
    let at = |key: &str| format!("routers.{}.{key}", new.label);
    changes.value(&at("dstPrefix"), &old.dst_prefix, &new.dst_prefix);
    changes.value(&at("identifier"), &old.identifier, &new.identifier);
    diff_dtab(changes, &at("dtab"), &old.dtab, &new.dtab);
    changes.value(&at("overrides"), &old.overrides, &new.overrides);
    changes.value(&at("splits"), &old.splits, &new.splits);
    changes.value(&at("failover"), &old.failover, &new.failover);
    changes.value(&at("onUnhealthy"), &old.on_unhealthy, &new.on_unhealthy);
    changes.named(&at("servers"), &old.servers, &new.servers, |server| server.address.to_string());
    changes.value(&at("client"), &old.client, &new.client);
    changes.value(&at("service"), &old.service, &new.service);
    changes.value(&at("binding"), &old.binding, &new.binding);
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

//! Which DNS names are asked when, and what is known of them. Pure: time is an argument.
//!
//! ```text
//!            add, wake                  take_due               answered
//!  (unknown) ─────────▶ due at a moment ────────▶ being asked ──────────▶ due when the answer ends
//!                            ▲                        │ nobody uses it
//!                            └──────── wake ──────── dormant
//! ```
//!
//! A name keeps its last good addresses through failures, also while it is dormant, until no cluster names it any more.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use serin_config::dtab::Path;

use super::targets::Known;

/// A cluster: its id, and whether it was made by a request.
pub(super) type User = (Path, bool);

/// What one question to DNS brought.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// A records.
    pub(super) v4: Family,
    /// AAAA records.
    pub(super) v6: Family,
    /// How long the answer may be kept, as DNS said.
    pub(super) ttl_s: u32,
}

/// One family of addresses in an [`Answer`].
#[derive(Clone, Debug)]
pub(super) enum Family {
    /// No answer, or no use: nothing was learned.
    Failed(Arc<str>),
    /// At least one address.
    Found(Vec<IpAddr>),
    /// DNS says that there is none.
    Nothing(Arc<str>),
}

/// All DNS names that some cluster names.
pub(super) struct Hosts {
    hosts: HashMap<Arc<str>, Host>,
    due: BTreeSet<(u64, Arc<str>)>,
    hosts_max: usize,
    /// Why a name beyond `hosts_max` has no addresses.
    too_many: Arc<str>,
}

/// What is known of one DNS name.
#[derive(Default)]
pub(super) struct Host {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// Both, IPv4 first, each in order.
    ips: Vec<IpAddr>,
    /// The newest failure while there are no addresses.
    bad: Option<Arc<str>>,
    failures_in_a_row: u32,
    users: HashSet<User>,
    phase: Phase,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    Asked,
    #[default]
    Dormant,
    Due {
        at_ms: u64,
    },
}

impl Hosts {
    pub(super) fn new(hosts_max: usize) -> Self {
        let too_many = format!("more than {hosts_max} DNS names").into();
        Self { hosts: HashMap::new(), due: BTreeSet::new(), hosts_max, too_many }
    }

    /// `user` needs this name from now on. A new or dormant name is due at once.
    pub(super) fn add(&mut self, name: &str, user: &User, now_ms: u64) {
        if !self.hosts.contains_key(name) {
            if self.hosts.len() >= self.hosts_max {
                return; // `known` says so
            }
            self.hosts.insert(name.into(), Host::default());
        }
        if let Some(host) = self.hosts.get_mut(name) {
            host.users.insert(user.clone());
            if host.phase == Phase::Dormant {
                self.schedule(name, Phase::Due { at_ms: now_ms });
            }
        }
    }

    /// `user` needs this name no more; a name without users is forgotten.
    pub(super) fn remove(&mut self, name: &str, user: &User) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.users.remove(user);
        if host.users.is_empty() {
            self.schedule(name, Phase::Dormant);
            self.hosts.remove(name);
        }
    }

    /// The next name whose time has come; it counts as being asked.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<Arc<str>> {
        let name = self.due.first().filter(|(at_ms, _)| *at_ms <= now_ms).map(|(_, name)| Arc::clone(name))?;
        self.schedule(&name, Phase::Asked);
        Some(name)
    }

    /// Nobody uses it: no more questions until it is added again.
    pub(super) fn rest(&mut self, name: &str) {
        self.schedule(name, Phase::Dormant);
    }

    /// Takes an answer in. `true`: the known addresses, or the reason for none, changed.
    pub(super) fn answered(&mut self, name: &str, answer: Answer, now_ms: u64) -> bool {
        let Some(host) = self.hosts.get_mut(name) else { return false };
        let before = (host.ips.clone(), host.bad.clone());
        let wait_ms = host.learn(answer);
        let changed = before != (host.ips.clone(), host.bad.clone());
        self.schedule(name, Phase::Due { at_ms: now_ms.saturating_add(wait_ms) });
        changed
    }

    /// When the next name is due.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }

    /// The clusters that name it.
    pub(super) fn users(&self, name: &str) -> impl Iterator<Item = &User> {
        self.hosts.get(name).into_iter().flat_map(|host| &host.users)
    }

    pub(super) fn known(&self, name: &str) -> Known<'_> {
        match self.hosts.get(name) {
            None => Known::Bad(&self.too_many),
            Some(host) => host.known(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The only place that changes a phase: queue and names agree behind it.
    fn schedule(&mut self, name: &str, phase: Phase) {
        let Some((key, _)) = self.hosts.get_key_value(name) else { return };
        let key = Arc::clone(key);
        let Some(host) = self.hosts.get_mut(name) else { return };
        if let Phase::Due { at_ms } = host.phase {
            self.due.remove(&(at_ms, Arc::clone(&key)));
        }
        host.phase = phase;
        if let Phase::Due { at_ms } = phase {
            self.due.insert((at_ms, key));
        }
        debug_assert!(self.due.len() <= self.hosts.len(), "a name waits twice");
    }
}

impl Host {
    /// Its addresses, or why there are none.
    pub(super) fn known(&self) -> Known<'_> {
        match &self.bad {
            _ if !self.ips.is_empty() => Known::Good(&self.ips),
            Some(why) => Known::Bad(why),
            None => Known::Unknown,
        }
    }

    /// Returns how long to wait before the next question, ms.
    pub(super) fn learn(&mut self, Answer { v4, v6, ttl_s }: Answer) -> u64 {
        let found = matches!(v4, Family::Found(_)) || matches!(v6, Family::Found(_));
        let failed = matches!(v4, Family::Failed(_)) || matches!(v6, Family::Failed(_));
        let why = [&v4, &v6].into_iter().find_map(|family| match family {
            Family::Failed(why) | Family::Nothing(why) => Some(Arc::clone(why)),
            Family::Found(_) => None,
        });
        if found {
            self.v4.learn(v4);
            self.v6.learn(v6);
            self.ips = self.v4.iter().chain(&self.v6).copied().collect();
        }
        self.bad = why.filter(|_| self.ips.is_empty());
        let ttl_ms = u64::from(ttl_s.clamp(TTL_S_MIN, TTL_S_MAX)) * 1_000;
        if found && !failed {
            self.failures_in_a_row = 0;
            return ttl_ms;
        }
        let backoff_ms = BACKOFF_MS_MIN << self.failures_in_a_row.min(BACKOFF_DOUBLINGS_MAX);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if found { backoff_ms.min(ttl_ms) } else { backoff_ms.min(BACKOFF_MS_MAX) }
    }
}

trait Learn {
    /// Found addresses replace, none at all clears, a failure keeps the last good ones.
    fn learn(&mut self, news: Family);
}

impl Learn for Vec<IpAddr> {
    fn learn(&mut self, news: Family) {
        match news {
            Family::Failed(_) => {}
            Family::Found(mut ips) => {
                // In order, so that servers that rotate their answers change nothing.
                ips.sort_unstable();
                ips.dedup();
                ips.truncate(RECORDS_MAX);
                *self = ips;
            }
            Family::Nothing(_) => self.clear(),
        }
    }
}

/// An answer is kept at least this long, whatever it says.
pub const TTL_S_MIN: u32 = 1;
/// An answer is kept at most this long, whatever it says.
pub const TTL_S_MAX: u32 = 300;
/// Wait after the first failed or negative answer; it doubles with each further one.
const BACKOFF_MS_MIN: u64 = 1_000;
/// The longest such wait.
const BACKOFF_MS_MAX: u64 = 30_000;
const BACKOFF_DOUBLINGS_MAX: u32 = 5;
const _: () = assert!(BACKOFF_MS_MIN << BACKOFF_DOUBLINGS_MAX >= BACKOFF_MS_MAX);
/// Addresses of one family that one name may have; further ones are left out.
pub const RECORDS_MAX: usize = 256;
/// DNS names known at once.
pub const HOSTS_MAX: usize = 100_000;

#[cfg(test)]
mod tests;

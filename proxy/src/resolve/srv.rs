//! `io.l5d.dnssrv`: SRV records (RFC 2782), asked again while the name is used.
//!
//! Unlike Linkerd 1, weights count, and of several priorities the smallest that has an address serves. The targets'
//! addresses come from DNS as those of every other name do; a namer with name servers of its own has them from those
//! (`addresses.rs`). No records are no name; an outage of DNS keeps what is known.

mod addresses;

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ResolveHosts, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData};
use hickory_resolver::{TokioResolver, system_conf};
use serin_config::dtab::Path;
use serin_config::model::{DnsSrv, Host};
use tokio::time::{sleep, timeout};

use super::dns::{DnsConfig, LOOKUP_MS_MAX, asking, tuned};
use super::inet::parse_host;
use super::names::Content;
use super::peer::backoff;
use super::targets::Target;
use super::watches::{News, Source, Teller, Watching};
use addresses::{Beside, Known, Own};

/// One configured namer.
pub(super) struct SrvSource {
    settings: DnsSrv,
    dns: DnsConfig,
    /// Asks the namer's own servers for addresses.
    own: Own,
}

/// What DNS said of a name.
#[derive(Default)]
struct Said {
    targets: Vec<Target>,
    /// How long it may be kept.
    ttl: Option<Duration>,
    /// Addresses of targets that came with the records.
    beside: Beside,
}

impl SrvSource {
    pub(super) fn new(settings: DnsSrv, dns: DnsConfig) -> Self {
        Self { settings, dns, own: Own::default() }
    }

    async fn run(self: Arc<Self>, name: Path, mut teller: Teller) {
        let label = name.label(0).and_then(|label| std::str::from_utf8(label).ok());
        let Some(name) = label.and_then(|label| Name::from_ascii(label).ok()) else {
            teller.tell(News::absent("it is no name of DNS".into()), 0).await;
            return std::future::pending().await;
        };
        let (mut client, mut failures, mut known) = (None, 0, Known::default());
        loop {
            let wait = match self.ask(&mut client, &name).await {
                Ok(said) => {
                    failures = 0;
                    let ttl = said.ttl.unwrap_or(self.settings.refresh);
                    let (content, ttl) = match said.targets.is_empty() {
                        true => (Content::Absent(format!("{name} has no SRV records").into()), ttl),
                        false if self.settings.servers.is_empty() => (Content::Targets(said.targets.into()), ttl),
                        false => {
                            let (content, kept) = self.own.addresses(&self.settings.servers, said, &mut known).await;
                            (content, ttl.min(kept))
                        }
                    };
                    teller.tell(News { content, authority: None, tree: None }, 0).await;
                    self.settings.refresh.min(ttl).max(REFRESH_MIN)
                }
                Err(why) => {
                    teller.fail(format!("{name}: {why}").into()).await;
                    failures += 1;
                    backoff(failures, BACKOFF, fastrand::u64(..))
                }
            };
            sleep(wait).await;
        }
    }

    /// Of a name that does not exist nothing.
    async fn ask(&self, client: &mut Option<TokioResolver>, name: &Name) -> Result<Said, String> {
        let resolver = match client {
            Some(resolver) => resolver,
            None => client.insert(self.client().map_err(|error| error.to_string())?),
        };
        let limit = Duration::from_millis(LOOKUP_MS_MAX);
        match timeout(limit, resolver.srv_lookup(name.clone())).await {
            Err(_) => Err("DNS did not answer in time".to_owned()),
            Ok(Ok(lookup)) => {
                let records = lookup.answers().iter().filter_map(|record| match &record.data {
                    RData::SRV(srv) => Some((srv, record.ttl)),
                    _ => None,
                });
                let ttl = records.clone().map(|(_, ttl)| ttl).min().map(|ttl| Duration::from_secs(ttl.into()));
                let beside = addresses::beside(lookup.additionals());
                Ok(Said { targets: targets(records.map(|(srv, _)| srv)), ttl, beside })
            }
            Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => Ok(Said::default()),
            Ok(Err(error)) => Err(error.to_string()),
        }
    }

    fn client(&self) -> Result<TokioResolver, NetError> {
        let servers =
            if self.settings.servers.is_empty() { self.dns.server.as_slice() } else { &self.settings.servers };
        let (config, options) = match servers {
            [] => system_conf::read_system_conf()?,
            servers => (asking(servers), ResolverOpts::default()),
        };
        let strategy = options.ip_strategy;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = tuned(options, strategy, ResolveHosts::Always);
        builder.build()
    }
}

impl Source for SrvSource {
    fn watch(self: Arc<Self>, name: Path, teller: Teller) -> Watching {
        Box::pin(self.run(name, teller))
    }
}

/// What the records say, in an order of their own. A target of `.` says that there is nobody (RFC 2782).
///
/// A weight of 0 beside others that are not means a small chance: a hundredth of the smallest.
fn targets<'a>(records: impl Iterator<Item = &'a SRV>) -> Vec<Target> {
    let mut records: Vec<&SRV> = records.filter(|srv| srv.port != 0 && !srv.target.is_root()).collect();
    records.sort_by_key(|srv| (srv.priority, srv.target.clone(), srv.port, srv.weight));
    records.truncate(RECORDS_MAX);
    let weight = |srv: &SRV| {
        let positive = records.iter().filter(|other| other.priority == srv.priority && other.weight > 0);
        match (srv.weight, positive.map(|other| other.weight).min()) {
            (0, None) => 1.0,
            (0, Some(least)) => f64::from(least) / 100.0,
            (weight, _) => f64::from(weight),
        }
    };
    let target =
        |srv: &SRV| Some(Target { host: host(&srv.target)?, port: srv.port, weight: weight(srv), rank: srv.priority });
    records.iter().filter_map(|srv| target(srv)).collect()
}

/// A name of DNS as hosts are written elsewhere.
fn host(name: &Name) -> Option<Host> {
    parse_host(name.to_ascii().trim_end_matches('.').as_bytes()).ok()
}

/// However short the TTL, the next question waits so long.
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// Waits after failures: the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// SRV records of one name; further ones are left out.
pub const RECORDS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(records: &[(u16, u16, u16, &str)], expected: &[&str]) {
        let records: Vec<SRV> = records
            .iter()
            .map(|(priority, weight, port, target)| {
                SRV::new(*priority, *weight, *port, Name::from_ascii(target).unwrap())
            })
            .collect();
        let told = targets(records.iter());
        let told: Vec<String> = told
            .iter()
            .map(|target| format!("{:?}:{} {} {}", target.host, target.port, target.rank, target.weight))
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn priorities_and_weights_are_kept() {
        check(
            &[(2, 5, 80, "b.test."), (1, 30, 81, "A.test."), (1, 10, 80, "c.test.")],
            &["Name(\"a.test\"):81 1 30", "Name(\"c.test\"):80 1 10", "Name(\"b.test\"):80 2 5"],
        );
    }

    #[test]
    fn a_weight_of_nothing_is_a_small_chance_beside_others_and_an_even_one_alone() {
        check(
            &[(1, 0, 80, "a.test."), (1, 50, 80, "b.test."), (2, 0, 80, "c.test."), (2, 0, 80, "d.test.")],
            &[
                "Name(\"a.test\"):80 1 0.5",
                "Name(\"b.test\"):80 1 50",
                "Name(\"c.test\"):80 2 1",
                "Name(\"d.test\"):80 2 1",
            ],
        );
    }

    #[test]
    fn a_target_that_is_the_root_is_nobody() {
        check(&[(0, 0, 80, "."), (0, 0, 0, "a.test.")], &[]);
    }

    #[test]
    fn records_end_at_their_limit() {
        for (count, kept) in [(RECORDS_MAX, RECORDS_MAX), (RECORDS_MAX + 1, RECORDS_MAX)] {
            let name = |n: usize| Name::from_ascii(format!("n{n}.test.")).unwrap();
            let records: Vec<SRV> = (0..count).map(|n| SRV::new(0, 0, 80, name(n))).collect();
            assert_eq!(targets(records.iter()).len(), kept);
        }
    }
}

//! The addresses of SRV targets, for a namer with name servers of its own: those that come beside the records (RFC 2782), or
//! what the same servers say. Nothing of this machine is asked: it may not know these names, or other ones by them.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_resolver::proto::rr::{RData, Record};
use serin_config::model::Host;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::dns::{DnsClient, LOOKUPS_MAX};
use super::super::hosts::{self, Answer, Family};
use super::super::names::Content;
use super::super::targets::{self, ADDRESSES_MAX, Target};
use super::{Said, host};

/// By the target's name.
pub(super) type Beside = HashMap<String, Answer>;
/// What is known of the targets of a name, over its questions.
pub(super) type Known = HashMap<String, hosts::Host>;

/// Asks the namer's servers, for all of its names.
pub(super) struct Own {
    /// Made on first use, so that it lives in the runtime that drives it.
    client: OnceLock<DnsClient>,
    /// Questions in flight.
    turns: Arc<Semaphore>,
}

impl Default for Own {
    fn default() -> Self {
        Self { client: OnceLock::new(), turns: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

/// The addresses that came with an answer.
pub(super) fn beside(records: &[Record]) -> Beside {
    let mut found: HashMap<String, (Vec<IpAddr>, u32)> = HashMap::new();
    for record in records {
        let ip: IpAddr = match &record.data {
            RData::A(a) => a.0.into(),
            RData::AAAA(aaaa) => aaaa.0.into(),
            _ => continue,
        };
        let Some(Host::Name(name)) = host(&record.name) else { continue };
        let (ips, ttl_s) = found.entry(name).or_insert((Vec::new(), u32::MAX));
        ips.push(ip);
        *ttl_s = record.ttl.min(*ttl_s);
    }
    found.into_iter().map(|(name, (ips, ttl_s))| (name, answer(&ips, ttl_s))).collect()
}

fn answer(ips: &[IpAddr], ttl_s: u32) -> Answer {
    let family = |v4: bool| {
        let ips: Vec<IpAddr> = ips.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect();
        if ips.is_empty() { Family::Nothing("no addresses".into()) } else { Family::Found(ips) }
    };
    Answer { v4: family(true), v6: family(false), ttl_s }
}

impl Own {
    /// Addresses in place of names, and when to ask again. The last good ones stay, as everywhere.
    pub(super) async fn addresses(&self, servers: &[SocketAddr], said: Said, known: &mut Known) -> (Content, Duration) {
        let Said { targets, mut beside, .. } = said;
        let names: HashSet<&str> = targets.iter().filter_map(Target::dns_name).collect();
        known.retain(|name, _| names.contains(name.as_str()));
        let mut asked = JoinSet::new();
        let mut answers = Vec::new();
        for name in names {
            match beside.remove(name) {
                Some(answer) => answers.push((name.to_owned(), answer)),
                None => drop(asked.spawn(self.ask(servers, name.to_owned()))),
            }
        }
        while let Some(answered) = asked.join_next().await {
            // one that broke off is asked for again with the next look at the records
            answers.extend(answered);
        }
        let wait_ms = answers.into_iter().map(|(name, answer)| known.entry(name).or_default().learn(answer)).min();
        (content(&targets, known), Duration::from_millis(wait_ms.unwrap_or(u64::MAX)))
    }

    /// One question.
    fn ask(&self, servers: &[SocketAddr], name: String) -> impl Future<Output = (String, Answer)> + Send + use<> {
        let client = match self.client.get() {
            Some(client) => Ok(client.clone()),
            None => DnsClient::asking(servers).map(|made| self.client.get_or_init(|| made).clone()),
        };
        let turns = Arc::clone(&self.turns);
        async move {
            let _turn = turns.acquire_owned().await;
            let answer = match client {
                Ok(client) => client.ask(&name).await,
                Err(error) => Answer::none(&Family::Failed(error.to_string().into())),
            };
            (name, answer)
        }
    }
}

/// Each target at its addresses. Those of one name share its chance as they do elsewhere: each has its weight.
fn content(targets: &[Target], known: &Known) -> Content {
    let (mut found, mut bad) = (Vec::new(), None);
    for target in targets {
        let Some(name) = target.dns_name() else {
            found.push(target.clone());
            continue;
        };
        match known.get(name).map_or(targets::Known::Unknown, hosts::Host::known) {
            targets::Known::Good(ips) => {
                found.extend(ips.iter().map(|ip| Target { host: Host::Ip(*ip), ..target.clone() }));
            }
            targets::Known::Bad(why) => bad = bad.or_else(|| Some(Arc::clone(why))),
            targets::Known::Unknown => {}
        }
    }
    found.truncate(ADDRESSES_MAX);
    match bad {
        Some(why) if found.is_empty() => Content::Failed(why),
        _ => Content::Targets(found.into()),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;
    use hickory_resolver::proto::rr::rdata::{A, TXT};

    use super::*;

    fn target(name: &str, rank: u16) -> Target {
        Target { host: Host::Name(name.to_owned()), port: 80, weight: 3.0, rank }
    }

    #[test]
    fn addresses_beside_the_records_are_those_of_their_names() {
        let name = |text| Name::from_ascii(text).unwrap();
        let records = [
            Record::from_rdata(name("A.test."), 9, RData::A(A::new(10, 0, 0, 1))),
            Record::from_rdata(name("a.test."), 7, RData::A(A::new(10, 0, 0, 2))),
            Record::from_rdata(name("a.test."), 1, RData::TXT(TXT::new(vec!["x".into()]))),
        ];
        let found = beside(&records);
        let answer = &found["a.test"];
        assert!(found.len() == 1 && answer.ttl_s == 7 && matches!(&answer.v6, Family::Nothing(_)));
        assert!(matches!(&answer.v4, Family::Found(ips) if ips.len() == 2));
    }

    #[test]
    fn targets_become_their_addresses_and_those_without_are_left_out() {
        let mut known = Known::new();
        let ips = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        known.entry("a.test".into()).or_default().learn(answer(&ips, 60));
        known.entry("b.test".into()).or_default().learn(answer(&[], 60));
        let at = |ip: IpAddr| Target { host: Host::Ip(ip), ..target("", 1) };
        let targets = [target("a.test", 1), target("b.test", 2)];
        assert_eq!(content(&targets, &known), Content::Targets([at(ips[0]), at(ips[1])].into()));
        assert_eq!(content(&targets[1..], &known), Content::Failed("no addresses".into()));
    }
}

//! From what was written (hosts and ports) and what is known of the hosts to the addresses of a cluster. Pure.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serin_config::model::{Host, HostPort};

use crate::egress::permitted;
use crate::endpoints::{Address, Addresses, Place};

/// One place as written: in a cluster of the configuration, a line of a file, or a name such as `/$/inet/web.test/80`.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// An address, or a name for DNS in lower case.
    pub host: Host,
    /// Never 0.
    pub port: u16,
    /// Passed on to every address of it.
    pub weight: f64,
    /// Of several ranks the smallest that has an address serves; 0 but for SRV records, whose priority it is.
    pub rank: u16,
}

impl Target {
    /// The name that DNS must be asked for, if any.
    pub(super) fn dns_name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) if !is_localhost(name) => Some(name),
            Host::Ip(_) | Host::Name(_) | Host::Unix(_) => None,
        }
    }
}

impl From<&HostPort> for Target {
    fn from(written: &HostPort) -> Self {
        Self { host: written.host.clone(), port: written.port, weight: 1.0, rank: 0 }
    }
}

/// What is known of a DNS name.
pub(super) enum Known<'a> {
    /// Asked, and nothing good ever came.
    Bad(&'a Arc<str>),
    /// The last good addresses.
    Good(&'a [IpAddr]),
    /// Not answered yet.
    Unknown,
}

/// The addresses of all targets together: what is there serves at once, what is missing joins later.
///
/// `allow` is given for names made by requests: addresses that [`permitted`] refuses are left out.
pub(super) fn compose<'a>(targets: &[Target], known: impl Fn(&str) -> Known<'a>, allow: Option<&[IpNet]>) -> Addresses {
    let mut gathered = Gathered::default();
    let mut targets: Vec<&Target> = targets.iter().collect();
    targets.sort_by_key(|target| target.rank); // stable: what is equal stays as written
    let mut rank = targets.first().map_or(0, |target| target.rank);
    for target in targets {
        if target.rank != rank && !gathered.list.is_empty() {
            break;
        }
        rank = target.rank;
        match &target.host {
            Host::Ip(ip) => gathered.add(target, &[*ip], allow),
            // only what the operator wrote names one: no name made by a request is a path
            Host::Unix(path) => gathered.push(target, Place::Unix(Arc::clone(path))),
            Host::Name(name) if is_localhost(name) => gathered.add(target, &LOOPBACK, allow),
            Host::Name(name) => match known(name) {
                Known::Bad(why) => gathered.bad = gathered.bad.or_else(|| Some(Arc::clone(why))),
                Known::Good(ips) => gathered.add(target, ips, allow),
                Known::Unknown => gathered.unknown = true,
            },
        }
    }
    gathered.addresses()
}

#[derive(Default)]
struct Gathered {
    list: Vec<Address>,
    seen: HashSet<Place>,
    unknown: bool,
    bad: Option<Arc<str>>,
    refused: Option<IpAddr>,
}

impl Gathered {
    /// An address written twice counts once, with the weight it had first.
    fn add(&mut self, target: &Target, ips: &[IpAddr], allow: Option<&[IpNet]>) {
        for &ip in ips {
            if allow.is_some_and(|allow| !permitted(ip, allow)) {
                self.refused = self.refused.or(Some(ip));
                continue;
            }
            self.push(target, Place::Inet(SocketAddr::new(ip, target.port)));
        }
    }

    fn push(&mut self, target: &Target, socket: Place) {
        if self.list.len() < ADDRESSES_MAX && self.seen.insert(socket.clone()) {
            self.list.push(Address { socket, weight: target.weight });
        }
    }

    fn addresses(self) -> Addresses {
        match (self.refused, self.bad) {
            _ if !self.list.is_empty() => Addresses::Bound(self.list.into()),
            _ if self.unknown => Addresses::Pending,
            (Some(ip), _) => Addresses::Failed(
                format!("egress to {ip} is not open to names made by requests (egress.allow can name it)").into(),
            ),
            (None, Some(why)) => Addresses::Failed(why),
            (None, None) => Addresses::Bound(Arc::default()),
        }
    }
}

/// RFC 6761: these names mean this host, and no DNS server is asked.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// What `localhost` means.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Addresses in one cluster; further ones are left out.
pub const ADDRESSES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        let (host, port) = text.rsplit_once(':').unwrap();
        let host = host.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Ip);
        Target { host, port: port.parse().unwrap(), weight: 1.0, rank: 0 }
    }

    /// `good.test` has two addresses, `inside.test` loopback, `bad.test` failed; every other name is unknown.
    #[track_caller]
    fn check(targets: &[&str], made: bool, expected: &str) {
        let targets: Vec<_> = targets.iter().map(|text| target(text)).collect();
        let why: Arc<str> = "bad.test: no such host".into();
        let good = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let known = |name: &str| match name {
            "good.test" => Known::Good(&good),
            "inside.test" => Known::Good(&LOOPBACK),
            "bad.test" => Known::Bad(&why),
            _ => Known::Unknown,
        };
        let addresses = compose(&targets, known, made.then_some(&[]));
        let text = match addresses {
            Addresses::Absent(why) => format!("absent: {why}"),
            Addresses::Bound(list) => list.iter().map(|a| a.socket.to_string()).collect::<Vec<_>>().join(" "),
            Addresses::Failed(why) => format!("failed: {why}"),
            Addresses::Neg => "neg".to_owned(),
            Addresses::Pending => "pending".to_owned(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn literal_addresses_and_known_names_are_merged() {
        check(&["10.0.0.9:80", "good.test:81"], false, "10.0.0.9:80 10.0.0.1:81 10.0.0.2:81");
        check(&["10.0.0.1:80", "good.test:80"], false, "10.0.0.1:80 10.0.0.2:80");
    }

    #[test]
    fn what_is_known_does_not_wait_for_the_rest() {
        check(&["slow.test:80", "10.0.0.9:80", "bad.test:80"], false, "10.0.0.9:80");
        check(&["slow.test:80", "bad.test:80"], false, "pending");
    }

    #[test]
    fn the_smallest_rank_with_an_address_serves() {
        for (names, expected) in [
            (["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], "10.0.0.1:80 10.0.0.2:80"),
            (["bad.test:80", "10.0.0.2:80", "10.0.0.3:80"], "10.0.0.2:80"),
            (["bad.test:80", "slow.test:80", "10.0.0.3:80"], "10.0.0.3:80"),
        ] {
            let ranked = names.iter().zip([1, 1, 2]).map(|(name, rank)| Target { rank, ..target(name) });
            let mut ranked: Vec<_> = ranked.collect();
            ranked.reverse();
            let why: Arc<str> = "no such host".into();
            let known = |name: &str| if name == "bad.test" { Known::Bad(&why) } else { Known::Unknown };
            let Addresses::Bound(list) = compose(&ranked, known, None) else { panic!("not bound") };
            let mut list: Vec<_> = list.iter().map(|address| address.socket.to_string()).collect();
            list.sort();
            assert_eq!(list.join(" "), expected);
        }
    }

    #[test]
    fn no_targets_are_bound_to_nobody() {
        check(&[], false, "");
    }

    #[test]
    fn the_first_failure_is_told_when_nothing_else_is_there() {
        check(&["bad.test:80"], false, "failed: bad.test: no such host");
    }

    #[test]
    fn localhost_asks_nobody() {
        for name in ["localhost:80", "localhost.:80", "web.localhost:80"] {
            check(&[name], false, "127.0.0.1:80 [::1]:80");
        }
    }

    #[test]
    fn names_made_by_requests_lose_what_egress_refuses() {
        check(&["good.test:80", "inside.test:80"], true, "10.0.0.1:80 10.0.0.2:80");
        let refused = "egress to 127.0.0.1 is not open to names made by requests (egress.allow can name it)";
        check(&["inside.test:80"], true, &format!("failed: {refused}"));
        check(&["localhost:80"], true, &format!("failed: {refused}"));
        check(&["inside.test:80"], false, "127.0.0.1:80 [::1]:80");
    }

    #[test]
    fn a_cluster_ends_at_its_limit() {
        for (count, kept) in [(ADDRESSES_MAX, ADDRESSES_MAX), (ADDRESSES_MAX + 1, ADDRESSES_MAX)] {
            let ip = |n: usize| Host::Ip(IpAddr::from((n as u32).to_be_bytes()));
            let targets: Vec<_> = (0..count).map(|n| Target { host: ip(n), port: 80, weight: 1.0, rank: 0 }).collect();
            let Addresses::Bound(list) = compose(&targets, |_| Known::Unknown, None) else { panic!("not bound") };
            assert_eq!(list.len(), kept);
        }
    }
}

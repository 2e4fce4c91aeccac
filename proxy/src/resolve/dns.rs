//! Asks DNS for the addresses of a name: A and AAAA, through hickory. The only place that knows its types.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{TokioResolver, system_conf};

use super::hosts::{Answer, Family};

/// How DNS is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// The only server to ask. `None`: servers, search list and options of `/etc/resolv.conf`.
    /// `/etc/hosts` counts either way. Set by the environment variable `SERIN_DNS=ip:port`.
    pub server: Option<SocketAddr>,
}

impl DnsConfig {
    /// Only this server is asked.
    #[must_use]
    pub fn server(server: SocketAddr) -> Self {
        Self { server: Some(server) }
    }
}

/// Asks. Cheap to clone; must be used inside a tokio runtime.
#[derive(Clone)]
pub(super) struct DnsClient {
    // One for each family: a failure of one must not look like its absence.
    v4: TokioResolver,
    v6: TokioResolver,
}

impl DnsClient {
    pub(super) fn new(dns: DnsConfig) -> Result<Self, NetError> {
        let (config, options) = match dns.server {
            None => system_conf::read_system_conf()?,
            Some(server) => (asking(&[server]), ResolverOpts::default()),
        };
        Self::with(&config, &options, ResolveHosts::Always)
    }

    /// Asks these servers and nothing of this machine.
    pub(super) fn asking(servers: &[SocketAddr]) -> Result<Self, NetError> {
        Self::with(&asking(servers), &ResolverOpts::default(), ResolveHosts::Never)
    }

    fn with(config: &ResolverConfig, options: &ResolverOpts, files: ResolveHosts) -> Result<Self, NetError> {
        let build = |strategy| {
            let mut builder = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
            *builder.options_mut() = tuned(options.clone(), strategy, files);
            builder.build()
        };
        Ok(Self { v4: build(LookupIpStrategy::Ipv4Only)?, v6: build(LookupIpStrategy::Ipv6Only)? })
    }

    /// All addresses of `name`, within [`LOOKUP_MS_MAX`].
    pub(super) async fn ask(&self, name: &str) -> Answer {
        let fqdn = match Name::from_ascii(name) {
            Ok(fqdn) => fqdn,
            Err(error) => return Answer::none(&Family::Nothing(format!("{name}: {error}").into())),
        };
        let both = async { tokio::join!(self.v4.lookup_ip(fqdn.clone()), self.v6.lookup_ip(fqdn.clone())) };
        match tokio::time::timeout(Duration::from_millis(LOOKUP_MS_MAX), both).await {
            Ok((v4, v6)) => {
                let ttl_s = [&v4, &v6].into_iter().flatten().map(ttl_s).min().unwrap_or(0);
                Answer { v4: family(name, v4), v6: family(name, v6), ttl_s }
            }
            Err(_) => Answer::none(&Family::Failed(format!("{name}: DNS did not answer in time").into())),
        }
    }
}

impl Answer {
    /// Nothing was learned for either family, for the same reason.
    pub(super) fn none(why: &Family) -> Self {
        Self { v4: why.clone(), v6: why.clone(), ttl_s: 0 }
    }
}

/// These servers and no others, in this order.
pub(super) fn asking(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |server: &SocketAddr| {
        let mut asked = NameServerConfig::udp_and_tcp(server.ip());
        asked.connections.iter_mut().for_each(|connection| connection.port = server.port());
        asked
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect())
}

pub(super) fn tuned(mut options: ResolverOpts, strategy: LookupIpStrategy, files: ResolveHosts) -> ResolverOpts {
    options.ip_strategy = strategy;
    options.use_hosts_file = files;
    // Answers live in `Hosts`, by their own TTL: a second cache would only age them.
    options.cache_size = 0;
    // CNAMEs stay in the answer, so that their TTL counts.
    options.preserve_intermediates = true;
    // A cut UDP answer is asked for again over TCP.
    options.try_tcp_on_error = true;
    options.timeout = options.timeout.min(Duration::from_millis(ATTEMPT_MS_MAX));
    options.max_active_requests = 2 * LOOKUPS_MAX;
    options
}

fn ttl_s(lookup: &LookupIp) -> u32 {
    lookup.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or(0)
}

fn family(name: &str, result: Result<LookupIp, NetError>) -> Family {
    match result {
        Ok(lookup) => {
            let ips: Vec<IpAddr> = lookup.iter().collect();
            if ips.is_empty() { Family::Nothing(format!("{name}: no addresses").into()) } else { Family::Found(ips) }
        }
        Err(error) if error.is_nx_domain() => Family::Nothing(format!("{name}: no such host").into()),
        Err(error) if error.is_no_records_found() => Family::Nothing(format!("{name}: no addresses").into()),
        Err(error) => Family::Failed(format!("{name}: {error}").into()),
    }
}

/// Questions in flight at once.
pub const LOOKUPS_MAX: usize = 64;
/// One question takes at most this long, all servers and tries together.
pub const LOOKUP_MS_MAX: u64 = 5_000;
/// One try takes at most this long.
const ATTEMPT_MS_MAX: u64 = 2_000;

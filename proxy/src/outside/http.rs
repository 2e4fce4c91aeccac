//! One request to a peer that is not trusted to answer well: within a deadline, read within a bound, told without secrets.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hickory_resolver::TokioResolver;
use http::{HeaderMap, Method, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Proxy, Url};
use rustls::{ClientConfig, RootCertStore};

use super::query::rest_wanted;
use super::tls;
use crate::clock;

/// So much of an answer is read.
pub const BODY_OCTETS_MAX: usize = 64 * 1024;

/// Clients that differ in what they trust and in the proxy on the way; made when first needed.
pub(super) struct Clients {
    made: Mutex<BTreeMap<Way, Client>>,
    /// Scheme, host and port of peers that want to be left alone, and until when.
    resting_until_us: Mutex<BTreeMap<String, u64>>,
    roots: Box<dyn Fn() -> RootCertStore + Send + Sync>,
}

/// How a peer is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    /// Certificates are not checked.
    pub(super) unchecked_tls: bool,
    /// An HTTP proxy on the way.
    pub(super) proxy: Option<String>,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// User and password.
    pub(super) basic: Option<(String, String)>,
    pub(super) body: Bytes,
    /// Until the end of the answer.
    pub(super) timeout: Duration,
    pub(super) way: Way,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// At most [`BODY_OCTETS_MAX`].
    pub(super) body: Vec<u8>,
    /// There was more.
    pub(super) cut: bool,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Without the address.
    #[error("{0}")]
    Broken(String),
    /// Seconds.
    #[error("asked too often: it wants to be left alone for {0} s more")]
    Resting(u64),
    /// The proxy or TLS settings are of no use; another try would end the same way.
    #[error("{0}")]
    Settings(String),
}

/// Kinds of clients, and peers left alone, at one moment; one more forgets them all. They come from the file: a handful.
const CLIENTS_MAX: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS_MAX: usize = 4;

impl Clients {
    /// Clients that trust the roots of the system.
    pub(super) fn new() -> Self {
        Self::with_roots(Box::new(tls::roots))
    }

    /// Clients that trust these roots.
    pub(super) fn with_roots(roots: Box<dyn Fn() -> RootCertStore + Send + Sync>) -> Self {
        Self { made: Mutex::default(), resting_until_us: Mutex::default(), roots }
    }

    /// Sends and reads the answer.
    pub(super) async fn send(&self, call: Call) -> Result<Reply, Failure> {
        let client = self.client(&call.way)?;
        let timeout = call.timeout;
        tokio::time::timeout(timeout, exchange(client, call)).await.unwrap_or(Err(Failure::Timeout(timeout)))
    }

    /// As [`Self::send`]; a peer that answered that it is asked too often is not asked before the time it gave is over.
    pub(super) async fn send_within_rate(&self, call: Call) -> Result<Reply, Failure> {
        let origin = call.url.origin().ascii_serialization();
        if let Some(wait_us) = self.rest_left_us(&origin) {
            return Err(Failure::Resting(wait_us.div_ceil(1_000_000)));
        }
        let reply = self.send(call).await?;
        if let Some(rest) = rest_wanted(&reply) {
            let until = clock::now_us().saturating_add(u64::try_from(rest.as_micros()).unwrap_or(u64::MAX));
            let mut resting = self.resting_until_us.lock().unwrap_or_else(PoisonError::into_inner);
            if resting.len() == CLIENTS_MAX {
                resting.clear();
            }
            resting.insert(origin, until);
        }
        Ok(reply)
    }

    fn rest_left_us(&self, origin: &str) -> Option<u64> {
        let mut resting = self.resting_until_us.lock().unwrap_or_else(PoisonError::into_inner);
        let left = resting.get(origin)?.saturating_sub(clock::now_us());
        if left == 0 {
            resting.remove(origin);
        }
        Some(left).filter(|left| *left > 0)
    }

    fn client(&self, way: &Way) -> Result<Client, Failure> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(way) {
            return Ok(client.clone());
        }
        let tls = if way.unchecked_tls { tls::unchecked() } else { tls::checked((self.roots)()) };
        let tls = tls.map_err(|error| Failure::Settings(error.to_string()))?;
        let client = build(tls, way.proxy.as_deref())?;
        if made.len() == CLIENTS_MAX {
            made.clear();
        }
        made.insert(way.clone(), client.clone());
        Ok(client)
    }
}

fn build(tls: ClientConfig, proxy: Option<&str>) -> Result<Client, Failure> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Dns::default())
        .no_proxy() // the environment has no say
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = proxy {
        let proxy = Proxy::all(proxy).map_err(|_| Failure::Settings("the address of the proxy is none".into()))?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| Failure::Settings(cause(&error)))
}

async fn exchange(client: Client, call: Call) -> Result<Reply, Failure> {
    let broken = |error: reqwest::Error| Failure::Broken(cause(&error.without_url()));
    let request = client.request(call.method, call.url).headers(call.headers);
    let request = match call.basic {
        Some((user, password)) => request.basic_auth(user, Some(password)),
        None => request,
    };
    let request = if call.body.is_empty() { request } else { request.body(call.body) };
    let mut response = request.send().await.map_err(broken)?;
    let mut reply =
        Reply { status: response.status(), headers: response.headers().clone(), body: Vec::new(), cut: false };
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        let room = BODY_OCTETS_MAX - reply.body.len();
        reply.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            reply.cut = true;
            break; // dropping the response closes the connection
        }
    }
    Ok(reply)
}

/// The innermost cause, behind what it was about: libraries wrap it several times in words that say less.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let text = inner.to_string();
    if std::ptr::eq(inner, error) { text } else { format!("{error}: {text}") }
}

/// Names are resolved as everywhere in this process: asynchronously, by the system's configuration.
#[derive(Clone, Default)]
struct Dns(Arc<Mutex<Option<TokioResolver>>>);

impl Dns {
    fn resolver(&self) -> io::Result<TokioResolver> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resolver) = &*made {
            return Ok(resolver.clone());
        }
        let mut builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
        builder.options_mut().ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build().map_err(io::Error::other)?;
        *made = Some(resolver.clone());
        Ok(resolver)
    }
}

impl Resolve for Dns {
    fn resolve(&self, name: Name) -> Resolving {
        let dns = self.clone();
        Box::pin(async move {
            let found = dns.resolver()?.lookup_ip(name.as_str()).await?;
            let addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

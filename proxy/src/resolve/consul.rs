//! `io.l5d.consul`: services of a Consul catalog, by blocking queries of its HTTP API.
//!
//! Each service that is in use is one question that stays open: the agent answers when the service changes, or after
//! [`WAIT`]. What the agent does not know is asked for in turn (`slots.rs`): an agent takes 200 connections of one client.
//! An index that falls or is 0 begins anew, as Consul's documentation asks. An error keeps the last state and
//! is tried again after 10 ms to 5 s, without an index, so that the next answer comes at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serin_config::dtab::Path;
use serin_config::model::{ConsistencyMode, Consul, HealthStatus};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::dns::DnsConfig;
use super::names::Content;
use super::peer::{Peer, PeerError, backoff, encoded, is_refusal};
use super::slots::{AGAIN, Slots, Standing, TURN_LIMIT};
use super::watches::{News, Source, Teller, Watching};
pub use answers::INSTANCES_MAX;
use answers::{Agent, instances};

mod answers;

/// One configured namer.
pub(super) struct ConsulSource {
    settings: Consul,
    dns: DnsConfig,
    headers: HeaderMap,
    agent: OnceCell<Agent>,
    slots: Arc<Slots>,
    /// With `failFast`: when the agent may be tried again, and why it was not reached.
    down: Mutex<Option<(Instant, PeerError)>>,
}

/// A name, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// `None`: the agent's own.
    datacenter: Option<String>,
    tag: Option<String>,
    service: String,
}

/// Why a question brought nothing.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("Consul answers {status}: {text}")]
    Status { status: StatusCode, text: String },
    #[error("Consul answers {status} for its own settings: {text}")]
    Agent { status: StatusCode, text: String },
    #[error("Consul answers without X-Consul-Index")]
    NoIndex,
    #[error("Consul answers what is none of its catalog: {0}")]
    Unreadable(String),
}

impl AskError {
    /// Is it about the name that was asked for, and not about the agent.
    fn is_of_the_name(&self) -> bool {
        match self {
            Self::Status { status, text } => is_refusal(*status) || text.contains(NO_DATACENTER),
            Self::Peer(_) | Self::Agent { .. } | Self::NoIndex | Self::Unreadable(_) => false,
        }
    }
}

impl ConsulSource {
    pub(super) fn new(settings: Consul, dns: DnsConfig, slots: Arc<Slots>) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(token) = &settings.token
            && let Ok(mut token) = HeaderValue::from_str(token)
        {
            token.set_sensitive(true);
            headers.insert(TOKEN, token);
        }
        Self { settings, dns, headers, agent: OnceCell::new(), slots, down: Mutex::default() }
    }

    async fn run(self: Arc<Self>, name: Path, mut teller: Teller) {
        let Some(asked) = Asked::new(&name, self.settings.include_tag) else {
            teller.tell(News::absent("a name of Consul is UTF-8".into()), 0).await;
            return std::future::pending().await;
        };
        let mut peer = Peer::new(self.settings.agent.clone(), self.dns);
        let mut standing = Standing::new(&self.slots);
        let (mut index, mut failures) = (0, 0);
        loop {
            let turn = standing.turn().await;
            let begun = Instant::now();
            let heard = self.ask(&mut peer, &asked, index).await;
            if let Ok((news, _)) = &heard {
                standing.heard(news.is_there(), Instant::now());
            }
            if !standing.is_held() {
                peer.close();
            }
            drop(turn);
            match heard {
                Ok((news, answered)) => {
                    failures = 0;
                    index = if standing.is_held() { next_index(index, answered) } else { 0 };
                    teller.tell(news, answered).await;
                    // an agent that does not wait is not asked in a circle
                    let least = match index {
                        _ if !standing.is_held() => AGAIN,
                        0 => RESET_GAP,
                        _ => GAP,
                    };
                    sleep(least.saturating_sub(begun.elapsed())).await;
                }
                Err(error) if error.is_of_the_name() => {
                    (index, failures) = (0, 0);
                    teller.refuse(error.to_string().into()).await;
                    sleep(AGAIN).await;
                }
                Err(error) => {
                    index = 0;
                    teller.fail(error.to_string().into()).await;
                    sleep(self.wait_after(&error, failures)).await;
                    failures += 1;
                }
            }
        }
    }

    async fn ask(&self, peer: &mut Peer, asked: &Asked, index: u64) -> Result<(News, u64), AskError> {
        if let Some((until, error)) = &*self.down.lock().unwrap_or_else(PoisonError::into_inner)
            && Instant::now() < *until
        {
            return Err(error.clone().into());
        }
        let authority = if self.settings.set_host { self.authority(peer, asked).await? } else { None };
        let target = self.target(asked, index);
        // without an index the agent has nothing to wait for
        let limit = if index == 0 { TURN_LIMIT } else { WAIT + WAIT / 16 + GRACE };
        let reply = peer.get(&target, &self.headers, limit, BODY_OCTETS_MAX).await?;
        if reply.status != StatusCode::OK {
            return Err(AskError::Status { status: reply.status, text: shown(&reply.body) });
        }
        let answered = reply.headers.get(INDEX).and_then(|value| value.to_str().ok()?.parse().ok());
        let answered = answered.ok_or(AskError::NoIndex)?;
        let targets = instances(&reply.body, &self.settings).map_err(AskError::Unreadable)?;
        let content = match targets.is_empty() {
            true => Content::Absent("Consul has no instance of it".into()),
            false => Content::Targets(targets.into()),
        };
        Ok((News { content, authority, tree: None }, answered))
    }

    /// What the name of the service is in Consul's own DNS.
    async fn authority(&self, peer: &mut Peer, asked: &Asked) -> Result<Option<HeaderValue>, AskError> {
        let agent = self.agent.get_or_try_init(|| async {
            let reply = peer.get("/v1/agent/self", &self.headers, TURN_LIMIT, BODY_OCTETS_MAX).await?;
            match reply.status {
                StatusCode::OK => Agent::read(&reply.body).map_err(AskError::Unreadable),
                status => Err(AskError::Agent { status, text: shown(&reply.body) }),
            }
        });
        let agent = agent.await?;
        let datacenter = asked.datacenter.as_ref().unwrap_or(&agent.datacenter);
        let tag = asked.tag.as_ref().map_or_else(String::new, |tag| format!("{tag}."));
        let host = format!("{tag}{}.service.{datacenter}.{}", asked.service, agent.domain);
        Ok(HeaderValue::try_from(host).ok())
    }

    fn target(&self, asked: &Asked, index: u64) -> String {
        let service = encoded(&asked.service);
        let mut target = match &self.settings.health {
            Some(_) => format!("/v1/health/service/{service}?"),
            None => format!("/v1/catalog/service/{service}?"),
        };
        let mut parameters: Vec<String> = Vec::new();
        if self.settings.health.as_deref() == Some(&[HealthStatus::Passing]) {
            parameters.push("passing=true".to_owned());
        }
        parameters.extend(asked.datacenter.as_ref().map(|name| format!("dc={}", encoded(name))));
        parameters.extend(asked.tag.as_ref().map(|tag| format!("tag={}", encoded(tag))));
        match self.settings.consistency {
            ConsistencyMode::Default => {}
            ConsistencyMode::Stale => parameters.push("stale".to_owned()),
            ConsistencyMode::Consistent => parameters.push("consistent".to_owned()),
        }
        if index > 0 {
            parameters.push(format!("index={index}&wait={}s", WAIT.as_secs()));
        }
        target.push_str(&parameters.join("&"));
        target.trim_end_matches('?').to_owned()
    }

    fn wait_after(&self, error: &AskError, failures: u32) -> Duration {
        let wait = backoff(failures, BACKOFF, fastrand::u64(..));
        if let AskError::Peer(error) = error
            && error.is_connect()
            && self.settings.fail_fast
        {
            let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
            if down.as_ref().is_none_or(|(until, _)| *until <= Instant::now()) {
                *down = Some((Instant::now() + wait, error.clone()));
            }
        }
        wait
    }
}

impl Source for ConsulSource {
    fn watch(self: Arc<Self>, name: Path, teller: Teller) -> Watching {
        Box::pin(self.run(name, teller))
    }
}

impl Asked {
    /// `/<dc>/<service>`, or `/<dc>/<tag>/<service>`. Consul's names are asked for in lower case.
    fn new(name: &Path, tagged: bool) -> Option<Self> {
        let label = |nth| Some(std::str::from_utf8(name.label(nth)?).ok()?.to_owned());
        let datacenter = Some(label(0)?).filter(|name| name != LOCAL);
        let tag = if tagged { Some(label(1)?.to_lowercase()) } else { None };
        let service = label(if tagged { 2 } else { 1 })?.to_lowercase();
        Some(Self { datacenter, tag, service })
    }
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_OCTETS_MAX)]);
    text.trim().replace(|c: char| c.is_control(), " ")
}

/// The index of the next question: one that fell, or is 0, says that the past is no guide.
fn next_index(asked: u64, answered: u64) -> u64 {
    if answered < asked { 0 } else { answered }
}

/// Services whose questions stay open at one agent. With those in turn less than the 200 connections that an agent takes
/// of one client (`limits.http_max_conns_per_client`).
pub const HELD_MAX: usize = 128;
/// What an agent says, with 500, of a name whose datacenter does not exist.
const NO_DATACENTER: &str = "No path to datacenter";
/// The datacenter of the agent.
const LOCAL: &str = ".local";
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
/// How long the agent holds a question; it adds up to a sixteenth by chance.
const WAIT: Duration = Duration::from_secs(60);
/// How much later than that an answer may come.
const GRACE: Duration = Duration::from_secs(10);
/// Waits after failures: the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));
/// Between two questions for one name, however fast it changes.
const GAP: Duration = Duration::from_millis(50);
/// The same when the index began anew.
const RESET_GAP: Duration = Duration::from_secs(1);
/// Octets of one answer.
pub const BODY_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Octets of an error that are shown.
const SHOWN_OCTETS_MAX: usize = 200;

#[cfg(test)]
mod tests;

//! `interpreter: {kind: io.l5d.namerd.http}`: names that a namerd binds, by the watch streams of its HTTP control API.
//!
//! A question is a name of its own kind, kept and watched like the names of namers that are asked for:
//!
//! ```text
//! /@/<namerd>/<namespace>/bind/<pieces>/<name>…[/<dtab>…]   what the name is bound to: a tree
//! /@/<namerd>/<namespace>/addr/<bound id …>      where a bound id is served
//! /@/<namerd>/<namespace>/made/<bound id …>      the same, of one that a request may have made
//! ```
//!
//! No bound id begins with `@`, so neither a dtab nor a request can spell one of these. A stream is opened anew every
//! minute, so that a connection that died unnoticed costs no more than that; what was last said stays meanwhile, and as
//! long as namerd is away. What namerd does not know keeps no stream open (`slots.rs`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serin_config::dtab::Path;
use serin_config::model::{Host, HostPort, Namerd};
use tokio::time::{Instant, sleep, timeout_at};

use super::dns::DnsConfig;
use super::peer::{Peer, Stream, backoff, encoded, is_refusal};
use super::slots::{AGAIN, Slots, Standing, TURN_LIMIT};
use super::watches::{Source, Teller, Watching};
use answers::Documents;

pub use answers::{DOCUMENT_OCTETS_MAX, RemoteLeaf, TREE_NODES_MAX};

mod answers;

/// One namerd and namespace.
pub(super) struct NamerdSource {
    settings: Namerd,
    dns: DnsConfig,
    slots: Arc<Slots>,
}

/// How names are asked of one namerd, for workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    prefix: Path,
}

impl Remote {
    /// That of an interpreter.
    pub fn new(namerd: &Namerd) -> Self {
        let HostPort { host, port } = &namerd.at;
        let host = match host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let labels = [MARK, &host, &port.to_string(), &namerd.namespace];
        Self { prefix: Path::from_labels(labels).unwrap_or_default() }
    }

    /// The question what a name is bound to under this dtab. `None`: it is longer than [`Namerd::QUESTION_OCTETS_MAX`].
    pub fn bind(&self, name: &Path, dtab: &str) -> Option<Path> {
        let name = name.to_string();
        if Namerd::octets(&name) + Namerd::octets(dtab) > Namerd::QUESTION_OCTETS_MAX {
            return None;
        }
        // one label would be too long for some
        let pieces = [name.as_bytes(), dtab.as_bytes()].map(|text| text.chunks(PIECE_OCTETS));
        let [name, dtab] =
            pieces.map(|pieces| pieces.map(|piece| Path::from_labels([piece])).collect::<Option<Vec<_>>>());
        let (name, dtab) = (name?, dtab?);
        let count = Path::from_labels(["bind", &name.len().to_string()])?;
        Some(name.iter().chain(&dtab).fold(self.prefix.join(&count), |id, piece| id.join(piece)))
    }

    /// The question where a bound id is served. `made`: a request may have made the id. Both have addresses of their
    /// own, because those of the one have passed [`crate::egress::permitted`].
    pub fn addr(&self, id: &Path, made: bool) -> Option<Path> {
        let kind = if made { MADE } else { ADDR };
        let id = self.prefix.join(&Path::from_labels([kind])?).join(id);
        (id.bytes() <= Path::BYTES_MAX && id.len() <= Path::LABELS_MAX).then_some(id)
    }

    /// What all of its questions begin with.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }
}

/// The bound id that a cluster is about: its own id, but for an answer of a namerd. `None`: a question for a tree.
pub fn bound_id(id: &Path) -> Option<Path> {
    match (id.label(0), id.label(QUESTION)) {
        (Some(mark), Some(b"bind") | None) if mark == MARK.as_bytes() => None,
        (Some(mark), _) if mark == MARK.as_bytes() => Some(id.skip(QUESTION + 1)),
        _ => Some(id.clone()),
    }
}

/// Is it the question where an id is served that a request may have made.
pub(crate) fn is_made(id: &Path) -> bool {
    is_remote(id) && id.label(QUESTION) == Some(MADE.as_bytes())
}

/// Is it a question for a namerd.
pub(crate) fn is_remote(id: &Path) -> bool {
    id.label(0) == Some(MARK.as_bytes())
}

impl NamerdSource {
    pub(super) fn new(settings: Namerd, dns: DnsConfig, slots: Arc<Slots>) -> Self {
        Self { settings, dns, slots }
    }

    pub(super) fn settings(&self) -> &Namerd {
        &self.settings
    }

    /// `question` is what stands behind the namespace.
    async fn run(self: Arc<Self>, question: Path, mut teller: Teller) {
        let Some((target, binds)) = self.target(&question) else { return std::future::pending().await };
        let (mut standing, mut failures) = (Standing::new(&self.slots), 0);
        loop {
            match self.follow(&target, binds, &mut standing, &mut teller).await {
                Ok(begun) => {
                    failures = 0;
                    let least = if standing.is_held() { GAP } else { AGAIN };
                    sleep(least.saturating_sub(begun.elapsed())).await;
                }
                Err(Broken { why, answered, of_the_name }) => {
                    failures = if answered { 0 } else { failures };
                    let why = format!("namerd: {why}").into();
                    match of_the_name {
                        true => teller.refuse(why).await,
                        false => teller.fail(why).await,
                    }
                    sleep(backoff(failures, self.settings.retry, fastrand::u64(..))).await;
                    failures += 1;
                }
            }
        }
    }

    /// Reads one stream until it is time for the next, or until it has said that there is no such name. Gives when it
    /// began.
    async fn follow(
        &self,
        target: &str,
        binds: bool,
        standing: &mut Standing,
        teller: &mut Teller,
    ) -> Result<Instant, Broken> {
        let mut turn = standing.turn().await;
        let (begun, mut answered) = (Instant::now(), false);
        let mut end = begun + STREAM + STREAM.mul_f64(fastrand::f64() / 4.0);
        let mut peer = Peer::new(self.settings.at.clone(), self.dns);
        let opened = peer.open(target, &HeaderMap::new(), HEAD_LIMIT).await;
        let mut stream = opened.map_err(|error| Broken::outage(error.to_string(), answered))?;
        if stream.status != StatusCode::OK {
            let of_the_name = is_refusal(stream.status);
            return Err(Broken { why: refusal(&mut stream).await, answered, of_the_name });
        }
        let mut documents = Documents::default();
        loop {
            let limit = if turn.is_some() { begun + TURN_LIMIT } else { end };
            let read = match timeout_at(limit, stream.chunk()).await {
                Ok(read) => read,
                Err(_) if turn.is_none() => return Ok(begun),
                Err(_) => {
                    return Err(Broken::outage(format!("no answer within {} s", TURN_LIMIT.as_secs()), answered));
                }
            };
            match read.map_err(|why| Broken::outage(why, answered))? {
                None => match documents.last_word() {
                    Some(why) => return Err(Broken { why, answered, of_the_name: true }),
                    None if answered => return Ok(begun),
                    None => return Err(Broken::outage("it ended without a word".to_owned(), answered)),
                },
                Some(chunk) => documents.take(&chunk).map_err(|why| Broken::outage(why, answered))?,
            }
            loop {
                let news = if binds { documents.next_tree() } else { documents.next_addr() };
                let news = news.map_err(|why| match documents.last_word() {
                    Some(why) => Broken { why, answered, of_the_name: true },
                    None => Broken::outage(why, answered),
                });
                match news? {
                    None => break,
                    Some(None) => {} // it does not know yet either
                    Some(Some(news)) => {
                        answered = true;
                        let is_there = news.is_there();
                        standing.heard(is_there, Instant::now());
                        teller.tell(news, 0).await;
                        turn = None;
                        if !standing.is_held() {
                            return Ok(begun);
                        }
                        if !is_there {
                            end = standing.gone_at().unwrap_or(end).min(end);
                        }
                    }
                }
            }
        }
    }

    /// The target of a question, and whether it is one for a tree.
    fn target(&self, question: &Path) -> Option<(String, bool)> {
        let namespace = encoded(&self.settings.namespace);
        match question.label(0)? {
            b"bind" => {
                let count: usize = std::str::from_utf8(question.label(1)?).ok()?.parse().ok()?;
                let pieces: Vec<&[u8]> = question.labels().skip(2).collect();
                let (name, dtab) = pieces.split_at_checked(count)?;
                let text = |pieces: &[&[u8]]| Some(encoded(&String::from_utf8(pieces.concat()).ok()?));
                let (path, dtab) = (text(name)?, text(dtab)?);
                Some((format!("/api/1/bind/{namespace}?path={path}&watch=1&dtab={dtab}"), true))
            }
            _ => {
                let path = encoded(&question.skip(1).to_string());
                Some((format!("/api/1/addr/{namespace}?path={path}&watch=1"), false))
            }
        }
    }
}

impl Source for NamerdSource {
    fn watch(self: Arc<Self>, name: Path, teller: Teller) -> Watching {
        Box::pin(self.run(name, teller))
    }
}

/// A stream that ended badly, and whether it had said anything.
struct Broken {
    why: String,
    answered: bool,
    /// It said so of this name; otherwise namerd does not answer.
    of_the_name: bool,
}

impl Broken {
    fn outage(why: String, answered: bool) -> Self {
        Self { why, answered, of_the_name: false }
    }
}

async fn refusal(stream: &mut Stream) -> String {
    let status = stream.status;
    let body = timeout_at(Instant::now() + HEAD_LIMIT, stream.chunk()).await;
    let text = match body {
        Ok(Ok(Some(chunk))) => String::from_utf8_lossy(&chunk[..chunk.len().min(SHOWN_OCTETS_MAX)]).into_owned(),
        _ => String::new(),
    };
    format!("it answers {status}: {}", text.trim().replace(|c: char| c.is_control(), " "))
}

/// Streams that stay open at one namerd: a name in use has two, one for its tree and one for its addresses.
pub const HELD_MAX: usize = 448;
/// Questions for a namerd begin with it, and no bound id does.
const MARK: &str = "@";
/// Octets of a name or dtab in one label of a question.
const PIECE_OCTETS: usize = 4_096;
/// What is asked about ids that the operator of the namerd wrote, and about those that a request may have made.
const ADDR: &str = "addr";
const MADE: &str = "made";
/// Where the kind of the question stands.
const QUESTION: usize = REMOTE_LABELS;
/// Labels that all questions for one namerd share.
pub(crate) const REMOTE_LABELS: usize = 4;
/// A stream is opened anew after this time, and up to a quarter more.
const STREAM: Duration = Duration::from_secs(60);
/// The head of an answer comes within this time.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Between two streams of one name, however fast they end.
const GAP: Duration = Duration::from_millis(250);
/// Octets of an error that are shown.
const SHOWN_OCTETS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> (Remote, NamerdSource) {
        let at = HostPort { host: Host::Name("namerd.test".to_owned()), port: 4180 };
        let retry = (Duration::from_secs(5), Duration::from_secs(600));
        let settings = Namerd { at, namespace: "web/1".to_owned(), retry };
        (Remote::new(&settings), NamerdSource::new(settings, DnsConfig::default(), Slots::new(1)))
    }

    #[track_caller]
    fn check_target(id: &Path, expected: &str) {
        let (remote, source) = remote();
        assert!(is_remote(id) && id.starts_with(remote.prefix()));
        assert_eq!(source.target(&id.skip(remote.prefix().len())).unwrap().0, expected);
    }

    #[test]
    fn questions_become_targets() {
        let (remote, _) = remote();
        assert_eq!(remote.prefix().skip(1).take(2).to_string(), "/namerd.test/4180");
        let name: Path = "/svc/a\\x2fb".parse().unwrap();
        check_target(
            &remote.bind(&name, "").unwrap(),
            "/api/1/bind/web%2F1?path=%2Fsvc%2F%5Cx61%5Cx2f%5Cx62&watch=1&dtab=",
        );
        check_target(
            &remote.bind(&"/svc".parse().unwrap(), "/svc=>/a & /b").unwrap(),
            "/api/1/bind/web%2F1?path=%2Fsvc&watch=1&dtab=%2Fsvc%3D%3E%2Fa%20%26%20%2Fb",
        );
        check_target(
            &remote.addr(&"/#/io.l5d.fs/web".parse().unwrap(), false).unwrap(),
            "/api/1/addr/web%2F1?path=%2F%23%2Fio.l5d.fs%2Fweb&watch=1",
        );
        check_target(
            &remote.addr(&"/$/inet/web/80".parse().unwrap(), true).unwrap(),
            "/api/1/addr/web%2F1?path=%2F%24%2Finet%2Fweb%2F80&watch=1",
        );
    }

    #[test]
    fn an_answer_for_addresses_is_about_its_id_and_one_for_a_tree_about_none() {
        let (remote, _) = remote();
        let id: Path = "/#/io.l5d.fs/web".parse().unwrap();
        for made in [false, true] {
            let question = remote.addr(&id, made).unwrap();
            assert_eq!((bound_id(&question), is_made(&question)), (Some(id.clone()), made));
        }
        assert!(!is_made(&id) && !is_made(&remote.bind(&id, "").unwrap()));
        assert_eq!(bound_id(&remote.bind(&id, "").unwrap()), None);
        assert_eq!(bound_id(&id), Some(id));
    }

    #[test]
    fn a_question_is_as_long_as_the_head_of_a_request_allows_and_no_longer() {
        let (remote, source) = remote();
        let name: Path = "/svc/web".parse().unwrap();
        let room = Namerd::QUESTION_OCTETS_MAX - Namerd::octets("/svc/web");
        let dtab = format!("{}ä", "d".repeat(room - 6));
        let question = remote.bind(&name, &dtab).unwrap();
        let target = source.target(&question.skip(remote.prefix().len())).unwrap().0;
        assert!(target.ends_with("dd%C3%A4") && target.len() < 64 * 1024 - 2048, "{}", target.len());
        assert!(remote.bind(&name, &format!("d{dtab}")).is_none());
    }

    #[test]
    fn a_name_in_pieces_and_its_dtab_are_told_apart() {
        let (remote, source) = remote();
        let long: Path = format!("/svc/{}", "n".repeat(2 * PIECE_OCTETS)).parse().unwrap();
        let target = |dtab| source.target(&remote.bind(&long, dtab).unwrap().skip(remote.prefix().len())).unwrap().0;
        assert!(target("").ends_with("nnn&watch=1&dtab="));
        assert!(target("/a=>/b").ends_with("nnn&watch=1&dtab=%2Fa%3D%3E%2Fb"));
    }
}

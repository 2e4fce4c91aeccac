//! One HTTP/1.1 connection to a registry that the control thread asks: Consul, namerd. Within deadlines and bounds.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serin_config::model::{Host, HostPort};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dns::{DnsClient, DnsConfig};
use super::hosts::Family;
use super::targets::is_localhost;

/// A registry, and the connection to it that is kept between questions.
pub(super) struct Peer {
    place: Arc<Place>,
    connection: Option<Connection>,
}

/// Where a registry is.
struct Place {
    at: HostPort,
    dns: DnsConfig,
}

struct Connection {
    send: SendRequest<Empty<Bytes>>,
    /// Moves the octets; polled while something is waited for.
    drive: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An answer that is still being read.
pub(super) struct Stream {
    pub(super) status: StatusCode,
    body: Incoming,
    connection: Connection,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PeerError {
    /// Nobody could be reached there.
    #[error("{at}: no connection: {why}")]
    Connect {
        /// Host and port.
        at: String,
        /// In the system's words.
        why: String,
    },
    /// It began, and broke.
    #[error("{at}: {why}")]
    Broken {
        /// Host and port.
        at: String,
        /// What happened.
        why: String,
    },
}

impl PeerError {
    pub(super) fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}

impl Peer {
    pub(super) fn new(at: HostPort, dns: DnsConfig) -> Self {
        Self { place: Arc::new(Place { at, dns }), connection: None }
    }

    /// Gives up the connection that was kept.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    /// Asks and reads the whole answer, within `limit` and `body_max` octets.
    pub(super) async fn get(
        &mut self,
        target: &str,
        headers: &HeaderMap,
        limit: Duration,
        body_max: usize,
    ) -> Result<Reply, PeerError> {
        let asked = timeout(limit, self.ask(target, headers, body_max)).await;
        let answer =
            asked.unwrap_or_else(|_| Err(self.place.broken(format!("no answer within {} s", limit.as_secs()))));
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    async fn ask(&mut self, target: &str, headers: &HeaderMap, body_max: usize) -> Result<Reply, PeerError> {
        let mut stream = self.start(target, headers).await?;
        let (status, headers) = (stream.status, std::mem::take(&mut stream.headers));
        let mut stream = stream.stream;
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.chunk().await.map_err(|why| self.place.broken(why))? {
            if body.len() + chunk.len() > body_max {
                return Err(self.place.broken(format!("the answer is longer than {body_max} octets")));
            }
            body.extend_from_slice(&chunk);
        }
        self.connection = Some(stream.connection);
        Ok(Reply { status, headers, body: body.freeze() })
    }

    /// Asks for an answer that may never end. The connection goes with it.
    pub(super) async fn open(
        &mut self,
        target: &str,
        headers: &HeaderMap,
        limit: Duration,
    ) -> Result<Stream, PeerError> {
        let opened = timeout(limit, self.start(target, headers)).await;
        let started =
            opened.unwrap_or_else(|_| Err(self.place.broken(format!("no answer within {} s", limit.as_secs()))));
        started.map(|started| started.stream)
    }

    async fn start(&mut self, target: &str, headers: &HeaderMap) -> Result<Started, PeerError> {
        if let Some(kept) = self.connection.take()
            && let Ok(started) = kept.send(self.place.request(target, headers)?).await
        {
            return Ok(started);
        }
        // it may have been closed while it was idle: a fresh one decides
        let place = Arc::clone(&self.place);
        let fresh = place.connect().await?;
        fresh.send(place.request(target, headers)?).await.map_err(|why| place.broken(why))
    }
}

impl Place {
    fn request(&self, target: &str, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, PeerError> {
        let request = Request::get(target).header(header::HOST, Shown(&self.at).to_string());
        let mut request = request.body(Empty::new()).map_err(|error| self.broken(error))?;
        request.headers_mut().extend(headers.clone());
        Ok(request)
    }

    async fn connect(&self) -> Result<Connection, PeerError> {
        let refused = |why: String| PeerError::Connect { at: Shown(&self.at).to_string(), why };
        let mut last = "it has no address".to_owned();
        for ip in self.addresses().await.map_err(refused)?.into_iter().take(ADDRESSES_TRIED) {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(SocketAddr::new(ip, self.at.port))).await {
                Err(_) => last = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
                Ok(Err(error)) => last = error.to_string(),
                Ok(Ok(io)) => {
                    let _best_effort = io.set_nodelay(true);
                    let shaken = http1::Builder::new().max_buf_size(BUFFER_MAX).handshake(TokioIo::new(io)).await;
                    let (send, drive) = shaken.map_err(|error| self.broken(error))?;
                    return Ok(Connection { send, drive: Some(Box::pin(drive)) });
                }
            }
        }
        Err(refused(last))
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        let name = match &self.at.host {
            Host::Ip(ip) => return Ok(vec![*ip]),
            Host::Name(name) if is_localhost(name) => {
                return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            }
            Host::Name(name) => name,
            Host::Unix(_) => return Err("a Unix socket is no such peer".into()),
        };
        let client = DnsClient::new(self.dns).map_err(|error| error.to_string())?;
        let answer = client.ask(name).await;
        let mut found = Vec::new();
        let mut why = None;
        for family in [answer.v4, answer.v6] {
            match family {
                Family::Found(ips) => found.extend(ips),
                Family::Failed(reason) | Family::Nothing(reason) => why = why.or(Some(reason)),
            }
        }
        match why {
            Some(why) if found.is_empty() => Err(why.to_string()),
            _ => Ok(found),
        }
    }

    fn broken(&self, why: impl fmt::Display) -> PeerError {
        PeerError::Broken { at: Shown(&self.at).to_string(), why: why.to_string() }
    }
}

struct Started {
    status: StatusCode,
    headers: HeaderMap,
    stream: Stream,
}

impl Connection {
    async fn send(mut self, request: Request<Empty<Bytes>>) -> Result<Started, String> {
        let Self { send, drive } = &mut self;
        let asking = async {
            send.ready().await?;
            send.send_request(request).await
        };
        let response = driven(drive, asking).await.map_err(|error| said(&error))?;
        let (parts, body) = response.into_parts();
        let stream = Stream { status: parts.status, body, connection: self };
        Ok(Started { status: parts.status, headers: parts.headers, stream })
    }
}

impl Stream {
    /// The next octets; `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match driven(&mut self.connection.drive, self.body.frame()).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(said(&error)),
                Some(Ok(frame)) => {
                    // trailers say nothing here
                    if let Ok(data) = frame.into_data()
                        && data.has_remaining()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Waits for something of a connection and moves its octets meanwhile.
async fn driven<T>(
    drive: &mut Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    wanted: impl Future<Output = T>,
) -> T {
    let mut wanted = std::pin::pin!(wanted);
    if let Some(driving) = drive {
        tokio::select! {
            biased;
            got = &mut wanted => return got,
            _ended = driving => {}
        }
        *drive = None;
    }
    wanted.await
}

fn said(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// As it stands in `Host`.
struct Shown<'a>(&'a HostPort);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.0.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.0.port),
            Host::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Is it an answer about what was asked for. One about who asks (401, 403, 429) concerns every name, as no answer does.
pub(super) fn is_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 300..500) && !matches!(status.as_u16(), 401 | 403 | 429)
}

/// A value in a query or a segment of a path: RFC 3986's unreserved characters stand for themselves.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// How long to wait before the next try after so many failures in a row: between half of a doubling wait and all of
/// it, drawn by chance so that a registry that comes back is not asked by all at once.
pub(super) fn backoff(failures: u32, (min, max): (Duration, Duration), draw: u64) -> Duration {
    let whole = min.saturating_mul(1_u32.checked_shl(failures.min(DOUBLINGS_MAX)).unwrap_or(u32::MAX)).min(max);
    let half = whole / 2;
    let part = (draw >> 11) as f64 / (1_u64 << 53) as f64;
    (half + half.mul_f64(part)).max(min.min(max) / 2)
}

const DOUBLINGS_MAX: u32 = 20;
/// A connection takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of a registry that are tried in turn.
const ADDRESSES_TRIED: usize = 4;
/// Octets of a head, and of what is read at once.
const BUFFER_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_drawn_from_their_upper_half() {
        let range = (Duration::from_millis(10), Duration::from_secs(5));
        for (failures, draw, expected_us) in [
            (0, 0, 5_000),
            (0, u64::MAX, 10_000),
            (1, 0, 10_000),
            (8, u64::MAX / 2, 1_920_000),
            (9, 0, 2_500_000),
            (40, u64::MAX, 5_000_000),
        ] {
            let wait = backoff(failures, range, draw).as_micros();
            assert!(wait.abs_diff(expected_us) <= 1, "{failures} failures: {wait} us");
        }
    }

    #[test]
    fn only_unreserved_characters_stand_for_themselves() {
        assert_eq!(encoded("web-1.a_b~C/d&e=f é"), "web-1.a_b~C%2Fd%26e%3Df%20%C3%A9");
    }
}

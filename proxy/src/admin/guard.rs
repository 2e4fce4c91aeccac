//! PURE: who may see what of the admin server.

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode, Version};

/// Pages that answer anybody: what load balancers, orchestrators and scrapers need.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// What is known of a request before any page sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit<'a> {
    path: &'a str,
    /// Host, or host and port, as the client wrote it; `None` only where HTTP/1.0 allows it.
    host: Option<&'a [u8]>,
    hosts: usize,
    needs_host: bool,
    authorization: Option<&'a [u8]>,
    peer: IpAddr,
}

/// A visit that ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    why: String,
}

impl<'a> Visit<'a> {
    pub(super) fn of<B>(request: &'a Request<B>, peer: SocketAddr) -> Self {
        let headers = request.headers();
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        Self {
            path: request.uri().path(),
            host: authority.or_else(|| headers.get(HOST).map(HeaderValue::as_bytes)),
            hosts: headers.get_all(HOST).iter().count(),
            needs_host: request.version() > Version::HTTP_10,
            authorization: headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
            peer: peer.ip().to_canonical(),
        }
    }
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(format!("{}\n", self.why)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"serin\""));
        }
        response
    }
}

/// May this visit go on to a page?
///
/// The token opens everything; no page of a browser can send it. Without it, a peer on loopback is let in if it calls
/// us by an address or as `localhost`, and other peers only to the open pages.
pub(super) fn check(visit: &Visit<'_>, token: Option<&str>) -> Result<(), Refusal> {
    if visit.hosts > 1 || (visit.needs_host && visit.host.is_none()) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "a request needs exactly one Host"));
    }
    let sent = visit.authorization.and_then(bearer);
    if let (Some(sent), Some(token)) = (sent, token) {
        return if same(sent, token.as_bytes()) {
            Ok(())
        } else {
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "this is not the token"))
        };
    }
    let open = OPEN.contains(&visit.path);
    if !visit.peer.is_loopback() {
        let why = match token {
            _ if open => return Ok(()),
            Some(_) => "from here only /livez, /readyz and /metrics are open without Authorization: Bearer <token>",
            None => "from here only /livez, /readyz and /metrics are open; set SERIN_TOKEN and send it to see the rest",
        };
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, why));
    }
    match visit.host {
        Some(host) if !is_ours(host) => {
            let host = String::from_utf8_lossy(host.get(..HOST_SHOWN_MAX).unwrap_or(host)).into_owned();
            let why = format!("Host `{host}` is not a name of this admin server: use its IP address or localhost");
            Err(Refusal::new(StatusCode::FORBIDDEN, why))
        }
        _ => Ok(()),
    }
}

/// Octets of a refused host that the answer repeats.
const HOST_SHOWN_MAX: usize = 100;

/// An address or `localhost`: names that no stranger's DNS server can point at us.
fn is_ours(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else { return false };
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<IpAddr>().is_ok();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost")
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim_ascii())
}

const BEARER: &[u8] = b"Bearer ";

/// Takes the same time wherever two secrets of one length differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: &str = "127.0.0.1:5000";
    const FAR: &str = "192.0.2.7:5000";
    const TOKEN: &str = "correct horse";

    #[track_caller]
    fn check_visit(peer: &str, path: &str, host: &str, authorization: Option<&str>, status: u16) {
        let mut request = Request::builder().uri(path).header(HOST, host);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(()).unwrap();
        let found = check(&Visit::of(&request, peer.parse().unwrap()), Some(TOKEN));
        assert_eq!(found.map_or_else(|refusal| refusal.status.as_u16(), |()| 200), status);
    }

    #[test]
    fn loopback_reads_everything_under_a_name_of_ours() {
        for host in ["127.0.0.1:9990", "localhost:9990", "LocalHost", "[::1]:9990", "[::1]", "10.1.2.3"] {
            check_visit(NEAR, "/config.json", host, None, 200);
        }
    }

    #[test]
    fn a_strangers_name_is_refused() {
        for host in ["evil.example", "evil.example:9990", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b"]
        {
            check_visit(NEAR, "/metrics", host, None, 403);
        }
    }

    #[test]
    fn far_peers_see_the_open_pages_only() {
        for path in OPEN {
            check_visit(FAR, path, "serin:9990", None, 200);
        }
        check_visit(FAR, "/readyz?verbose", "serin", None, 200);
        check_visit(FAR, "/config.json", "192.0.2.1", None, 401);
        check_visit(FAR, "/metrics/", "192.0.2.1", None, 401);
    }

    #[test]
    fn the_token_opens_everything_and_a_wrong_one_nothing() {
        check_visit(FAR, "/config.json", "serin", Some("Bearer correct horse"), 200);
        check_visit(FAR, "/config.json", "serin", Some("bearer correct horse"), 200);
        check_visit(FAR, "/config.json", "serin", Some("Bearer correct hors"), 401);
        check_visit(FAR, "/config.json", "serin", Some("Bearer correct horsf"), 401);
        check_visit(FAR, "/config.json", "serin", Some("Basic correct horse"), 401);
        check_visit(NEAR, "/config.json", "127.0.0.1", Some("Bearer wrong"), 401);
    }

    #[test]
    fn two_hosts_are_one_too_many() {
        let request = Request::builder().header(HOST, "localhost").header(HOST, "localhost").body(()).unwrap();
        let found = check(&Visit::of(&request, NEAR.parse().unwrap()), None);
        assert_eq!(found.unwrap_err().status, StatusCode::BAD_REQUEST);
    }
}

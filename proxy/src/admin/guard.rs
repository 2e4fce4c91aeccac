//! PURE: who may see and change what of the admin server.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode, Version};

use super::problem;
use crate::context::base64;

/// Pages that answer anybody: what load balancers, orchestrators and scrapers need.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Below this everything that is not read changes something.
const WRITES: &str = "/api/";

/// The secrets that open the pages. Either will do.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// What `SERIN_TOKEN` was at the start.
    pub given: Option<String>,
    /// What lies in the storage folder, and where.
    pub stored: Option<(String, PathBuf)>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.stored.as_ref().map(|(_, file)| file);
        f.debug_struct("Tokens").field("given", &self.given.is_some()).field("stored", &file).finish()
    }
}

impl Tokens {
    fn all(&self) -> impl Iterator<Item = &str> {
        self.given.as_deref().into_iter().chain(self.stored.as_ref().map(|(token, _)| token.as_str()))
    }

    pub(crate) fn exist(&self) -> bool {
        self.all().next().is_some()
    }

    /// Looks at each, whichever fits.
    pub(crate) fn have(&self, sent: &[u8]) -> bool {
        self.all().fold(false, |found, token| found | same(sent, token.as_bytes()))
    }

    /// Where who sits at this machine finds it. Others are not told of our files.
    pub(crate) fn whereabouts(&self, near: bool) -> String {
        match (&self.given, &self.stored) {
            (_, Some((_, file))) if near => format!("the token is in {}: send Authorization: Bearer <token>", file.display()),
            (Some(_), _) => "the token is what SERIN_TOKEN was when Serin was started: send Authorization: Bearer <token>".to_owned(),
            (None, Some(_)) => "the token is in the storage folder of Serin: send Authorization: Bearer <token>".to_owned(),
            (None, None) => "there is no token: give the file a `storage: {kind: file, dir: …}`, or start Serin with SERIN_TOKEN set".to_owned(),
        }
    }
}

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
    writes: bool,
}

/// A visit that ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    why: String,
    hint: Option<String>,
    /// Programs read it.
    json: bool,
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
            writes: request.uri().path().starts_with(WRITES) && !request.method().is_safe(),
        }
    }
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), hint: None, json: false }
    }

    fn hint(self, hint: String) -> Self {
        Self { hint: Some(hint), ..self }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let hint = self.hint.unwrap_or_default();
        let mut response = if self.json {
            problem::response(self.status, &self.why, &hint)
        } else {
            let line = if hint.is_empty() { String::new() } else { format!("{hint}\n") };
            let mut response = Response::new(Body::from(format!("{}\n{line}", self.why)));
            *response.status_mut() = self.status;
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, plain);
            response
        };
        if self.status == StatusCode::UNAUTHORIZED {
            let asks = HeaderValue::from_static("Bearer realm=\"serin\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, asks);
        }
        response
    }
}

/// May this visit go on to a page?
///
/// A token opens everything; no page of a browser can send it. Without it, a peer on loopback may read if it calls us by
/// an address or as `localhost`, and other peers only the open pages. Nobody changes anything without it.
pub(super) fn check(visit: &Visit<'_>, tokens: &Tokens) -> Result<(), Refusal> {
    let json = visit.path.starts_with(WRITES);
    decide(visit, tokens).map_err(|refusal| Refusal { json, ..refusal })
}

fn decide(visit: &Visit<'_>, tokens: &Tokens) -> Result<(), Refusal> {
    if visit.hosts > 1 || (visit.needs_host && visit.host.is_none()) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "a request needs exactly one Host"));
    }
    let near = visit.peer.is_loopback();
    let sent = visit.authorization.and_then(bearer);
    if let Some(sent) = sent
        && tokens.exist()
    {
        return if tokens.have(sent) {
            Ok(())
        } else {
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "this is not the token").hint(tokens.whereabouts(near)))
        };
    }
    if visit.writes {
        let why = "changes need the token, from this machine too";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, why).hint(tokens.whereabouts(near)));
    }
    let open = OPEN.contains(&visit.path);
    if !near {
        let why = match tokens.exist() {
            _ if open => return Ok(()),
            true => "from here only /livez, /readyz and /metrics are open without Authorization: Bearer <token>",
            false => {
                "from here only /livez, /readyz and /metrics are open; set SERIN_TOKEN and send it to see the rest"
            }
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
pub(crate) fn is_ours(host: &[u8]) -> bool {
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

pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim_ascii())
}

const BEARER: &[u8] = b"Bearer ";

/// The password of `Authorization: Basic` (RFC 7617): what stands behind the first colon. `None`: it is something else, or
/// longer than any token is.
pub(crate) fn basic_password(value: &[u8]) -> Option<Vec<u8>> {
    const BASIC: &[u8] = b"Basic ";
    let (scheme, text) = value.split_at_checked(BASIC.len())?;
    let text = text.trim_ascii();
    if !scheme.eq_ignore_ascii_case(BASIC) || text.len() > BASIC_TEXT_MAX {
        return None;
    }
    let mut octets = base64::decode_any(text)?;
    let colon = octets.iter().position(|octet| *octet == b':')?;
    Some(octets.split_off(colon + 1))
}

/// Characters of user and password in Base64.
const BASIC_TEXT_MAX: usize = 1024;

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

    fn tokens() -> Tokens {
        Tokens { given: Some(TOKEN.into()), stored: Some(("battery".into(), "state/token".into())) }
    }

    #[track_caller]
    fn check_visit(peer: &str, path: &str, host: &str, authorization: Option<&str>, status: u16) {
        let mut request = Request::builder().uri(path).header(HOST, host);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(()).unwrap();
        let found = check(&Visit::of(&request, peer.parse().unwrap()), &tokens());
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
        let found = check(&Visit::of(&request, NEAR.parse().unwrap()), &Tokens::default());
        assert_eq!(found.unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[track_caller]
    fn check_write(tokens: &Tokens, peer: &str, authorization: Option<&str>, expected: Result<(), &str>) {
        let mut request = Request::post("/api/v1/rollouts/world/abort").header(HOST, "localhost");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(()).unwrap();
        let found = check(&Visit::of(&request, peer.parse().unwrap()), tokens);
        let found = found.map_err(|refusal| {
            assert_eq!((refusal.status, refusal.json), (StatusCode::UNAUTHORIZED, true));
            refusal.hint.unwrap_or_default()
        });
        match expected {
            Ok(()) => assert_eq!(found, Ok(())),
            Err(part) => assert!(found.as_ref().is_err_and(|hint| hint.contains(part)), "{part} in {found:?}"),
        }
    }

    #[test]
    fn writes_need_a_token_from_loopback_too_and_are_told_where_it_is() {
        let both = tokens();
        let given = Tokens { stored: None, ..tokens() };
        check_write(&both, NEAR, Some("Bearer correct horse"), Ok(()));
        check_write(&both, NEAR, Some("Bearer battery"), Ok(()));
        check_write(&both, FAR, Some("Bearer battery"), Ok(()));
        check_write(&both, NEAR, None, Err("state/token"));
        check_write(&both, NEAR, Some("Bearer wrong"), Err("state/token"));
        check_write(&both, FAR, None, Err("SERIN_TOKEN was"));
        check_write(&given, NEAR, None, Err("SERIN_TOKEN was"));
        check_write(&Tokens::default(), NEAR, None, Err("there is no token"));
        check_write(&Tokens::default(), NEAR, Some("Bearer "), Err("there is no token"));
    }

    #[test]
    fn reads_below_the_api_need_no_token_on_loopback() {
        check_visit(NEAR, "/api/v1/rollouts", "localhost", None, 200);
        check_visit(FAR, "/api/v1/rollouts", "serin", None, 401);
        check_visit(FAR, "/api/v1/rollouts", "serin", Some("Bearer battery"), 200);
    }
}

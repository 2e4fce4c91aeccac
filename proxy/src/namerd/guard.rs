//! PURE: who may read and change dtabs without a token.
//!
//! namerd asks nobody who they are: its API is as open as its address. Here too, with two exceptions. A change that comes
//! by a listener which others than this machine can reach needs the token. And what a browser sends on behalf of a web page is
//! refused: pages can reach listeners on loopback that their authors cannot.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderValue, Request, StatusCode};

use crate::admin::Tokens;
use crate::admin::guard::{basic_password, bearer, is_ours};

/// Where a request comes from, and by which address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) peer: IpAddr,
    pub(super) local: IpAddr,
}

/// Why a visit ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

/// May this request go on?
pub(super) fn check<B>(request: &Request<B>, visit: &Visit, tokens: &Tokens) -> Result<(), Refusal> {
    let headers = request.headers();
    if headers.get_all(HOST).iter().count() > 1 {
        return refuse(StatusCode::BAD_REQUEST, "a request needs exactly one Host");
    }
    let near = visit.peer.to_canonical().is_loopback() && visit.local.to_canonical().is_loopback();
    let written = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    // `namerctl` can send a user and a password, out of its base URL, and nothing else
    let password = written.and_then(basic_password);
    if let Some(sent) = written.and_then(bearer).or(password.as_deref())
        && tokens.exist()
    {
        let why = || format!("this is not the token; {}", tokens.whereabouts(near));
        return if tokens.have(sent) { Ok(()) } else { refuse(StatusCode::UNAUTHORIZED, why()) };
    }
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let host = authority.or_else(|| headers.get(HOST).map(HeaderValue::as_bytes));
    if near && host.is_some_and(|host| !is_ours(host)) {
        let why = "Host is not a name of this listener: use its IP address or localhost";
        return refuse(StatusCode::FORBIDDEN, why);
    }
    if request.method().is_safe() {
        return Ok(());
    }
    if headers.contains_key(ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, "web pages may not change dtabs");
    }
    if near {
        return Ok(());
    }
    let why = format!("changes by other than the loopback address need the token; {}", tokens.whereabouts(false));
    refuse(StatusCode::UNAUTHORIZED, why)
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { status, why: why.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: [&str; 2] = ["127.0.0.1", "127.0.0.1"];
    const FAR: [&str; 2] = ["192.0.2.7", "192.0.2.1"];
    /// This machine, by an address that others reach too.
    const SELF: [&str; 2] = ["192.0.2.1", "192.0.2.1"];

    #[track_caller]
    fn check_visit(method: &str, [peer, local]: [&str; 2], lines: &[(&str, &str)], status: u16) {
        let mut request = Request::builder().method(method).uri("/api/1/dtabs/web");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let visit = Visit { peer: peer.parse().unwrap(), local: local.parse().unwrap() };
        let tokens = Tokens { given: Some("secret".into()), stored: None };
        let found = check(&request.body(()).unwrap(), &visit, &tokens);
        assert_eq!(found.map_or_else(|refusal| refusal.status.as_u16(), |()| 200), status, "{method} {lines:?}");
    }

    #[test]
    fn this_machine_reads_and_writes_by_loopback() {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            for host in ["127.0.0.1:4180", "localhost:4180", "[::1]:4180"] {
                check_visit(method, NEAR, &[("host", host)], 200);
            }
            check_visit(method, ["::ffff:127.0.0.1", "::1"], &[("host", "localhost")], 200);
        }
    }

    #[test]
    fn others_read_and_need_the_token_to_write() {
        for from in [FAR, SELF] {
            check_visit("GET", from, &[("host", "namerd.internal:4180")], 200);
            for method in ["PUT", "POST", "DELETE"] {
                check_visit(method, from, &[("host", "namerd.internal:4180")], 401);
                check_visit(method, from, &[("host", "x"), ("authorization", "Bearer wrong")], 401);
                check_visit(method, from, &[("host", "x"), ("authorization", "Bearer secret")], 200);
                for (basic, status) in [
                    ("Basic eDpzZWNyZXQ=", 200),
                    ("basic  OnNlY3JldA==", 200),
                    ("Basic eDp3cm9uZw==", 401),
                    ("Basic c2VjcmV0", 401),
                    ("Basic eDpzZWNyZXQ=?", 401),
                ] {
                    check_visit(method, from, &[("host", "x"), ("authorization", basic)], status);
                }
            }
        }
    }

    #[test]
    fn web_pages_get_nowhere() {
        check_visit("GET", NEAR, &[("host", "evil.example")], 403);
        check_visit("POST", NEAR, &[("host", "evil.example")], 403);
        check_visit("POST", NEAR, &[("host", "localhost"), ("origin", "https://evil.example")], 403);
        check_visit("POST", NEAR, &[("host", "localhost"), ("origin", "null")], 403);
        check_visit("GET", NEAR, &[("host", "localhost"), ("host", "localhost")], 400);
    }
}

//! PURE: what a rule does with a request and its answer, ready to be done.

use http::header::{HeaderName, HeaderValue, LOCATION};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, StatusCode};
use serin_config::dtab::Path;
use serin_config::identify;
use serin_config::model::{HeaderChanges, PathRewrite, Redirect, RouteRule};

use super::Parts;
use crate::error::ProxyError;

/// What a rule does.
#[derive(Debug)]
pub struct Action {
    /// The key of its name.
    name: Option<Box<[u8]>>,
    redirect: Option<Redirect>,
    host: Option<Authority>,
    path: Option<PathRewrite>,
    request: Changes,
    response: Changes,
}

/// Changes of headers. Values are copied into a message: sharing them would have all cores count one reference.
#[derive(Debug)]
struct Changes {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl Action {
    pub(super) fn new(rule: &RouteRule) -> Self {
        Self {
            name: rule.name.as_ref().and_then(identify::written_key),
            redirect: rule.redirect.clone(),
            host: rule.rewrite_host.as_ref().and_then(|host| Authority::try_from(host.as_str()).ok()),
            path: rule.rewrite_path.clone(),
            request: Changes::new(&rule.request),
            response: Changes::new(&rule.response),
        }
    }

    /// The key of the name that it gives. `None`: the identifiers name the request.
    pub fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }

    /// The name that it gives.
    pub fn path(&self) -> Option<Path> {
        identify::path(self.name()?)
    }

    /// Has it another host, or changes of headers.
    pub fn changes(&self) -> bool {
        self.host.is_some() || !self.request.is_empty() || !self.response.is_empty()
    }

    /// What the upstream sees as host, if it is another.
    pub fn host(&self) -> Option<&Authority> {
        self.host.as_ref()
    }

    /// Path and query that the upstream sees, if the rule says so. `prefix`: octets of the prefix that matched.
    ///
    /// # Errors
    /// The new path and what stays of the old one are no path.
    pub fn target(&self, parts: &Parts<'_>, prefix: usize) -> Result<Option<PathAndQuery>, ProxyError> {
        let Some(rewrite) = &self.path else { return Ok(None) };
        let mut target = rewritten(rewrite, parts.path, prefix);
        push_query(&mut target, parts.query);
        let target = PathAndQuery::from_maybe_shared(bytes::Bytes::from(target));
        target.map(Some).map_err(|_| ProxyError::BadRequest("the target is malformed"))
    }

    /// Where the client is sent instead, and with which status.
    ///
    /// # Errors
    /// The place is on the host that was asked, and none was: HTTP/1.0 may leave it out.
    pub fn redirect(&self, parts: &Parts<'_>, prefix: usize) -> Result<Option<(StatusCode, String)>, ProxyError> {
        let Some(redirect) = &self.redirect else { return Ok(None) };
        if redirect.host.is_none() && parts.host.unwrap_or_default().is_empty() {
            return Err(ProxyError::BadRequest("no Host to stay on with a redirect"));
        }
        let asked = String::from_utf8_lossy(parts.host.unwrap_or_default());
        let scheme = redirect.scheme.unwrap_or("http");
        let mut location = format!("{scheme}://");
        let bare = || String::from_utf8_lossy(identify::without_port(parts.host.unwrap_or_default()));
        let own_port = if scheme == "https" { 443 } else { 80 };
        match (&redirect.host, redirect.port) {
            // the port that was asked is another scheme's
            (None, None) if redirect.scheme.is_some() => location.push_str(&bare()),
            (None, None) => location.push_str(&asked),
            (host, port) => {
                location.push_str(host.as_deref().unwrap_or(&bare()));
                if let Some(port) = port.filter(|port| *port != own_port) {
                    location.push_str(&format!(":{port}"));
                }
            }
        }
        match &redirect.path {
            Some(rewrite) => location.push_str(&rewritten(rewrite, parts.path, prefix)),
            None if parts.path.starts_with('/') => location.push_str(parts.path),
            None => location.push('/'),
        }
        push_query(&mut location, parts.query);
        Ok(Some((StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND), location)))
    }

    /// Changes the headers of a request.
    pub fn change_request(&self, headers: &mut HeaderMap) {
        self.request.apply(headers);
    }

    /// Changes the headers of an answer.
    pub fn change_response(&self, headers: &mut HeaderMap) {
        self.response.apply(headers);
    }
}

/// The headers of a redirect. `None`: the place is no header value.
pub fn location(place: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((LOCATION, HeaderValue::try_from(place).ok()?))
}

impl Changes {
    fn new(changes: &HeaderChanges) -> Self {
        let name = |text: &String| HeaderName::from_bytes(text.as_bytes()).ok();
        let pair = |(key, value): &(String, String)| Some((name(key)?, HeaderValue::from_str(value).ok()?));
        Self {
            set: changes.set.iter().filter_map(pair).collect(),
            add: changes.add.iter().filter_map(pair).collect(),
            remove: changes.remove.iter().filter_map(name).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in self.set.iter().filter_map(own) {
            headers.insert(name, value);
        }
        for (name, value) in self.add.iter().filter_map(own) {
            headers.append(name, value);
        }
    }
}

/// A copy that shares nothing. What was legal once is again.
fn own((name, value): &(HeaderName, HeaderValue)) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_bytes(name.as_str().as_bytes()).ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
}

fn rewritten(rewrite: &PathRewrite, path: &str, prefix: usize) -> String {
    match rewrite {
        PathRewrite::Full(full) => full.clone(),
        PathRewrite::Prefix(instead) => match (instead.as_str(), path.get(prefix..).unwrap_or_default()) {
            ("", "") => "/".to_owned(),
            (instead, rest) => format!("{instead}{rest}"),
        },
    }
}

fn push_query(target: &mut String, query: Option<&str>) {
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::{Method, Version};
    use serin_config::Config;
    use serin_config::source::Source;

    use super::*;

    /// The only rule of a file.
    fn action(rule: &str) -> Action {
        let text = format!("routers: [{{servers: [{{port: 1}}], rules: [{rule}]}}]");
        match Config::parse(&Source::new("t", text)) {
            Ok((config, _)) => Action::new(&config.routers[0].rules[0]),
            Err(mistakes) => panic!("{mistakes}"),
        }
    }

    fn with_parts<R>(host: &str, target: &str, f: impl FnOnce(&Parts<'_>) -> R) -> R {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        f(&Parts {
            method: &Method::GET,
            version: Version::HTTP_11,
            host: Some(host.as_bytes()),
            path,
            query,
            headers: &HeaderMap::new(),
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        })
    }

    #[track_caller]
    fn check_rewrite(prefix: &str, instead: &str, target: &str, sent: &str) {
        let action = action(&format!("{{match: {{path: {{prefix: {prefix}}}}}, rewrite: {{path: {instead}}}}}"));
        let prefix = prefix.trim_end_matches('/').len();
        let found = with_parts("h", target, |parts| action.target(parts, prefix).unwrap().unwrap());
        assert_eq!(found.as_str(), sent, "{target}");
    }

    #[test]
    fn a_prefix_is_replaced_and_the_rest_kept() {
        check_rewrite("/foo", "{prefix: /bar}", "/foo/x%2Fy/?q=%41", "/bar/x%2Fy/?q=%41");
        check_rewrite("/foo", "{prefix: /bar}", "/foo", "/bar");
        check_rewrite("/foo/", "{prefix: /bar/}", "/foo/x", "/bar/x");
        check_rewrite("/foo", "{prefix: /}", "/foo/x", "/x");
        check_rewrite("/foo", "{prefix: /}", "/foo?q", "/?q");
        check_rewrite("/foo", "{prefix: /}", "/foo//x", "//x");
        check_rewrite("/", "{prefix: /bar}", "/", "/bar/");
        check_rewrite("/", "{prefix: /bar}", "/x", "/bar/x");
        check_rewrite("/foo", "/whole/", "/foo/x?q=1", "/whole/?q=1");
    }

    #[track_caller]
    fn check_redirect(keys: &str, host: &str, target: &str, place: &str) {
        let action = action(&format!("{{match: {{path: {{prefix: /a}}}}, redirect: {{{keys}}}}}"));
        let found = with_parts(host, target, |parts| action.redirect(parts, 2)).unwrap().unwrap();
        assert_eq!(format!("{} {}", found.0.as_u16(), found.1), place, "{keys}");
    }

    #[test]
    fn a_redirect_changes_what_it_says_and_keeps_the_rest() {
        check_redirect("scheme: https", "h:8080", "/a/b?q=1", "302 https://h/a/b?q=1");
        check_redirect("scheme: https, port: 443, status: 301", "h:8080", "/a", "301 https://h/a");
        check_redirect("scheme: https, port: 8443, status: 308", "h:8080", "/a", "308 https://h:8443/a");
        check_redirect("host: x.test, status: 307", "h:8080", "/a?q", "307 http://x.test/a?q");
        check_redirect("port: 81, status: 303", "h:8080", "/a", "303 http://h:81/a");
        check_redirect("path: /new", "h:8080", "/a/b?q", "302 http://h:8080/new?q");
        check_redirect("path: {prefix: /n}", "[::1]:8080", "/a/b", "302 http://[::1]:8080/n/b");
        check_redirect("scheme: https", "[::1]", "/a", "302 https://[::1]/a");
        check_redirect("path: {prefix: /}", "h", "/a//evil.test/x", "302 http://h//evil.test/x");
    }

    #[test]
    fn headers_are_set_added_and_removed() {
        let action = action(
            "{headers: {request: {set: {X-Set: new}, add: {x-add: more}, remove: [x-gone]}, response: {remove: server}}}",
        );
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-set", "a"), ("x-set", "b"), ("x-add", "one"), ("x-gone", "x"), ("x-gone", "y")] {
            headers.append(name, value.parse().unwrap());
        }
        action.change_request(&mut headers);
        let values =
            |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join("|");
        assert_eq!([values("x-set"), values("x-add"), values("x-gone")], ["new", "one|more", ""]);
        let mut answer = HeaderMap::from_iter([(http::header::SERVER, HeaderValue::from_static("x"))]);
        action.change_response(&mut answer);
        assert!(answer.is_empty() && action.changes() && action.name().is_none());
    }
}

//! PURE: what a request is called, which override rules it meets, and what a sticky draw hashes.

mod action;
mod conditions;
mod table;

use std::net::{IpAddr, SocketAddr};

use http::header::{COOKIE, HeaderName};
use http::{HeaderMap, Method, Version};
use serin_config::identify::Request;
use serin_config::model::{StickyKey, When};

pub use action::{Action, location};
pub(crate) use conditions::{has_field, has_parameter};
pub use table::{Found, HOST_BYTES_MAX, RouteTable};

/// The parts of a request that routing may look at.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The version it came in.
    pub version: Version,
    /// Authority of the target, or the `Host` field.
    pub host: Option<&'a [u8]>,
    /// Raw path of the target, without the query.
    pub path: &'a str,
    /// The query, raw.
    pub query: Option<&'a str>,
    /// All fields.
    pub headers: &'a HeaderMap,
    /// Who sent it.
    pub peer: SocketAddr,
}

impl Request for Parts<'_> {
    fn method(&self) -> &[u8] {
        self.method.as_str().as_bytes()
    }

    fn is_http10(&self) -> bool {
        self.version == Version::HTTP_10
    }

    fn host(&self) -> Option<&[u8]> {
        self.host
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn field(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(|value| value.as_bytes())
    }
}

/// Do all conditions of an override rule hold.
pub fn matches(when: &When, parts: &Parts<'_>) -> bool {
    let method = when.methods.is_empty() || when.methods.iter().any(|method| method == parts.method.as_str());
    let source = || {
        let peer = parts.peer.ip().to_canonical();
        when.sources.is_empty() || when.sources.iter().any(|network| network.contains(&peer))
    };
    let path = || when.path_prefix.as_deref().is_none_or(|prefix| is_under(parts.path, prefix));
    let headers = || when.headers.iter().all(|(name, value)| has_value(parts.headers, name, value));
    let cookies = || when.cookies.iter().all(|(name, value)| cookie(parts.headers, name) == Some(value.as_bytes()));
    method && source() && path() && headers() && cookies()
}

/// What identifies the user of a sticky split. `None`: this request has no key and is drawn by chance.
pub fn sticky_key<'a>(key: &StickyKey, headers: &'a HeaderMap, peer: &'a PeerKey) -> Option<&'a [u8]> {
    let found = match key {
        StickyKey::Cookie(name) => cookie(headers, name),
        StickyKey::Header(name) => headers.get(name.as_str()).map(|value| value.as_bytes()),
        StickyKey::Source => Some(peer.0.as_slice()),
    };
    found.filter(|key| !key.is_empty())
}

/// A peer's address in the form that sticky draws hash: 16 octets, IPv4 mapped into IPv6, without port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerKey([u8; 16]);

impl From<IpAddr> for PeerKey {
    fn from(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        })
    }
}

/// The value of the first cookie of this name, without quotes (RFC 6265 section 4.2.1).
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
    pairs.filter_map(|pair| split_pair(pair.trim_ascii())).find(|(key, _)| *key == name.as_bytes()).map(|(_, v)| v)
}

fn split_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (pair[..at].trim_ascii_end(), pair[at + 1..].trim_ascii_start());
    let value = value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value);
    Some((key, value))
}

fn has_value(headers: &HeaderMap, name: &str, value: &str) -> bool {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return false };
    headers.get_all(name).iter().any(|field| field.as_bytes() == value.as_bytes())
}

/// `/a/b` lies under `/a` and under `/a/`, `/ab` does not.
fn is_under(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prefix_ends_at_a_segment() {
        for (path, prefix, under) in
            [("/a/b", "/a", true), ("/a", "/a", true), ("/ab", "/a", false), ("/a/b", "/a/", true), ("/", "/", true)]
        {
            assert_eq!(is_under(path, prefix), under, "{path} under {prefix}");
        }
    }

    #[test]
    fn cookies_are_found_by_whole_name_over_several_fields() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "xab=1; a = \"two\"".parse().unwrap());
        headers.append(COOKIE, "b=3".parse().unwrap());
        assert_eq!(cookie(&headers, "a"), Some(b"two".as_slice()));
        assert_eq!(cookie(&headers, "b"), Some(b"3".as_slice()));
        assert_eq!(cookie(&headers, "ab"), None);
    }

    #[test]
    fn a_peer_hashes_the_same_over_both_families() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(PeerKey::from(mapped), PeerKey::from(IpAddr::from([10, 0, 0, 1])));
    }
}

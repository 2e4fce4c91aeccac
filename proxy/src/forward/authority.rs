//! The `Host` that a namer wants for its names, and the way back: what an origin says of itself under that name is told
//! to the caller under the name that the caller used. PURE.

use http::header::{LOCATION, REFRESH};
use http::{HeaderMap, HeaderValue};

/// In `Location` and `Refresh`, `authority` becomes `host`. A port behind it goes too: it was the origin's own.
pub(super) fn map_back(headers: &mut HeaderMap, authority: &HeaderValue, host: &[u8]) {
    for name in [LOCATION, REFRESH] {
        let Some(value) = headers.get(&name) else { continue };
        let mapped = mapped(value.as_bytes(), authority.as_bytes(), host);
        if let Some(mapped) = mapped.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()) {
            headers.insert(name, mapped);
        }
    }
}

/// `None`: the value does not name the authority.
fn mapped(value: &[u8], authority: &[u8], host: &[u8]) -> Option<Vec<u8>> {
    let at = value.windows(2).position(|two| two == b"//")? + 2;
    // what stands before is a scheme, or the seconds and `url=` of Refresh; never a part of a path
    if value[..at - 2].contains(&b'/') {
        return None;
    }
    let end = at.checked_add(authority.len()).filter(|end| *end <= value.len())?;
    if !value[at..end].eq_ignore_ascii_case(authority) {
        return None;
    }
    let behind = &value[end..];
    let port = behind.strip_prefix(b":").map_or(0, |rest| 1 + rest.iter().take_while(|b| b.is_ascii_digit()).count());
    let rest = &behind[port..];
    let ends = matches!(rest.first(), None | Some(b'/' | b'?' | b'#' | b'"' | b'\''));
    ends.then(|| [&value[..at], host, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, value.parse().unwrap());
        map_back(&mut headers, &HeaderValue::from_static("web.service.dc1.consul"), b"shop.test:8080");
        assert_eq!(headers[LOCATION].to_str().unwrap(), expected);
    }

    #[test]
    fn the_origins_name_becomes_the_callers() {
        check("http://web.service.dc1.consul/a", "http://shop.test:8080/a");
        check("https://WEB.service.dc1.consul", "https://shop.test:8080");
        check("//web.service.dc1.consul?q", "//shop.test:8080?q");
        check("http://web.service.dc1.consul:31337/a", "http://shop.test:8080/a");
        check("5; url=http://web.service.dc1.consul/a", "5; url=http://shop.test:8080/a");
    }

    #[test]
    fn what_names_another_or_nobody_stays() {
        for value in [
            "/a",
            "/a?to=http://web.service.dc1.consul/",
            "http://web.service.dc1.consul.evil.test/",
            "http://xweb.service.dc1.consul/",
            "http://web.service.dc1.consul:80x/",
            "http://other.test/",
            "5",
            "//",
            "",
        ] {
            check(value, value);
        }
    }
}

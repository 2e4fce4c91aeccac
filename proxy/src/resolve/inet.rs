//! Bound ids that carry host and port: `/$/inet/web.test/80` and its relatives. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use serin_config::dtab::Path;
use serin_config::model::Host;

use super::targets::{Known, Target, compose};
use crate::endpoints::Addresses;

/// Why text is no host or no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InetError {
    /// Neither an address nor a name that DNS could know.
    #[error("`{0}` is neither an address nor a host name")]
    Host(String),
    /// Not 1 to 65535.
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
}

/// The target of a bound id; `None` for ids of other kinds.
///
/// `/$/inet/<host>/<port>`, `/$/inet/<port>` (this host), the same with `fixedinet`, `/$/io.buoyant.rinet/<port>/<host>`.
#[must_use]
pub fn target(id: &Path) -> Option<Result<Target, InetError>> {
    let labels: Vec<&[u8]> = id.labels().take(LABELS_MAX + 1).collect();
    let (host, port) = match labels.as_slice() {
        [b"$", b"inet" | b"fixedinet", port] => (None, *port),
        [b"$", b"inet" | b"fixedinet", host, port] => (Some(*host), *port),
        [b"$", b"io.buoyant.rinet", port, host] => (Some(*host), *port),
        _ => return None,
    };
    let host = host.map_or(Ok(Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST))), parse_host);
    Some(host.and_then(|host| Ok(Target { host, port: parse_port(port)?, weight: 1.0, rank: 0 })))
}

/// What is known of a new name at once, and whether the resolver must be asked for more.
/// `allow` is given for names made by requests.
pub(crate) fn first_addresses(id: &Path, allow: Option<&[IpNet]>) -> (Addresses, bool) {
    match target(id) {
        Some(Ok(target)) => {
            let needs_dns = target.dns_name().is_some();
            (compose(&[target], |_| Known::Unknown, allow), needs_dns)
        }
        Some(Err(error)) => (Addresses::Failed(error.to_string().into()), false),
        // Names that answer by themselves, such as `/$/io.buoyant.http.status/503`.
        None => (Addresses::Bound(Arc::default()), false),
    }
}

/// An address (IPv6 with or without brackets) or a DNS name, put in lower case.
///
/// # Errors
/// What is neither, also numbers that some resolvers take for addresses (`127.1`, `0x7f000001`).
pub fn parse_host(text: &[u8]) -> Result<Host, InetError> {
    let error = || InetError::Host(shown(text));
    let text = str::from_utf8(text).map_err(|_| error())?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse() {
        return Ok(Host::Ip(ip));
    }
    let name = text.to_ascii_lowercase();
    if is_dns_name(&name) { Ok(Host::Name(name)) } else { Err(error()) }
}

/// A port in decimal, 1 to 65535.
///
/// # Errors
/// Anything else, also a sign or white space.
pub fn parse_port(text: &[u8]) -> Result<u16, InetError> {
    let error = || InetError::Port(shown(text));
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(error());
    }
    let port = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    port.filter(|port| *port != 0).ok_or_else(error)
}

/// Letters, digits, `-` and `_` in labels of 1 to 63, at most 253 together, one dot may end it; the last label has a
/// letter that is no part of a number.
fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    name.len() <= 253 && name.split('.').all(is_label) && !is_number
}

/// The start of a text that a peer or a file sent, printable.
pub(super) fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// Labels of the longest id: `$`, kind, host, port.
const LABELS_MAX: usize = 4;

/// How much of a bad text an error repeats.
const SHOWN_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(id: &str, expected: &str) {
        let text = match target(&id.parse().unwrap()) {
            None => "none".to_owned(),
            Some(Err(error)) => error.to_string(),
            Some(Ok(Target { host: Host::Ip(ip), port, .. })) => format!("ip {ip} {port}"),
            Some(Ok(Target { host: Host::Name(name), port, .. })) => format!("name {name} {port}"),
            Some(Ok(Target { host: Host::Unix(path), .. })) => format!("unix {}", path.display()),
        };
        assert_eq!(text, expected, "{id}");
    }

    #[test]
    fn ids_carry_host_and_port() {
        check("/$/inet/web.test/80", "name web.test 80");
        check("/$/inet/Web.Test/80", "name web.test 80");
        check("/$/fixedinet/10.0.0.1/80", "ip 10.0.0.1 80");
        check("/$/inet/8080", "ip 127.0.0.1 8080");
        check("/$/io.buoyant.rinet/80/web.test", "name web.test 80");
        check("/$/inet/::1/80", "ip ::1 80");
        check("/$/inet/\\x5b::1\\x5d/80", "ip ::1 80");
        check("/$/inet/my_svc.test./80", "name my_svc.test. 80");
    }

    #[test]
    fn other_ids_are_not_ours() {
        for id in ["/", "/$", "/$/inet", "/$/inet/a/80/b", "/#/clusters/web/80", "/$/io.buoyant.http.status/503"] {
            check(id, "none");
        }
    }

    #[test]
    fn bad_ports_are_told() {
        check("/$/inet/web.test/0", "`0` is not a port (1 to 65535)");
        check("/$/inet/web.test/65536", "`65536` is not a port (1 to 65535)");
        check("/$/inet/http", "`http` is not a port (1 to 65535)");
    }

    #[test]
    fn numbers_do_not_pass_for_names() {
        check("/$/inet/8080/9090", "`8080` is neither an address nor a host name");
        check("/$/inet/127.1/80", "`127.1` is neither an address nor a host name");
        check("/$/inet/0x7f000001/80", "`0x7f000001` is neither an address nor a host name");
        check("/$/inet/::1%lo/80", "`::1%lo` is neither an address nor a host name");
        check("/$/inet/a.\\x00b/80", "`a.\\0b` is neither an address nor a host name");
    }

    #[test]
    fn a_name_ends_at_its_limits() {
        let label = "a".repeat(63);
        check(&format!("/$/inet/{label}/80"), &format!("name {label} 80"));
        check(&format!("/$/inet/{label}a/80"), &format!("`{label}a` is neither an address nor a host name"));
        let longest = [label.as_str(), &label, &label, &"b".repeat(61)].join(".");
        assert_eq!(longest.len(), 253);
        assert!(is_dns_name(&longest));
        assert!(!is_dns_name(&format!("{longest}b")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(text in any::<Vec<u8>>()) {
            let _ = parse_port(&text);
            if let Ok(Host::Name(name)) = parse_host(&text) {
                prop_assert!(is_dns_name(&name) && name.len() <= 254);
            }
        }
    }
}

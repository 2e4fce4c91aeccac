//! Scalars with a meaning. A wrong one says what was found, what is allowed, and shows an example.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serin_rollout::Ppm;

use crate::model::{Host, HostPort};

/// The longest time that can be written, one day in milliseconds: more is a slip of the keyboard.
pub const DURATION_MS_MAX: u64 = 86_400_000;
/// The longest word a nearest name is looked for.
const SUGGEST_CHARS_MAX: usize = 64;
/// DNS: the longest name and the longest label, in bytes.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Why a scalar does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// "a whole number from 1 to 65535"
    pub(crate) allowed: Cow<'static, str>,
    /// "4140"
    pub(crate) example: Cow<'static, str>,
    /// What was probably meant.
    pub(crate) help: Option<String>,
}

impl Wrong {
    pub(crate) fn new(allowed: impl Into<Cow<'static, str>>, example: impl Into<Cow<'static, str>>) -> Wrong {
        Wrong { allowed: allowed.into(), example: example.into(), help: None }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Wrong {
        Wrong { help: Some(help.into()), ..self }
    }
}

/// A whole number.
pub(crate) fn whole(text: &str, range: RangeInclusive<u64>, example: &'static str) -> Result<u64, Wrong> {
    let wrong = || Wrong::new(format!("a whole number from {} to {}", range.start(), range.end()), example);
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(wrong());
    }
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(wrong)
}

/// A number of octets. A unit behind it is a common slip, worth an exact hint.
pub(crate) fn bytes(text: &str, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
    whole(text, range.clone(), "65536").map_err(|wrong| {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text.get(digits.len()..).map(str::to_ascii_lowercase).as_deref() {
            Some("k" | "kb" | "kib") => 10,
            Some("m" | "mb" | "mib") => 20,
            Some("g" | "gb" | "gib") => 30,
            _ => return wrong,
        };
        let meant = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        match meant.filter(|meant| range.contains(meant)) {
            Some(meant) => wrong.help(format!("write `{meant}`: the key's name already says bytes")),
            None => wrong,
        }
    })
}

/// A port to listen on; 0 lets the kernel choose.
pub(crate) fn listen_port(text: &str) -> Result<u16, Wrong> {
    let number = whole(text, 0..=u64::from(u16::MAX), "4140")?;
    u16::try_from(number).map_err(|_| Wrong::new("a port", "4140"))
}

/// A time in milliseconds, at least `min`.
pub(crate) fn millis(text: &str, min: u64) -> Result<Duration, Wrong> {
    let wrong = || {
        let wrong = Wrong::new(format!("a whole number of milliseconds from {min} to {DURATION_MS_MAX}"), "2000");
        match with_unit(text) {
            Some(ms) => wrong.help(format!("write `{ms}`: the key's name already says milliseconds")),
            None => wrong,
        }
    };
    whole(text, min..=DURATION_MS_MAX, "2000").map(Duration::from_millis).map_err(|_| wrong())
}

/// A time in seconds, at least 1.
pub(crate) fn seconds(text: &str) -> Result<Duration, Wrong> {
    let max = DURATION_MS_MAX / 1000;
    let wrong = || {
        let wrong = Wrong::new(format!("a whole number of seconds from 1 to {max}"), "600");
        match with_unit(text) {
            Some(ms) if ms.is_multiple_of(1000) => {
                wrong.help(format!("write `{}`: the key's name already says seconds", ms / 1000))
            }
            _ => wrong,
        }
    };
    whole(text, 1..=max, "600").map(Duration::from_secs).map_err(|_| wrong())
}

/// A time with its unit, as Flagger writes it: `500ms`, `10s`, `1m`, `1h`; from `min_ms` to one day.
pub(crate) fn duration(text: &str, min_ms: u64, example: &'static str) -> Result<Duration, Wrong> {
    let wrong = || {
        let least = if min_ms.is_multiple_of(1000) { format!("{}s", min_ms / 1000) } else { format!("{min_ms}ms") };
        Wrong::new(format!("a time with its unit (`ms`, `s`, `m`, `h`) from {least} to 24h"), example)
    };
    let fits = |ms: &u64| (min_ms..=DURATION_MS_MAX).contains(ms);
    if let Some(ms) = with_unit(text).filter(fits) {
        return Ok(Duration::from_millis(ms));
    }
    let bare = text.parse::<u64>().ok().and_then(|number| number.checked_mul(1000)).filter(fits);
    Err(match bare {
        Some(ms) => wrong().help(format!("a unit is missing: write `{}s`", ms / 1000)),
        None => wrong(),
    })
}

/// A share of traffic in percent, with up to four decimals; the sign may be left out, as Flagger does.
pub(crate) fn share(text: &str, example: &'static str) -> Result<Ppm, Wrong> {
    let wrong = || Wrong::new("a percentage from 0 to 100 with at most four decimals", example);
    text.parse().map_err(|_| wrong())
}

/// A percentage that has its sign: without it, 0.01 could be meant as 1 %.
pub(crate) fn percent(text: &str, example: &'static str) -> Result<Ppm, Wrong> {
    let wrong = || Wrong::new("a percentage with its sign, with at most four decimals", example);
    match text.parse() {
        Ok(share) if text.ends_with('%') => Ok(share),
        Ok(share) => {
            let fraction = Ppm::new(share.get().saturating_mul(100)).filter(|fraction| *fraction > share);
            let or = fraction.map_or_else(String::new, |fraction| format!(", or `{fraction}` if a fraction was meant"));
            Err(wrong().help(format!("write `{share}`{or}")))
        }
        Err(_) => Err(wrong()),
    }
}

/// Milliseconds of `250ms`, `10s`, `5m` or `1h`: a common slip, worth an exact hint.
fn with_unit(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..)? {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Only the two words of YAML 1.2.
pub(crate) fn boolean(text: &str) -> Result<bool, Wrong> {
    let wrong = Wrong::new("`true` or `false`", "true");
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        "yes" | "Yes" | "on" | "On" | "True" | "TRUE" => Err(wrong.help("write `true`")),
        "no" | "No" | "off" | "Off" | "False" | "FALSE" => Err(wrong.help("write `false`")),
        _ => Err(wrong),
    }
}

/// An address without port.
pub(crate) fn ip(text: &str) -> Result<IpAddr, Wrong> {
    text.parse().map_err(|_| {
        let wrong = Wrong::new("an IPv4 or IPv6 address", "127.0.0.1");
        match text {
            "localhost" => wrong.help("write `127.0.0.1`: listeners take addresses, not names"),
            "*" => wrong.help("write `0.0.0.0` for every IPv4 address of this host"),
            _ => wrong,
        }
    })
}

/// A network, or one address.
pub(crate) fn cidr(text: &str) -> Result<IpNet, Wrong> {
    let wrong = || Wrong::new("a network or an address", "10.0.0.0/8");
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text.parse().map_err(|_| wrong())?;
    // `10.1.2.3/8` is either one host or a whole network: only its writer knows.
    if net.trunc() == net {
        return Ok(net);
    }
    Err(wrong().help(format!("write `{}` for the network, or `{}` for this one address", net.trunc(), net.addr())))
}

/// `ip:port`, `[ip]:port` or `name:port`.
pub(crate) fn endpoint(text: &str) -> Result<HostPort, Wrong> {
    let wrong = || Wrong::new("`address:port` or `name:port` with a port from 1 to 65535", "127.0.0.1:8080");
    let v6 = || wrong().help("put an IPv6 address in brackets: `[::1]:8080`");
    if text.contains("://") {
        return Err(wrong().help("leave the scheme out: endpoints are `host:port`"));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(if text.contains(':') { v6() } else { wrong().help(format!("add a port: `{text}:80`")) });
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(wrong().help("a port is missing"));
    };
    let port = whole(port, 1..=u64::from(u16::MAX), "8080").ok().and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or_else(wrong)?;
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => Host::Ip(IpAddr::V6(inside.parse().map_err(|_| wrong())?)),
        None if host.contains(':') => return Err(v6()),
        None => match host.parse() {
            Ok(address) => Host::Ip(IpAddr::V4(address)),
            Err(_) => Host::Name(dns_name(host).ok_or_else(wrong)?),
        },
    };
    Ok(HostPort { host, port })
}

/// A host as requests name it: a DNS name, an IPv4 address, or an IPv6 address in brackets; in lower case.
pub(crate) fn host(text: &str) -> Option<String> {
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match literal {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().ok().map(|_| text.to_ascii_lowercase()),
        None if text.parse::<std::net::Ipv4Addr>().is_ok() => Some(text.to_owned()),
        None => dns_name(text),
    }
}

/// What [`endpoint`] takes, or `unix:PATH`.
pub(crate) fn cluster_endpoint(text: &str) -> Result<HostPort, Wrong> {
    match text.strip_prefix("unix:") {
        Some(path) => Ok(HostPort { host: Host::Unix(unix_path(path)?.into()), port: 0 }),
        None => endpoint(text),
    }
}

/// The path of a Unix socket.
pub(crate) fn unix_path(text: &str) -> Result<PathBuf, Wrong> {
    let fits = (1..=UNIX_PATH_BYTES_MAX).contains(&text.len()) && !text.contains('\0') && !text.ends_with('/');
    if fits {
        Ok(text.into())
    } else {
        Err(Wrong::new("the path of a socket, of at most 100 octets", "/run/serin.sock"))
    }
}

/// Permission bits, in octal.
pub(crate) fn file_mode(text: &str) -> Result<u32, Wrong> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o777);
    mode.ok_or_else(|| Wrong::new("permissions in octal, up to 0777", "0660"))
}

/// The kernel has room for 107; a socket is made beside its path, under a longer name.
const UNIX_PATH_BYTES_MAX: usize = 100;

/// A DNS name in lower case, without a final dot. `None`: it cannot be one, such as `127.0.0.256`.
fn dns_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let legal = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // No top-level domain is all digits, so this is a mistyped address.
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (name.len() <= NAME_BYTES_MAX && !numeric && name.split('.').all(legal)).then(|| name.to_ascii_lowercase())
}

/// An HTTP token (RFC 9110 section 5.6.2): method, header name, cookie name.
pub(crate) fn token(text: &str, allowed: &'static str, example: &'static str) -> Result<String, Wrong> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(legal) { Ok(text.to_owned()) } else { Err(Wrong::new(allowed, example)) }
}

/// A header name, in lower case as they are compared.
pub(crate) fn header_name(text: &str) -> Result<String, Wrong> {
    token(text, "the name of a header", "x-user").map(|name| name.to_ascii_lowercase())
}

/// A text of visible characters, at most `max` bytes.
pub(crate) fn visible(text: &str, max: usize, allowed: &'static str, example: &'static str) -> Result<String, Wrong> {
    let legal = !text.is_empty() && text.len() <= max && !text.chars().any(char::is_control);
    if legal { Ok(text.to_owned()) } else { Err(Wrong::new(format!("{allowed} of 1 to {max} bytes"), example)) }
}

/// One word of several.
pub(crate) fn choice<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let listed: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    let example = words.first().map_or("", |(word, _)| *word);
    let wrong = Wrong::new(listed.join(" or "), example);
    let near = closest(text, words.iter().map(|(word, _)| *word)).map(|word| format!("did you mean `{word}`?"));
    Err(Wrong { help: near, ..wrong })
}

/// The name most like `word`, if one is like it at all: at most a third of it differs.
pub fn closest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(SUGGEST_CHARS_MAX + 1).collect();
    if word.is_empty() || word.len() > SUGGEST_CHARS_MAX {
        return None;
    }
    let allowed = (word.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for name in names {
        let name_length = name.chars().count();
        if name_length.abs_diff(word.len()) > allowed {
            continue;
        }
        let distance = edit_distance(&word, &name.to_lowercase().chars().collect::<Vec<_>>());
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut cost = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *to && *from == b[j - 1] {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests;

//! The built-in names under `/$/`: pure rewritings of names, and names that stand for addresses.

use super::Path;

/// What a built-in name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// The first `id_len` labels are a concrete name, what follows is its residual.
    Bound {
        /// At most the length of the path.
        id_len: usize,
    },
    /// Exists and has no members.
    Empty,
    /// Definitely nothing.
    Fail,
    /// Not a built-in name, or not of the shape it needs.
    Neg,
    /// Another name, to be looked up.
    Rewrite {
        /// The new name.
        path: Path,
        /// Which label of the old name is the first of the new one, unchanged, if any is.
        head: Option<usize>,
    },
    /// There is no built-in name of this kind.
    Unknown(String),
}

/// What the built-in names say to a path.
///
/// | under `/$/` | becomes |
/// |---|---|
/// | `inet/<host>/<port>`, `inet/<port>`, `fixedinet/…` | itself, bound |
/// | `io.buoyant.rinet/<port>/<host>` | itself, bound |
/// | `io.buoyant.http.status/<code>` | itself, bound; 100 to 599 |
/// | `nil`, `fail` | `$`, `!` |
/// | `io.buoyant.hostportPfx/<pfx>/<host>:<port>` | `/<pfx>/<host>/<port>` |
/// | `io.buoyant.porthostPfx/<pfx>/<host>:<port>` | `/<pfx>/<port>/<host>` |
/// | `io.buoyant.http.anyMethod/GET`, `….anyMethodPfx/<pfx>/GET` | `/`, `/<pfx>` |
/// | `io.buoyant.http.anyHost/<host>`, `….anyHostPfx/<pfx>/<host>` | `/`, `/<pfx>` |
/// | `io.buoyant.http.subdomainOf/<domain>/<sub>.<domain>` | `/<sub>` |
/// | `io.buoyant.http.subdomainOfPfx/<domain>/<pfx>/<sub>.<domain>` | `/<pfx>/<sub>` |
/// | `io.buoyant.http.domainToPath/c.b.a`, `….domainToPathPfx/<pfx>/c.b.a` | `/a/b/c`, `/<pfx>/a/b/c` |
///
/// Labels behind these follow. What does not fit is Neg, except `inet` without a port and names that do not exist:
/// those are
/// [`Builtin::Unknown`].
pub fn builtin(path: &Path) -> Builtin {
    let labels: Vec<&[u8]> = path.labels().collect();
    let [b"$", name, arguments @ ..] = labels.as_slice() else { return Builtin::Neg };
    let found = match *name {
        b"inet" | b"fixedinet" => return inet(arguments).unwrap_or_else(|| unknown(name)),
        b"nil" => return Builtin::Empty,
        b"fail" => return Builtin::Fail,
        b"io.buoyant.rinet" => rinet(arguments),
        b"io.buoyant.http.status" => status(arguments),
        b"io.buoyant.hostportPfx" => prefixed(arguments, |host| host_port(host).map(|(host, port)| vec![host, port])),
        b"io.buoyant.porthostPfx" => prefixed(arguments, |host| host_port(host).map(|(host, port)| vec![port, host])),
        b"io.buoyant.http.anyMethod" => bare(arguments, |method| is_method(method).then(Vec::new)),
        b"io.buoyant.http.anyMethodPfx" => prefixed(arguments, |method| is_method(method).then(Vec::new)),
        b"io.buoyant.http.anyHost" => bare(arguments, |host| is_host(host).then(Vec::new)),
        b"io.buoyant.http.anyHostPfx" => prefixed(arguments, |host| is_host(host).then(Vec::new)),
        b"io.buoyant.http.subdomainOf" => match arguments {
            [domain, rest @ ..] => bare(rest, |host| subdomain(domain, host).map(|label| vec![label])),
            [] => None,
        },
        b"io.buoyant.http.subdomainOfPfx" => match arguments {
            [domain, rest @ ..] => prefixed(rest, |host| subdomain(domain, host).map(|label| vec![label])),
            [] => None,
        },
        b"io.buoyant.http.domainToPath" => bare(arguments, reversed),
        b"io.buoyant.http.domainToPathPfx" => prefixed(arguments, reversed),
        _ => return unknown(name),
    };
    match found {
        None => Builtin::Neg,
        Some(Found::Bound(used)) => Builtin::Bound { id_len: KIND_LABELS + used },
        Some(Found::Labels { labels: made, prefixed }) => match Path::from_labels(made) {
            // The prefix is the second label from the end of what was read: everything behind it is the rest of the
            // name.
            Some(path) => Builtin::Rewrite { path, head: prefixed.then(|| head_index(name)) },
            None => Builtin::Neg,
        },
    }
}

enum Found<'a> {
    /// So many labels behind the kind belong to the id.
    Bound(usize),
    Labels {
        labels: Vec<&'a [u8]>,
        prefixed: bool,
    },
}

/// Where the prefix stands in the name.
fn head_index(name: &[u8]) -> usize {
    if name == b"io.buoyant.http.subdomainOfPfx" { KIND_LABELS + 1 } else { KIND_LABELS }
}

fn unknown(name: &[u8]) -> Builtin {
    Builtin::Unknown(String::from_utf8_lossy(name).into_owned())
}

/// `None`: no port where one must be.
fn inet(arguments: &[&[u8]]) -> Option<Builtin> {
    match arguments {
        [_host, port, ..] if is_integer(port) => port_number(port).map(|_| Builtin::Bound { id_len: KIND_LABELS + 2 }),
        [port, ..] => port_number(port).map(|_| Builtin::Bound { id_len: KIND_LABELS + 1 }),
        [] => None,
    }
}

fn rinet<'a>(arguments: &[&'a [u8]]) -> Option<Found<'a>> {
    match arguments {
        [port, _host, ..] => port_number(port).map(|_| Found::Bound(2)),
        _ => None,
    }
}

fn status<'a>(arguments: &[&'a [u8]]) -> Option<Found<'a>> {
    let [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] = arguments.first()? else { return None };
    Some(Found::Bound(1))
}

/// `<host>/rest`
fn bare<'a>(arguments: &[&'a [u8]], rewrite: impl FnOnce(&'a [u8]) -> Option<Vec<&'a [u8]>>) -> Option<Found<'a>> {
    let (host, rest) = arguments.split_first()?;
    let mut labels = rewrite(host)?;
    labels.extend(rest);
    Some(Found::Labels { labels, prefixed: false })
}

/// `<pfx>/<host>/rest`
fn prefixed<'a>(arguments: &[&'a [u8]], rewrite: impl FnOnce(&'a [u8]) -> Option<Vec<&'a [u8]>>) -> Option<Found<'a>> {
    let (prefix, rest) = arguments.split_first()?;
    let (host, rest) = rest.split_first()?;
    let mut labels = vec![*prefix];
    labels.extend(rewrite(host)?);
    labels.extend(rest);
    Some(Found::Labels { labels, prefixed: true })
}

/// Exactly one colon, some host, and a port number or name.
fn host_port(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    let [first, others @ ..] = port else { return None };
    let is_letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = !host.is_empty()
        && port.len() <= PORT_NAME_BYTES_MAX
        && is_letter(first)
        && others.iter().all(|byte| is_letter(byte) || *byte == b'-');
    fits.then_some((host, port))
}

/// What stands before `.domain`, the port of the host dropped.
fn subdomain<'a>(domain: &[u8], host: &'a [u8]) -> Option<&'a [u8]> {
    if !is_host(domain) || !is_host(host) {
        return None;
    }
    let host = host.split(|&byte| byte == b':').next()?;
    let label = host.strip_suffix(domain)?.strip_suffix(b".")?;
    (!label.is_empty()).then_some(label)
}

/// The labels of a host, the last one first; a port stays in it, dots at the end do not count.
fn reversed(host: &[u8]) -> Option<Vec<&[u8]>> {
    if !is_host(host) {
        return None;
    }
    let end = host.iter().rposition(|&byte| byte != b'.')?;
    let labels: Vec<&[u8]> = host[..=end].split(|&byte| byte == b'.').rev().collect();
    labels.iter().all(|label| !label.is_empty()).then_some(labels)
}

fn is_host(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'_' | b'-'))
}

fn is_method(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_uppercase)
}

fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// 1 to 65535.
fn port_number(text: &[u8]) -> Option<u16> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|&port| port != 0)
}

/// `$` and the kind.
const KIND_LABELS: usize = 2;
const PORT_NAME_BYTES_MAX: usize = 63;

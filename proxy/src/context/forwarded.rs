//! The `Forwarded` field (RFC 7239) of servers that want one.

use std::net::SocketAddr;

use http::HeaderValue;
use serin_config::model::{ForwardedHeader, Labeler};

/// What one field is made of.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// Who sent the request.
    pub peer: SocketAddr,
    /// Where it came in.
    pub local: SocketAddr,
    /// The host that it asked for.
    pub host: &'a [u8],
    /// The scheme of its target, where it has one.
    pub scheme: Option<&'a str>,
    /// Label of the router.
    pub router: &'a str,
    /// The same for all requests of one connection, and of nothing else.
    pub connection: u64,
    /// Of this request alone.
    pub request: u64,
}

/// The field's value.
pub fn render(header: &ForwardedHeader, hop: &Hop<'_>) -> Option<HeaderValue> {
    let mut text = String::with_capacity(96);
    text.push_str("by=");
    push_node(&mut text, &header.by, hop.local, hop, BY);
    text.push_str(";for=");
    push_node(&mut text, &header.source, hop.peer, hop, FOR);
    if let Ok(host) = std::str::from_utf8(hop.host) {
        text.push_str(";host=");
        push_value(&mut text, host);
    }
    if let Some(scheme) = hop.scheme {
        text.push_str(";proto=");
        text.push_str(scheme);
    }
    HeaderValue::try_from(text).ok()
}

/// Apart, so that two random labels of one connection differ.
const BY: u64 = 0x9E37_79B9_7F4A_7C15;
const FOR: u64 = 0xD1B5_4A32_D192_ED03;

fn push_node(text: &mut String, labeler: &Labeler, address: SocketAddr, hop: &Hop<'_>, side: u64) {
    match labeler {
        Labeler::Ip => match address.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => text.push_str(&ip.to_string()),
            std::net::IpAddr::V6(ip) => text.push_str(&format!("\"[{ip}]\"")),
        },
        Labeler::IpPort => {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            text.push_str(&format!("\"{address}\""));
        }
        Labeler::ConnectionRandom => push_random(text, hop.connection ^ side),
        Labeler::RequestRandom => push_random(text, hop.request ^ side),
        Labeler::Router => push_label(text, hop.router),
        Labeler::Static(label) => push_label(text, label),
    }
}

/// An obfuscated node: `_` and six letters or digits.
fn push_random(text: &mut String, seed: u64) {
    const SYMBOLS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = fastrand::Rng::with_seed(seed);
    text.push('_');
    (0..6).for_each(|_| text.push(char::from(SYMBOLS[random.usize(..SYMBOLS.len())])));
}

/// An obfuscated node with a name; what its grammar does not have becomes `_`.
fn push_label(text: &mut String, label: &str) {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.push('_');
    text.extend(label.chars().map(|c| if legal(c) { c } else { '_' }));
}

/// As a token where it is one, else quoted.
fn push_value(text: &mut String, value: &str) {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !value.is_empty() && value.bytes().all(token) {
        text.push_str(value);
        return;
    }
    text.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(peer: &str) -> Hop<'static> {
        let (peer, local) = (peer.parse().unwrap(), "[::ffff:10.1.1.1]:4140".parse().unwrap());
        Hop { peer, local, host: b"web:80", scheme: Some("http"), router: "out side", connection: 1, request: 2 }
    }

    #[track_caller]
    fn check(by: Labeler, source: Labeler, peer: &str, expected: &str) {
        let value = render(&ForwardedHeader { by, source }, &hop(peer)).unwrap();
        assert_eq!(value.to_str().unwrap(), format!("{expected};host=\"web:80\";proto=http"));
    }

    #[test]
    fn nodes_are_written_as_the_grammar_has_them() {
        check(Labeler::Ip, Labeler::Ip, "10.2.2.2:5", "by=10.1.1.1;for=10.2.2.2");
        check(Labeler::Ip, Labeler::Ip, "[2001:db8::1]:5", "by=10.1.1.1;for=\"[2001:db8::1]\"");
        check(Labeler::IpPort, Labeler::IpPort, "[::1]:5", "by=\"10.1.1.1:4140\";for=\"[::1]:5\"");
        check(Labeler::Router, Labeler::Static("edge".into()), "10.2.2.2:5", "by=_out_side;for=_edge");
    }

    fn for_of(hop: &Hop<'_>, source: Labeler) -> String {
        let value = render(&ForwardedHeader { by: Labeler::RequestRandom, source }, hop).unwrap();
        let text = value.to_str().unwrap();
        text.split(';').nth(1).unwrap().strip_prefix("for=_").unwrap().to_owned()
    }

    #[test]
    fn random_labels_last_as_long_as_they_say() {
        let (first, second) = (hop("10.2.2.2:5"), Hop { request: 3, ..hop("10.2.2.2:5") });
        let other = Hop { connection: 9, ..second };
        assert_eq!(for_of(&first, Labeler::ConnectionRandom), for_of(&second, Labeler::ConnectionRandom));
        assert_ne!(for_of(&first, Labeler::ConnectionRandom), for_of(&other, Labeler::ConnectionRandom));
        assert_ne!(for_of(&first, Labeler::RequestRandom), for_of(&second, Labeler::RequestRandom));
        let label = for_of(&first, Labeler::RequestRandom);
        assert!(label.len() == 6 && label.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{label}");
    }

    #[test]
    fn a_host_that_is_a_token_needs_no_quotes() {
        let hop = Hop { host: b"web.test", scheme: None, ..hop("10.2.2.2:5") };
        let value = render(&ForwardedHeader { by: Labeler::Ip, source: Labeler::Ip }, &hop).unwrap();
        assert_eq!(value.to_str().unwrap(), "by=10.1.1.1;for=10.2.2.2;host=web.test");
    }
}

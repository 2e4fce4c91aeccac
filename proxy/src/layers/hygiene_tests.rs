use super::*;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn check_hosts(valid: bool, hosts: &[&str]) {
    for host in hosts {
        assert_eq!(is_host(host.as_bytes()), valid, "{host:?}");
    }
}

#[test]
fn hosts_with_one_reading_are_accepted() {
    check_hosts(true, &["web", "web.test:80", "10.0.0.1", "[::1]", "[::1]:8080", "a_b", "web:"]);
    check_hosts(false, &["", "a b", "a,b", "u@h", "[::1", "::1]", "web:x", "web:123456", "a/b", "a?b", "a\\b"]);
}

#[test]
fn nominated_fields_go_but_not_those_we_rely_on() {
    let mut map = headers(&[
        ("connection", "x-mine, Host, cookie, authorization, close"),
        ("x-mine", "1"),
        ("host", "a"),
        ("cookie", "b"),
        ("authorization", "c"),
        ("keep-alive", "5"),
        ("te", "deflate, trailers"),
        ("upgrade", "h2c"),
    ]);
    strip_hop_by_hop(&mut map);
    let left: Vec<_> = map.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert_eq!(map["te"], "trailers");
    assert!(map.contains_key("host") && map.contains_key("cookie") && map.contains_key("authorization"));
}

#[test]
fn a_field_called_close_goes_with_the_option_that_names_it() {
    let mut map = headers(&[("connection", "x-mine, Close"), ("x-mine", "1"), ("close", "1"), ("x-b", "2")]);
    strip_hop_by_hop(&mut map);
    assert_eq!(map, headers(&[("x-b", "2")]));
    let mut map = headers(&[("connection", "x-mine"), ("close", "1")]);
    strip_hop_by_hop(&mut map);
    assert_eq!(map, headers(&[("close", "1")]));
}

#[test]
fn what_is_between_a_client_and_its_proxy_ends_here() {
    let lines =
        [("proxy-authorization", "Basic x"), ("proxy-authenticate", "Basic"), ("proxy-authentication-info", "a=b")];
    for line in lines {
        assert!(look(&headers(&[line]), 0, &Limits::edge()).unwrap().hop, "{line:?}");
        let mut map = headers(&[line, ("trailer", "x-sum"), ("authorization", "c")]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("trailer", "x-sum"), ("authorization", "c")]));
        let mut fields = headers(&[line, ("x-sum", "1")]);
        clean_trailers(&mut fields);
        assert_eq!(fields, headers(&[("x-sum", "1")]));
    }
}

#[test]
fn stripping_twice_changes_nothing_more() {
    let mut once = headers(&[("connection", "a"), ("a", "1"), ("b", "2"), ("te", "trailers")]);
    strip_hop_by_hop(&mut once);
    let mut twice = once.clone();
    strip_hop_by_hop(&mut twice);
    assert_eq!(once, twice);
}

#[test]
fn context_is_known_by_prefix_and_in_both_spellings() {
    for name in ["l5d-dtab", "l5d-ctx-anything", "l5d_dtab", "dtab-local", "x-dtab-01-a"] {
        assert!(is_context(&HeaderName::from_static(name)), "{name}");
    }
    for name in ["l5d", "x-l5d-dtab", "dtab", "location"] {
        assert!(!is_context(&HeaderName::from_static(name)), "{name}");
    }
}

#[test]
fn trust_needs_a_source_and_nobody_in_front() {
    let peer = |text: &str| text.parse::<SocketAddr>().unwrap();
    for own in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(is_trusted(&Trust::Loopback, peer(own), false), "{own}");
        assert!(!is_trusted(&Trust::Loopback, peer(own), true), "{own}");
    }
    assert!(!is_trusted(&Trust::Loopback, peer("10.0.0.1:1"), false));
    assert!(is_trusted(&Trust::Everybody, peer("10.0.0.1:1"), true));
    assert!(!is_trusted(&Trust::Nobody, peer("127.0.0.1:1"), false));
}

#[test]
fn networks_that_were_written_down_are_trusted_behind_any_proxy() {
    let mesh = Trust::Sources(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    for fronted in [false, true] {
        let obeyed = |peer: &str| is_trusted(&mesh, peer.parse().unwrap(), fronted);
        assert!(obeyed("10.1.2.3:1") && obeyed("[::ffff:10.1.2.3]:1") && obeyed("[fd00::1]:1"), "{fronted}");
        assert!(!obeyed("127.0.0.1:1") && !obeyed("11.0.0.1:1") && !obeyed("[fe80::1]:1"), "{fronted}");
        assert!(!is_trusted(&Trust::Sources(Vec::new()), "127.0.0.1:1".parse().unwrap(), fronted));
    }
}

#[test]
fn limits_hold_at_the_limit_and_one_beyond() {
    let limits = Limits::edge();
    let mut map = HeaderMap::new();
    for n in 0..limits.head_fields_max {
        map.append(HeaderName::try_from(format!("a{n}")).unwrap(), HeaderValue::from_static("1"));
    }
    assert!(look(&map, 0, &limits).is_ok());
    map.append("one-more", HeaderValue::from_static("1"));
    assert_eq!(look(&map, 0, &limits), Err(ProxyError::HeadersTooLarge));
    let (empty, target_max) = (HeaderMap::new(), limits.target_bytes_max as usize);
    assert!(look(&empty, target_max, &limits).is_ok());
    assert_eq!(look(&empty, target_max + 1, &limits), Err(ProxyError::UriTooLong));
    let one = |octets: usize| HeaderMap::from_iter([(HeaderName::from_static("a"), value(octets - 1 - FIELD_EXTRA))]);
    let field_max = limits.field_bytes_max as usize;
    assert!(look(&one(field_max), 0, &limits).is_ok());
    assert_eq!(look(&one(field_max + 1), 0, &limits), Err(ProxyError::HeadersTooLarge));
    // two of the largest fields fill the head: the target has no room beside them
    let mut two = one(field_max);
    two.append("b", value(field_max - 1 - FIELD_EXTRA));
    assert!(look(&two, 0, &limits).is_ok());
    assert_eq!(look(&two, 1, &limits), Err(ProxyError::HeadersTooLarge));
}

fn value(octets: usize) -> HeaderValue {
    HeaderValue::try_from("x".repeat(octets)).unwrap()
}

#[test]
fn a_content_length_is_digits_below_2_to_the_63() {
    let length = |text: &'static str| number_of_63_bits(&HeaderValue::from_static(text));
    assert_eq!(length("9223372036854775807"), Some(u64::MAX >> 1));
    assert_eq!(length("007"), Some(7));
    for text in ["9223372036854775808", "", "-1", "+1", "1,1", " 1"] {
        assert_eq!(length(text), None, "{text:?}");
    }
}

#[test]
fn what_http_1_cannot_carry_is_malformed() {
    let values = [("", false), ("a", false), ("a b\tc", false), (" a", true), ("a ", true), ("\ta", true), (" ", true)];
    for (value, malformed) in values {
        assert_eq!(has_malformed(&headers(&[("x-a", "fine"), ("x-b", value)])), malformed, "{value:?}");
    }
    for (name, malformed) in [(&b"!#$%&'*+-.^_`|~09az"[..], false), (b"\"", true), (b"x\"a", true)] {
        let name = HeaderName::from_lowercase(name).unwrap();
        assert_eq!(has_malformed(&HeaderMap::from_iter([(name, value(1))])), malformed);
    }
}

#[test]
fn trailers_carry_no_framing_and_no_context() {
    let mut fields = headers(&[("grpc-status", "0"), ("content-length", "5"), ("l5d-dtab", "/a=>/b"), ("host", "x")]);
    clean_trailers(&mut fields);
    assert_eq!(fields, headers(&[("grpc-status", "0")]));
}

proptest::proptest! {
    #[test]
    fn no_field_that_ends_here_goes_on_in_any_spelling(
        lines in "((Connection|TE|te|l5d-ctx-dtab|L5D_x|x-a|x-b|Host|Cookie|Keep-Alive|upgrade|Via|X-Forwarded-For|Dtab-Local):( ?(x-a|X-B|te|host|trailers|close|cookie|l5d-ctx-dtab),?){0,4}\n){0,12}",
    ) {
        let fields = laws::fields_of(lines.as_bytes());
        laws::check_hop(&fields);
        laws::check_context(&fields);
        laws::check_trailers(&fields);
    }
}

use super::*;

fn check_wrong<T: std::fmt::Debug>(result: Result<T, Wrong>, allowed: &str, help: Option<&str>) {
    let wrong = result.unwrap_err();
    assert_eq!((wrong.allowed.as_ref(), wrong.help.as_deref()), (allowed, help));
    assert!(!wrong.example.is_empty());
}

fn check_endpoint(text: &str, expected: Option<(&str, u16)>) {
    let found = endpoint(text).ok().map(|found| match found.host {
        Host::Ip(ip) => (ip.to_string(), found.port),
        Host::Name(name) => (name, found.port),
        Host::Unix(path) => (path.display().to_string(), found.port),
    });
    assert_eq!(found, expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
}

#[test]
fn a_number_is_taken_up_to_its_bounds_and_not_beyond() {
    assert_eq!(whole("1", 1..=65535, "4140"), Ok(1));
    assert_eq!(whole("65535", 1..=65535, "4140"), Ok(65535));
    for text in ["0", "65536", "-1", "+1", "1.0", "0x10", "1_000", "", " 1", "99999999999999999999999"] {
        check_wrong(whole(text, 1..=65535, "4140"), "a whole number from 1 to 65535", None);
    }
}

#[test]
fn a_time_ends_at_one_day_and_knows_units_written_by_mistake() {
    let allowed = "a whole number of milliseconds from 1 to 86400000";
    assert_eq!(millis("86400000", 1), Ok(Duration::from_millis(DURATION_MS_MAX)));
    assert_eq!(millis("0", 0), Ok(Duration::ZERO));
    check_wrong(millis("86400001", 1), allowed, None);
    check_wrong(millis("0", 1), allowed, None);
    check_wrong(millis("2s", 1), allowed, Some("write `2000`: the key's name already says milliseconds"));
    check_wrong(millis("99999999999999999999h", 1), allowed, None);
    let allowed = "a whole number of seconds from 1 to 86400";
    assert_eq!(seconds("86400"), Ok(Duration::from_secs(86400)));
    check_wrong(seconds("86401"), allowed, None);
    check_wrong(seconds("10m"), allowed, Some("write `600`: the key's name already says seconds"));
    check_wrong(seconds("250ms"), allowed, None);
}

#[test]
fn booleans_are_two_words() {
    assert_eq!((boolean("true"), boolean("false")), (Ok(true), Ok(false)));
    check_wrong(boolean("yes"), "`true` or `false`", Some("write `true`"));
    check_wrong(boolean("Off"), "`true` or `false`", Some("write `false`"));
    check_wrong(boolean("1"), "`true` or `false`", None);
}

#[test]
fn networks_are_whole_or_one_address() {
    assert_eq!(cidr("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(cidr("::1").unwrap().to_string(), "::1/128");
    let help = "write `10.0.0.0/8` for the network, or `10.1.2.3` for this one address";
    check_wrong(cidr("10.1.2.3/8"), "a network or an address", Some(help));
    check_wrong(cidr("10.0.0.0/33"), "a network or an address", None);
}

#[test]
fn endpoints_are_addresses_or_names_with_a_port() {
    check_endpoint("127.0.0.1:80", Some(("127.0.0.1", 80)));
    check_endpoint("[::1]:80", Some(("::1", 80)));
    check_endpoint("Web.Test.:65535", Some(("web.test", 65535)));
    check_endpoint("a_b-c:1", Some(("a_b-c", 1)));
    for text in [
        "",
        ":80",
        "web",
        "web:",
        "web:0",
        "web:65536",
        "web:x",
        "::1:80",
        "[::1]",
        "[x]:1",
        "127.0.0.256:80",
        "a..b:1",
    ] {
        check_endpoint(text, None);
    }
    for text in ["-a:1", "a-:1", "a b:1", "http://web:80", "127.0.0.1", "é:1", "[127.0.0.1]:80", "1:2"] {
        check_endpoint(text, None);
    }
}

#[test]
fn names_end_at_the_limits_of_dns() {
    let label = "a".repeat(LABEL_BYTES_MAX);
    check_endpoint(&format!("{label}:1"), Some((&label, 1)));
    check_endpoint(&format!("{label}a:1"), None);
    let name = format!("{label}.{label}.{label}.{}", "a".repeat(NAME_BYTES_MAX - 3 * (LABEL_BYTES_MAX + 1)));
    check_endpoint(&format!("{name}:1"), Some((&name, 1)));
    check_endpoint(&format!("{name}a:1"), None);
}

#[test]
fn header_names_are_lower_cased_tokens() {
    assert_eq!(header_name("X-User").unwrap(), "x-user");
    for text in ["", "a b", "a:", "é", ":path"] {
        check_wrong(header_name(text), "the name of a header", None);
    }
}

#[test]
fn the_nearest_name_is_near_or_none() {
    let names = ["routers", "admin", "clusters"];
    assert_eq!(closest("routerz", names), Some("routers"));
    assert_eq!(closest("router", names), Some("routers"));
    assert_eq!(closest("ROUTERS", names), Some("routers"));
    assert_eq!(closest("amdin", names), Some("admin"));
    assert_eq!(closest("telemetry", names), None);
    assert_eq!(closest("", names), None);
}

#[test]
fn no_name_is_near_to_a_word_past_the_limit() {
    let (at, beyond) = ("a".repeat(SUGGEST_CHARS_MAX), "a".repeat(SUGGEST_CHARS_MAX + 1));
    assert_eq!(closest(&at, [at.as_str()]), Some(at.as_str()));
    assert_eq!(closest(&beyond, [beyond.as_str()]), None);
}

#[test]
fn texts_end_at_their_limit_and_have_no_control_characters() {
    assert_eq!(visible("abc", 3, "a label", "x"), Ok("abc".to_owned()));
    for text in ["", "abcd", "a\n", "\u{0}"] {
        check_wrong(visible(text, 3, "a label", "x"), "a label of 1 to 3 bytes", None);
    }
}

#[test]
fn a_socket_has_a_path_that_the_kernel_has_room_for() {
    let longest = format!("/{}", "s".repeat(UNIX_PATH_BYTES_MAX - 1));
    for (text, legal) in
        [("a.sock", true), (&longest, true), (&format!("{longest}s"), false), ("", false), ("a/", false)]
    {
        assert_eq!(unix_path(text).is_ok(), legal, "{text}");
    }
    assert!(cluster_endpoint("unix:/run/a.sock").is_ok() && endpoint("unix:/run/a.sock").is_err());
}

#[test]
fn permissions_are_octal() {
    for (text, mode) in [("0660", Some(0o660)), ("660", Some(0o660)), ("0o777", Some(0o777)), ("0", Some(0))] {
        assert_eq!(file_mode(text).ok(), mode, "{text}");
    }
    for text in ["", "0o", "1000", "0668", "+600", "rw"] {
        assert!(file_mode(text).is_err(), "{text}");
    }
}

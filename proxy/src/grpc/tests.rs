use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

#[track_caller]
fn check_type(content_type: &str, grpc: bool) {
    assert_eq!(is_grpc(content_type.as_bytes()), grpc, "{content_type}");
}

#[test]
fn grpc_is_told_by_its_content_type() {
    for yes in ["application/grpc", "application/grpc+proto", "application/grpc;charset=x", "Application/gRPC ; a=b"] {
        check_type(yes, true);
    }
    for no in
        ["", "application/grpc-web", "application/grpc-web+proto", "application/grpcx", "application/json", "grpc"]
    {
        check_type(no, false);
    }
}

#[track_caller]
fn check_status(value: &[u8], code: Option<u32>) {
    let mut fields = HeaderMap::new();
    fields.append("grpc-status", HeaderValue::from_bytes(value).unwrap());
    assert_eq!(status_of(&fields), code);
}

#[test]
fn status_is_a_number_and_anything_else_is_unknown() {
    check_status(b"0", Some(OK));
    check_status(b"14", Some(UNAVAILABLE));
    check_status(b"007", Some(PERMISSION_DENIED));
    check_status(b"4294967295", Some(u32::MAX));
    for odd in [&b""[..], b"-1", b"+1", b"4294967296", b"99999999999", b"1 ", b"ok", b"\xff"] {
        check_status(odd, Some(UNKNOWN));
    }
    assert_eq!(status_of(&HeaderMap::new()), None);
}

#[track_caller]
fn check_timeout(text: &str, timeout: Option<Duration>) {
    assert_eq!(parse_timeout(text.as_bytes()), timeout, "{text}");
}

#[test]
fn timeout_has_a_number_and_a_unit() {
    check_timeout("1H", Some(Duration::from_secs(3600)));
    check_timeout("2M", Some(Duration::from_secs(120)));
    check_timeout("3S", Some(Duration::from_secs(3)));
    check_timeout("4m", Some(Duration::from_millis(4)));
    check_timeout("5u", Some(Duration::from_micros(5)));
    check_timeout("6n", Some(Duration::from_nanos(6)));
    check_timeout("0S", Some(Duration::ZERO));
    check_timeout("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
}

#[test]
fn nine_digits_are_too_many_for_a_timeout() {
    check_timeout("99999999n", Some(Duration::from_nanos(99_999_999)));
    check_timeout("100000000n", None);
    check_timeout("000000001n", None);
}

#[test]
fn anything_else_is_not_a_timeout() {
    for odd in ["", "S", "1", "1s", "1 S", "-1S", "+1S", "1.5S", " 1S", "1SS", "0x1S"] {
        check_timeout(odd, None);
    }
}

#[track_caller]
fn check_format(timeout: Duration, text: &str) {
    assert_eq!(std::str::from_utf8(format_timeout(timeout).as_bytes()).unwrap(), text);
}

#[test]
fn timeout_is_written_in_the_finest_unit_that_fits() {
    check_format(Duration::ZERO, "0n");
    check_format(Duration::from_nanos(99_999_999), "99999999n");
    check_format(Duration::from_nanos(100_000_999), "100000u");
    check_format(Duration::from_millis(1_500), "1500000u");
    check_format(Duration::from_secs(100), "100000m");
    check_format(Duration::from_secs(86_400 * 365), "31536000S");
    check_format(Duration::MAX, "99999999H");
}

#[track_caller]
fn check_message(text: &str, encoded: &str) {
    assert_eq!(encode_message(text), encoded);
}

#[test]
fn message_is_visible_ascii() {
    check_message("no route for this name", "no route for this name");
    check_message("100% of\nthem", "100%25 of%0Athem");
    check_message("grün", "gr%C3%BCn");
    check_message("", "");
}

#[test]
fn long_message_is_cut_at_a_character() {
    let just = "x".repeat(MESSAGE_BYTES_MAX);
    check_message(&just, &just);
    check_message(&format!("{just}x"), &just);
    let almost = "x".repeat(MESSAGE_BYTES_MAX - 5);
    check_message(&format!("{almost}ü"), &almost); // six octets, five are left
}

#[test]
fn http_answers_read_as_grpc_clients_read_them() {
    let codes: Vec<u32> = [400, 401, 403, 404, 429, 502, 503, 504, 200, 500]
        .map(|s| code_of_http(StatusCode::from_u16(s).unwrap()))
        .into();
    assert_eq!(codes, [13, 16, 7, 12, 14, 14, 14, 14, 2, 2]);
}

proptest! {
    #[test]
    fn written_timeout_reads_back_never_longer(secs in any::<u64>(), shift in 0_u32..64, nanos in 0_u32..1_000_000_000) {
        laws::check_format(Duration::new(secs >> shift, nanos));
    }

    #[test]
    fn any_octets_as_a_timeout_give_a_timeout_or_nothing(
        octets in proptest::collection::vec(any::<u8>(), 0..12), digits in "[0-9]{0,9}[HMSmunx]",
    ) {
        laws::check_parse(&octets);
        laws::check_parse(digits.as_bytes());
    }

    #[test]
    fn encoded_message_is_visible_bounded_and_reads_back(text in any::<String>(), times in 1_usize..40) {
        laws::check_message(&text.repeat(times));
    }
}

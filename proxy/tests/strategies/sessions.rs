use serin_config::model::{Affinity, MatchRule, StickyKey, Strategy, TextMatch, When};

use crate::stand::{Setting, Stand};
use crate::upstream::{Asked, Client, OK, Script, Upstream};

const PRIMARY: Script = Script::Answer("HTTP/1.1 200 OK\r\nx-arm: primary\r\nset-cookie: a=1\r\nset-cookie: b=2", 1);
const CANARY: Script = Script::Answer("HTTP/1.1 200 OK\r\nx-arm: canary\r\nset-cookie: a=1\r\nset-cookie: b=2", 1);

fn stand(primary: Script, canary: Script) -> Stand {
    Setting {
        primary: Some(Upstream::start(primary).address),
        canary: Some(Upstream::start(canary).address),
        affinity: Some(Affinity { cookie: "id".into(), attributes: "; Max-Age=60; HttpOnly".into() }),
        ..Setting::default()
    }
    .start()
}

fn cookies(answer: &Asked) -> Vec<&str> {
    let lines = answer.fields.iter().filter(|(name, _)| name == "set-cookie");
    lines.map(|(_, line)| line.as_str()).collect()
}

#[test]
fn users_stay_while_the_share_rises_and_the_origins_cookies_stay_too() {
    let stand = stand(PRIMARY, CANARY);
    stand.route(30, false);
    let mut client = Client::new(stand.address);
    let users: Vec<(String, bool)> = (0..200)
        .map(|_| {
            let answer = client.get(&[]);
            let [first, second, issued] = cookies(&answer)[..] else { panic!("{:?}", answer.fields) };
            assert_eq!((first, second), ("a=1", "b=2"));
            let (cookie, attributes) = issued.split_once("; ").unwrap();
            assert_eq!(attributes, "Max-Age=60; HttpOnly");
            let value = cookie.strip_prefix("id=").unwrap();
            assert!(value.len() == 32 && value.bytes().all(|octet| octet.is_ascii_hexdigit()), "{value}");
            (cookie.to_owned(), answer.field("x-arm") == Some("canary"))
        })
        .collect();
    let on_canary = users.iter().filter(|(_, canary)| *canary).count();
    assert!((25..100).contains(&on_canary), "{on_canary} of 200 at 30 %");
    for percent in [30, 31, 60, 99] {
        stand.route(percent, false);
        for (cookie, canary) in &users {
            let answer = client.get(&[("cookie", cookie)]);
            assert_eq!(cookies(&answer), ["a=1", "b=2"], "a known user gets no second cookie");
            assert!(!canary || answer.field("x-arm") == Some("canary"), "{cookie} went back at {percent} %");
            assert!(percent > 30 || *canary == (answer.field("x-arm") == Some("canary")), "{cookie} moved at 30 %");
        }
    }
}

#[test]
fn nothing_is_issued_before_a_run_and_after_it() {
    let stand = stand(PRIMARY, CANARY);
    let mut client = Client::new(stand.address);
    for percent in [0, 100] {
        stand.route(percent, false);
        assert_eq!(cookies(&client.get(&[])), ["a=1", "b=2"]);
    }
}

#[test]
fn errors_of_the_origin_carry_the_cookie_and_answers_of_serin_do_not() {
    let stand = stand(Script::Answer("HTTP/1.1 500 Oh", 1), Script::Answer("HTTP/1.1 500 Oh", 1));
    stand.route(50, false);
    assert_eq!(cookies(&Client::new(stand.address).get(&[])).len(), 1);
    let nobody = Some(Upstream::nobody());
    let affinity = Some(Affinity { cookie: "id".into(), attributes: String::new() });
    let stand = Setting { primary: nobody, canary: nobody, affinity, ..Setting::default() }.start();
    stand.route(50, false);
    let answer = Client::new(stand.address).get(&[]);
    assert_eq!((answer.line.as_str(), cookies(&answer).len()), ("HTTP/1.1 503 Service Unavailable", 0));
}

#[test]
fn users_with_a_written_key_stay_and_get_no_cookie() {
    let stand = Setting {
        primary: Some(Upstream::start(OK).address),
        canary: Some(Upstream::start(CANARY).address),
        stickiness: Some(StickyKey::Header("x-user".into())),
        ..Setting::default()
    }
    .start();
    let mut client = Client::new(stand.address);
    let mut before = [false; 100];
    for (percent, most) in [(0, 0), (20, 45), (50, 75), (100, 100)] {
        stand.route(percent, false);
        for (user, was) in before.iter_mut().enumerate() {
            let answer = client.get(&[("x-user", &format!("user-{user}"))]);
            let is = answer.field("x-arm").is_some();
            assert!(is || !*was, "user {user} went back at {percent} %");
            *was = is;
        }
        let count = before.iter().filter(|is| **is).count();
        assert!((percent as usize / 2..=most).contains(&count), "{count} of 100 users at {percent} %");
    }
}

#[test]
fn ab_sends_requests_by_what_they_are_like() {
    let header = MatchRule {
        headers: vec![("x-canary".into(), TextMatch::Exact("insider".into()))],
        query: Vec::new(),
        when: When::default(),
    };
    let regex = regex::bytes::Regex::new("^(?:(.*?; )?(canary=always)(;.*)?)$").unwrap();
    let cookie = MatchRule { headers: vec![("cookie".into(), TextMatch::Regex(regex))], ..header.clone() };
    let (primary, canary) = (Upstream::start(OK), Upstream::start(CANARY));
    let stand = Setting {
        primary: Some(primary.address),
        canary: Some(canary.address),
        strategy: Strategy::Match(vec![header, cookie]),
        ..Setting::default()
    }
    .start();
    let mut client = Client::new(stand.address);
    let mut check = |fields: &[(&str, &str)], canary: bool| {
        assert_eq!(client.get(fields).field("x-arm").is_some(), canary, "{fields:?}");
    };
    check(&[("x-canary", "insider")], false);
    stand.route(100, false);
    for _ in 0..20 {
        check(&[("x-canary", "insider")], true);
        check(&[("cookie", "a=1; canary=always")], true);
        check(&[("cookie", "canary=alwaysnot")], false);
        check(&[], false);
    }
    stand.route(0, false);
    check(&[("x-canary", "insider")], false);
}

use serin::mirror::{ANSWER_MAX, COPIES_MAX};
use serin_config::model::{Mirror, Strategy};
use serin_rollout::Ppm;

use crate::stand::{Setting, Stand};
use crate::upstream::{Client, OK, Script, Upstream};

fn mirror(methods: &[&str]) -> Strategy {
    let methods = methods.iter().map(|method| (*method).to_owned()).collect();
    Strategy::Mirror(Mirror { share: Ppm::WHOLE, methods })
}

fn stand_with(primary: &Upstream, canary: &Upstream, methods: &[&str], server: &'static str) -> Stand {
    let (primary, canary) = (Some(primary.address), Some(canary.address));
    let stand = Setting { primary, canary, strategy: mirror(methods), server, ..Setting::default() }.start();
    stand.route(0, true);
    stand
}

/// A stand whose peers' context fields are obeyed.
fn stand(primary: &Upstream, canary: &Upstream, methods: &[&str]) -> Stand {
    stand_with(primary, canary, methods, ", clearContext: false")
}

#[test]
fn the_canary_gets_the_same_head_with_a_mark_and_the_user_the_primarys_answer() {
    let (primary, canary) = (Upstream::start(OK), Upstream::start(Script::Answer("HTTP/1.1 404 Not Found", 5)));
    let stand = stand(&primary, &canary, &["GET"]);
    let answer =
        Client::new(stand.address).ask("GET /a?b=c", &[("x-user", "jo"), ("connection", "x-hop"), ("x-hop", "1")], b"");
    assert_eq!((answer.line.as_str(), answer.body.as_slice()), ("HTTP/1.1 200 OK", b"x".as_slice()));
    let (original, copy) = (primary.asked(1).remove(0), canary.asked(1).remove(0));
    assert_eq!((original.line.as_str(), original.field("l5d-mirrored")), ("GET /a?b=c HTTP/1.1", None));
    assert_eq!((&copy.line, copy.field("l5d-mirrored")), (&original.line, Some("1")));
    for name in ["host", "x-user", "via", "x-hop"] {
        assert_eq!(copy.field(name), original.field(name), "{name}");
    }
    stand.eventually("a copy that went well", |stand| stand.copies("success") == 1.0);
    let mirrored = stand.mirrored();
    assert_eq!((mirrored.success, mirrored.failure, mirrored.heads.count()), (1, 0, 1));
    assert_eq!(stand.metric("serin_requests_active{worker=\"0\"}"), Some(0.0));
}

#[test]
fn a_canary_that_hangs_delays_nobody_and_gets_no_more_copies_than_it_may() {
    let (primary, canary) = (Upstream::start(OK), Upstream::start(Script::Hang));
    let stand = stand(&primary, &canary, &["GET"]);
    let mut client = Client::new(stand.address);
    // each answer comes before the next request, and none of the copies is ever answered
    for count in 1..=COPIES_MAX {
        assert_eq!(client.get(&[]).line, "HTTP/1.1 200 OK");
        assert_eq!(primary.count(), count);
    }
    assert_eq!(canary.asked(COPIES_MAX).len(), COPIES_MAX);
    assert_eq!(stand.copies("skipped"), 0.0);
    assert_eq!(client.get(&[]).line, "HTTP/1.1 200 OK");
    stand.eventually("a copy too many", |stand| stand.copies("skipped") == 1.0);
    assert_eq!(canary.count(), COPIES_MAX);
    // and nobody waits for them at the end
    drop(client);
    stand.check_drains();
}

#[test]
fn a_copy_ends_with_the_time_of_its_service_and_makes_room() {
    let (primary, canary) = (Upstream::start(OK), Upstream::start(Script::Hang));
    let stand = Setting {
        primary: Some(primary.address),
        canary: Some(canary.address),
        strategy: mirror(&["GET"]),
        router: "  service: {totalTimeoutMs: 300}\n",
        ..Setting::default()
    }
    .start();
    stand.route(0, true);
    assert_eq!(Client::new(stand.address).get(&[]).line, "HTTP/1.1 200 OK");
    stand.eventually("a copy that is over", |stand| stand.copies("failure") == 1.0);
    let heads = stand.mirrored().heads;
    assert!(heads.count() == 1 && heads.quantile(1.0) >= Some(300_000), "{:?}", heads.quantile(1.0));
}

#[test]
fn failures_of_copies_are_counted_and_felt_by_nobody() {
    let primary = Upstream::start(OK);
    let broken = Upstream::start(Script::Answer("HTTP/1.1 500 Oh", 1));
    for canary in [Some(broken.address), Some(Upstream::nobody()), None] {
        let (primary, strategy) = (Some(primary.address), mirror(&["GET"]));
        let stand = Setting { primary, canary, strategy, ..Setting::default() }.start();
        stand.route(0, true);
        let mut client = Client::new(stand.address);
        for _ in 0..20 {
            assert_eq!(client.get(&[]).line, "HTTP/1.1 200 OK");
        }
        stand.eventually("20 failures", |stand| stand.copies("failure") == 20.0);
        assert_eq!(stand.mirrored().failure, 20, "{canary:?}");
    }
}

#[test]
fn endpoints_are_not_ejected_for_what_copies_saw() {
    let (primary, canary) = (Upstream::start(OK), Upstream::start(Script::Answer("HTTP/1.1 500 Oh", 1)));
    let stand = stand(&primary, &canary, &["GET"]);
    let mut client = Client::new(stand.address);
    (0..20).for_each(|_| drop(client.get(&[])));
    stand.eventually("20 failures", |stand| stand.copies("failure") == 20.0);
    // all users go to the canary now: it is asked, and nothing is redistributed
    stand.route(100, false);
    assert_eq!(client.get(&[]).line, "HTTP/1.1 500 Internal Server Error");
    let line = "serin_split_redistributed_total{router=\"out\",split=\"/host/x\",branch=\"/#/clusters/v2\"}";
    assert_eq!(stand.metric(line), Some(0.0));
}

#[test]
fn a_long_answer_is_cut_at_its_bound() {
    for (length, cut) in [(ANSWER_MAX, false), (64 * ANSWER_MAX, true)] {
        let (primary, canary) = (Upstream::start(OK), Upstream::start(Script::Answer("HTTP/1.1 200 OK", length)));
        let stand = stand(&primary, &canary, &["GET"]);
        let mut client = Client::new(stand.address);
        (0..2).for_each(|_| drop(client.get(&[])));
        stand.eventually("two answers that were read", |stand| stand.copies("success") == 2.0);
        // a connection whose answer was cut is not used again
        let idle = "serin_upstream_connections{state=\"idle\"}";
        assert_eq!(stand.metric(idle) == Some(1.0), cut, "{length}: {:?}", stand.metric(idle));
    }
}

#[test]
fn bodies_are_copied_only_when_asked_for_and_held_whole() {
    let (primary, canary) = (Upstream::start(OK), Upstream::start(OK));
    let stand = stand(&primary, &canary, &["GET", "POST"]);
    let mut client = Client::new(stand.address);
    client.ask("PUT /", &[], b"put");
    client.ask("POST /", &[], b"hello");
    let copy = canary.asked(1).remove(0);
    assert_eq!((copy.line.as_str(), copy.body.as_slice()), ("POST / HTTP/1.1", b"hello".as_slice()));
    assert_eq!((copy.field("content-length"), copy.field("l5d-mirrored")), (Some("5"), Some("1")));
    client.ask("POST /", &[], &vec![b'y'; 1 << 20]);
    stand.eventually("a body that was not held", |stand| stand.copies("skipped") == 1.0);
    assert_eq!((primary.count(), canary.count()), (3, 1));
}

#[test]
fn copies_and_requests_with_an_override_are_not_copied() {
    let (primary, canary) = (Upstream::start(OK), Upstream::start(OK));
    let stand = stand(&primary, &canary, &["GET"]);
    let mut client = Client::new(stand.address);
    client.get(&[("l5d-mirrored", "1")]);
    client.get(&[("l5d-dtab", "/nobody => /nowhere")]);
    client.get(&[("x-last", "1")]);
    assert_eq!(canary.asked(1)[0].field("x-last"), Some("1"));
    assert_eq!(primary.asked(3)[0].field("l5d-mirrored"), Some("1"));
}

#[test]
fn a_stranger_cannot_call_a_request_a_copy() {
    let (primary, canary) = (Upstream::start(OK), Upstream::start(OK));
    let stand = stand_with(&primary, &canary, &["GET"], ", clearContext: true");
    Client::new(stand.address).get(&[("l5d-mirrored", "1")]);
    assert_eq!(primary.asked(1)[0].field("l5d-mirrored"), None);
    canary.asked(1);
}

#[test]
fn nothing_is_copied_before_and_after() {
    let (primary, canary) = (Upstream::start(OK), Upstream::start(OK));
    let stand = stand(&primary, &canary, &["GET"]);
    let mut client = Client::new(stand.address);
    stand.route(0, false);
    client.get(&[("x-phase", "before")]);
    stand.route(0, true);
    client.get(&[("x-phase", "while")]);
    assert_eq!(canary.asked(1)[0].field("x-phase"), Some("while"));
    // blue is green: the canary gets the requests themselves
    stand.route(100, false);
    client.get(&[("x-phase", "after")]);
    let asked = canary.asked(2);
    assert_eq!((asked[1].field("x-phase"), asked[1].field("l5d-mirrored")), (Some("after"), None));
    assert_eq!(primary.count(), 2);
}

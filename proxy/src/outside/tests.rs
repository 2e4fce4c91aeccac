use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serin_config::model::Webhook;
use serin_rollout::{Answer, HookKind};

use super::desk::Tuning;
use super::{Answered, Counts, EventPayload, HookPayload, Job, JobKind, LANES_MAX, Outside, Ticket, WAITING_MAX};
use peer::{DEADLINE, Peer, answer, answer_with};

pub(crate) mod peer;
mod real;

/// Waits between tries are short here, and as long as they are in the field where a test says so.
pub(crate) const QUICK: Tuning =
    Tuning { retry_wait_min: Duration::from_millis(1), retry_wait_max: Duration::from_millis(4) };

pub(crate) fn start() -> (Outside, Receiver<Answered>) {
    let (told, answers) = channel();
    let told = std::sync::Mutex::new(told);
    let outside = Outside::start_with(QUICK, Box::new(move |answer| drop(told.lock().unwrap().send(answer))));
    (outside.unwrap(), answers)
}

fn hook(url: &str) -> Webhook {
    Webhook {
        url: url.into(),
        timeout: Duration::from_secs(10),
        retries: 0,
        unchecked_tls: false,
        mute_alert: false,
        metadata: Vec::new(),
    }
}

fn payload() -> HookPayload {
    HookPayload {
        name: "world".into(),
        namespace: "outgoing".into(),
        phase: "Progressing".into(),
        checksum: super::checksum("/srv/world-v2@7"),
    }
}

pub(crate) fn ticket(round: u64, index: usize) -> Ticket {
    Ticket { rollout: "world".into(), round, index }
}

fn ask(hook: Webhook, ticket: Ticket) -> Job {
    Job::Hook { ticket, hook: Arc::new(hook), name: "gate".into(), kind: HookKind::Rollout, payload: payload() }
}

/// What the hook said, and why.
#[track_caller]
fn asked(hook: Webhook) -> (Answer, String) {
    let (outside, answers) = start();
    assert!(outside.submit(ask(hook, ticket(3, 1))));
    match answers.recv_timeout(DEADLINE).unwrap() {
        Answered::Hook { ticket: of, answer, why, .. } => {
            assert_eq!(of, ticket(3, 1));
            (answer, why)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..DEADLINE.as_millis() / 5 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}

// ── hooks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn hook_gets_flaggers_body() {
    let peer = Peer::answers(vec![answer(200, "OK")]);
    let mut hook = hook(&peer.url("/gate/check?x=1"));
    assert_eq!(asked(hook.clone()), (Answer::Passed, "200 OK: OK".into()));
    hook.metadata = vec![("b".into(), "2\"".into()), ("a".into(), "1".into())];
    asked(hook);
    let requests = peer.requests(2);
    assert_eq!(requests[0].line, "POST /gate/check?x=1 HTTP/1.1");
    assert_eq!(requests[0].field("content-type"), Some("application/json"));
    assert_eq!(requests[0].field("accept-encoding"), None, "nothing here unpacks");
    let plain = r#""name":"world","namespace":"outgoing","phase":"Progressing","checksum":"6c499478c8""#;
    assert_eq!(requests[0].body, format!("{{{plain}}}"));
    assert_eq!(requests[1].body, format!(r#"{{{plain},"metadata":{{"a":"1","b":"2\""}}}}"#));
}

#[test]
fn checksum_is_fnv_in_letters_that_make_no_word() {
    // FNV-1a gives 2166136261, 3826002220 and 3214735720.
    for (text, wanted) in [("", "65bb57b6b5"), ("a", "7d6b446664"), ("foobar", "7658c79c64")] {
        assert_eq!(super::checksum(text), wanted, "{text}");
    }
}

#[test]
fn every_2xx_passes_and_nothing_else_does() {
    for (status, wanted) in [
        (200, Answer::Passed),
        (202, Answer::Passed),
        (204, Answer::Passed),
        (299, Answer::Passed),
        (301, Answer::Refused),
        (307, Answer::Refused),
        (400, Answer::Refused),
        (403, Answer::Refused),
        (404, Answer::Refused),
        (429, Answer::Refused),
        (500, Answer::Refused),
        (503, Answer::Refused),
    ] {
        let text = if status == 204 { "HTTP/1.1 204 X\r\n\r\n".into() } else { answer(status, "because") };
        let peer = Peer::answers(vec![text]);
        let (answer, why) = asked(hook(&peer.url("/")));
        assert_eq!(answer, wanted, "{status}");
        assert!(why.starts_with(&status.to_string()), "{why}");
        assert_eq!(why.ends_with("because"), status != 204, "{why}");
        assert_eq!(peer.count(), 1, "no retries were written");
    }
}

#[test]
fn redirect_opens_no_gate() {
    let other = Peer::answers(vec![answer(200, "welcome")]);
    let location = format!("Location: {}\r\n", other.url("/login"));
    let peer = Peer::answers(vec![answer_with(302, &location, "")]);
    let (answer, why) = asked(hook(&peer.url("/")));
    assert_eq!((answer, why.as_str()), (Answer::Refused, "302 Found (redirects are not followed)"));
    assert_eq!(other.count(), 0);
}

#[test]
fn busy_and_broken_peers_are_asked_again_and_others_are_not() {
    for (first, tries) in [(429, 3), (500, 3), (503, 3), (403, 1), (404, 1), (200, 1)] {
        let peer = Peer::answers(vec![answer(first, ""), answer(first, ""), answer(201, "")]);
        let (answer, why) = asked(Webhook { retries: 2, ..hook(&peer.url("/")) });
        assert_eq!(peer.count(), tries, "{first}");
        assert_eq!(answer == Answer::Passed, tries == 3 || first == 200, "{first}: {why}");
    }
    // Retry-After is heard, within the longest wait there is.
    let patient = answer_with(503, "Retry-After: 4000000000\r\n", "");
    let peer = Peer::answers(vec![patient, answer(200, "")]);
    assert_eq!(asked(Webhook { retries: 1, ..hook(&peer.url("/")) }).0, Answer::Passed);
}

#[test]
fn connection_that_is_closed_or_refused_is_tried_again() {
    let peer = Peer::start(|_, number, out| {
        if number == 2 {
            out.write_all(answer(200, "").as_bytes()).unwrap();
        }
    });
    assert_eq!(asked(Webhook { retries: 1, ..hook(&peer.url("/")) }).0, Answer::Refused);
    assert_eq!(asked(Webhook { retries: 1, ..hook(&peer.url("/")) }).0, Answer::Passed);
    assert_eq!(peer.count(), 3);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (answer, why) = asked(Webhook { retries: 2, ..hook(&format!("http://user:hunter2@{free}/?key=hunter2")) });
    assert_eq!(answer, Answer::Refused);
    assert!(why.to_lowercase().contains("refused") && !why.contains("hunter2"), "{why}");
    let (answer, why) = asked(hook("not a url"));
    assert!(answer == Answer::Refused && why.contains("address"), "{why}");
    let (answer, why) = asked(hook("ftp://127.0.0.1/"));
    assert!(answer == Answer::Refused && !why.is_empty(), "{why}");
}

#[test]
fn peer_that_hangs_is_left_at_its_deadline() {
    let silent = Peer::start(|_, _, _| std::thread::sleep(DEADLINE * 2));
    // Long enough for a busy machine to get the request out.
    let timeout = Duration::from_millis(500);
    let (answer, why) = asked(Webhook { timeout, retries: 1, ..hook(&silent.url("/")) });
    assert_eq!((answer, why.as_str()), (Answer::Refused, "no answer within 500 ms"));
    assert_eq!(silent.requests(2).len(), 2, "each try has the whole time");
    let slow = Peer::start(|_, _, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").unwrap();
        std::thread::sleep(DEADLINE * 2);
    });
    let (answer, why) = asked(Webhook { timeout, ..hook(&slow.url("/")) });
    assert_eq!((answer, why.as_str()), (Answer::Refused, "no answer within 500 ms"), "half an answer is none");
}

#[test]
fn endless_answer_is_read_to_a_bound_and_told_in_one_short_line() {
    let endless = Peer::start(|_, _, out| {
        let _ = out.write_all(b"HTTP/1.1 403 X\r\n\r\n");
        while out.write_all(b"no\r\n\x1b[2J\x00 and \xff no\n").is_ok() {}
    });
    let (answer, why) = asked(hook(&endless.url("/")));
    assert_eq!(answer, Answer::Refused);
    assert!(why.len() <= super::WHY_OCTETS_MAX && why.len() > super::WHY_OCTETS_MAX - 10, "{}", why.len());
    assert!(why.starts_with("403 Forbidden: no [2J and \u{fffd} no no") && !why.chars().any(char::is_control), "{why}");
    assert!(why.ends_with('…'));
}

#[test]
fn line_is_cut_at_its_bound_and_not_before() {
    let most = super::WHY_OCTETS_MAX - '…'.len_utf8();
    for (length, whole) in [(0, true), (most, true), (most + 1, false), (3 * most, false)] {
        let line = super::hook::one_line("x".repeat(length).as_bytes());
        assert_eq!(line.len() == length && !line.ends_with('…'), whole, "{length}");
        assert!(line.len() <= super::WHY_OCTETS_MAX);
    }
}

#[test]
fn event_says_what_happened_and_its_own_keys_stand() {
    let peer = Peer::answers(vec![answer(202, "")]);
    let mut hook = hook(&peer.url("/events"));
    hook.metadata = vec![("eventMessage".into(), "mine".into()), ("environment".into(), "test".into())];
    let (outside, _answers) = start();
    let event = EventPayload {
        hook: payload(),
        message: "Advance world canary weight 10".into(),
        kind: "Normal".into(),
        timestamp_ms: 1_700_000_000_123,
    };
    assert!(outside.submit(Job::Event { hook: Arc::new(hook), payload: event }));
    let body = peer.requests(1)[0].json();
    assert_eq!(body["phase"], "Progressing");
    let metadata = serde_json::json!({
        "environment": "test",
        "eventMessage": "Advance world canary weight 10",
        "eventType": "Normal",
        "timestamp": "1700000000123",
    });
    assert_eq!(body["metadata"], metadata);
    eventually("it is counted", || outside.counts(JobKind::Event) == Counts { done: 1, failed: 0, dropped: 0 });
}

// ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A peer that answers the first request when the test says so, and all others at once.
pub(crate) fn gated() -> (Peer, std::sync::mpsc::Sender<()>) {
    let (open, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let peer = Peer::start(move |_, number, out| {
        if number == 0 {
            let _ = gate.lock().unwrap().recv();
        }
        let _ = out.write_all(answer(200, "").as_bytes());
    });
    (peer, open)
}

fn round_of(answered: &Answered) -> u64 {
    match answered {
        Answered::Hook { ticket, .. } | Answered::Metric { ticket, .. } => ticket.round,
    }
}

#[test]
fn of_asks_that_wait_only_the_newest_is_kept() {
    let (peer, open) = gated();
    let (outside, answers) = start();
    for round in 1..=4 {
        assert!(outside.submit(ask(hook(&peer.url("/")), ticket(round, 0))));
    }
    peer.requests(1);
    eventually("two were replaced", || outside.counts(JobKind::Hook).dropped == 2);
    open.send(()).unwrap();
    let rounds = [0, 1].map(|_| round_of(&answers.recv_timeout(DEADLINE).unwrap()));
    assert_eq!(rounds, [1, 4]);
    assert_eq!(peer.count(), 2);
}

#[test]
fn hook_that_hangs_holds_up_nobody_else() {
    let hanging = Peer::start(|_, _, _| std::thread::sleep(DEADLINE * 2));
    let peer = Peer::answers(vec![answer(200, "")]);
    let (outside, answers) = start();
    for index in 0..50 {
        assert!(outside.submit(ask(hook(&hanging.url("/")), ticket(1, index))));
    }
    assert!(outside.submit(ask(hook(&peer.url("/")), ticket(2, 50))));
    assert_eq!(round_of(&answers.recv_timeout(DEADLINE).unwrap()), 2);
}

#[test]
fn events_keep_their_order_and_the_newest_are_kept() {
    let (peer, open) = gated();
    let (outside, _answers) = start();
    let hook = Arc::new(hook(&peer.url("/")));
    let more = 3;
    for number in 0..=WAITING_MAX + more {
        let event =
            EventPayload { hook: payload(), message: number.to_string(), kind: "Normal".into(), timestamp_ms: 0 };
        assert!(outside.submit(Job::Event { hook: Arc::clone(&hook), payload: event }));
        peer.requests(1);
    }
    let dropped = more as u64;
    eventually("the oldest are dropped", || outside.counts(JobKind::Event).dropped == dropped);
    open.send(()).unwrap();
    let seen: Vec<String> = peer
        .requests(1 + WAITING_MAX)
        .iter()
        .map(|r| r.json()["metadata"]["eventMessage"].as_str().unwrap().into())
        .collect();
    let wanted: Vec<String> = std::iter::once(0).chain(more + 1..=WAITING_MAX + more).map(|n| n.to_string()).collect();
    assert_eq!(seen, wanted);
}

#[test]
fn lanes_and_queue_have_ends() {
    // Nobody answers there: the address takes connections and is silent.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let (outside, answers) = start();
    let mut queued = 0;
    while queued < LANES_MAX {
        if outside.submit(ask(hook(&url), ticket(1, queued))) {
            queued += 1;
        }
    }
    eventually("one beyond the last lane", || outside.submit(ask(hook(&url), ticket(9, LANES_MAX))));
    match answers.recv_timeout(DEADLINE).unwrap() {
        Answered::Hook { ticket, answer, why, .. } => {
            assert_eq!((ticket.round, answer), (9, Answer::Pending));
            assert!(why.contains("1024"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn full_queue_turns_away_and_counts() {
    // A callback that does not come back stops the thread, so nothing leaves the queue.
    let (told, answers) = channel();
    let told = std::sync::Mutex::new(told);
    let hang = move |answer| {
        told.lock().unwrap().send(answer).unwrap();
        std::thread::sleep(DEADLINE * 3);
    };
    let outside = Outside::start_with(QUICK, Box::new(hang)).unwrap();
    assert!(outside.submit(ask(hook("not a url"), ticket(1, 0))));
    assert!(answers.recv_timeout(DEADLINE).is_ok(), "the thread hangs from here on");
    for index in 0..super::QUEUE_MAX {
        assert!(outside.submit(ask(hook("not a url"), ticket(2, index))));
    }
    assert!(!outside.submit(ask(hook("not a url"), ticket(3, 0))));
    assert_eq!(outside.counts(JobKind::Hook).dropped, 1);
    let totals = outside.totals();
    assert!(totals.len() == 12 && totals.contains(&("hook", "dropped", 1)) && totals.contains(&("alert", "done", 0)));
}

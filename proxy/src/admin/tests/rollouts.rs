use std::io::{BufRead, BufReader};
use std::sync::Mutex;

use serin_rollout::{Command, CommandError, Entry, Phase, State, TimestampMs};
use tokio::sync::broadcast;

use super::*;
use crate::admin::desk::{Doing, NotDone};
use crate::judge::{Told, View};

const TOKEN: &str = "correct horse";

/// Obeys, and remembers what it was told to do.
#[derive(Debug)]
struct FakeDesk {
    views: Arc<Vec<Arc<View>>>,
    recent: Mutex<Vec<Arc<Told>>>,
    sender: broadcast::Sender<Arc<Told>>,
    done: Mutex<Vec<(String, Command, String, String)>>,
    answer: Mutex<Option<NotDone>>,
}

impl FakeDesk {
    fn new() -> Arc<Self> {
        let view = View { storage: "the disk is full".into(), ..view("world") };
        Arc::new(Self {
            views: Arc::new(vec![Arc::new(self::view("hello")), Arc::new(view)]),
            recent: Mutex::default(),
            sender: broadcast::channel(4).0,
            done: Mutex::default(),
            answer: Mutex::default(),
        })
    }

    fn tell(&self, sequence: u64, rollout: &str) {
        let told = Arc::new(Told { sequence, rollout: rollout.into(), ..told() });
        self.recent.lock().unwrap().push(Arc::clone(&told));
        // nobody may be listening yet
        let _nobody = self.sender.send(told);
    }
}

fn view(name: &str) -> View {
    crate::judge::view::sample(name)
}

fn told() -> Told {
    Told {
        sequence: 1,
        at_ms: 1_000,
        rollout: "world".into(),
        code: "advance".into(),
        text: "Advance world canary weight 10".into(),
        kind: "Normal".into(),
        weight_ppm: 100_000,
        score: 0.5,
        who: None,
        why: None,
    }
}

impl Desk for FakeDesk {
    fn views(&self) -> Arc<Vec<Arc<View>>> {
        Arc::clone(&self.views)
    }

    fn recent(&self) -> Vec<Arc<Told>> {
        self.recent.lock().unwrap().clone()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Told>> {
        self.sender.subscribe()
    }

    fn command<'a>(&'a self, name: &'a str, command: Command, who: &'a str, why: &'a str) -> Doing<'a> {
        self.done.lock().unwrap().push((name.into(), command, who.into(), why.into()));
        let answer = self.answer.lock().unwrap().clone();
        let view = self.views.iter().find(|view| *view.name == *name).map(Arc::clone);
        Box::pin(async move { answer.map_or_else(|| Ok(view.unwrap()), Err) })
    }

    fn history(&self, _: &str, max: usize) -> Vec<Entry> {
        let entry = |sequence| Entry {
            sequence,
            at: TimestampMs(1_000),
            state: State { phase: Phase::Progressing, ..State::default() },
            score: 1.0,
            by: Some(("ann".into(), "lunch".into())),
            ..Entry::default()
        };
        [1, 2, 3][3 - max.min(3)..].iter().copied().map(entry).collect()
    }
}

struct Desked {
    stand: Stand,
    desk: Arc<FakeDesk>,
}

fn desked() -> Desked {
    let desk = FakeDesk::new();
    let tokens = Tokens { given: Some(TOKEN.into()), stored: Some(("other".into(), "state/token".into())) };
    Desked { stand: stand_with(tokens, Some(Arc::clone(&desk) as Arc<dyn Desk>)), desk }
}

impl Desked {
    fn post(&self, target: &str, token: Option<&str>, body: &str) -> String {
        let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        self.stand.send(&format!(
            "POST {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{token}content-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    #[track_caller]
    fn check_post(&self, target: &str, token: Option<&str>, body: &str, status: u16, contains: &str) {
        let answer = self.post(target, token, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        assert!(answer.contains(contains), "{contains} in {answer}");
        assert!(answer.contains("content-type: application/json"), "{answer}");
    }

    /// A stream of events, its head read.
    fn events(&self, target: &str, last: Option<u64>) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.stand.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let last = last.map_or_else(String::new, |last| format!("last-event-id: {last}\r\n"));
        stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n{last}\r\n").as_bytes()).unwrap();
        BufReader::new(stream)
    }
}

/// The ids of the next events.
fn ids(reader: &mut BufReader<TcpStream>, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut line = String::new();
    while ids.len() < count {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream has ended after {ids:?}");
        ids.extend(line.strip_prefix("id: ").map(|id| id.trim().parse::<u64>().unwrap()));
    }
    ids
}

/// Reads until the stream has begun.
fn begun(reader: &mut BufReader<TcpStream>) {
    let mut line = String::new();
    while !line.starts_with("retry: ") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "no stream");
    }
}

#[test]
fn rollouts_are_listed_shown_and_remembered() {
    let mut desked = desked();
    let stand = &mut desked.stand;
    stand.check("/api/v1/rollouts", 200, "[{\"name\":\"hello\"");
    stand.check("/api/v1/rollouts/world", 200, "\"weight_ppm\":50000");
    stand.check("/api/v1/rollouts/world/history", 200, "\"who\":\"ann\"");
    stand.check("/api/v1/rollouts/world/history?max=1", 200, "[{\"sequence\":3,");
    stand.check("/api/v1/rollouts/world/history?max=x", 400, "at most 1000 entries");
    stand.check("/api/v1/rollouts/wurld", 404, "did you mean `world`? there are hello, world");
    stand.check("/api/v1/rollouts/wurld/history", 404, "\"error\"");
    stand.handle.stop();
}

#[test]
fn readiness_names_journals_and_files_that_are_behind() {
    let mut desked = desked();
    let stand = &mut desked.stand;
    stand.check("/readyz?verbose", 200, "[+] rollout hello: progressing, the canary has 5%");
    stand.check("/readyz?verbose", 200, "[-] rollout world: the journal cannot be written, no weight rises: the disk");
    stand.handle.stop();
    let behind = View { promoted: Some("/srv/v2@r7".into()), ..view("x") };
    assert!(file_is_behind(&behind).unwrap().starts_with("/srv/v2 was promoted and serves"));
    let level = View { promoted: Some("/srv/v1@r6".into()), ..view("x") };
    assert_eq!(file_is_behind(&level), None);
}

#[test]
fn commands_need_the_token_and_are_done_with_who_and_why() {
    let mut desked = desked();
    desked.check_post("/api/v1/rollouts/world/abort", None, "", 401, "state/token");
    desked.check_post("/api/v1/rollouts/world/abort", Some("wrong"), "", 401, "this is not the token");
    assert!(desked.desk.done.lock().unwrap().is_empty());
    let body = r#"{"who": "ann@host", "why": "errors", "weight": "2.5%"}"#;
    desked.check_post("/api/v1/rollouts/world/weight", Some(TOKEN), body, 200, "\"name\":\"world\"");
    desked.check_post("/api/v1/rollouts/world/pause", Some("other"), "", 200, "\"name\":\"world\"");
    let done = std::mem::take(&mut *desked.desk.done.lock().unwrap());
    let weight = Command::SetWeight("2.5%".parse().unwrap());
    let expected = [
        ("world".to_owned(), weight, "ann@host".to_owned(), "errors".to_owned()),
        ("world".to_owned(), Command::Pause, "somebody with the token".to_owned(), String::new()),
    ];
    assert_eq!(done, expected);
    desked.check_post("/api/v1/rollouts/world/weight", Some(TOKEN), "{", 400, "line 1 column 1");
    desked.check_post("/api/v1/rollouts/nobody/abort", Some(TOKEN), "", 404, "there are hello, world");
    desked.check_post("/api/v1/rollouts/world/explode", Some(TOKEN), "", 404, "abort, pause, promote");
    desked.stand.handle.stop();
}

#[test]
fn commands_that_fail_say_why() {
    let mut desked = desked();
    for (failure, status, part) in [
        (NotDone::Refused(CommandError::NothingToUndo), 409, "nothing has ended that could be undone"),
        (NotDone::NotHere, 409, "judge: off"),
        (NotDone::NoEndpoint, 409, "has no endpoint"),
        (NotDone::NotDurable("disk full".into()), 503, "the journal cannot be written: disk full"),
        (NotDone::Gone, 503, "about to end"),
        (NotDone::Unknown { known: vec!["hello".into()] }, 404, "there are hello"),
    ] {
        *desked.desk.answer.lock().unwrap() = Some(failure);
        desked.check_post("/api/v1/rollouts/world/undo", Some(TOKEN), "", status, part);
    }
    desked.stand.handle.stop();
}

#[test]
fn a_stream_tells_what_happens_and_only_of_whom_was_asked_for() {
    let mut desked = desked();
    desked.desk.tell(1, "world");
    let (mut all, mut one) =
        (desked.events("/api/v1/events", None), desked.events("/api/v1/events?rollout=world", None));
    begun(&mut all);
    begun(&mut one);
    desked.desk.tell(2, "hello");
    desked.desk.tell(3, "world");
    assert_eq!(ids(&mut all, 2), [2, 3], "what was before is not news");
    assert_eq!(ids(&mut one, 1), [3]);
    desked.stand.check("/api/v1/events?rollout=nobody", 404, "there are hello, world");
    desked.stand.check("/api/v1/events?x=1", 400, "?rollout=NAME");
    desked.stand.handle.stop();
}

#[test]
fn who_comes_back_gets_what_was_missed() {
    let mut desked = desked();
    for sequence in 5..=9 {
        desked.desk.tell(sequence, "world");
    }
    assert_eq!(ids(&mut desked.events("/api/v1/events", Some(7)), 2), [8, 9]);
    assert_eq!(ids(&mut desked.events("/api/v1/events?after=8", None), 1), [9]);
    let mut far = desked.events("/api/v1/events?after=0", None);
    let mut lines = (&mut far).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == ": 4 events are not kept any more"));
    assert_eq!(ids(&mut far, 5), [5, 6, 7, 8, 9]);
    let restarted = ids(&mut desked.events("/api/v1/events", Some(4_000)), 5);
    assert_eq!(restarted, [5, 6, 7, 8, 9], "an id of an earlier process");
    desked.stand.handle.stop();
}

#[test]
fn a_reader_that_the_channel_overtook_misses_nothing_that_is_kept() {
    let mut desked = desked();
    let mut reader = desked.events("/api/v1/events", None);
    begun(&mut reader);
    for sequence in 1..=20 {
        desked.desk.tell(sequence, "world");
    }
    assert_eq!(ids(&mut reader, 20), (1..=20).collect::<Vec<_>>());
    desked.stand.handle.stop();
}

#[test]
fn streams_fill_the_cap_and_one_more_is_refused_until_one_ends() {
    let mut desked = desked();
    let mut open: Vec<_> = (0..SUBSCRIBERS_MAX).map(|_| desked.events("/api/v1/events", None)).collect();
    open.iter_mut().for_each(begun);
    desked.stand.check("/api/v1/events", 503, "64 streams are open already");
    drop(open.pop());
    let until = Duration::from_secs(20);
    let accepted = || {
        let mut reader = desked.events("/api/v1/events", None);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.starts_with("HTTP/1.1 200").then_some(reader)
    };
    let begin = crate::clock::now_ms();
    while accepted().is_none() {
        assert!(crate::clock::now_ms() - begin < u64::try_from(until.as_millis()).unwrap(), "a place becomes free");
        std::thread::yield_now();
    }
    desked.stand.handle.stop();
}

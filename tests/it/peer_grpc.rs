//! gRPC by Python's grpcio on both ends: an implementation that shares no line with the proxy.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::outside::{Guard, program, require_module, script};
use crate::support::ports::free_port;
use crate::support::{DEADLINE, Serin, Setup, eventually, eventually_some, h2peer, now};

/// A script of grpcio; ends with its test.
struct Peer {
    guard: Guard,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Peer {
    /// An origin and the address it listens on.
    fn origin(name: &str) -> (Peer, String) {
        let peer = Peer::start("grpc_origin.py", &[name], &[]);
        let port = peer.until("the port of the origin", |line| line["port"].as_u64());
        (peer, format!("127.0.0.1:{port}"))
    }

    fn client(scenario: &str, serin: &Serin, host: &str, environment: &[(&str, &str)]) -> Peer {
        let port = serin.address().port().to_string();
        Peer::start("grpc_client.py", &[scenario, &port, host], environment)
    }

    fn start(file: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Peer {
        let mut python = program("python3");
        python.arg(script(file)).args(arguments).envs(environment.iter().copied());
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
        let (stdout, lines) = (child.stdout.take().unwrap(), Arc::default());
        let shared: Arc<Mutex<Vec<Value>>> = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                shared.lock().unwrap().push(serde_json::from_str(&line).expect("a line of JSON"));
            }
        });
        Peer { guard: Guard(child), lines }
    }

    /// The first line that has what is looked for.
    fn until<T>(&self, what: &str, fits: impl Fn(&Value) -> Option<T>) -> T {
        eventually_some(what, || self.lines.lock().unwrap().iter().find_map(&fits))
    }

    /// What the scenario saw.
    fn result(&self) -> Value {
        self.until("the result of a scenario", |line| line.get("result").cloned())
    }

    /// Lets a scenario that waits go on.
    fn go_on(&mut self) {
        self.guard.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Waits until a call that the origin watches has `start`ed or come to its `end`.
    fn watched(&self, event: &str, call: &str) -> Value {
        let fits = |line: &Value| (line["event"] == event && line["call"] == call).then(|| line.clone());
        self.until(&format!("{event} of {call} at the origin"), fits)
    }
}

/// One origin `world`, a proxy with these further keys, a client with one scenario.
fn play(scenario: &str, setup: impl Fn(Setup) -> Setup, environment: &[(&str, &str)]) -> Value {
    let (_origin, endpoint) = Peer::origin("world");
    let serin = setup(Setup::new().cluster("world", &[&endpoint])).start();
    Peer::client(scenario, &serin, "world", environment).result()
}

fn check_play(scenario: &str, expected: Value) {
    if require_module("grpc") {
        assert_eq!(play(scenario, |setup| setup, &[]), expected);
    }
}

fn numbers() -> Vec<String> {
    (0..10).map(|number| number.to_string()).collect()
}

/// Values of one key, in order, of metadata written as pairs.
fn values(metadata: &Value, key: &str) -> Vec<String> {
    let pairs = metadata.as_array().expect("pairs");
    pairs.iter().filter(|pair| pair[0] == key).map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}

#[test]
fn unary_call_passes_message_headers_trailers_and_binary_metadata_unchanged() {
    if !require_module("grpc") {
        return;
    }
    let seen = play("unary", |setup| setup, &[]);
    assert_eq!((&seen["code"], &seen["message"]), (&json!("OK"), &json!("68656c6c6f00ff")));
    let all: String = (0..=255_u8).map(|byte| format!("{byte:02x}")).collect();
    for (part, mark) in [("initial", "h-"), ("trailing", "t-")] {
        let value = |key: &str| values(&seen[part], &format!("{mark}{key}"));
        assert_eq!(value("x-text"), ["plain"], "{part}");
        assert_eq!(value("x-raw-bin"), [all.as_str()], "{part}");
        assert_eq!(value("x-empty-bin"), [""], "{part}");
        let two = value("x-two").join(", ");
        assert!(two == "a, b" || two == "a,b", "{part}: {two}");
    }
}

#[test]
fn client_streaming_hands_on_each_message_as_it_comes() {
    check_play("collect", json!({"arrived": 10, "message": numbers().join(","), "code": "OK"}));
}

#[test]
fn server_streaming_hands_on_each_message_as_it_comes() {
    check_play("expand", json!({"got": numbers(), "more": [], "code": "OK"}));
}

#[test]
fn both_streams_run_one_message_at_a_time_and_half_close_travels() {
    check_play("chat", json!({"got": numbers(), "more": ["end after 10"], "code": "OK"}));
}

#[test]
fn every_status_of_the_origin_comes_with_its_message_and_metadata() {
    if !require_module("grpc") {
        return;
    }
    let seen = play("fail", |setup| setup, &[]);
    let seen = seen.as_object().unwrap();
    assert_eq!(seen.len(), 16);
    for (code, outcome) in seen {
        assert_eq!(outcome["details"], "no: 100 % of it, ä\nsecond", "status {code}");
        assert_eq!(values(&outcome["trailing"], "x-why"), ["asked"], "status {code}");
        assert_eq!(values(&outcome["trailing"], "x-why-bin"), ["00ff80"], "status {code}");
    }
    assert_eq!(seen["5"]["code"], "NOT_FOUND");
    assert_eq!(seen["14"]["code"], "UNAVAILABLE");
    assert_eq!(seen["16"]["code"], "UNAUTHENTICATED");
}

#[test]
fn answer_of_trailers_only_stays_one() {
    if !require_module("grpc") {
        return;
    }
    let (_origin, endpoint) = Peer::origin("world");
    let serin = Setup::new().cluster("world", &[&endpoint]).start();
    let request = h2peer::grpc("world", "/test.Echo/Fail").body(()).unwrap();
    let answer = h2peer::exchange(serin.address(), request, Some(h2peer::message("[9, \"why\"]"))).unwrap();
    assert_eq!((answer.status, answer.trailers_only, answer.grpc_status()), (200, true, Some(9)), "{answer:?}");
    assert_eq!(answer.header("grpc-message").as_deref(), Some("why"));
    assert_eq!(answer.header("x-why-bin").as_deref().map(|text| text.trim_end_matches('=')), Some("AP+A"));
    let request = h2peer::grpc("world", "/test.Echo/NoSuchMethod").body(()).unwrap();
    let answer = h2peer::exchange(serin.address(), request, Some(h2peer::message(""))).unwrap();
    assert_eq!((answer.status, answer.grpc_status(), answer.header("l5d-err")), (200, Some(12), None), "{answer:?}");
}

#[test]
fn status_after_messages_comes_behind_them() {
    if !require_module("grpc") {
        return;
    }
    let seen = play("fail_late", |setup| setup, &[]);
    assert_eq!((&seen["code"], &seen["details"]), (&json!("DATA_LOSS"), &json!("after two")));
    assert_eq!(seen["got"], json!(["one", "two"]));
}

#[test]
fn deadline_of_the_caller_reaches_the_origin_and_ends_the_call_there() {
    if !require_module("grpc") {
        return;
    }
    let (origin, endpoint) = Peer::origin("world");
    let serin = Setup::new().cluster("world", &[&endpoint]).start();
    let seen = Peer::client("hang", &serin, "world", &[("LIMIT", "2")]).result();
    assert_eq!(seen["code"], "DEADLINE_EXCEEDED", "{seen}");
    let remaining = origin.watched("start", "hang")["remaining"].as_f64().expect("grpc-timeout is forwarded");
    assert!(remaining <= 2.0, "{remaining}");
    origin.watched("end", "hang");
}

#[test]
fn shorter_time_limit_of_the_route_is_what_the_origin_gets() {
    if !require_module("grpc") {
        return;
    }
    let (origin, endpoint) = Peer::origin("world");
    let setup = Setup::new().cluster("world", &[&endpoint]).router("service: {totalTimeoutMs: 2000}");
    let serin = setup.start();
    let seen = Peer::client("hang", &serin, "world", &[("LIMIT", "60")]).result();
    assert_eq!(seen["code"], "DEADLINE_EXCEEDED", "{seen}");
    assert!(seen["seconds"].as_f64().unwrap() < 8.0, "{seen}");
    let remaining = origin.watched("start", "hang")["remaining"].as_f64().expect("grpc-timeout is forwarded");
    assert!(remaining <= 2.0, "the origin may take {remaining} s");
    origin.watched("end", "hang");
}

#[test]
fn longer_time_limit_of_the_route_does_not_stretch_the_caller_s() {
    if !require_module("grpc") {
        return;
    }
    let seen = play("describe", |setup| setup.router("service: {totalTimeoutMs: 60000}"), &[("LIMIT", "7")]);
    let remaining = seen["message"]["remaining"].as_f64().expect("grpc-timeout is forwarded");
    assert!(remaining > 0.0 && remaining <= 7.0, "{remaining}");
}

#[test]
fn caller_who_gives_up_before_the_answer_ends_the_call_at_the_origin() {
    if !require_module("grpc") {
        return;
    }
    let (origin, endpoint) = Peer::origin("world");
    let serin = Setup::new().cluster("world", &[&endpoint]).start();
    let mut client = Peer::client("cancel_waiting", &serin, "world", &[]);
    origin.watched("start", "hang");
    client.go_on();
    assert_eq!(client.result(), json!({"cancelled": true}));
    origin.watched("end", "hang");
}

#[test]
fn caller_who_gives_up_a_stream_ends_it_at_the_origin_and_nothing_else() {
    if !require_module("grpc") {
        return;
    }
    let (origin, endpoint) = Peer::origin("world");
    let serin = Setup::new().cluster("world", &[&endpoint]).start();
    let mut client = Peer::client("cancel_stream", &serin, "world", &[]);
    origin.watched("end", "begin");
    client.go_on();
    assert_eq!(client.result(), json!({"first": "first", "after": "still here"}));
}

#[test]
fn origin_that_gives_up_is_seen_as_cancelled() {
    if !require_module("grpc") {
        return;
    }
    let seen = play("quit_early", |setup| setup, &[]);
    assert_eq!(seen["code"], "CANCELLED", "{seen}");
}

#[test]
fn origin_killed_in_mid_stream_is_never_a_clean_end() {
    if !require_module("grpc") {
        return;
    }
    let (mut origin, endpoint) = Peer::origin("world");
    let serin = Setup::new().cluster("world", &[&endpoint]).start();
    let client = Peer::client("read_on", &serin, "world", &[]);
    client.until("the first message", |line| line.get("first").cloned());
    let start = now();
    origin.guard.0.kill().unwrap();
    let seen = client.result();
    assert!(["UNAVAILABLE", "INTERNAL"].iter().any(|code| seen["code"] == *code), "{seen}");
    assert!(now() - start < DEADLINE / 2, "the caller hears of it at once");
}

#[test]
fn calls_wait_for_no_one_when_the_origin_comes_back() {
    if !require_module("grpc") {
        return;
    }
    let (first, endpoint) = Peer::origin("first");
    let setup = Setup::new().cluster("world", &[&endpoint]);
    let serin = setup.start();
    let mut client = Peer::client("recover", &serin, "world", &[]);
    let mut ask = |asked: usize| {
        client.go_on();
        let line = |client: &Peer| client.lines.lock().unwrap().get(asked).cloned();
        eventually_some("an answer", || line(&client))
    };
    assert_eq!(ask(0)["message"], "first");
    drop(first);
    let (_second, elsewhere) = Peer::origin("second");
    serin.rewrite(&setup.text().replace(&endpoint, &elsewhere));
    let mut asked = 0;
    eventually("calls reach the second origin", || {
        asked += 1;
        let answer = ask(asked);
        assert!(answer["code"] == "OK" || answer["code"] == "UNAVAILABLE", "{answer}");
        answer["message"] == "second"
    });
}

#[test]
fn messages_of_4_mib_arrive_octet_for_octet() {
    check_play("large", json!({"size": 4_194_304, "same": true, "streamed": 5, "more": ["end after 5"]}));
}

#[test]
fn two_hundred_calls_run_at_one_time() {
    if !require_module("grpc") {
        return;
    }
    let (_origin, endpoint) = Peer::origin("world");
    let serin = Setup::new().cluster("world", &[&endpoint]).server("exposure: mesh").start();
    let mut client = Peer::client("many", &serin, "world", &[]);
    assert_eq!(client.until("all streams are open", |line| line.get("open").cloned()), 200);
    let active = crate::support::scrape::Scrape::of(&serin).sum("serin_requests_active", &[]);
    assert_eq!(active, 200.0, "requests in flight, as the metric has it");
    client.go_on();
    assert_eq!(client.result(), json!({"good": 400, "codes": ["OK"]}));
}

/// A call that Serin answers itself.
fn check_refused(setup: &Setup, host: &str, code: &str, label: &str) {
    if !require_module("grpc") {
        return;
    }
    for (clear, sentence) in [(false, true), (true, false)] {
        let serin = setup.clone().server(&format!("clearContext: {clear}")).start();
        let seen = Peer::client("describe", &serin, host, &[]).result();
        assert_eq!(seen["code"], code, "{seen}");
        assert!(seen["details"].as_str().is_some_and(|text| !text.is_empty()), "a grpc-message: {seen}");
        let mut marks = values(&seen["trailing"], "l5d-err");
        marks.extend(values(&seen["initial"], "l5d-err"));
        assert_eq!(marks.len(), 1, "one l5d-err: {seen}");
        assert_eq!(marks[0] != label, sentence, "strangers get the label {label}, others a sentence: {seen}");
    }
}

#[test]
fn call_without_route_is_unimplemented() {
    check_refused(&Setup::new().cluster("world", &["127.0.0.1:1"]), "nowhere", "UNIMPLEMENTED", "no-route");
}

#[test]
fn call_to_a_name_without_endpoint_is_unavailable() {
    check_refused(&Setup::new().cluster("world", &[]), "world", "UNAVAILABLE", "no-endpoint");
}

#[test]
fn call_that_is_refused_is_unavailable() {
    let nobody = format!("127.0.0.1:{}", free_port());
    check_refused(&Setup::new().cluster("world", &[&nobody]), "world", "UNAVAILABLE", "connect-refused");
}

/// Which of two origins answers a call with this metadata, and the `l5d-*` fields that it got.
fn override_seen(server: &str, metadata: &Value) -> (String, Vec<(String, String)>) {
    let ((_one, first), (_two, second)) = (Peer::origin("v1"), Peer::origin("v2"));
    let setup = Setup::new().cluster("v1", &[&first]).cluster("v2", &[&second]).server(server);
    let serin = setup.dtab("/svc => /host ; /host/world => /#/clusters/v1").start();
    let seen = Peer::client("describe", &serin, "world", &[("METADATA", &metadata.to_string())]).result();
    assert_eq!(seen["code"], "OK", "{seen}");
    let fields = seen["message"]["metadata"].as_object().unwrap().iter();
    let fields = fields.filter(|(name, _)| name.starts_with("l5d-"));
    let all =
        fields.flat_map(|(name, list)| list.as_array().unwrap().iter().map(|value| (name.clone(), value.clone())));
    let text = all.map(|(name, value)| (name, value.as_str().unwrap().replace(' ', ""))).collect();
    (seen["message"]["name"].as_str().unwrap().to_owned(), text)
}

#[test]
fn override_in_metadata_is_obeyed_and_travels_on_as_context() {
    if !require_module("grpc") {
        return;
    }
    let metadata = json!([["l5d-ctx-dtab", "/from=>/before"], ["l5d-dtab", "/host/world=>/#/clusters/v2"]]);
    let (name, fields) = override_seen("trustedSources: [127.0.0.0/8]", &metadata);
    assert_eq!(name, "v2");
    let context: Vec<&str> =
        fields.iter().filter(|(n, _)| n == "l5d-ctx-dtab").map(|(_, value)| value.as_str()).collect();
    assert_eq!(context.join(";").replace(";;", ";"), "/from=>/before;/host/world=>/#/clusters/v2", "{fields:?}");
    assert!(!fields.iter().any(|(n, _)| n == "l5d-dtab"), "it ends here: {fields:?}");
}

#[test]
fn override_reaches_the_second_proxy_on_the_way() {
    if !require_module("grpc") {
        return;
    }
    let ((_one, first), (_two, second)) = (Peer::origin("v1"), Peer::origin("v2"));
    let inner = Setup::new().cluster("v1", &[&first]).cluster("v2", &[&second]).server("clearContext: false");
    let inner = inner.dtab("/svc => /host ; /host/world => /#/clusters/v1").start();
    let outer = Setup::new().cluster("next", &[&inner.address().to_string()]).dtab("/svc => /#/clusters/next").start();
    let metadata = json!([["l5d-dtab", "/host/world => /#/clusters/v2"]]).to_string();
    for (metadata, name) in [("[]", "v1"), (metadata.as_str(), "v2")] {
        let seen = Peer::client("describe", &outer, "world", &[("METADATA", metadata)]).result();
        assert_eq!(seen["message"]["name"], name, "{seen}");
        let via = seen["message"]["metadata"]["via"].as_array().unwrap();
        let hops: usize = via.iter().map(|value| value.as_str().unwrap().split(',').count()).sum();
        assert_eq!(hops, 2, "{via:?}");
    }
}

#[test]
fn override_of_a_stranger_is_neither_obeyed_nor_passed_on() {
    if !require_module("grpc") {
        return;
    }
    let metadata =
        json!([["l5d-dtab", "/host/world=>/#/clusters/v2"], ["l5d-ctx-dtab", "/host/world=>/#/clusters/v2"]]);
    let (name, fields) = override_seen("clearContext: true", &metadata);
    assert_eq!(name, "v1");
    let dtabs: Vec<_> = fields.iter().filter(|(name, _)| name.contains("dtab")).collect();
    assert!(dtabs.is_empty(), "{dtabs:?}");
}

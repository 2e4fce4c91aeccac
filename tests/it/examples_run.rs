//! Every file of `examples/` runs, and the curl lines in its first comment give what they promise.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::support::outside::{both, program, require_peer, stdout_of};
use crate::support::ports::free_port;
use crate::support::serin::{project, run};
use crate::support::{Client, Serin, Upstream, eventually, http1};

/// What the curl lines of a file promise, in their order: which upstream may answer.
const PROMISES: [(&str, &str, &[&[&str]]); 6] = [
    ("consul", "gateway", &[&["hello"]]),
    ("dogfood-cookie", "gateway", &[&["world-v1"], &["world-v2"]]),
    ("hello", "gateway", &[&["hello"], &["world-v1", "world-v2"], &["world-v2"]]),
    ("http-proxy", "outgoing", &[&["hello"], &["world-v2"]]),
    ("ingress", "ingress", &[&["web"], &["api-v1", "api-v2"]]),
    ("rules", "gateway", &[&["web"], &["api-v1"], &["api-v2"], &["web"]]),
];

/// Examples without curl lines: rollouts, whose life other tests follow.
const ROLLOUTS: [&str; 5] = ["ab", "bluegreen", "mirror", "rollout", "rollout-flagger"];

/// Examples whose lines are run in their order by the tests of stored dtabs.
const STORED: [&str; 1] = ["stored-dtabs"];

/// The services that examples expect on ports 8080 to 8082, here on free ones.
struct Services {
    upstreams: Vec<(u16, Upstream)>,
}

impl Services {
    fn start(first: &str, others: [&str; 2]) -> Services {
        let names = [(8080, first), (8081, others[0]), (8082, others[1])];
        Services { upstreams: names.into_iter().map(|(port, name)| (port, Upstream::named(name))).collect() }
    }

    fn for_example(name: &str) -> Services {
        if name == "ingress" || name == "rules" {
            return Services::start("web", ["api-v1", "api-v2"]);
        }
        Services::start("hello", ["world-v1", "world-v2"])
    }

    /// An address for each of the ports of the file.
    fn addresses(&self) -> Vec<(String, String)> {
        let written = self.upstreams.iter().map(|(port, upstream)| (format!("127.0.0.1:{port}"), upstream.endpoint()));
        written.collect()
    }
}

fn text_of(name: &str) -> String {
    std::fs::read_to_string(project().join("examples").join(format!("{name}.yaml"))).unwrap()
}

/// The file as it is, on ports that are free.
fn moved(name: &str, addresses: &[(String, String)]) -> String {
    let mut text = text_of(name);
    for (written, address) in addresses {
        text = text.replace(&format!("\"{written}\""), &format!("\"{address}\""));
    }
    for port in ["port: 4140", "port: 8000", "port: 9990"] {
        text = text.replace(port, "port: 0");
    }
    let code = code_of(&text);
    assert_eq!(code.matches("port: ").count(), code.matches("port: 0").count(), "{name}: a fixed port in\n{code}");
    assert!(!["8080", "8081", "8082"].iter().any(|port| code.contains(&format!(":{port}\""))), "{name}:\n{code}");
    if !text.contains("\nadmin:") {
        text.push_str("\nadmin: {ip: 127.0.0.1, port: 0}\n");
    }
    text
}

/// Without comments.
fn code_of(text: &str) -> String {
    text.lines().map(|line| line.split(" #").next().unwrap_or_default()).filter(|line| !line.starts_with('#')).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line.trim_end());
            all.push('\n');
            all
        },
    )
}

/// The curl lines of the comment a file begins with.
fn curl_lines(name: &str) -> Vec<String> {
    let text = text_of(name);
    let comment = text.lines().take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    comment.filter(|line| line.contains("curl ")).map(str::to_owned).collect()
}

/// A running example and how to ask it.
struct Example {
    serin: Serin,
    address: SocketAddr,
    addresses: Vec<(String, String)>,
    _services: Services,
}

impl Example {
    fn start(name: &str) -> Example {
        let services = Services::for_example(name);
        let addresses = services.addresses();
        Example::start_at(name, services, addresses)
    }

    fn start_at(name: &str, services: Services, addresses: Vec<(String, String)>) -> Example {
        let (_, router, _) = PROMISES.into_iter().find(|(file, ..)| *file == name).expect("a known example");
        let serin = Serin::start(&moved(name, &addresses));
        let address = SocketAddr::from(([127, 0, 0, 1], serin.address_of(router).port()));
        Example { serin, address, addresses, _services: services }
    }

    /// Which upstream answers; its status and body when none does.
    fn ask(&self, host: &str, lines: &[&str]) -> String {
        let answer = http1::get(self.address, host, "/", lines);
        answer.field("x-origin").unwrap_or_else(|| format!("{} {}", answer.status, answer.text()))
    }
}

fn check_promises(name: &str) {
    if !require_peer("curl") {
        return;
    }
    let (_, _, promises) = PROMISES.into_iter().find(|(file, ..)| *file == name).unwrap();
    let (lines, example) = (curl_lines(name), Example::start(name));
    assert_eq!(lines.len(), promises.len(), "{name}: {lines:?}");
    for (line, names) in lines.iter().zip(promises) {
        let mut moved = line.replace("curl ", "curl -sS --fail --max-time 10 ");
        for port in ["4140", "8000"] {
            moved = moved.replace(&format!("127.0.0.1:{port}"), &example.address.to_string());
        }
        assert!(moved.contains(&example.address.to_string()), "{line}: asks this Serin");
        let body = stdout_of(program("sh").args(["-c", &moved]));
        let seen: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{line}: {body}"));
        assert!(names.iter().any(|name| seen["name"] == *name), "{line}: {names:?}, not {}", seen["name"]);
    }
}

#[test]
fn every_example_is_known_here_and_valid() {
    let folder = std::fs::read_dir(project().join("examples")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path().file_name().unwrap().to_str().unwrap().to_owned());
    let names = || PROMISES.iter().map(|(name, ..)| *name).chain(ROLLOUTS).chain(STORED);
    let known: BTreeSet<String> = names().map(|name| format!("{name}.yaml")).collect();
    assert_eq!(files.filter(|file| file.ends_with(".yaml")).collect::<BTreeSet<_>>(), known);
    for name in names() {
        let file = project().join("examples").join(format!("{name}.yaml"));
        let output = run(&["validate", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", both(&output));
        assert!(!both(&output).to_lowercase().contains("error"), "{name}: {}", both(&output));
    }
}

#[test]
fn hello_gives_what_it_promises() {
    check_promises("hello");
}

#[test]
fn consul_falls_back_while_no_agent_runs() {
    check_promises("consul");
}

#[test]
fn http_proxy_gives_what_it_promises() {
    check_promises("http-proxy");
}

#[test]
fn dogfood_cookie_gives_what_it_promises() {
    check_promises("dogfood-cookie");
}

#[test]
fn ingress_gives_what_it_promises() {
    check_promises("ingress");
}

#[test]
fn rules_gives_what_it_promises() {
    check_promises("rules");
}

#[test]
fn hello_splits_nine_to_one_and_keeps_a_user_on_one_version() {
    let example = Example::start("hello");
    let mut client = Client::connect(example.address);
    let mut second = 0;
    for _ in 0..1000 {
        let answer = client.get("world", "/", &[]);
        second += u32::from(answer.field("x-origin").unwrap() == "world-v2");
    }
    // 100 is expected; 9.5 is the standard deviation, six of them the bound.
    assert!((43..=157).contains(&second), "{second} of 1000 for one tenth");
    let mut versions = BTreeSet::new();
    for user in 0..60 {
        let cookie = format!("Cookie: a=b; user=user-{user}");
        let version = example.ask("world", &[&cookie]);
        for _ in 0..3 {
            assert_eq!(example.ask("world", &[&cookie]), version, "user {user}");
        }
        versions.insert(version);
    }
    assert_eq!(versions.len(), 2, "60 users are on both: {versions:?}");
    let text = moved("hello", &example.addresses).replace("9 * /srv/world-v1", "0 * /srv/world-v1");
    example.serin.rewrite(&text);
    eventually("the saved weights are in force", || (0..40).all(|_| example.ask("world", &[]) == "world-v2"));
}

#[test]
fn http_proxy_falls_back_to_version_1_while_version_2_is_down() {
    let services = Services::for_example("http-proxy");
    let mut addresses = services.addresses();
    addresses[2].1 = format!("127.0.0.1:{}", free_port());
    let example = Example::start_at("http-proxy", services, addresses);
    // Five refused connections in a row, seen by each worker, show that it is down; then nobody is sent there.
    eventually("version 1 serves", || (0..10).all(|_| example.ask("world", &[]) == "world-v1"));
    assert_eq!(example.ask("hello", &[]), "hello");
}

#[test]
fn http_proxy_asks_dns_for_what_it_does_not_know_and_is_no_way_into_its_host() {
    let file = project().join("examples/http-proxy.yaml");
    let explain = run(&["explain", file.to_str().unwrap(), "-H", "Host: unknown.example", "-o", "json"]);
    let explain: serde_json::Value = serde_json::from_slice(&explain.stdout).unwrap();
    let traffic = explain["traffic"].as_object().unwrap();
    assert!(traffic.len() == 1 && traffic.keys().all(|name| name.contains("/80") && name.contains("unknown.example")));
    let example = Example::start("http-proxy");
    for host in ["127.0.0.1", "localhost", "169.254.169.254", "0.0.0.0", "2130706433", "127.1"] {
        let answer = http1::get(example.address, "x", &format!("http://{host}/"), &[]);
        assert_eq!(answer.status, 503, "{host}: {answer:?}");
    }
}

#[test]
fn ingress_knows_its_hosts_and_no_others_and_obeys_nobody() {
    let example = Example::start("ingress");
    for (host, name) in [("example.com", "web"), ("WWW.example.com:8000", "web")] {
        assert_eq!(example.ask(host, &[]), name, "{host}");
    }
    for host in ["other.example.com", "example.org", "com", "127.0.0.1"] {
        let answer = http1::get(example.address, host, "/", &[]);
        assert_eq!((answer.status, answer.field("l5d-err").as_deref()), (404, Some("no-route")), "{host}");
    }
    let version = example.ask("api.example.com", &[]);
    for dtab in ["/svc/api.example.com => /srv/web", "/svc => /#/clusters/web"] {
        let override_line = format!("l5d-dtab: {dtab}");
        assert_eq!(example.ask("api.example.com", &[&override_line]), version, "sticky by address, whatever is sent");
    }
    let mut client = Client::connect(example.address);
    let forwarded = ["X-Forwarded-For: 192.0.2.9", "X-Real-IP: 192.0.2.9", "Forwarded: for=192.0.2.9"];
    let seen = client.get("example.com", "/", &forwarded).json();
    assert_eq!(seen["headers"]["x-forwarded-for"], serde_json::json!(["127.0.0.1"]), "fresh forwarding headers");
    assert!(seen["headers"].get("forwarded").is_none() && seen["headers"].get("x-real-ip").is_none(), "{seen}");
}

#[test]
fn dogfood_cookie_chooses_for_colleagues_and_testers_only() {
    let example = Example::start("dogfood-cookie");
    for (lines, name) in [
        (&[][..], "world-v1"),
        (&["Cookie: dogfood=false"], "world-v1"),
        (&["Cookie: a=b; dogfood=true; c=d"], "world-v2"),
        (&["X-Version: 2"], "world-v2"),
        (&["X-Version: 1"], "world-v1"),
        (&["l5d-dtab: /host/world => /srv/world-v2"], "world-v1"),
    ] {
        assert_eq!(example.ask("world", lines), name, "{lines:?}");
    }
    let elsewhere = "127.9.8.7".parse().unwrap();
    let mut client = Client::connect_from(elsewhere, example.address);
    assert_eq!(client.get("world", "/", &["X-Version: 2"]).field("x-origin").as_deref(), Some("world-v2"));
}

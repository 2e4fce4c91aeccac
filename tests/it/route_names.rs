//! From a request to a name, and from the name to an origin.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::support::frames::{END_STREAM, Frames, HEADERS};
use super::support::h2peer::{exchange, get as h2_get};
use super::support::outside::{program, require_peer, stdout_of};
use super::support::ports::free_port;
use super::support::{Client, Response, Serin, Setup, Upstream, eventually, http1};

/// Two named origins and a file that knows them as clusters `a` and `b`.
struct Pair {
    a: Upstream,
    b: Upstream,
    setup: Setup,
}

fn pair(dtab: &str) -> Pair {
    let (a, b) = (Upstream::named("a"), Upstream::named("b"));
    let setup = Setup::new().cluster("a", &[&a.endpoint()]).cluster("b", &[&b.endpoint()]).dtab(dtab);
    Pair { a, b, setup }
}

/// Where a response came from: an origin's name, or the status of an answer that Serin made.
fn place(response: &Response) -> String {
    response.field("x-origin").unwrap_or_else(|| response.status.to_string())
}

/// Each host must end at this place, over HTTP/1.1 and over HTTP/2.
fn check_hosts(setup: &Setup, hosts: &[(&str, &str)]) {
    let serin = setup.start();
    for (host, expected) in hosts {
        assert_eq!(place(&serin.get(host, "/")), *expected, "HTTP/1.1, host {host}");
        let answer = exchange(serin.address(), h2_get(host, "/").body(()).unwrap(), None).unwrap();
        let reached = answer.header("x-origin").unwrap_or_else(|| answer.status.to_string());
        assert_eq!(reached, *expected, "HTTP/2, host {host}");
    }
}

/// With this dtab, host `web` must end at this place.
fn check_web(dtab: &str, expected: &str) {
    let pair = pair(dtab);
    check_hosts(&pair.setup.clone().cluster("empty", &[]), &[("web", expected)]);
}

#[test]
fn a_host_becomes_a_name() {
    let pair = pair("/svc => /#/clusters");
    check_hosts(&pair.setup, &[("a", "a"), ("b", "b"), ("a.b", "404"), ("c", "404")]);
    assert_eq!((pair.a.count(), pair.b.count()), (2, 2));
}

#[test]
fn a_host_is_lower_cased_and_loses_its_port() {
    check_hosts(&pair("/svc => /#/clusters").setup, &[("A:8080", "a"), ("B", "b"), ("a:1", "a")]);
}

#[test]
fn a_verbatim_host_keeps_case_and_port() {
    let pair = pair("/svc/Web:80 => /#/clusters/a ; /svc/web => /#/clusters/b");
    let setup = pair.setup.clone().router("identifier: {kind: io.l5d.header.token, host: verbatim}");
    check_hosts(&setup, &[("Web:80", "a"), ("web", "b"), ("Web", "404"), ("web:80", "404")]);
}

#[test]
fn a_host_field_names_an_http2_request_without_authority() {
    let pair = pair("/svc => /#/clusters");
    let serin = pair.setup.start();
    let mut frames = Frames::connect(serin.address());
    frames.headers(1, END_STREAM, &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "B:80")]);
    let answer = frames.until(|frame| frame.kind == HEADERS).expect("an answer");
    assert!(answer.has_status(200), "{answer:?}");
    assert_eq!(pair.b.count(), 1);
}

#[test]
fn another_header_names_the_service() {
    let pair = pair("/svc => /#/clusters");
    let serin = pair.setup.clone().router("identifier: {kind: io.l5d.header.token, header: x-service}").start();
    assert_eq!(place(&serin.get_with("b", "/", &["X-Service: a"])), "a");
    assert_eq!(serin.get("b", "/").status, 400);
}

#[test]
fn dst_prefix_stands_before_every_name() {
    let pair = pair("/svc => /#/clusters/a ; /http/1 => /#/clusters");
    check_hosts(&pair.setup.clone().router("dstPrefix: /http/1"), &[("b", "b"), ("a", "a"), ("c", "404")]);
}

#[test]
fn the_authority_of_an_absolute_target_wins_over_host() {
    let pair = pair("/svc => /#/clusters");
    let serin = pair.setup.start();
    let mut client = Client::connect(serin.address());
    assert_eq!(place(&client.get("b", "http://A:80/x%2Fy?q=1", &[])), "a");
    assert_eq!(place(&client.get("a", "http://b", &[])), "b");
    let (a, b) = (pair.a.only(), pair.b.only());
    assert_eq!(a.target, "/x%2Fy?q=1");
    assert_eq!(a.field("host").map(|host| host.to_ascii_lowercase()).as_deref(), Some("a:80"));
    assert_eq!((b.target.as_str(), b.field("host").as_deref()), ("/", Some("b")));
}

#[test]
fn curl_uses_it_as_http_proxy() {
    if !require_peer("curl") {
        return;
    }
    let pair = pair("/svc => /#/clusters");
    let serin = pair.setup.start();
    let mut curl = program("curl");
    curl.env("http_proxy", serin.address().to_string()).args(["-sS", "--max-time", "10", "http://b/path?x=1"]);
    let seen: serde_json::Value = serde_json::from_str(&stdout_of(&mut curl)).unwrap();
    assert_eq!((seen["name"].as_str(), seen["target"].as_str()), (Some("b"), Some("/path?x=1")));
    assert_eq!(seen["headers"]["host"], serde_json::json!(["b"]));
}

#[test]
fn the_last_dentry_is_tried_first() {
    check_web("/svc => /#/clusters/a ; /svc => /#/clusters/b", "b");
    check_web("/svc/web => /#/clusters/a ; /svc => /h ; /h/web => /#/clusters/b", "b");
    check_web("/svc/web => /#/clusters/a ; /svc => /nothing", "a");
    check_web("/svc/* => /#/clusters/a # a comment ; with an end", "a");
}

#[test]
fn alternatives_are_taken_in_order() {
    check_web("/s => /#/clusters ; /svc/web => /s/missing | /s/a | /s/b", "a");
    check_web("/svc/web => /nothing | ~ | /#/clusters/b", "b");
    check_web("/svc/web => /#/clusters/a ; /svc/web => ~", "a");
    check_web("/svc/web => /#/clusters/a ; /svc/web => !", "404");
    check_web("/svc/web => ! | /#/clusters/a", "404");
    check_web("/svc/web => $ | /#/clusters/a", "503");
    check_web("/svc/web => /$/nil | /#/clusters/a", "503");
    check_web("/svc/web => /$/fail | /#/clusters/a", "404");
}

#[test]
fn failover_by_health_passes_over_a_name_without_endpoints() {
    check_web("/svc/web => /#/clusters/empty | /#/clusters/b", "b");
    check_web("/svc/web => /#/clusters/b ; /svc/web => /#/clusters/empty", "b");
}

#[test]
fn failover_by_names_stays_at_a_name_without_endpoints() {
    let pair = pair("/s => /#/clusters ; /svc/web => /s/empty | /s/b ; /svc/x => /s/missing | /s/b");
    let setup = pair.setup.clone().cluster("empty", &[]).router("failover: names");
    check_hosts(&setup, &[("web", "503"), ("x", "b")]);
}

/// An endpoint that refuses, and is ejected for a minute after its first failure.
fn refusing_first(failover: &str) -> (Pair, Serin) {
    let pair = pair("/svc/web => /#/clusters/dead | /#/clusters/b");
    let accrual = "client: {failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 1, backoff: {kind: constant, ms: 60000}}}";
    let dead = format!("127.0.0.1:{}", free_port());
    let setup = pair.setup.clone().top("workers: 1").cluster("dead", &[&dead]).router(failover).router(accrual);
    let serin = setup.start();
    (pair, serin)
}

#[test]
fn failover_by_health_passes_over_a_name_whose_endpoints_are_ejected() {
    let (_pair, serin) = refusing_first("failover: health");
    eventually("the failure ejects the endpoint", || place(&serin.get("web", "/")) == "b");
    for _ in 0..20 {
        assert_eq!(place(&serin.get("web", "/")), "b");
    }
}

#[test]
fn failover_by_names_tries_an_ejected_endpoint_all_the_same() {
    let (pair, serin) = refusing_first("failover: names");
    for _ in 0..10 {
        assert_eq!(place(&serin.get("web", "/")), "503");
    }
    assert_eq!(pair.b.count(), 0);
}

#[test]
fn names_are_rewritten_by_built_in_rules() {
    check_web("/svc => /$/io.buoyant.http.anyHostPfx/any ; /any => /#/clusters/a", "a");
    let domains = "/svc => /$/io.buoyant.http.domainToPathPfx/d ; /d/org/example/www => /#/clusters/a ;
                   /d/org/example/api => /#/clusters/b";
    check_hosts(&pair(domains).setup, &[("www.example.org", "a"), ("api.example.org", "b"), ("example.org", "404")]);
    let subdomains = "/svc => /$/io.buoyant.http.subdomainOfPfx/example.org/s ; /s => /#/clusters";
    check_hosts(&pair(subdomains).setup, &[("a.example.org", "a"), ("b.example.org", "b"), ("a.example.com", "404")]);
    check_hosts(&pair("/svc => /$/io.buoyant.http.status").setup, &[("418", "418"), ("101", "502")]);
}

#[test]
fn addresses_written_in_the_file_are_reached() {
    let pair = pair("/svc/none => /nowhere");
    let port = pair.a.address.port();
    let dtab = format!(
        "/svc/one => /$/inet/127.0.0.1/{port} ; /svc/two => /$/io.buoyant.rinet/{port}/127.0.0.1 ;
         /svc/three => /$/inet/localhost/{port}"
    );
    let rule =
        format!("overrides:\n- when: {{header: {{x-four: \"4\"}}}}\n  dtab: /svc/four => /$/inet/127.0.0.1/{port}");
    let serin = pair.setup.clone().dtab(&dtab).router(&rule).start();
    for (host, lines) in [("one", vec![]), ("two", vec![]), ("three", vec![]), ("four", vec!["x-four: 4"])] {
        assert_eq!(place(&serin.get_with(host, "/", &lines)), "a", "{host}");
    }
}

/// Dtabs by which a `Host` becomes an address: with this port, and with its own.
fn request_names(port: u16) -> [String; 2] {
    [format!("/svc => /$/io.buoyant.rinet/{port}"), "/svc => /$/io.buoyant.hostportPfx/hp ; /hp => /$/inet".to_owned()]
}

#[test]
fn loopback_is_closed_to_names_made_by_hosts() {
    let pair = pair("/svc => /nowhere");
    let port = pair.a.address.port();
    let [by_host, by_host_and_port] = request_names(port);
    let serin = pair.setup.clone().dtab(&by_host).start();
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f000001",
        "127.1",
    ] {
        let answer = serin.get(host, "/");
        assert!(answer.status >= 400, "{host}: {}", answer.status);
    }
    let answer = serin.get("127.0.0.1", "/");
    assert_eq!(answer.status, 503, "{}", answer.text());
    let serin = pair
        .setup
        .clone()
        .dtab(&by_host_and_port)
        .router("identifier: {kind: io.l5d.header.token, host: verbatim}")
        .start();
    assert_eq!(serin.get(&format!("127.0.0.1:{port}"), "/").status, 503);
    assert_eq!((pair.a.count(), pair.a.connections()), (0, 0));
}

#[test]
fn closed_networks_are_closed_to_names_made_by_overrides() {
    let pair = pair("/svc/b => /#/clusters/b");
    let port = pair.a.address.port();
    let serin = pair.setup.start();
    let closed = [
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::",
        "::127.0.0.1",
        "ff02::1",
        "fd00:ec2::254",
        "64:ff9b::7f00:1",
        "::ffff:a9fe:a9fe",
    ];
    for address in closed {
        for name in [format!("/$/inet/{address}/{port}"), format!("/$/io.buoyant.rinet/{port}/{address}")] {
            let answer = serin.get_with("x", "/", &[&format!("l5d-dtab: /svc/x => {name}")]);
            assert_eq!(answer.status, 503, "{name}: {}", answer.text());
            let answer = serin.get_with("x", "/", &[&format!("l5d-dtab: /svc/x => {name} | /#/clusters/b")]);
            assert_eq!(place(&answer), "b", "{name} counts as a name without an endpoint");
        }
    }
    assert_eq!((pair.a.count(), pair.a.connections()), (0, 0));
}

#[test]
fn a_dns_name_that_answers_with_loopback_is_closed() {
    let pair = pair("/svc => /nowhere");
    let [by_host, _] = request_names(pair.a.address.port());
    let dns = dns_that_says_loopback();
    let start = |setup: &Setup| {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("serin.yaml"), setup.text()).unwrap();
        let mut serin = Serin::spawn(dir, &["run", "serin.yaml"], &[("SERIN_DNS", &dns.to_string())]);
        serin.wait_ready();
        serin
    };
    let closed = pair.setup.clone().dtab(&by_host);
    let answer = start(&closed).get("rebound.example", "/");
    assert_eq!((answer.status, pair.a.connections()), (503, 0), "{}", answer.text());
    let open = start(&closed.top("egress: {allow: [127.0.0.0/8]}"));
    assert_eq!(place(&open.get("rebound.example", "/")), "a");
}

/// A DNS server that answers every question for an IPv4 address with 127.0.0.1, and every other with nothing.
fn dns_that_says_loopback() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((_, peer)) = socket.recv_from(&mut packet) {
            let end = 12 + packet[12..].iter().position(|&byte| byte == 0).unwrap() + 5;
            let asks_for_ipv4 = packet[end - 4..end - 2] == [0, 1];
            packet[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(asks_for_ipv4), 0, 0, 0, 0]);
            let mut answer = packet[..end].to_vec();
            if asks_for_ipv4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, peer);
        }
    });
    address
}

#[test]
fn egress_allow_opens_a_network_to_names_made_by_requests() {
    let pair = pair("/svc => /#/clusters");
    let port = pair.a.address.port();
    let [by_host, _] = request_names(port);
    let open = pair.setup.clone().dtab(&by_host).top("egress: {allow: [127.0.0.1/32]}");
    check_hosts(&open, &[("127.0.0.1", "a"), ("localhost", "a"), ("127.0.0.2", "503")]);
    let serin = pair.setup.clone().top("egress: {allow: [127.0.0.0/8]}").start();
    let line = format!("l5d-dtab: /svc/b => /$/inet/127.0.0.1/{port}");
    assert_eq!(place(&serin.get_with("b", "/", &[&line])), "a");
}

#[test]
fn a_changed_file_of_a_folder_reroutes() {
    let pair = pair("/svc => /#/io.l5d.fs");
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let disco = dir.path().join("disco");
    std::fs::create_dir_all(disco.join("team")).unwrap();
    let line = |origin: &Upstream| format!("127.0.0.1 {}\n", origin.address.port());
    std::fs::write(disco.join("web"), line(&pair.a)).unwrap();
    let setup = pair.setup.clone().top("namers:\n- {kind: io.l5d.fs, rootDir: disco}");
    let setup = setup.dtab("/svc => /#/io.l5d.fs ; /svc/sub => /#/io.l5d.fs/team/web");
    let serin = Serin::start_in(dir, &setup.text());
    let check = |host: &str, expected: &str| {
        eventually(&format!("{host} leads to {expected}"), || place(&serin.get(host, "/")) == expected);
    };
    check("web", "a");
    assert_eq!(place(&serin.get("new", "/")), "404");
    std::fs::write(disco.join("web"), line(&pair.b)).unwrap();
    check("web", "b");
    std::fs::write(disco.join(".swap"), line(&pair.a)).unwrap();
    std::fs::rename(disco.join(".swap"), disco.join("web")).unwrap();
    check("web", "a");
    std::fs::write(disco.join("new"), line(&pair.b)).unwrap();
    check("new", "b");
    std::fs::write(disco.join("team/web"), line(&pair.b)).unwrap();
    check("sub", "b");
    std::fs::write(disco.join("web"), "").unwrap();
    check("web", "503");
    std::fs::remove_file(disco.join("web")).unwrap();
    check("web", "404");
    std::fs::write(disco.join("web"), line(&pair.b)).unwrap();
    check("web", "b");
}

#[test]
fn a_bad_line_of_a_folder_keeps_the_last_good_addresses() {
    let pair = pair("/svc => /#/files");
    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("disco")).unwrap();
    let file = dir.path().join("disco/web");
    std::fs::write(&file, format!("127.0.0.1 {}\n", pair.a.address.port())).unwrap();
    let setup = pair.setup.clone().top("namers:\n- {kind: io.l5d.fs, rootDir: disco, prefix: files}");
    let serin = Serin::start_in(dir, &setup.text());
    eventually("the folder was read", || place(&serin.get("web", "/")) == "a");
    std::fs::write(&file, format!("127.0.0.1 {}\nnonsense\n", pair.b.address.port())).unwrap();
    let log = || serin.log();
    eventually("the bad line is logged", || {
        log().contains("web") && log().lines().any(|line| line.contains("WARN") || line.contains("ERROR"))
    });
    assert_eq!(place(&serin.get("web", "/")), "a");
}

#[test]
fn listeners_and_endpoints_speak_ipv6() {
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else {
        println!("skipped: needs IPv6");
        return;
    };
    let six = listener.local_addr().unwrap();
    let origin = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut wire = super::support::wire::Wire::new(stream);
        wire.read_head().unwrap();
        wire.send(super::support::upstream::reply(200, &["x-origin: six"], "")).unwrap();
    });
    let text = format!(
        "admin: {{ip: \"::1\", port: 0}}\nclusters: {{six: {{endpoints: [\"{six}\"]}}}}\nrouters:\n- label: outgoing\n  \
         protocol: http\n  servers: [{{ip: \"::1\", port: 0}}]\n  dtab: /svc => /#/clusters\n"
    );
    let serin = Serin::start(&text);
    assert!(serin.address().is_ipv6() && serin.admin_address().is_ipv6());
    assert_eq!(place(&serin.get("six", "/")), "six");
    origin.join().unwrap();
    assert_eq!(serin.admin("/admin/ping").text().trim(), "pong");
}

#[test]
fn it_never_connects_to_its_own_listeners() {
    let (port, admin) = (free_port(), free_port());
    let own = format!("127.0.0.1:{port}");
    let mut setup = Setup::new().ports(port, admin).cluster("own", &[&own]);
    let others = [
        ("name", format!("localhost:{port}")),
        ("admin", format!("127.0.0.1:{admin}")),
        ("mapped", format!("[::ffff:127.0.0.1]:{port}")),
    ];
    for (name, address) in others {
        setup = setup.cluster(name, &[&address]);
    }
    let dtab = format!("/svc => /#/clusters ; /svc/inet => /$/inet/127.0.0.1/{port}");
    let serin = setup.dtab(&dtab).top("egress: {allow: [127.0.0.0/8]}").start();
    for round in 0..8 {
        for host in ["own", "name", "admin", "mapped", "inet"] {
            check_loop(&serin.get(host, "/"), &format!("{host}, round {round}"));
        }
    }
    for target in [port, admin] {
        let line = format!("l5d-dtab: /svc/x => /$/inet/127.0.0.1/{target}");
        check_loop(&serin.get_with("x", "/", &[&line]), &line);
    }
}

#[test]
fn a_listener_on_all_addresses_is_its_own_under_each_of_them() {
    let port = free_port();
    let text = format!(
        "admin: {{ip: 127.0.0.1, port: 0}}\nclusters:\n  one: {{endpoints: [\"127.0.0.1:{port}\"]}}\n  \
         two: {{endpoints: [\"127.0.0.2:{port}\"]}}\n  zero: {{endpoints: [\"0.0.0.0:{port}\"]}}\nrouters:\n\
         - label: outgoing\n  protocol: http\n  servers: [{{ip: 0.0.0.0, port: {port}}}]\n  dtab: /svc => /#/clusters\n"
    );
    let serin = Serin::start(&text);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for host in ["one", "two", "zero"] {
        check_loop(&http1::get(address, host, "/", &[]), host);
    }
    drop(serin);
}

#[track_caller]
fn check_loop(answer: &Response, what: &str) {
    assert_eq!(answer.status, 508, "{what}: {}", answer.text());
    assert!(answer.field("l5d-err").is_some(), "{what}");
}

#[test]
fn an_ipv4_peer_of_an_ipv6_listener_keeps_its_address() {
    let pair = pair("/svc => /nowhere");
    let port = free_port();
    let text =
        pair.setup.clone().ports(port, 0).dtab("/svc => /#/clusters").cluster("own", &[&format!("127.0.0.1:{port}")]);
    let rule = "overrides:\n- when: {source: 127.0.2.0/24}\n  dtab: /svc/a => /#/clusters/b";
    let serin = Serin::start(
        &text
            .router(rule)
            .text()
            .replace("{ip: 127.0.0.1, port: ", "{ip: \"::\", port: ")
            .replace("admin: {ip: \"::\"", "admin: {ip: 127.0.0.1"),
    );
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    if std::net::TcpStream::connect(address).is_err() {
        println!("skipped: needs sockets that take IPv4 and IPv6");
        return;
    }
    let answer = http1::get(address, "a", "/", &["l5d-dtab: /svc/a => /#/clusters/b"]);
    assert_eq!(place(&answer), "b", "loopback is trusted");
    assert_eq!(pair.b.only().field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    let answer = Client::connect_from([127, 0, 2, 1].into(), address).get("a", "/", &[]);
    assert_eq!(place(&answer), "b", "the rule knows the network");
    check_loop(&http1::get(address, "own", "/", &[]), "own");
    drop(serin);
}

#[test]
fn a_listener_that_a_reload_brings_is_its_own_too() {
    let (port, later) = (free_port(), free_port());
    let setup = Setup::web(&format!("127.0.0.1:{later}")).ports(port, free_port());
    let setup = setup.router("client: {failureAccrual: {kind: none}}");
    let serin = setup.start();
    assert_eq!(serin.get("web", "/").status, 503);
    let second = format!(", {{ip: 127.0.0.1, port: {later}}}]");
    serin.rewrite(&setup.text().replacen(&format!("port: {port}}}]"), &format!("port: {port}}}{second}"), 1));
    eventually("the new listener is its own", || serin.get("web", "/").status == 508);
}

#[test]
fn endpoints_of_a_folder_have_weights() {
    let pair = pair("/svc => /#/io.l5d.fs");
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let lines = format!("127.0.0.1 {} * 9\n127.0.0.1 {} * 1\n", pair.a.address.port(), pair.b.address.port());
    std::fs::create_dir(dir.path().join("disco")).unwrap();
    std::fs::write(dir.path().join("disco/web"), lines).unwrap();
    let serin = Serin::start_in(dir, &pair.setup.clone().top("namers:\n- {kind: io.l5d.fs, rootDir: disco}").text());
    let mut client = Client::connect(serin.address());
    (0..300).for_each(|_| assert_eq!(client.get("web", "/", &[]).status, 200));
    let (a, b) = (pair.a.count(), pair.b.count());
    assert!(b > 0 && a > 3 * b, "9 to 1: {a} and {b}");
}

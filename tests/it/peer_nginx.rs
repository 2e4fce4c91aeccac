//! nginx as the upstream: HTTP/1.1 by a server that millions rely on, and curl in front.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;

use crate::support::outside::{Guard, program, require_peer, stdout_of};
use crate::support::ports::free_port;
use crate::support::scrape::Scrape;
use crate::support::{Client, DEADLINE, Response, Serin, Setup, eventually, http1, now};

/// nginx in a folder of its own, serving `www` in it: files, `PUT` below `/up/`, and text that it compresses as it goes.
struct Nginx {
    dir: TempDir,
    port: u16,
    child: Option<Guard>,
}

impl Nginx {
    fn start() -> Nginx {
        let mut nginx = Nginx { dir: tempfile::tempdir().unwrap(), port: free_port(), child: None };
        std::fs::create_dir_all(nginx.file("up")).unwrap();
        std::fs::write(nginx.file("digits"), DIGITS).unwrap();
        std::fs::write(nginx.file("text.txt"), text()).unwrap();
        std::fs::write(nginx.dir.path().join("nginx.conf"), nginx.configuration()).unwrap();
        nginx.run();
        nginx
    }

    /// Starts it, for the first time or again, and waits until it accepts.
    fn run(&mut self) {
        let mut command = program("nginx");
        command.arg("-p").arg(self.dir.path()).arg("-c").arg(self.dir.path().join("nginx.conf"));
        command.arg("-e").arg(self.dir.path().join("error.log"));
        self.child = Some(Guard(command.stderr(Stdio::null()).spawn().expect("nginx starts")));
        let port = self.port;
        eventually("nginx accepts", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    fn stop(&mut self) {
        self.child = None;
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("www").join(name)
    }

    fn serin(&self) -> Serin {
        Setup::web(&format!("127.0.0.1:{}", self.port)).top("workers: 1").start()
    }

    /// The access log: connection, request on it, protocol, status.
    fn log(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap();
        text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    fn configuration(&self) -> String {
        let folder = self.dir.path().display();
        let mut temporary = String::new();
        for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(temporary, "  {name}_temp_path {folder}/{name};").unwrap();
        }
        format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
{temporary}
  default_type application/octet-stream; types {{ text/plain txt; }}
  log_format short '$connection $connection_requests $server_protocol $status $request_method';
  access_log {folder}/access.log short;
  client_max_body_size 0; sendfile on;
  gzip on; gzip_proxied any; gzip_types text/plain; gzip_min_length 1;
  server {{
    listen 127.0.0.1:{};
    root {folder}/www;
    location /up/ {{ dav_methods PUT DELETE; create_full_put_path on; }}
    location /cookies {{ add_header Set-Cookie 'a=1'; add_header Set-Cookie 'b=2'; return 200 'ok'; }}
    location /redirect {{ return 302 http://web/digits; }}
    location /empty {{ return 204; }}
  }}
}}
",
            self.port
        )
    }
}

const DIGITS: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
const LARGE: usize = 64 << 20;
/// How much the proxy may grow while it carries `LARGE`.
const GROWTH_KIB: u64 = 24 << 10;

fn text() -> String {
    (0..20_000).map(|number| format!("line {number} of a text that shrinks well\n")).collect()
}

/// Octets that do not repeat in any period a buffer has.
fn large() -> Vec<u8> {
    (0..LARGE / 8).flat_map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect()
}

fn curl(serin: &Serin, arguments: &[&str], path: &str) -> String {
    let mut command = program("curl");
    command.args(["-sS", "--fail", "--max-time", "30", "-H", "Host: web"]).args(arguments);
    stdout_of(command.arg(format!("http://{}{path}", serin.address())))
}

#[test]
fn fifty_requests_use_one_connection_to_nginx() {
    if !require_peer("nginx") {
        return;
    }
    let nginx = Nginx::start();
    let serin = nginx.serin();
    let mut client = Client::connect(serin.address());
    for round in 0..50 {
        let answer = if round % 2 == 0 { client.get("web", "/digits", &[]) } else { serin.get("web", "/digits") };
        assert_eq!((answer.status, answer.text().as_str()), (200, DIGITS), "request {round}");
    }
    let served = || nginx.log().into_iter().filter(|line| line[4] == "GET").collect::<Vec<_>>();
    eventually("nginx has logged all of them", || served().len() == 50);
    let connections: BTreeSet<String> = served().into_iter().map(|line| line[0].clone()).collect();
    assert_eq!(connections.len(), 1, "{connections:?}");
    assert_eq!(served().last().unwrap()[1], "50");
    let scrape = Scrape::of(&serin);
    assert_eq!(scrape.sum("serin_upstream_connects_total", &[("outcome", "ok")]), 1.0);
    assert_eq!(scrape.sum("serin_upstream_connections", &[("state", "idle")]), 1.0);
}

#[test]
fn ranges_heads_and_conditions_pass() {
    if !require_peer("nginx") {
        return;
    }
    let nginx = Nginx::start();
    let serin = nginx.serin();
    let mut client = Client::connect(serin.address());
    let part = client.get("web", "/digits", &["Range: bytes=10-19"]);
    assert_eq!((part.status, part.text().as_str()), (206, "abcdefghij"));
    assert_eq!((part.version.as_str(), part.interim.len()), ("HTTP/1.1", 0));
    assert_eq!(part.field("content-range").as_deref(), Some("bytes 10-19/36"));
    let beyond = client.get("web", "/digits", &["Range: bytes=100-"]);
    assert_eq!((beyond.status, beyond.field("content-range").as_deref()), (416, Some("bytes */36")));
    let two = client.get("web", "/digits", &["Range: bytes=0-0,35-35"]);
    assert!(two.status == 206 && two.field("content-type").unwrap().starts_with("multipart/byteranges"), "{two:?}");

    client.send(http1::request("HEAD", "/digits", "web", &[], ""));
    let head = client.read("HEAD");
    assert_eq!((head.status, head.field("content-length").as_deref()), (200, Some("36")));
    let etag = format!("If-None-Match: {}", head.field("etag").expect("an etag"));
    let same = client.get("web", "/digits", &[&etag]);
    assert_eq!((same.status, same.field("etag"), same.body.len()), (304, head.field("etag"), 0));
    assert_eq!(client.get("web", "/empty", &[]).status, 204);
    assert_eq!(client.get("web", "/redirect", &[]).field("location").as_deref(), Some("http://web/digits"));
    let missing = client.get("web", "/missing", &[]);
    assert_eq!((missing.status, missing.field("l5d-err")), (404, None), "nginx said it, not Serin");
    assert_eq!(client.get("web", "/cookies", &[]).fields.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(client.get("web", "/digits", &[]).text(), DIGITS, "the connection serves on");
}

#[test]
fn chunked_answers_and_uploads_pass() {
    if !require_peer("nginx") || !require_peer("curl") {
        return;
    }
    let nginx = Nginx::start();
    let serin = nginx.serin();
    let packed = serin.get_with("web", "/text.txt", &["Accept-Encoding: gzip"]);
    assert_eq!(packed.field("transfer-encoding").as_deref(), Some("chunked"));
    assert_eq!(packed.field("content-encoding").as_deref(), Some("gzip"));
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < text().len());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(curl(&serin, &["--compressed", version], "/text.txt"), text(), "{version}");
    }

    let mut client = Client::connect(serin.address());
    client.send(http1::request("PUT", "/up/chunks", "web", &["Transfer-Encoding: chunked"], ""));
    for chunk in ["5\r\nhello\r\n", "1\r\n \r\n", "5;name=\"a value\"\r\nworld\r\n", "0\r\n\r\n"] {
        client.send(chunk);
    }
    let answer = client.read("PUT");
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(std::fs::read_to_string(nginx.file("up/chunks")).unwrap(), "hello world");
}

#[test]
fn large_file_comes_down_in_bounded_memory() {
    if !require_peer("nginx") || !require_peer("curl") {
        return;
    }
    let nginx = Nginx::start();
    let (serin, data) = (nginx.serin(), large());
    std::fs::write(nginx.file("large"), &data).unwrap();
    let target = nginx.dir.path().join("copy");
    curl(&serin, &["-o", target.to_str().unwrap()], "/digits");
    let before = serin.peak_kib();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        curl(&serin, &[version, "-o", target.to_str().unwrap()], "/large");
        assert!(std::fs::read(&target).unwrap() == data, "{version}: the same octets");
    }
    let growth = serin.peak_kib() - before;
    assert!(growth < GROWTH_KIB, "{growth} KiB more for {} KiB", LARGE >> 10);
}

#[test]
fn large_file_goes_up_in_bounded_memory() {
    if !require_peer("nginx") || !require_peer("curl") {
        return;
    }
    let nginx = Nginx::start();
    let (serin, data) = (nginx.serin(), large());
    let source = nginx.dir.path().join("source");
    std::fs::write(&source, &data).unwrap();
    curl(&serin, &[], "/digits");
    let before = serin.peak_kib();
    let chunked = ["-H", "Transfer-Encoding: chunked"];
    let ways: [&[&str]; 3] = [&["--http1.1"], &chunked, &["--http2-prior-knowledge"]];
    for (number, way) in ways.into_iter().enumerate() {
        let path = format!("/up/large{number}");
        curl(&serin, &[way, &["-T", source.to_str().unwrap()]].concat(), &path);
        assert!(std::fs::read(nginx.file(&path[1..])).unwrap() == data, "{way:?}: the same octets");
    }
    let growth = serin.peak_kib() - before;
    assert!(growth < GROWTH_KIB, "{growth} KiB more for {} KiB", LARGE >> 10);
}

#[test]
fn http2_client_is_served_by_nginx_over_http1() {
    if !require_peer("nginx") || !require_peer("curl") {
        return;
    }
    let nginx = Nginx::start();
    let serin = nginx.serin();
    let shown = ["--http2-prior-knowledge", "-w", " %{http_version} %{response_code}"];
    assert_eq!(curl(&serin, &shown, "/digits"), format!("{DIGITS} 2 200"));
    let part = [&shown[..], &["-r", "0-3"]].concat();
    assert_eq!(curl(&serin, &part, "/digits"), "0123 2 206");
    let head = curl(&serin, &["--http2-prior-knowledge", "--head"], "/digits");
    assert!(head.starts_with("HTTP/2 200") && head.contains("content-length: 36"), "{head}");
    let many: Vec<String> = (0..40).map(|n| format!("http://{}/digits?{n}", serin.address())).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let parallel = [&["--http2-prior-knowledge", "--parallel", "--parallel-immediate"], &many[..]].concat();
    assert_eq!(curl(&serin, &parallel, "/digits").matches(DIGITS).count(), 41);
    eventually("nginx has logged them", || nginx.log().iter().filter(|line| line[4] == "GET").count() >= 43);
    assert!(nginx.log().iter().all(|line| line[2] == "HTTP/1.1"), "{:?}", nginx.log());
}

#[test]
fn restart_of_nginx_is_not_seen_by_the_next_get() {
    if !require_peer("nginx") {
        return;
    }
    let mut nginx = Nginx::start();
    let serin = nginx.serin();
    let mut client = Client::connect(serin.address());
    for round in 0..5 {
        let answer = client.get("web", "/digits", &[]);
        assert_eq!((answer.status, answer.text().as_str()), (200, DIGITS), "after {round} restarts");
        nginx.stop();
        nginx.run();
    }
}

#[test]
fn nginx_that_is_down_is_told_at_once_and_used_again_when_it_is_back() {
    if !require_peer("nginx") {
        return;
    }
    let mut nginx = Nginx::start();
    let serin = nginx.serin();
    assert_eq!(serin.get("web", "/digits").status, 200);
    nginx.stop();
    let start = now();
    for request in 0..20 {
        let answer: Response = serin.get("web", "/digits");
        let told = answer.field("l5d-err").is_some();
        assert!((answer.status == 503 || answer.status == 502) && told, "request {request}: {answer:?}");
    }
    assert_eq!(serin.get("web", "/digits").status, 503);
    assert!(now() - start < DEADLINE, "no request hangs");
    nginx.run();
    // Its only endpoint is ejected by now; as nothing else can take the request, it is tried all the same.
    assert_eq!(serin.get("web", "/digits").status, 200, "the first request after it is back");
    let after: Vec<u16> = (0..20).map(|_| serin.get("web", "/digits").status).collect();
    assert_eq!(after, [200; 20]);
}

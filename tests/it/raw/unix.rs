//! Unix sockets on both sides.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use crate::support::serin::run;
use crate::support::upstream::reply;
use crate::support::{DEADLINE, Serin, Setup, Upstream, eventually};

fn text(origin: &str, server: &str) -> String {
    format!(
        "admin: {{ip: 127.0.0.1, port: 0}}\nclusters: {{web: {{endpoints: [\"{origin}\"]}}}}\nrouters:\n- label: outgoing\n  \
         servers: [{{{server}}}]\n  dtab: /svc => /#/clusters\n"
    )
}

fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";

#[test]
fn a_server_listens_on_a_unix_socket_with_its_permissions() {
    let origin = Upstream::reply(|_| reply(200, &[], "ok"));
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let path = dir.path().join("serin.sock");
    // left behind by a process that was killed
    drop(UnixListener::bind(&path).unwrap());
    let mut serin = Serin::start_in(Arc::clone(&dir), &text(&origin.endpoint(), "unix: serin.sock, mode: 0600"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for _ in 0..10 {
        let answer = ask(&path, GET);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    }
    let seen = origin.requests();
    assert_eq!((seen.len(), seen[0].field("x-forwarded-for").as_deref()), (10, Some("127.0.0.1")));
    assert!(serin.log().contains("serin.sock"), "the log says where");
    serin.rewrite(&text(&origin.endpoint(), "unix: serin.sock, mode: 0666"));
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    eventually("the new permissions", || mode() == 0o666);
    assert!(ask(&path, GET).starts_with("HTTP/1.1 200"));
    serin.signal("TERM");
    assert!(serin.wait().success());
    assert!(!path.exists(), "the file goes with the process");
}

#[test]
fn a_socket_that_is_served_is_not_taken() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let _served = UnixListener::bind(dir.path().join("serin.sock")).unwrap();
    std::fs::write(dir.path().join("serin.yaml"), text("127.0.0.1:1", "unix: serin.sock")).unwrap();
    let mut serin = Serin::spawn(Arc::clone(&dir), &["run", "serin.yaml"], &[]);
    assert!(!serin.wait().success());
    eventually("the log says why", || serin.log().contains("another process listens there"));
}

#[test]
fn an_endpoint_may_be_a_unix_socket() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let path = dir.path().join("web.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream));
        }
    });
    let setup = Setup::web(&format!("unix:{}", path.display()));
    let serin = setup.cluster("gone", &["unix:/nowhere/at/all.sock"]).start();
    for _ in 0..3 {
        assert_eq!(serin.get("web", "/x").text(), "ok");
    }
    let gone = serin.get("gone", "/");
    assert_eq!((gone.status, gone.field("l5d-err").is_some()), (503, true));
    assert!(serin.admin("/config.json").text().contains(&format!("unix:{}", path.display())));
}

fn serve(mut stream: UnixStream) {
    let mut block = [0; 4096];
    while let Ok(1..) = stream.read(&mut block) {
        stream.write_all(&reply(200, &[], "ok")).unwrap();
    }
}

#[test]
fn no_name_of_a_request_leads_to_a_socket_of_this_host() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let serin = Setup::new().dtab("/svc => /$/inet").server("clearContext: false").start();
    let name = format!("/svc/web => /$/inet/unix:{}/80", path.display().to_string().replace('/', ""));
    assert_ne!(serin.get_with("web", "/", &[&format!("l5d-dtab: {name}")]).status, 200);
    let name = format!("/svc/web => /$/unix{}", path.display());
    assert_ne!(serin.get_with("web", "/", &[&format!("l5d-dtab: {name}")]).status, 200);
}

#[test]
fn a_server_has_a_path_or_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("serin.yaml");
    for (server, complaint) in [
        ("unix: a.sock, port: 4140", "not both"),
        ("unix: a.sock, mode: 0999", "octal"),
        ("port: 4140, mode: 0660", "Unix sockets"),
        ("unix: dir/", "path of a socket"),
    ] {
        std::fs::write(&file, text("127.0.0.1:1", server)).unwrap();
        let output = run(&["validate", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains(complaint) && output.status.code() == Some(1), "{server}: {said}");
    }
}

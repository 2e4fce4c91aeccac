use std::net::TcpListener;
use std::sync::mpsc;

use super::*;

/// Answers connections one after the other with these texts, and hands back what was asked.
fn server(answers: Vec<String>) -> (Remote, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, asked) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            sender.send(String::from_utf8_lossy(&request[..length]).into_owned()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (remote(&address, Some("secret"), true), asked)
}

fn remote(address: &str, token: Option<&str>, given: bool) -> Remote {
    Remote {
        address: address.into(),
        named_by: "--admin".into(),
        token: token.map(str::to_owned),
        token_is_given: given,
        no_token: "the configuration has no `storage`".into(),
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_question_carries_the_token_and_the_body() {
    let (remote, asked) = server(vec![answer("200 OK", "[1]"), answer("200 OK", "2")]);
    assert_eq!(remote.get::<Vec<u8>>("/x"), Ok(vec![1]));
    let head = asked.recv().unwrap();
    assert!(head.starts_with("GET /x HTTP/1.0\r\nhost: 127.0.0.1:"), "{head}");
    assert!(head.contains("\r\nauthorization: Bearer secret\r\n"), "{head}");
    assert_eq!(remote.post::<u8>("/y", &serde_json::json!({"why": "x"})), Ok(2));
    assert!(asked.recv().unwrap().ends_with("content-length: 11\r\n\r\n{\"why\":\"x\"}"));
}

#[test]
fn a_token_that_was_only_found_is_kept_until_it_is_asked_for() {
    let (remote, asked) = server(vec![answer("401 Unauthorized", "no"), answer("200 OK", "7")]);
    let found = Remote { token_is_given: false, ..remote };
    assert_eq!(found.get::<u8>("/x"), Ok(7));
    assert!(!asked.recv().unwrap().contains("authorization"));
    assert!(asked.recv().unwrap().contains("authorization: Bearer secret"));
}

#[track_caller]
fn check_error(answered: &str, parts: &[&str]) {
    let (remote, _asked) = server(vec![answered.to_owned()]);
    let remote = Remote { token: None, ..remote };
    let error = remote.post::<u8>("/x", &Value::Null).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{part} in {error}");
    }
}

use serde_json::Value;

#[test]
fn errors_say_what_to_do() {
    let said = r#"{"error": "changes need the token", "hint": "the token is in state/token"}"#;
    let expected =
        ["changes need the token", "help: the token is in state/token", "no token was sent: the configuration"];
    check_error(&answer("401 Unauthorized", said), &expected);
    check_error(&answer("404 Not Found", r#"{"error": "no rollout", "hint": "there are a"}"#), &["help: there are a"]);
    check_error(&answer("500 Oh", "<html>"), &["answers 500: <html>"]);
    check_error(&answer("200 OK", "{"), &["is not understood", "a Serin of this version"]);
    check_error("SSH-2.0-OpenSSH\r\n", &["this is no HTTP", "is it a Serin"]);
    check_error("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n1", &["broke"]);
    check_error("", &["broke"]);
}

#[test]
fn an_address_where_nobody_is_names_who_named_it() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = remote(&free.to_string(), None, false).get::<u8>("/x").unwrap_err().to_string();
    for part in [&format!("nothing answers at {free}: "), "named by --admin", "SERIN_ADMIN=host:port"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(matches!(remote("no port", None, false).get::<u8>("/x"), Err(CallError::Away { .. })));
}

#[test]
fn lines_and_heads_have_limits() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(usize::try_from(LINE_MAX).unwrap()));
    check_error(&long, &["broke"]);
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n1", "x: y\r\n".repeat(LINES_MAX));
    check_error(&many, &["this is no HTTP"]);
    let fits = format!("HTTP/1.1 200 OK\r\n{}\r\n1", "x: y\r\n".repeat(LINES_MAX - 1));
    assert_eq!(server(vec![fits]).0.get::<u8>("/x"), Ok(1));
    check_error("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", &["this is no HTTP"]);
}

#[test]
fn whatever_was_typed_stays_one_segment() {
    assert_eq!(path_of("world-1.a"), "/api/v1/rollouts/world-1.a");
    assert_eq!(path_of("../x?y é\r\n"), "/api/v1/rollouts/..%2Fx%3Fy%20%C3%A9%0D%0A");
}

#[test]
fn the_token_lies_in_the_storage_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("serin.yaml");
    let routers = "routers: [{protocol: http, servers: [{port: 4140}]}]\n";
    let find = |text: &str| {
        std::fs::write(&file, text).unwrap();
        config(&file).and_then(|config| stored_token(&config))
    };
    assert!(find(routers).unwrap_err().contains("no `storage`"));
    assert!(find("routers: [").unwrap_err().contains("has mistakes"));
    assert!(config(&dir.path().join("none.yaml")).is_err());
}

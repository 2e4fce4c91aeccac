//! A scripted HTTP/1.1 server: keeps what it was sent, octet for octet, and answers as it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

/// Ends with the test's process; its threads only wait.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<(Mutex<Vec<Request>>, Condvar)>,
}

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

impl Peer {
    /// `act` gets each request, its number from 0, and the connection to answer on; the connection closes after it.
    pub(crate) fn start(act: impl Fn(&Request, usize, &mut dyn Write) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (act, told) = (Arc::new(act), Arc::clone(&seen));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (act, told) = (Arc::clone(&act), Arc::clone(&told));
                std::thread::spawn(move || serve(connection.unwrap(), &*act, &told));
            }
        });
        Self { address, seen }
    }

    /// Answers each request with the next of these, and goes on with the last.
    pub(crate) fn answers(answers: Vec<String>) -> Self {
        Self::start(move |_, number, out| {
            let answer = &answers[number.min(answers.len() - 1)];
            out.write_all(answer.as_bytes()).unwrap();
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits for so many requests.
    pub(crate) fn requests(&self, count: usize) -> Vec<Request> {
        let (seen, changed) = &*self.seen;
        let (seen, timeout) =
            changed.wait_timeout_while(seen.lock().unwrap(), DEADLINE, |seen| seen.len() < count).unwrap();
        assert!(!timeout.timed_out(), "{} of {count} requests came", seen.len());
        seen.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.0.lock().unwrap().len()
    }
}

/// An answer with a length.
pub(crate) fn answer(status: u16, body: &str) -> String {
    answer_with(status, "", body)
}

/// And with more fields, each with its line end.
pub(crate) fn answer_with(status: u16, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn read_request(from: &mut dyn Read) -> Option<Request> {
    let mut reader = BufReader::new(from);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut fields = Vec::new();
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        let Some((name, value)) = field.trim_end().split_once(':') else { break };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = fields.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: line.trim_end().to_owned(), fields, body: String::from_utf8(body).unwrap() })
}

fn serve(
    mut connection: TcpStream,
    act: &dyn Fn(&Request, usize, &mut dyn Write),
    told: &(Mutex<Vec<Request>>, Condvar),
) {
    let Some(request) = read_request(&mut connection) else { return };
    let number = {
        let mut seen = told.0.lock().unwrap();
        seen.push(request.clone());
        told.1.notify_all();
        seen.len() - 1
    };
    act(&request, number, &mut connection);
}

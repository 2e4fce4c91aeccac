//! An HTTP/1.1 server that does as it is told and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::stand::PATIENCE;

/// What it does with each request.
#[derive(Clone)]
pub(crate) enum Script {
    /// Answers with this head, less its last empty line, and this body.
    Answer(&'static str, usize),
    /// Reads and says nothing, for ever.
    Hang,
}

/// 200 with one octet.
pub(crate) const OK: Script = Script::Answer("HTTP/1.1 200 OK", 1);

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) line: String,
    /// Lower case names.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<(Mutex<Vec<Asked>>, Condvar)>,
}

impl Upstream {
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let server = this.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, script) = (server.clone(), script.clone());
                std::thread::spawn(move || server.serve(stream, &script));
            }
        });
        this
    }

    /// An address where nobody listens.
    pub(crate) fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// Waits until it was asked so often, and gives all it was asked.
    #[track_caller]
    pub(crate) fn asked(&self, count: usize) -> Vec<Asked> {
        let (seen, told) = &*self.seen;
        let (seen, _) = told.wait_timeout_while(seen.lock().unwrap(), PATIENCE, |seen| seen.len() < count).unwrap();
        assert_eq!(seen.len(), count, "requests at {}", self.address);
        seen.clone()
    }

    /// How often it was asked until now.
    pub(crate) fn count(&self) -> usize {
        self.seen.0.lock().unwrap().len()
    }

    fn serve(&self, stream: TcpStream, script: &Script) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        while let Some(asked) = read(&mut reader) {
            self.seen.0.lock().unwrap().push(asked);
            self.seen.1.notify_all();
            match script {
                Script::Answer(head, length) => {
                    // in one write: the second of two would wait for a late acknowledgement of the first
                    let mut answer = format!("{head}\r\ncontent-length: {length}\r\n\r\n").into_bytes();
                    answer.resize(answer.len() + length, b'x');
                    if writer.write_all(&answer).is_err() {
                        return;
                    }
                }
                Script::Hang => {
                    // until the other side gives up
                    let mut rest = [0];
                    while matches!(reader.read(&mut rest), Ok(1..)) {}
                    return;
                }
            }
        }
    }
}

/// One message. `None`: the connection is over.
pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut asked = Asked::default();
    reader.read_line(&mut asked.line).ok().filter(|count| *count > 0)?;
    asked.line = asked.line.trim_end().into();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        asked.fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = asked.field("content-length").map_or(0, |length| length.parse().unwrap());
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

/// A client that keeps its connection.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    /// Sends it, with a host, and waits for the answer, whose line is the status line.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str, fields: &[(&str, &str)], body: &[u8]) -> Asked {
        let mut text = format!("{line} HTTP/1.1\r\nhost: x\r\n");
        fields.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        if !body.is_empty() {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        self.reader.get_mut().write_all(&bytes).unwrap();
        read(&mut self.reader).expect("an answer")
    }

    /// The same for `GET /`.
    #[track_caller]
    pub(crate) fn get(&mut self, fields: &[(&str, &str)]) -> Asked {
        self.ask("GET /", fields, b"")
    }
}

//! A scripted HTTP/1.1 origin: it remembers every request and does with connections what a test wants.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use super::wire::{Body, Fields, Head, Wire, latin1};

/// An origin on a port of its own. It stops accepting when dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

/// What an origin saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: Mutex<Vec<Request>>,
    pub(crate) connections: AtomicUsize,
    /// Connections open now.
    pub(crate) open: AtomicUsize,
    /// Free for a script to count in.
    pub(crate) counter: AtomicU64,
    /// Free for a test to tell a script something.
    pub(crate) flag: AtomicBool,
    stop: AtomicBool,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) fields: Fields,
    pub(crate) body: Body,
    /// Which connection, counted from 0.
    pub(crate) connection: usize,
}

impl Upstream {
    /// Answers 200 with a JSON description of each request, its own name in it and in the field `x-origin`.
    pub(crate) fn named(name: &str) -> Upstream {
        let name = name.to_owned();
        Upstream::reply(move |request| {
            let body = describe(&name, request).to_string();
            reply(200, &[&format!("x-origin: {name}"), "content-type: application/json"], &body)
        })
    }

    /// Answers each complete request with the bytes of the script, on connections that stay open.
    pub(crate) fn reply(script: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Upstream {
        Upstream::raw(move |wire, seen, index| {
            while let Some(request) = next_request(wire, seen, index) {
                if wire.send(script(&request)).is_err() {
                    return;
                }
            }
        })
    }

    /// The script owns each connection; it closes when the script returns.
    pub(crate) fn raw(script: impl Fn(&mut Wire, &Seen, usize) + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Seen::default()));
        let (script, shared) = (Arc::new(script), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stop.load(Ordering::Acquire) {
                    return;
                }
                let (script, shared) = (Arc::clone(&script), Arc::clone(&shared));
                let index = shared.connections.fetch_add(1, Ordering::AcqRel);
                shared.open.fetch_add(1, Ordering::AcqRel);
                std::thread::spawn(move || {
                    script(&mut Wire::new(stream), &shared, index);
                    shared.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        Upstream { address, seen }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Requests that came in whole or as far as they went.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    pub(crate) fn forget(&self) {
        self.seen.requests.lock().unwrap().clear();
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Acquire)
    }

    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(Ordering::Acquire)
    }

    /// The only request there was.
    pub(crate) fn only(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "one request reaches the origin");
        requests.into_iter().next().unwrap()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address); // wakes the accept loop, which then ends and frees the port
    }
}

impl Seen {
    pub(crate) fn add(&self, amount: usize) {
        self.counter.fetch_add(amount as u64, Ordering::AcqRel);
    }
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.fields.get(name)
    }
}

/// Reads and remembers the next request with its body; `None` when the connection ended first. An incomplete request is
/// remembered too, with `body.complete` false.
pub(crate) fn next_request(wire: &mut Wire, seen: &Seen, connection: usize) -> Option<Request> {
    let head = wire.read_head().ok()??;
    let body = read_body(wire, &head).unwrap_or_default();
    let request = request_of(head, body, connection);
    seen.requests.lock().unwrap().push(request.clone());
    request.body.complete.then_some(request)
}

/// Reads and remembers only the head of the next request.
pub(crate) fn next_head(wire: &mut Wire, seen: &Seen, connection: usize) -> Option<Request> {
    let head = wire.read_head().ok()??;
    let request = request_of(head, Body::default(), connection);
    seen.requests.lock().unwrap().push(request.clone());
    Some(request)
}

/// A response with Content-Length.
pub(crate) fn reply(status: u16, lines: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    if status != 204 && status != 304 {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    (text + "\r\n" + body).into_bytes()
}

fn describe(name: &str, request: &Request) -> Value {
    let mut fields = Map::new();
    for (field, value) in &request.fields.0 {
        let list = fields.entry(field.to_ascii_lowercase()).or_insert_with(|| json!([]));
        list.as_array_mut().unwrap().push(json!(latin1(value)));
    }
    json!({"name": name, "method": request.method, "target": request.target, "headers": fields,
           "length": request.body.data.len()})
}

fn read_body(wire: &mut Wire, head: &Head) -> std::io::Result<Body> {
    if head.fields.has("transfer-encoding") {
        return wire.read_chunked();
    }
    let length = head.fields.all("content-length").first().and_then(|value| value.parse().ok()).unwrap_or(0);
    wire.read_length(length)
}

fn request_of(head: Head, body: Body, connection: usize) -> Request {
    let words: Vec<&str> = head.first.split(' ').collect();
    assert_eq!(words.len(), 3, "request line {:?}", head.first);
    let (method, target, version) = (words[0].to_owned(), words[1].to_owned(), words[2].to_owned());
    Request { method, target, version, fields: head.fields, body, connection }
}

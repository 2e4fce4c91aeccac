//! An HTTP/1.1 client that sends exactly the bytes it is given.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::wire::{Body, Fields, Head, Wire};
use super::{DEADLINE, now};

/// One connection to the proxy.
pub(crate) struct Client {
    pub(crate) wire: Wire,
}

/// A final response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    pub(crate) end: End,
    /// Statuses of the interim responses before it.
    pub(crate) interim: Vec<u16>,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing announced.
    Clean,
    /// The connection ended before.
    Cut,
    /// It had no framing; the end of the connection was its end.
    UntilClose,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).expect("the proxy accepts")
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Client> {
        Ok(Client { wire: Wire::new(TcpStream::connect_timeout(&address, DEADLINE)?) })
    }

    /// Connects from another address of this host: all of 127.0.0.0/8 is ours.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect_timeout(&address.into(), DEADLINE).expect("the proxy accepts");
        Client { wire: Wire::new(socket.into()) }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes).expect("the proxy takes the request");
    }

    /// Sends `GET` with these extra lines (each without its line end) and reads the answer.
    pub(crate) fn get(&mut self, host: &str, target: &str, lines: &[&str]) -> Response {
        self.send(request("GET", target, host, lines, ""));
        self.read("GET")
    }

    pub(crate) fn read(&mut self, method: &str) -> Response {
        self.try_read(method).unwrap_or_else(|error| panic!("no response: {error}"))
    }

    pub(crate) fn try_read(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let head = self.read_head()?;
            let status = status_of(&head);
            if !(100..200).contains(&status) {
                return self.read_rest(method, head, interim);
            }
            interim.push(status);
        }
    }

    /// One head, interim or final.
    pub(crate) fn read_head(&mut self) -> io::Result<Head> {
        self.wire.read_head()?.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed without a response"))
    }

    /// True when the proxy closes this connection without another byte.
    pub(crate) fn at_end(&mut self) -> bool {
        self.wire.at_end()
    }

    /// Everything until the proxy closes.
    pub(crate) fn read_to_end(&mut self) -> String {
        super::wire::latin1(&self.wire.read_to_end().expect("bytes until the end"))
    }

    fn read_rest(&mut self, method: &str, head: Head, interim: Vec<u16>) -> io::Result<Response> {
        let status = status_of(&head);
        let (body, end) = if method == "HEAD" || status == 204 || status == 304 {
            (Body { complete: true, ..Body::default() }, End::Clean)
        } else {
            self.read_body(&head.fields)?
        };
        let version = head.first.split(' ').next().unwrap_or_default().to_owned();
        let end = if body.complete { end } else { End::Cut };
        Ok(Response { version, status, fields: head.fields, body: body.data, trailers: body.trailers, end, interim })
    }

    fn read_body(&mut self, fields: &Fields) -> io::Result<(Body, End)> {
        if let Some(coding) = fields.get("transfer-encoding") {
            assert_eq!(coding, "chunked", "the only coding there is");
            assert!(!fields.has("content-length"), "two framings in one response");
            return Ok((self.wire.read_chunked()?, End::Clean));
        }
        if let Some(length) = fields.get("content-length") {
            return Ok((self.wire.read_length(length.parse().expect("digits"))?, End::Clean));
        }
        let data = self.wire.read_to_end()?;
        Ok((Body { data, complete: true, ..Body::default() }, End::UntilClose))
    }
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.fields.get(name)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// A request as text; `body` gets a Content-Length when there is one.
pub(crate) fn request(method: &str, target: &str, host: &str, lines: &[&str], body: &str) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text + "\r\n" + body
}

/// `GET` on a connection of its own.
pub(crate) fn get(address: SocketAddr, host: &str, target: &str, lines: &[&str]) -> Response {
    Client::connect(address).get(host, target, lines)
}

/// Sends raw bytes on a connection of its own and reads one response; fails when it takes longer than a deadline.
pub(crate) fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> io::Result<Response> {
    let start = now();
    let mut client = Client::connect(address);
    client.wire.send(bytes)?;
    let answer = client.try_read("GET");
    assert!(now() - start < DEADLINE, "no answer in time");
    answer
}

fn status_of(head: &Head) -> u16 {
    let mut words = head.first.split(' ');
    let version = words.next().unwrap_or_default();
    assert!(version == "HTTP/1.1" || version == "HTTP/1.0", "status line {:?}", head.first);
    words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("status line {:?}", head.first))
}

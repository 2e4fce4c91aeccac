//! The smallest client that keeps a connection: it shows that requests go over sockets, not through a back door.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Octets of a line of the head.
const LINE_MAX: u64 = 8 << 10;
/// Lines of the head.
const LINES_MAX: usize = 100;
/// Octets of a body.
const BODY_MAX: u64 = 64 << 10;

pub(super) struct Client {
    address: SocketAddr,
    patience: Duration,
    connection: Option<BufReader<TcpStream>>,
}

/// A response, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self::impatient(address, TIMEOUT)
    }

    /// A client that waits no longer than this for each read.
    pub(super) fn impatient(address: SocketAddr, patience: Duration) -> Self {
        Self { address, patience, connection: None }
    }

    /// One GET; the connection stays for the next one.
    pub(super) fn get(&mut self, host: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.address, self.patience)?,
        };
        let mut head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        connection.get_mut().write_all(head.as_bytes())?;
        let (answer, keep) = read(&mut connection)?;
        self.connection = keep.then_some(connection);
        Ok(answer)
    }
}

fn connect(address: SocketAddr, patience: Duration) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// The response, and whether the connection may carry another request.
fn read(connection: &mut BufReader<TcpStream>) -> io::Result<(Answer, bool)> {
    let status = line(connection)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let (mut length, mut keep) = (0, true);
    for _ in 0..LINES_MAX {
        let field = line(connection)?.to_ascii_lowercase();
        if field.is_empty() {
            let mut body = String::new();
            connection.take(length).read_to_string(&mut body)?;
            return Ok((Answer { status, body }, keep));
        }
        match field.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("content-length", value)) => {
                length = value.parse().ok().filter(|length| *length <= BODY_MAX).ok_or(io::ErrorKind::InvalidData)?;
            }
            Some(("connection", "close")) => keep = false,
            _ => {}
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    connection.take(LINE_MAX).read_line(&mut line)?;
    let text = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(text.to_owned())
}

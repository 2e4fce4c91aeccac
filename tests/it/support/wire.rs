//! HTTP/1.1 byte by byte: small, strict, blocking, and blind to nothing. Both the client and the scripted upstream read
//! with it, so what a test asserts is what stood on the wire.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::DEADLINE;

/// A connection and what was read of it beyond the message at hand.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) buf: Vec<u8>,
}

/// The first line and the fields of a message, in order, with values as raw bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) fields: Fields,
}

/// Fields in the order of the wire; names as written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<(String, Vec<u8>)>);

/// A body as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Fields,
    /// False when the connection ended before the framing said so.
    pub(crate) complete: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.set_nodelay(true);
        Wire { stream, buf: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Reads more; 0 is the end. A reset counts as the end: the peer is gone either way.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        let mut block = [0; 65_536];
        let read = match self.stream.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            other => other?,
        };
        self.buf.extend_from_slice(&block[..read]);
        Ok(read)
    }

    /// `None`: the peer closed before the first byte of a head.
    pub(crate) fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buf, b"\r\n\r\n") {
                let raw: Vec<u8> = self.buf.drain(..end + 4).collect();
                return Ok(Some(Head::parse(&raw[..end])));
            }
            if self.fill()? == 0 {
                if self.buf.is_empty() {
                    return Ok(None);
                }
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut in a head"));
            }
        }
    }

    pub(crate) fn read_length(&mut self, length: usize) -> io::Result<Body> {
        let mut data = Vec::new();
        while data.len() < length {
            if self.buf.is_empty() && self.fill()? == 0 {
                return Ok(Body { data, trailers: Fields::default(), complete: false });
            }
            let take = self.buf.len().min(length - data.len());
            data.extend(self.buf.drain(..take));
        }
        Ok(Body { data, trailers: Fields::default(), complete: true })
    }

    pub(crate) fn read_chunked(&mut self) -> io::Result<Body> {
        let mut body = Body::default();
        while let Some(line) = self.read_line()? {
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| bad(&format!("chunk size {size:?}")))?;
            if size == 0 {
                return self.read_trailers(body);
            }
            let part = self.read_length(size)?;
            body.data.extend(part.data);
            if !part.complete || self.read_line()?.is_none() {
                return Ok(body);
            }
        }
        Ok(body)
    }

    /// One chunk of a body that goes on; `None` is its end.
    pub(crate) fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.read_line()?.ok_or_else(|| bad("cut before a chunk"))?;
        let length = usize::from_str_radix(&line, 16).map_err(|_| bad("no length of a chunk"))?;
        let part = self.read_length(length)?;
        match self.read_line()? {
            Some(end) if end.is_empty() && part.complete => Ok((length > 0).then_some(part.data)),
            _ => Err(bad("cut in a chunk")),
        }
    }

    pub(crate) fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buf))
    }

    /// True when the peer closes without another byte; false when bytes came. Fails when neither happens in time.
    pub(crate) fn at_end(&mut self) -> bool {
        self.buf.is_empty() && matches!(self.fill(), Ok(0))
    }

    fn read_line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = find(&self.buf, b"\r\n") {
                let line: Vec<u8> = self.buf.drain(..end + 2).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    fn read_trailers(&mut self, mut body: Body) -> io::Result<Body> {
        while let Some(line) = self.read_line()? {
            if line.is_empty() {
                body.complete = true;
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("a trailer without colon"))?;
            body.trailers.0.push((name.to_owned(), value.trim().as_bytes().to_vec()));
        }
        Ok(body)
    }
}

impl Head {
    fn parse(raw: &[u8]) -> Head {
        let mut lines = raw.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first = latin1(lines.next().unwrap_or_default());
        let fields = lines.map(|line| {
            let colon = line.iter().position(|&byte| byte == b':').expect("a field has a colon");
            (latin1(&line[..colon]), line[colon + 1..].trim_ascii().to_vec())
        });
        Head { first, fields: Fields(fields.collect()) }
    }
}

impl Fields {
    /// Every value of a field, in order, names compared without case.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| latin1(value)).collect()
    }

    /// The value of a field that stands there at most once.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} stands there {} times: {all:?}", all.len());
        all.into_iter().next()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Names that start so, without case.
    pub(crate) fn starting_with(&self, start: &str) -> Vec<String> {
        let names = self.0.iter().map(|(name, _)| name.to_ascii_lowercase());
        names.filter(|name| name.starts_with(start)).collect()
    }
}

/// Bytes as characters one to one, so that nothing is lost for an assertion.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

//! HTTP/2 frame by frame, for requests that no well-behaved library would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

/// A raw connection, past its preface.
pub(crate) struct Frames {
    stream: TcpStream,
}

/// A frame as it came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What a client begins with (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

impl Frames {
    pub(crate) fn connect(address: SocketAddr) -> Frames {
        let mut frames = Frames::bare(address);
        assert!(frames.write(PREFACE) && frames.send(SETTINGS, 0, 0, &[]));
        frames
    }

    /// Without preface: not an octet is sent.
    pub(crate) fn bare(address: SocketAddr) -> Frames {
        Frames::on(TcpStream::connect_timeout(&address, DEADLINE).unwrap())
    }

    /// Of an origin, past the preface of who came; `None`: that was none.
    pub(crate) fn accept(stream: TcpStream) -> Option<Frames> {
        let mut frames = Frames::on(stream);
        let mut preface = [0; PREFACE.len()];
        frames.stream.read_exact(&mut preface).ok()?;
        (preface == PREFACE && frames.send(SETTINGS, 0, 0, &[])).then_some(frames)
    }

    fn on(stream: TcpStream) -> Frames {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Frames { stream }
    }

    /// False when the peer is gone.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.write(&encode(kind, flags, stream, payload))
    }

    /// Octets as they are. False when the peer is gone, or takes nothing.
    pub(crate) fn write(&mut self, octets: &[u8]) -> bool {
        self.stream.write_all(octets).is_ok()
    }

    /// A header block in one frame, literal and uncompressed.
    pub(crate) fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> bool {
        self.send(HEADERS, flags | END_HEADERS, stream, &block(fields))
    }

    /// `None` at the end of the connection.
    pub(crate) fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads on until a frame fits, and acknowledges what has to be; `None` at the end of the connection.
    pub(crate) fn until(&mut self, mut fits: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.read()?;
            if frame.kind == SETTINGS && frame.flags & 1 == 0 {
                self.send(SETTINGS, 1, 0, &[]);
            }
            if frame.kind == PING && frame.flags & 1 == 0 {
                self.send(PING, 1, 0, &frame.payload);
            }
            if fits(&frame) {
                return Some(frame);
            }
        }
    }
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// Whether the header block says `:status <code>`: from the static table, or literal digits.
    pub(crate) fn has_status(&self, status: u16) -> bool {
        let table = [200, 204, 206, 304, 400, 404, 500];
        let indexed = table.iter().position(|&known| known == status).map(|at| 0x88 + u8::try_from(at).unwrap());
        let digits = status.to_string();
        indexed.is_some_and(|byte| self.payload.contains(&byte))
            || super::wire::find(&self.payload, digits.as_bytes()).is_some()
            || super::wire::find(&self.payload, &huffman_digits(status)).is_some()
    }
}

/// A frame's bytes.
pub(crate) fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields as literals without indexing and without compression.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length_prefix(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// An integer with a 7-bit prefix (RFC 7541, 5.1).
fn length_prefix(bytes: &mut Vec<u8>, length: usize) {
    if length < 127 {
        bytes.push(u8::try_from(length).unwrap());
        return;
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

/// Three digits in the code of RFC 7541, appendix B, padded with ones.
fn huffman_digits(status: u16) -> Vec<u8> {
    let (mut bits, mut count) = (0_u32, 0);
    for digit in status.to_string().bytes().map(|byte| u32::from(byte - b'0')) {
        let (code, length) = if digit < 3 { (digit, 5) } else { (0x19 + digit - 3, 6) };
        bits = bits << length | code;
        count += length;
    }
    let padding = (8 - count % 8) % 8;
    bits = bits << padding | ((1 << padding) - 1);
    let bytes = (count + padding) / 8;
    bits.to_be_bytes()[4 - bytes as usize..].to_vec()
}

//! Upstreams that cost as little as they can.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// Largest body asked for.
pub const BODY_MAX: usize = 64 << 10;
/// A gRPC message: no compression, 4 octets of length, 10 octets.
pub const MESSAGE: &[u8] = b"\x00\x00\x00\x00\x0a0123456789";

/// HTTP/1.1 on a thread a connection. `/<n>` is answered with `n` octets, whatever the method.
pub fn http1() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // the proxy closes connections when it likes: their ends are no failures
            thread::spawn(move || serve_http1(stream).ok());
        }
    });
    address
}

/// gRPC over HTTP/2 without TLS on one thread. Every call is answered with [`MESSAGE`] and status 0.
pub fn grpc() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("its address");
    listener.set_nonblocking(true).expect("a socket for the runtime");
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket option");
                tokio::task::spawn_local(serve_h2(stream));
            }
        });
    });
    address
}

fn serve_http1(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::with_capacity(BODY_MAX);
    let mut out = Vec::with_capacity(BODY_MAX);
    loop {
        let Some(head) = read_head(&mut stream, &mut read)? else { return Ok(()) };
        let wanted = wanted(&read[..head]);
        let end = head + content_length(&read[..head]);
        while read.len() < end {
            if more(&mut stream, &mut read)? == 0 {
                return Ok(());
            }
        }
        read.drain(..end);
        out.clear();
        write!(out, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {wanted}\r\n\r\n")?;
        out.resize(out.len() + wanted, b'x');
        stream.write_all(&out)?;
    }
}

/// Reads until a whole head is there; its length. `None`: the end of the connection.
pub(crate) fn read_head(stream: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Some(end + 4));
        }
        assert!(read.len() < BODY_MAX, "a head has an end");
        if more(stream, read)? == 0 {
            return Ok(None);
        }
    }
}

/// One read behind what is there.
pub(crate) fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut block = [0; 16 << 10];
    let count = stream.read(&mut block)?;
    read.extend_from_slice(&block[..count]);
    Ok(count)
}

/// What a head says about its body; 0 if nothing.
pub(crate) fn content_length(head: &[u8]) -> usize {
    let head = std::str::from_utf8(head).expect("a head of ASCII");
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, value)| value.trim().parse().expect("a length"))
}

/// The number in `GET /<n> HTTP/1.1`.
fn wanted(head: &[u8]) -> usize {
    let digits = head.iter().skip_while(|&&octet| octet != b'/').skip(1).take_while(|octet| octet.is_ascii_digit());
    let wanted = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    assert!(wanted <= BODY_MAX, "a body in bounds");
    wanted
}

async fn serve_h2(stream: tokio::net::TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(answer(request, respond));
    }
}

async fn answer(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let octets = data?.len();
        body.flow_control().release_capacity(octets)?;
    }
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut out = respond.send_response(response, false)?;
    out.send_data(Bytes::from_static(MESSAGE), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    out.send_trailers(trailers)
}

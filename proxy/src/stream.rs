//! A byte stream to a peer: TCP, or a Unix socket of this host.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Either kind, without a box.
#[derive(Debug)]
pub enum Stream {
    /// Over the network, or loopback.
    Tcp(TcpStream),
    /// Of this host.
    Unix(UnixStream),
}

/// What a peer has sent that nobody has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nothing.
    Nothing,
    /// Something.
    Octets,
    /// Its end, or it is broken.
    End,
}

/// A stream between two runtimes: no readiness is kept for it.
#[derive(Debug)]
pub enum Detached {
    /// Over the network, or loopback.
    Tcp(std::net::TcpStream),
    /// Of this host.
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Makes it a stream of the runtime that this thread runs.
    ///
    /// # Errors
    /// It cannot be watched: no memory, or too much is watched (`epoll_ctl(2)`).
    pub fn attach(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(io) => TcpStream::from_std(io).map(Stream::Tcp),
            Self::Unix(io) => UnixStream::from_std(io).map(Stream::Unix),
        }
    }
}

/// The same call on whichever it is.
macro_rules! each {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($io) => $call,
            Stream::Unix($io) => $call,
        }
    };
}

impl Stream {
    /// Whose address it is, where it has one: for the log.
    pub fn peer(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Tcp(io) => io.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Takes it from the runtime of this thread. What has arrived waits in the kernel.
    ///
    /// # Errors
    /// The system does not know the socket any more.
    pub fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(io) => io.into_std().map(Detached::Tcp),
            Self::Unix(io) => io.into_std().map(Detached::Unix),
        }
    }

    /// Is it readable, closed or broken.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_read_ready(cx))
    }

    /// What there is to read, as the kernel knows it.
    pub fn unread(&self) -> Unread {
        let mut octet = [MaybeUninit::uninit()];
        match each!(self, io => socket2::SockRef::from(io).peek(&mut octet)) {
            Ok(1..) => Unread::Octets,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Unread::Nothing,
            Ok(_) | Err(_) => Unread::End,
        }
    }

    /// What broke it, if something did.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        each!(self, io => io.take_error())
    }

    /// When it is dropped the peer sees a reset, not an end.
    pub fn reset_at_end(&self) {
        if let Self::Tcp(io) = self {
            let _best_effort = socket2::SockRef::from(io).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    /// Writes at once or not at all.
    pub fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        each!(self, io => io.try_write(octets))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(&mut *self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(&mut *self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, io => Pin::new(io).poll_shutdown(cx))
    }
}

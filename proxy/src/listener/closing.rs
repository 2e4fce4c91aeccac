//! The end of a socket that is listened on. The kernel completes connections on its own and lets them wait for `accept`;
//! closing the socket resets those. So first nobody new is let in, and then all that wait are taken out.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};

use socket2::{SockFilter, SockRef};

use super::{BACKLOG, Socket};
use crate::stream::Detached;

/// The kernel lets one more wait than it was told, and as many again may have begun.
const TAKEN_MAX: usize = 2 * (BACKLOG as usize + 1);

/// Of a listener: drops every segment that asks for a new connection, and nothing else. Its sender asks again a second later,
/// and then finds nobody, or whoever listens by then; what completes a connection that has begun comes through. In the
/// classic language of `SO_ATTACH_FILTER`, where the first octet is that of the TCP header (RFC 9293 section 3.1: flags at
/// octet 13).
const NO_NEW: [SockFilter; 4] = [
    SockFilter::new(LOAD_OCTET, 0, 0, 13),
    SockFilter::new(JUMP_IF_ANY_BIT, 0, 1, FLAG_SYN),
    SockFilter::new(RETURN, 0, 0, 0),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
];
/// BPF_LD + BPF_B + BPF_ABS
const LOAD_OCTET: u16 = 0x30;
/// BPF_JMP + BPF_JSET + BPF_K
const JUMP_IF_ANY_BIT: u16 = 0x45;
/// BPF_RET + BPF_K: so many octets of the segment are kept.
const RETURN: u16 = 0x06;
const FLAG_SYN: u32 = 0x02;

/// Connections that wait at a socket that lets in nobody else; it is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Queue {
    socket: Socket,
    left: usize,
}

impl Queue {
    /// Lets nobody else in. Where the system refuses that, who comes between the last `accept` and the end is lost as before.
    pub(crate) fn new(socket: Socket) -> Self {
        let held_off = match &socket {
            Socket::Tcp(listener) => SockRef::from(listener).attach_filter(&NO_NEW),
            // on Linux who waits there already can still be accepted
            Socket::Unix(listener) => SockRef::from(listener).shutdown(Shutdown::Read),
        };
        if let Err(error) = held_off {
            tracing::debug!(%error, "a listener that ends cannot be shut first");
        }
        Self { socket, left: TAKEN_MAX }
    }

    /// May there be connections that have begun and cannot be taken yet. At a Unix socket they begin and are there at once.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }

    /// Asks the kernel, not a runtime: what a runtime knows of a socket is from its last look at all of them.
    fn accept(&self) -> io::Result<(Detached, SocketAddr)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (io, peer) = listener.accept()?;
                io.set_nonblocking(true)?;
                Ok((Detached::Tcp(io), peer))
            }
            Socket::Unix(listener) => {
                let (io, _) = listener.accept()?;
                io.set_nonblocking(true)?;
                Ok((Detached::Unix(io), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
            }
        }
    }
}

impl Iterator for Queue {
    /// An error is one of that connection, or says that there are no sockets: asking again tells.
    type Item = io::Result<(Detached, SocketAddr)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        match self.accept() {
            Err(error) if is_empty(&error) => None,
            taken => Some(taken),
        }
    }
}

/// Does nobody wait. A Unix socket that was shut says that its state allows no `accept`.
fn is_empty(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use serin_config::model::UnixSocket;

    use super::super::Listener;
    use super::*;

    fn speaks_with(taken: Option<io::Result<(Detached, SocketAddr)>>, client: &mut impl io::Read) {
        match taken.expect("it waits").unwrap().0 {
            Detached::Tcp(mut io) => io.write_all(b"hi").unwrap(),
            Detached::Unix(mut io) => io.write_all(b"hi").unwrap(),
        }
        let mut said = [0; 2];
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hi");
    }

    fn check_nobody_comes_after_the_queue_was_taken(address: &str) {
        let listener = Listener::bind(address.parse().unwrap(), 1).unwrap();
        let mut before: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(listener.address).unwrap()).collect();
        let mut queue = Queue::new(listener.take(0).unwrap());
        let short = Duration::from_millis(100);
        assert!(TcpStream::connect_timeout(&listener.address, short).is_err(), "nobody is let in");
        before.iter_mut().for_each(|client| speaks_with(queue.next(), client));
        assert!(queue.next().is_none());
        drop(queue);
        let refused = TcpStream::connect(listener.address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn who_waits_is_served_and_nobody_else_is_let_in() {
        check_nobody_comes_after_the_queue_was_taken("127.0.0.1:0");
        check_nobody_comes_after_the_queue_was_taken("[::1]:0");
    }

    #[test]
    fn who_waits_at_a_unix_socket_is_served_and_nobody_else_is_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixSocket { path: folder.path().join("serin.sock"), mode: 0o600 };
        let listener = Listener::bind_unix(&socket, 2).unwrap();
        let mut before: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(&socket.path).unwrap()).collect();
        let [mut first, mut second] = [0, 1].map(|worker| Queue::new(listener.take(worker).unwrap()));
        assert_eq!(UnixStream::connect(&socket.path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        // whichever worker asks
        speaks_with(first.next(), &mut before[0]);
        speaks_with(second.next(), &mut before[1]);
        speaks_with(first.next(), &mut before[2]);
        assert!(first.next().is_none() && second.next().is_none());
    }

    #[test]
    fn a_socket_that_cannot_be_shut_ends_as_well() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let mut queue = Queue::new(listener.take(0).unwrap());
        queue.left = 1;
        let Socket::Tcp(socket) = &queue.socket else { panic!("a TCP socket") };
        SockRef::from(socket).detach_filter().unwrap();
        let _waiting = [(); 2].map(|()| TcpStream::connect(listener.address).unwrap());
        assert!(queue.next().is_some());
        assert!(queue.next().is_none(), "one beyond what can wait");
    }
}

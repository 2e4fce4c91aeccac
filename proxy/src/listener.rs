//! Listening sockets: bound by the control thread, one for each worker, before anything is served.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serin_config::model::{Server, UnixSocket};
use socket2::{Domain, Protocol, TcpKeepalive, Type};

use crate::admission::Admission;
use crate::memory;

pub(crate) mod closing;
pub(crate) mod unix;

/// Connections that wait in the kernel for `accept`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Octets that wait in the kernel to be sent to one client. Without it the kernel takes megabytes for a client that reads
/// slowly, and then nobody can tell slow from stalled.
const UNSENT_MAX: u32 = 256 << 10;
/// A peer whose machine is gone says nothing: the kernel asks after so long, so often, and so many times.
const ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);

/// One address, one socket for each worker on it.
#[derive(Debug)]
pub struct Listener {
    /// Unique in the process: a listener that is removed and added again is another one.
    pub id: u64,
    /// As configured; the port may be 0.
    pub configured: SocketAddr,
    /// As bound.
    pub address: SocketAddr,
    /// The path, if it is a Unix socket; then the addresses mean nothing.
    pub unix: Option<PathBuf>,
    /// Removed with the last holder of this.
    _file: Option<unix::SocketFile>,
    /// Requests in flight over all workers, where a limit was written for them.
    pub in_flight: Arc<AtomicU32>,
    /// Requests in flight over all workers where no limit was written: by the memory there was when it was bound.
    pub requests_max: u32,
    /// Connections open.
    pub admission: Arc<Admission>,
    sockets: Box<[ArcSwapOption<Socket>]>,
    /// Sockets that nobody has taken.
    left: AtomicUsize,
}

/// What the system said of an address, behind `what`, and what can be done about it.
pub(crate) fn refused(what: &str, address: SocketAddr, error: &io::Error) -> io::Error {
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there, `ss -ltnp` shows which: stop it, or choose another port"
        }
        io::ErrorKind::PermissionDenied if address.port() < PORT_FREE_MIN => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE: grant it, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; 0.0.0.0 and :: mean all it has",
        _ => return io::Error::new(error.kind(), format!("{what} {address}: {error}")),
    };
    io::Error::new(error.kind(), format!("{what} {address}: {error}\nhelp: {help}"))
}

/// Ports from here on need no privilege.
const PORT_FREE_MIN: u16 = 1024;

impl Listener {
    /// Binds one socket for each worker.
    ///
    /// The kernel lets any process of the same user share a port by `SO_REUSEPORT`, so a second Serin started by
    /// mistake would silently take half of the connections. The address is therefore bound without the option first.
    ///
    /// # Errors
    /// The address is taken or not ours; the error names it.
    pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Arc<Self>> {
        let named = |error: io::Error| refused("cannot listen on", address, &error);
        probe(address).map_err(named)?;
        let first = open(address).map_err(named)?;
        let bound = first.local_addr().map_err(named)?;
        let mut sockets = vec![Socket::Tcp(first)];
        for _ in 1..workers {
            sockets.push(Socket::Tcp(open(bound).map_err(named)?));
        }
        Ok(Self::new((address, bound), None, sockets))
    }

    /// Binds a Unix socket; all workers accept from the one.
    ///
    /// # Errors
    /// Somebody listens there, or the file cannot be made; the error names it.
    pub fn bind_unix(socket: &UnixSocket, workers: usize) -> io::Result<Arc<Self>> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {}: {error}", socket.path.display()))
        };
        let (first, file) = unix::bind(socket).map_err(named)?;
        let mut sockets = Vec::with_capacity(workers);
        for _ in 1..workers {
            sockets.push(Socket::Unix(first.try_clone().map_err(named)?));
        }
        sockets.push(Socket::Unix(first));
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Self::new((nowhere, nowhere), Some((socket.path.clone(), file)), sockets))
    }

    fn new(
        (configured, address): (SocketAddr, SocketAddr),
        unix: Option<(PathBuf, unix::SocketFile)>,
        sockets: Vec<Socket>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (unix, file) = unix.unzip();
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            configured,
            address,
            unix,
            _file: file,
            in_flight: Arc::default(),
            requests_max: memory::requests_of(memory::available()),
            admission: Arc::new(Admission::new(sockets.len())),
            left: AtomicUsize::new(sockets.len()),
            sockets: sockets.into_iter().map(ArcSwapOption::from_pointee).collect(),
        })
    }

    /// Is it what this server wants.
    pub fn is_for(&self, server: &Server) -> bool {
        match (&self.unix, &server.unix) {
            (Some(path), Some(socket)) => *path == socket.path,
            (None, None) => self.configured == server.address,
            _ => false,
        }
    }

    /// Where it listens, for people.
    pub fn shown(&self) -> String {
        match &self.unix {
            Some(path) => format!("unix:{}", path.display()),
            None => self.address.to_string(),
        }
    }

    /// The socket of one worker; `None` once it has been taken.
    pub fn take(&self, worker: usize) -> Option<Socket> {
        let socket = self.sockets.get(worker)?.swap(None).and_then(Arc::into_inner)?;
        self.left.fetch_sub(1, Ordering::Release);
        Some(socket)
    }

    /// Has every worker taken its own. It does not look at the sockets: whoever took one meanwhile would find it shared, and
    /// lose it.
    pub fn is_taken(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }
}

/// A socket that one worker accepts from.
#[derive(Debug)]
pub enum Socket {
    /// Of its own.
    Tcp(TcpListener),
    /// Shared by all.
    Unix(UnixListener),
}

/// Fails if another process listens here. Nothing is accepted: it never listens.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = socket(address)?;
    // so that connections of an earlier run in TIME_WAIT do not count
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // inherited by accepted sockets on Linux: some system calls fewer for each connection
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// For sockets of peers that may be silent for long.
pub fn keepalive() -> TcpKeepalive {
    let (time, interval, retries) = ALIVE;
    TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries)
}

fn socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_listener_on_the_same_port_is_refused_by_name() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let error = Listener::bind(first.address, 2).unwrap_err().to_string();
        assert!(error.contains(&first.address.to_string()), "{error}");
    }

    #[test]
    fn accepted_sockets_inherit_what_the_listener_says() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let Some(Socket::Tcp(socket)) = listener.take(0) else { panic!("a TCP socket") };
        socket.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.address).unwrap();
        let (accepted, _) = socket.accept().unwrap();
        let accepted = socket2::SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), UNSENT_MAX);
    }

    #[test]
    fn each_worker_takes_its_socket_once() {
        let listener = Listener::bind("[::1]:0".parse().unwrap(), 2).unwrap();
        assert!(listener.take(0).is_some() && listener.take(1).is_some());
        assert!(listener.take(0).is_none() && listener.take(2).is_none());
    }

    #[test]
    fn who_asks_whether_sockets_are_taken_takes_none_away() {
        for _ in 0..500 {
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| while !listener.is_taken() {});
                assert!(listener.take(0).is_some());
            });
        }
    }
}

//! A registry as a scripted server: it can hang, die, come back on its port, and send anything.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::eventually_some;
use super::wire::{Head, Wire};

/// Answers one request; `false` closes the connection.
type Script = dyn Fn(&mut Wire, &Head) -> bool + Send + Sync;

/// An HTTP/1.1 server on a port of its own.
pub(crate) struct Registry {
    port: u16,
    script: Arc<Script>,
    life: Mutex<Option<Life>>,
}

struct Life {
    open: Arc<Open>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Open {
    stopped: AtomicBool,
    count: AtomicUsize,
    most: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
}

impl Registry {
    pub(crate) fn start(script: impl Fn(&mut Wire, &Head) -> bool + Send + Sync + 'static) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry = Registry { port, script: Arc::new(script), life: Mutex::default() };
        registry.live(listener);
        registry
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.life.lock().unwrap().as_ref().map_or(0, |life| life.open.count.load(Ordering::Acquire))
    }

    /// The most that were open at once.
    pub(crate) fn most(&self) -> usize {
        self.life.lock().unwrap().as_ref().map_or(0, |life| life.open.most.load(Ordering::Acquire))
    }

    /// Dies: nobody listens, and every connection is closed.
    pub(crate) fn stop(&self) {
        let Some(Life { open, thread }) = self.life.lock().unwrap().take() else { return };
        open.stopped.store(true, Ordering::Release);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        thread.join().unwrap();
        for stream in open.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lives again, on the same port.
    pub(crate) fn again(&self) {
        let listener = eventually_some("the port is free again", || TcpListener::bind(("127.0.0.1", self.port)).ok());
        self.live(listener);
    }

    fn live(&self, listener: TcpListener) {
        let open = Arc::new(Open::default());
        let (shared, script) = (Arc::clone(&open), Arc::clone(&self.script));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stopped.load(Ordering::Acquire) {
                    return;
                }
                shared.streams.lock().unwrap().push(stream.try_clone().unwrap());
                let (shared, script) = (Arc::clone(&shared), Arc::clone(&script));
                let before = shared.count.fetch_add(1, Ordering::AcqRel);
                shared.most.fetch_max(before + 1, Ordering::AcqRel);
                std::thread::spawn(move || {
                    let mut wire = Wire::new(stream);
                    let _ = wire.stream.set_read_timeout(None);
                    while let Ok(Some(head)) = wire.read_head() {
                        if !script(&mut wire, &head) {
                            break;
                        }
                    }
                    let _ = wire.stream.shutdown(Shutdown::Both);
                    shared.count.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        *self.life.lock().unwrap() = Some(Life { open, thread });
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Is the peer of this connection gone? Looks without waiting.
pub(crate) fn is_gone(wire: &Wire) -> bool {
    let _ = wire.stream.set_nonblocking(true);
    let looked = wire.stream.peek(&mut [0]);
    let _ = wire.stream.set_nonblocking(false);
    match looked {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// The path of a target and its query, decoded.
pub(crate) fn target(head: &Head) -> (String, Vec<(String, String)>) {
    let target = head.first.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    };
    (decoded(path), pairs.map(pair).collect())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        if first == b'%' && more.len() >= 2 {
            let hex = std::str::from_utf8(&more[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &more[2..];
        } else {
            bytes.push(first);
            rest = more;
        }
    }
    String::from_utf8(bytes).unwrap()
}

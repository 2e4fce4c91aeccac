//! The listeners of `interfaces`, and the thread behind them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serin_config::model::{Config, Interface};

use crate::admin::Tokens;
use crate::dtabs::Dtabs;
use crate::endpoints::EndpointTable;
use crate::listener;
use crate::namerd::{self, NamerdHandle, NamerdSeed};
use crate::snapshot::World;

/// A listener that is about to be served.
#[derive(Debug)]
pub(super) struct Door {
    configured: SocketAddr,
    bound: SocketAddr,
    /// `None`: it is served already.
    socket: Option<TcpListener>,
}

/// Those that are served.
#[derive(Debug, Default)]
pub(super) struct Doors {
    serving: Vec<(SocketAddr, SocketAddr)>,
    thread: Option<NamerdHandle>,
}

/// What the thread is made of, where it is needed.
pub(super) struct Behind<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) endpoints: &'a Arc<EndpointTable>,
    pub(super) dtabs: Option<Arc<Dtabs>>,
    pub(super) tokens: Arc<ArcSwap<Tokens>>,
}

impl Doors {
    /// One for each interface of the file: kept where the configured address is equal, bound otherwise. All or nothing.
    pub(super) fn bind(&self, config: &Config) -> io::Result<Vec<Door>> {
        let mut kept: Vec<_> = self.serving.iter().map(Some).collect();
        let doors = config.interfaces.iter().map(Interface::address).map(|configured| {
            // port 0 may stand there twice: each takes another one
            let same = kept.iter_mut().find(|slot| slot.is_some_and(|(address, _)| *address == configured));
            match same.and_then(Option::take) {
                Some((_, bound)) => Ok(Door { configured, bound: *bound, socket: None }),
                None => open(configured),
            }
        });
        doors.collect()
    }

    /// Where they listen, once these are served.
    pub(super) fn addresses(doors: &[Door]) -> Vec<SocketAddr> {
        doors.iter().map(|door| door.bound).collect()
    }

    /// Where they listen.
    pub(super) fn bound(&self) -> Vec<SocketAddr> {
        self.serving.iter().map(|(_, bound)| *bound).collect()
    }

    /// Serves these, and no others.
    ///
    /// # Errors
    /// The system has no thread for them.
    pub(super) fn serve(&mut self, doors: Vec<Door>, behind: &Behind<'_>) -> io::Result<()> {
        self.serving = doors.iter().map(|door| (door.configured, door.bound)).collect();
        for door in doors.iter().filter(|door| door.socket.is_some()) {
            tracing::info!(kind = "io.l5d.httpController", address = %door.bound, "interface listening");
        }
        let doors: Vec<_> = doors.into_iter().map(|door| (door.bound, door.socket)).collect();
        match (&self.thread, &behind.dtabs) {
            (Some(thread), _) => thread.replace(doors),
            (None, Some(dtabs)) if !doors.is_empty() => {
                let (world, endpoints) = (Arc::clone(behind.world), Arc::clone(behind.endpoints));
                let seed =
                    NamerdSeed { world, endpoints, dtabs: Arc::clone(dtabs), tokens: Arc::clone(&behind.tokens) };
                self.thread = Some(namerd::start(seed, doors)?);
            }
            // a file with interfaces has a storage
            (None, _) => {}
        }
        Ok(())
    }

    /// Ends the thread.
    pub(super) fn stop(&mut self) {
        if let Some(mut thread) = self.thread.take() {
            thread.stop();
        }
    }
}

fn open(configured: SocketAddr) -> io::Result<Door> {
    let named = |error: io::Error| listener::refused("cannot serve `interfaces` on", configured, &error);
    let socket = TcpListener::bind(configured).map_err(named)?;
    socket.set_nonblocking(true).map_err(named)?;
    Ok(Door { configured, bound: socket.local_addr().map_err(named)?, socket: Some(socket) })
}

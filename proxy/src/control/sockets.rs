//! Listeners over reloads: those that stay are kept, new ones are bound before anything is published.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use serin_config::model::Config;

use crate::listener::{self, Listener};

/// One listener for each server of the file, in its order: kept from `current` where the configured address is equal,
/// bound otherwise. All or nothing: on an error whatever was bound is closed again and `current` is as it was.
pub(super) fn listeners(config: &Config, current: &[Arc<Listener>], workers: usize) -> io::Result<Vec<Arc<Listener>>> {
    let mut kept: Vec<_> = current.iter().map(Some).collect();
    let servers = config.routers.iter().flat_map(|router| &router.servers);
    let listeners = servers.map(|server| {
        // port 0 may stand there twice: each takes another one
        let same = kept.iter_mut().find(|slot| slot.is_some_and(|listener| listener.is_for(server)));
        match (same.and_then(Option::take), &server.unix) {
            (Some(listener), Some(unix)) => listener::unix::set_mode(unix).map(|()| Arc::clone(listener)),
            (Some(listener), None) => Ok(Arc::clone(listener)),
            (None, Some(unix)) => Listener::bind_unix(unix, workers),
            (None, None) => Listener::bind(server.address, workers),
        }
    });
    listeners.collect()
}

/// A socket for the admin server.
pub(crate) fn admin(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| listener::refused("cannot serve admin on", address, &error);
    let listener = TcpListener::bind(address).map_err(named)?;
    listener.set_nonblocking(true).map_err(named)?;
    Ok(listener)
}

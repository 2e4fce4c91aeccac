//! Signals of the operating system as a stream of wishes.

use std::io;

use tokio::signal::unix::{Signal as Source, SignalKind, signal};

use crate::world::Signal;

/// SIGHUP, SIGINT and SIGTERM. What arrives after [`Signals::install`] is never lost.
pub(super) struct Signals {
    hangup: Source,
    interrupt: Source,
    terminate: Source,
}

impl Signals {
    /// Takes the three signals away from the system's defaults.
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next one. Cancel safe: a signal that was not returned comes again.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
        }
    }
}

/// The next signal, or never if none are watched.
pub(super) async fn next(signals: &mut Option<Signals>) -> Signal {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

//! Which versions of HTTP a name has answered in, for all workers.

use std::sync::atomic::{AtomicBool, Ordering};

/// Written once for each version: after that workers only look.
#[derive(Debug, Default)]
pub struct Spoken {
    http1: AtomicBool,
    http2: AtomicBool,
}

impl Spoken {
    /// An answer came over HTTP/1.1.
    pub fn note_http1(&self) {
        note(&self.http1);
    }

    /// A connection of HTTP/2 came about.
    pub fn note_http2(&self) {
        note(&self.http2);
    }

    /// Has it answered over HTTP/1.1.
    pub fn http1(&self) -> bool {
        self.http1.load(Ordering::Relaxed)
    }

    /// Has it ever spoken HTTP/2.
    pub fn http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }
}

/// A line that all cores read is not written for each request.
fn note(version: &AtomicBool) {
    if !version.load(Ordering::Relaxed) {
        version.store(true, Ordering::Relaxed);
    }
}

//! HTTP/1.1 connections that wait for a request.
//!
//! An answer to HEAD, and one of 204 or 304, ends with its head. Some origins send a body all the same, and who used the
//! connection next would read it as an answer. So a system call looks at such a connection before it is used again, and an
//! origin that was found out once serves no other request on one.

use std::task::{Context, Waker};

use super::{Conn, Endpoint};
use crate::stream::Unread;

/// An idle connection.
#[derive(Debug)]
pub(super) struct Idle {
    conn: Conn,
    pub(super) since_us: u64,
    /// Its last answer ended with the head, whatever the fields said.
    bodiless: bool,
}

impl Endpoint {
    /// An idle HTTP/1.1 connection. tokio's readiness flags say without a system call whether it was closed or sent
    /// something unasked; such a one is dropped.
    pub fn checkout(&self) -> Option<Conn> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut conn, bodiless, .. }) = idle.pop() {
            conn.set_idle(false);
            let flagged = conn.io.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_ready();
            let unread = if flagged || bodiless { conn.io.unread() } else { Unread::Nothing };
            match unread {
                Unread::Nothing if !flagged => return Some(conn),
                Unread::Octets if bodiless => self.note_talks_on(),
                Unread::Nothing | Unread::Octets | Unread::End => {}
            }
        }
        None
    }

    /// It sent octets behind an answer that has none.
    pub fn note_talks_on(&self) {
        self.talks_on.set(true);
    }

    /// Keeps a connection whose exchange is complete in both directions. `bodiless`: its answer ended with the head,
    /// whatever the fields say.
    pub fn give_back(&self, mut conn: Conn, now_us: u64, bodiless: bool) {
        let mut idle = self.idle.borrow_mut();
        let room = idle.len() < self.limits.idle_connections_max as usize;
        let useless = self.retired.get() || self.own.get() || (bodiless && self.talks_on.get());
        if !useless && room && !self.is_old(conn.born_us, now_us) {
            conn.set_idle(true);
            idle.push(Idle { conn, since_us: now_us, bodiless });
        }
    }
}

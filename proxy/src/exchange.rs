//! A request on its way through the stack.

use std::net::SocketAddr;
use std::rc::Rc;

use http::header::CONTENT_LENGTH;
use http::request;
use http::uri::PathAndQuery;

use crate::arms::Session;
use crate::bindings::{Binding, Leaf};
use crate::body::Body;
use crate::conn::Link;
use crate::error::ProxyError;
use crate::inflight::Handle;
use crate::local::Local;
use crate::mirror::Due;
use crate::router::Action;
use crate::snapshot::ServerStructure;

/// A request with what is known of it so far. Layers fill it in from the outside to the inside.
#[derive(Debug)]
pub struct Exchange {
    /// The head.
    pub parts: request::Parts,
    /// The body.
    pub body: Body,
    /// The connection it came on.
    pub link: Rc<Link>,
    /// The one snapshot this request sees.
    pub local: Rc<Local>,
    /// Index of its listener in [`crate::snapshot::Structure::servers`].
    pub server: usize,
    /// When it began, in microseconds of the clock.
    pub started_us: u64,
    /// All of its random draws come from it.
    pub seed: u64,
    /// Its slot in the books; set by the outermost layer.
    pub handle: Option<Handle>,
    /// Is it a gRPC call.
    pub grpc: bool,
    /// Are its context headers obeyed; set by hygiene.
    pub trusted: bool,
    /// Does its caller wait for 100 before it sends the body; set by hygiene.
    pub expects: bool,
    /// Does its caller ask for a WebSocket; set by hygiene.
    pub upgrade: bool,
    /// Where it goes; set by routing.
    pub route: Option<Route>,
    /// What is sent on in place of what came; set by routing.
    pub sends: Option<Box<Sends>>,
    /// Does it carry context fields of a peer that is obeyed; set by hygiene.
    pub context: bool,
    /// A session that was made for its user, told of with the answer; set by routing.
    pub session: Option<Box<Session>>,
    /// A copy of it is due; set by routing.
    pub copy: Option<Box<Due>>,
    /// Are `X-Forwarded-*` set from the connection on the way out: edge listeners.
    pub forwarded: bool,
}

/// What is sent on in place of what came, where an identifier or a rule says so. What came stays as it is: draws and
/// retries look at that.
#[derive(Clone, Debug, Default)]
pub struct Sends {
    /// Path and query of the target.
    pub target: Option<PathAndQuery>,
    /// The rule that the request met, by its place: it may have another host, and changes of headers.
    pub rule: Option<usize>,
}

/// Where a request goes.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub binding: Rc<Binding>,
    /// The drawn leaf.
    pub leaf: Rc<Leaf>,
}

impl Exchange {
    /// The listener it came through, as configured in its snapshot.
    pub fn server(&self) -> &ServerStructure {
        &self.local.shape.structure.servers[self.server]
    }

    /// Who sent it.
    pub fn peer(&self) -> SocketAddr {
        self.link.peer
    }

    /// Path and query that the upstream sees.
    pub fn sent_target(&self) -> Option<&PathAndQuery> {
        let instead = self.sends.as_ref().and_then(|sends| sends.target.as_ref());
        instead.or_else(|| self.parts.uri.path_and_query())
    }

    /// The rule that the request met.
    pub fn action(&self) -> Option<&Action> {
        let rule = self.sends.as_ref()?.rule?;
        self.local.snapshot.structure.routers[self.server().router].rules.action(rule)
    }

    /// The host that the upstream sees.
    pub fn sent_host(&self) -> Option<&[u8]> {
        match self.action().and_then(Action::host) {
            Some(host) => Some(host.as_str().as_bytes()),
            None => self.host(),
        }
    }

    /// `Content-Length` as sent.
    pub fn announced(&self) -> Option<u64> {
        self.parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// No larger body than this is read.
    ///
    /// # Errors
    /// [`ProxyError::BodyTooLarge`]: a larger one is announced.
    pub fn limit_body(&mut self, octets_max: u64) -> Result<(), ProxyError> {
        if self.announced().is_some_and(|length| length > octets_max) {
            return Err(ProxyError::BodyTooLarge);
        }
        self.body.limit(octets_max);
        Ok(())
    }

    /// Authority of the target (absolute form, or `:authority`), or the `Host` field.
    pub fn host(&self) -> Option<&[u8]> {
        match self.parts.uri.authority() {
            Some(authority) => Some(authority.as_str().as_bytes()),
            None => self.parts.headers.get(http::header::HOST).map(|host| host.as_bytes()),
        }
    }
}

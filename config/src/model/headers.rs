//! What is written into requests beyond what routing needs.

/// `tracePropagator`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagator {
    /// `io.l5d.default`: `l5d-ctx-trace` and `l5d-reqid`.
    #[default]
    Linkerd,
    /// `io.l5d.zipkin`: `x-b3-traceid` and the other four.
    Zipkin,
}

/// `addForwardedHeader`: a `Forwarded` field of our own (RFC 7239), beside those that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedHeader {
    /// How this proxy calls itself. Default `requestRandom`.
    pub by: Labeler,
    /// How the peer is called. Default `requestRandom`.
    pub source: Labeler,
}

/// What stands for an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Labeler {
    /// The address without its port.
    Ip,
    /// The address with its port.
    IpPort,
    /// `_` and six letters or digits, the same for all requests of a connection.
    ConnectionRandom,
    /// `_` and six letters or digits, new for each request.
    #[default]
    RequestRandom,
    /// `_` and the label of the router.
    Router,
    /// `_` and this text: letters, digits, `.`, `_`, `-`.
    Static(String),
}

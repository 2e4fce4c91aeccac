//! How a router talks to upstreams: for all of them, and for those whose bound name lies under a prefix.

use std::num::NonZeroU32;
use std::time::Duration;

use serin_rollout::Ppm;

use super::{CLIENT_KEYS, ClientLimits};
use crate::dtab::Pattern;

/// Towards upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Which HTTP is spoken. Default `auto`; `h2` in a router with `protocol: h2`, whose upstreams speak nothing else.
    pub protocol: Protocol,
    /// `None`: 5 s on edge listeners, 1 s on mesh listeners.
    pub connect_timeout: Option<Duration>,
    /// From the request sent to the response head, for each attempt. `None`: 60 s; never for gRPC.
    pub attempt_timeout: Option<Duration>,
    /// Which endpoint takes a request.
    pub balancer: Balancer,
    /// `None`: endpoints are never ejected for failed answers.
    pub accrual: Option<Accrual>,
    /// What requests that were never sent may cost when they are sent again.
    pub requeue: RetryBudget,
    /// A connection older than this takes no more requests. `None`: it lives as long as it is used.
    pub life_time: Option<Duration>,
    /// What is borne of upstreams.
    pub limits: ClientLimits,
}

impl Client {
    /// What holds where the file says nothing.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            connect_timeout: None,
            attempt_timeout: None,
            balancer: Balancer::default(),
            accrual: Some(Accrual::default()),
            requeue: RetryBudget::default(),
            life_time: None,
            limits: ClientLimits::new(),
        }
    }
}

/// `client.protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2, all else over HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 with prior knowledge only.
    H2,
}

/// `client.loadBalancer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// Of two drawn by chance the one with fewer requests in flight.
    #[default]
    P2c,
    /// Of two drawn by chance the one whose requests take less time, in flight counted in.
    Ewma {
        /// How fast the past is forgotten. Default 10 s.
        decay: Duration,
    },
    /// One after the other.
    RoundRobin,
}

/// `client.failureAccrual`: when an endpoint is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accrual {
    /// When.
    pub rule: AccrualRule,
    /// First and longest time out. Default 5 s and 300 s.
    pub backoff: (Duration, Duration),
}

/// When an endpoint is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccrualRule {
    /// After so many failures in a row. Default 5.
    Consecutive(NonZeroU32),
    /// When the mean of about so many requests succeeds more rarely than this.
    SuccessRate(Ppm, NonZeroU32),
    /// When requests of this time succeed more rarely than this.
    SuccessRateWindowed(Ppm, Duration),
}

impl Default for Accrual {
    fn default() -> Self {
        const FAILURES: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);
        let backoff = (Duration::from_secs(5), Duration::from_secs(300));
        Self { rule: AccrualRule::Consecutive(FAILURES), backoff }
    }
}

/// What retries may cost: a share of the requests, and a few without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// How long what a request paid in, and what a retry took out, counts. Default 10 s.
    pub ttl: Duration,
    /// Retries a second that are there without traffic, over all workers. Default 10.
    pub per_second: u32,
    /// Retries for each request, in millionths. Default 20 %; more than one retry for each request can be asked for, up to
    /// [`RETRY_SHARE_MAX`](crate::limits::RETRY_SHARE_MAX).
    pub share_ppm: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10), per_second: 10, share_ppm: 200_000 }
    }
}

/// One entry of `client.configs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPart {
    /// Of bound names.
    pub prefix: Pattern,
    /// What is written, over defaults.
    pub values: Client,
    /// Which keys are written: names of fields, and keys of `limits`.
    pub written: Vec<&'static str>,
}

/// Takes one value over from the second.
pub type Take<T> = fn(&mut T, &T);

/// Keys of [`Client`] outside `limits`: as they are in the file, and how one is taken over.
pub const CLIENT_FIELDS: &[(&str, Take<Client>)] = &[
    ("protocol", |to, from| to.protocol = from.protocol),
    ("connectTimeoutMs", |to, from| to.connect_timeout = from.connect_timeout),
    ("requestAttemptTimeoutMs", |to, from| to.attempt_timeout = from.attempt_timeout),
    ("loadBalancer", |to, from| to.balancer = from.balancer),
    ("failureAccrual", |to, from| to.accrual = from.accrual),
    ("requeueBudget", |to, from| to.requeue = from.requeue),
    ("clientSession", |to, from| to.life_time = from.life_time),
];

impl ClientPart {
    /// What is written here takes the place of what was; all else stays.
    pub fn apply(&self, to: &mut Client) {
        for (key, take) in CLIENT_FIELDS {
            if self.written.contains(key) {
                take(to, &self.values);
            }
        }
        for key in CLIENT_KEYS.iter().filter(|key| self.written.contains(&key.key)) {
            if let Some(value) = (key.get)(&self.values.limits) {
                (key.set)(&mut to.limits, value);
            }
        }
        // a stream cannot use more than its connection has, whichever entry said which
        let h2 = &mut to.limits.h2;
        h2.stream_window_bytes = h2.stream_window_bytes.min(h2.connection_window_bytes);
    }
}

//! Limits of listeners and of upstreams, with the keys that set them.
//!
//! Each table of keys is the only place that knows a key's name, range and unit: the compiler, `/config.json` and the tests
//! of the README read it.

use std::time::Duration;

use super::Exposure;

/// One day: no time is longer.
const MS_MAX: u64 = crate::units::DURATION_MS_MAX;
/// The largest window of HTTP/2 (RFC 9113 section 6.9.1).
const WINDOW_MAX: u64 = (1 << 31) - 1;
/// The smallest and the largest that `SETTINGS_MAX_FRAME_SIZE` can be (RFC 9113 section 6.5.2).
const FRAME_MIN: u64 = 16_384;
const FRAME_MAX: u64 = (1 << 24) - 1;

/// What a listener bears of its peers. All sizes are octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a request target. More is 414.
    pub target_bytes_max: u32,
    /// Of one field: name, value and four. More is 431.
    pub field_bytes_max: u32,
    /// Of a request head: the target, and name, value and four for each field. More is 431.
    pub head_bytes_max: u32,
    /// Fields of a request head. More is 431.
    pub head_fields_max: u32,
    /// Trailer fields of a request. More cuts the upload.
    pub trailer_fields_max: u32,
    /// Of a request body, as announced and as counted. More is 413. `None`: no limit.
    pub body_bytes_max: Option<u64>,
    /// To complete a head, from accept or from its first octet. Longer is 408.
    pub head_timeout: Duration,
    /// Without a request, after the last one. Then the connection closes.
    pub idle_timeout: Duration,
    /// Without progress, while the peer owes octets of an upload or takes none of the answer. Then the request is cut.
    pub stall_timeout: Duration,
    /// Requests on one connection. The last one is answered with `Connection: close`, or a graceful GOAWAY.
    pub requests_per_connection_max: u32,
    /// Connections of this listener, all workers together. More wait in the kernel.
    pub connections_max: u32,
    /// Of them, those of one IPv4 address or IPv6 /64. More are closed at once.
    pub connections_per_source_max: u32,
    /// HTTP/2 streams of one connection, as advertised. More are refused.
    pub streams_max: u32,
    /// HTTP/2 beyond that.
    pub h2: H2Limits,
}

/// What is borne of an upstream. All sizes are octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Of a response head. More is 502.
    pub head_bytes_max: u32,
    /// Fields of a response head. More is 502.
    pub head_fields_max: u32,
    /// Of a trailer section of HTTP/1.1. More cuts the response.
    pub trailer_bytes_max: u32,
    /// Trailer fields of a response. More cuts the response.
    pub trailer_fields_max: u32,
    /// Of a chunk-size line, its end not counted. More cuts the response.
    pub chunk_line_bytes_max: u32,
    /// Of all chunk extensions of one body. More cuts the response.
    pub chunk_extension_bytes_max: u32,
    /// Interim responses of one exchange. More is 502.
    pub interim_responses_max: u32,
    /// Without a request. Then the connection closes: shorter than the patience of usual origins.
    pub idle_timeout: Duration,
    /// Idle HTTP/1.1 connections to one endpoint that one worker keeps.
    pub idle_connections_max: u32,
    /// HTTP/2 connections to one endpoint from one worker.
    pub h2_connections_max: u32,
    /// Without progress, while the upstream takes nothing of an upload and has not answered. Then 504.
    pub stall_timeout: Duration,
    /// Without an octet on an HTTP/2 connection with open streams. Then a PING; and as long after it, the connection is lost.
    pub ping_after: Duration,
    /// Without an octet of a response that has begun. Then it is cut. `None`: an upstream may be silent for ever.
    pub silence_timeout: Option<Duration>,
    /// HTTP/2 beyond that.
    pub h2: H2Limits,
}

/// What is borne of an HTTP/2 peer, on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H2Limits {
    /// Octets that may come on one stream before they are taken.
    pub stream_window_bytes: u32,
    /// Octets that may come on one connection before they are taken.
    pub connection_window_bytes: u32,
    /// The largest frame that is taken, as advertised.
    pub frame_bytes_max: u32,
    /// Of the dynamic table of field compression.
    pub header_table_bytes: u32,
    /// Octets of one stream that wait for the peer's window.
    pub send_buffer_bytes_max: u32,
    /// Frames of one header block.
    pub header_frames_max: u32,
    /// Streams in 30 s that the peer opens and resets before they are answered.
    pub resets_max: u32,
    /// Streams of one connection that must be reset for what the peer did.
    pub provoked_resets_max: u32,
    /// PING, SETTINGS, PRIORITY and WINDOW_UPDATE frames each second that serve nothing, in the long run.
    pub control_frames_per_second: u32,
    /// Those that may come at once.
    pub control_frame_burst: u32,
    /// Our answers to control frames that the peer does not read.
    pub control_frames_queued_max: u32,
    /// Empty DATA frames that do not end a stream.
    pub empty_frames_max: u32,
}

impl H2Limits {
    /// Frames that a header block of this size may take: those it fills, and a few for encoders that cut where they like.
    pub const fn header_frames(head_bytes: u32) -> u32 {
        head_bytes / FRAME_MIN as u32 + 4
    }

    const fn new(stream_window_bytes: u32, head_bytes: u32) -> Self {
        Self {
            stream_window_bytes,
            connection_window_bytes: 1 << 20,
            frame_bytes_max: FRAME_MIN as u32,
            header_table_bytes: 4096,
            send_buffer_bytes_max: 64 << 10,
            header_frames_max: Self::header_frames(head_bytes),
            resets_max: 100,
            provoked_resets_max: 100,
            control_frames_per_second: 50,
            control_frame_burst: 1000,
            control_frames_queued_max: 1000,
            empty_frames_max: 100,
        }
    }
}

impl Limits {
    /// For strangers.
    pub const fn edge() -> Self {
        const HEAD_BYTES: u32 = 32 << 10;
        Self {
            target_bytes_max: 16 << 10,
            field_bytes_max: 16 << 10,
            head_bytes_max: HEAD_BYTES,
            head_fields_max: 100,
            trailer_fields_max: 32,
            body_bytes_max: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            requests_per_connection_max: 10_000,
            connections_max: 20_000,
            connections_per_source_max: 1000,
            streams_max: 100,
            h2: H2Limits::new(64 << 10, HEAD_BYTES),
        }
    }

    /// For our own proxies and applications: they open more streams, and send more at once.
    pub const fn mesh() -> Self {
        let edge = Self::edge();
        Self { streams_max: 250, h2: H2Limits { stream_window_bytes: 1 << 20, ..edge.h2 }, ..edge }
    }

    /// Those of a listener of which the file says nothing.
    pub const fn of(exposure: Exposure) -> Self {
        match exposure {
            Exposure::Edge => Self::edge(),
            Exposure::Mesh => Self::mesh(),
        }
    }
}

impl ClientLimits {
    /// For upstreams of which the file says nothing.
    pub const fn new() -> Self {
        const HEAD_BYTES: u32 = 64 << 10;
        Self {
            head_bytes_max: HEAD_BYTES,
            head_fields_max: 200,
            trailer_bytes_max: 16 << 10,
            trailer_fields_max: 32,
            chunk_line_bytes_max: 256,
            chunk_extension_bytes_max: 16 << 10,
            interim_responses_max: 8,
            idle_timeout: Duration::from_secs(30),
            idle_connections_max: 1024,
            h2_connections_max: 8,
            stall_timeout: Duration::from_secs(30),
            ping_after: Duration::from_secs(10),
            silence_timeout: None,
            h2: H2Limits::new(1 << 20, HEAD_BYTES),
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self::new()
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Octets.
    Bytes,
    /// Things.
    Count,
    /// Milliseconds.
    Ms,
}

/// One key of a `limits` block.
#[derive(Clone, Copy, Debug)]
pub struct LimitKey<T: 'static> {
    /// As the file has it; it ends in its unit.
    pub key: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// The least and the most.
    pub range: (u64, u64),
    /// What is in force; `None`: no limit.
    pub get: fn(&T) -> Option<u64>,
    /// Puts a number that lies in the range.
    pub set: fn(&mut T, u64),
}

const fn key<T>(
    key: &'static str,
    unit: Unit,
    range: (u64, u64),
    get: fn(&T) -> Option<u64>,
    set: fn(&mut T, u64),
) -> LimitKey<T> {
    LimitKey { key, unit, range, get, set }
}

macro_rules! number {
    ($name:literal, $unit:ident, $range:expr, $($field:ident).+) => {
        key($name, Unit::$unit, $range, |l| Some(u64::from(l.$($field).+)), |l, n| l.$($field).+ = small(n))
    };
}

macro_rules! time {
    ($name:literal, $field:ident) => {
        key($name, Unit::Ms, (1, MS_MAX), |l| Some(millis(l.$field)), |l, n| l.$field = Duration::from_millis(n))
    };
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The most that a count of anything cheap can be set to.
const COUNT_MAX: u64 = 1_000_000_000;
/// The most that a head can be: each connection may hold so much.
const HEAD_MAX: u64 = 256 << 10;
/// Beyond it the parsers have no room.
const FIELDS_MAX: u64 = 1000;

/// More empty DATA frames the HTTP/2 library itself does not bear.
const EMPTY_FRAMES_MAX: u64 = 100;

/// The keys of `servers[].limits`.
pub const SERVER_KEYS: &[LimitKey<Limits>] = &[
    number!("targetBytes", Bytes, (256, HEAD_MAX), target_bytes_max),
    number!("fieldBytes", Bytes, (256, HEAD_MAX), field_bytes_max),
    number!("headBytes", Bytes, (1024, HEAD_MAX), head_bytes_max),
    number!("headFields", Count, (8, FIELDS_MAX), head_fields_max),
    number!("trailerFields", Count, (0, 100), trailer_fields_max),
    key("bodyBytes", Unit::Bytes, (0, (1 << 63) - 1), |l| l.body_bytes_max, |l, n| l.body_bytes_max = Some(n)),
    time!("headTimeoutMs", head_timeout),
    time!("idleTimeoutMs", idle_timeout),
    time!("stallTimeoutMs", stall_timeout),
    number!("requestsPerConnection", Count, (1, COUNT_MAX), requests_per_connection_max),
    number!("connections", Count, (1, 1_000_000), connections_max),
    number!("connectionsPerSource", Count, (1, 1_000_000), connections_per_source_max),
    number!("concurrentStreams", Count, (1, 10_000), streams_max),
    number!("streamWindowBytes", Bytes, (FRAME_MIN, WINDOW_MAX), h2.stream_window_bytes),
    number!("connectionWindowBytes", Bytes, (65_535, WINDOW_MAX), h2.connection_window_bytes),
    number!("frameBytes", Bytes, (FRAME_MIN, FRAME_MAX), h2.frame_bytes_max),
    number!("headerTableBytes", Bytes, (0, 65_536), h2.header_table_bytes),
    number!("sendBufferBytes", Bytes, (FRAME_MIN, 16 << 20), h2.send_buffer_bytes_max),
    number!("headerFrames", Count, (1, 1000), h2.header_frames_max),
    number!("resets", Count, (1, COUNT_MAX), h2.resets_max),
    number!("provokedResets", Count, (1, COUNT_MAX), h2.provoked_resets_max),
    number!("controlFramesPerSecond", Count, (1, COUNT_MAX), h2.control_frames_per_second),
    number!("controlFrameBurst", Count, (10, COUNT_MAX), h2.control_frame_burst),
    number!("queuedControlFrames", Count, (10, 100_000), h2.control_frames_queued_max),
    number!("emptyFrames", Count, (1, EMPTY_FRAMES_MAX), h2.empty_frames_max),
];

/// The keys of `client.limits`.
pub const CLIENT_KEYS: &[LimitKey<ClientLimits>] = &[
    number!("headBytes", Bytes, (1024, 1 << 20), head_bytes_max),
    number!("headFields", Count, (8, FIELDS_MAX), head_fields_max),
    number!("trailerBytes", Bytes, (2, 256 << 10), trailer_bytes_max),
    number!("trailerFields", Count, (0, 200), trailer_fields_max),
    number!("chunkLineBytes", Bytes, (16, 16 << 10), chunk_line_bytes_max),
    number!("chunkExtensionBytes", Bytes, (0, 1 << 20), chunk_extension_bytes_max),
    number!("interimResponses", Count, (0, 1000), interim_responses_max),
    time!("idleTimeoutMs", idle_timeout),
    number!("idleConnections", Count, (0, 100_000), idle_connections_max),
    number!("h2Connections", Count, (1, 1000), h2_connections_max),
    time!("stallTimeoutMs", stall_timeout),
    time!("pingAfterMs", ping_after),
    key(
        "silenceTimeoutMs",
        Unit::Ms,
        (1, MS_MAX),
        |l| l.silence_timeout.map(millis),
        |l, n| l.silence_timeout = Some(Duration::from_millis(n)),
    ),
    number!("streamWindowBytes", Bytes, (FRAME_MIN, WINDOW_MAX), h2.stream_window_bytes),
    number!("connectionWindowBytes", Bytes, (65_535, WINDOW_MAX), h2.connection_window_bytes),
    number!("frameBytes", Bytes, (FRAME_MIN, FRAME_MAX), h2.frame_bytes_max),
    number!("headerTableBytes", Bytes, (0, 65_536), h2.header_table_bytes),
    number!("sendBufferBytes", Bytes, (FRAME_MIN, 16 << 20), h2.send_buffer_bytes_max),
    number!("headerFrames", Count, (1, 1000), h2.header_frames_max),
    number!("provokedResets", Count, (1, COUNT_MAX), h2.provoked_resets_max),
    number!("controlFramesPerSecond", Count, (1, COUNT_MAX), h2.control_frames_per_second),
    number!("controlFrameBurst", Count, (10, COUNT_MAX), h2.control_frame_burst),
    number!("queuedControlFrames", Count, (10, 100_000), h2.control_frames_queued_max),
    number!("emptyFrames", Count, (1, EMPTY_FRAMES_MAX), h2.empty_frames_max),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check_keys<T: Clone + PartialEq + std::fmt::Debug>(keys: &[LimitKey<T>], defaults: &[T]) {
        for key in keys {
            let (min, max) = key.range;
            assert!(min <= max, "{}", key.key);
            let suffix = match key.unit {
                Unit::Bytes => key.key.ends_with("Bytes"),
                Unit::Ms => key.key.ends_with("Ms"),
                Unit::Count => !key.key.ends_with("Bytes") && !key.key.ends_with("Ms"),
            };
            assert!(suffix, "`{}` does not end in its unit", key.key);
            for default in defaults {
                if let Some(value) = (key.get)(default) {
                    assert!((min..=max).contains(&value), "the default of `{}` is out of its range", key.key);
                }
                for value in [min, max] {
                    let mut changed = default.clone();
                    (key.set)(&mut changed, value);
                    assert_eq!((key.get)(&changed), Some(value), "`{}` keeps what is written", key.key);
                    // no two keys write the same place
                    let touched = keys.iter().filter(|key| (key.get)(&changed) != (key.get)(default)).count();
                    assert!(touched <= 1, "`{}` changes other keys", key.key);
                }
            }
        }
    }

    #[test]
    fn each_key_sets_its_own_number_over_its_whole_range() {
        check_keys(SERVER_KEYS, &[Limits::edge(), Limits::mesh()]);
        check_keys(CLIENT_KEYS, &[ClientLimits::new()]);
    }
}

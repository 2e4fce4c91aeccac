//! PURE: what a peer's HTTP/2 frames cost us beside the requests they carry, and when it is too much.
//!
//! The h2 crate bounds header lists, CONTINUATION, small DATA and streams that are reset before anybody saw them. It has no
//! rate for frames that serve nothing: a PING is answered, a SETTINGS acknowledged, a PRIORITY read, as often as they come
//! (CVE-2019-9512, CVE-2019-9513, CVE-2019-9515), and streams that are taken and then reset begin work each time
//! (CVE-2023-44487). So somebody beside h2 reads the frames' heads and keeps two accounts: one of frames, one of resets.

use std::collections::VecDeque;

use serin_config::model::H2Limits;
use serin_metrics::FLOOD_REASONS;

/// What a client sends before its first frame (RFC 9113 section 3.4).
const PREFACE_LEN: u64 = 24;
/// Octets of a frame's head (RFC 9113 section 4.1).
const HEAD_LEN: usize = 9;
/// A frame, in the unit of the account: so that a microsecond earns a whole number.
const FRAME: u64 = 1_000_000;
/// What a new stream earns: its reset, its window, and one for the connection's.
const PER_STREAM: u64 = 4 * FRAME;
/// Octets that we wrote and for which a frame is in order: a window, or the PING by which some peers measure the way. More
/// than the answer to a PING has, or a PING would pay for the next one.
const OCTETS_PER_FRAME: u64 = 64;
/// Frames of one header block that carry nothing and do not end it.
const BLOCK_EMPTY_MAX: u32 = 2;
/// Over this time resets count, in microseconds.
pub const RESETS_US: u64 = 30_000_000;
/// Octets of the answer to a PING, which is also more than that to SETTINGS.
const ANSWER_OCTETS: u64 = 17;
/// Streams of which the share of resets is looked at.
const HISTORY: usize = 200;
/// More of them reset without an answer than this, and they were not meant.
const HISTORY_RESETS_MAX: usize = HISTORY / 2;

/// What one connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE and the like that serve nothing, in each second.
    pub frames_per_second: u32,
    /// So many of them at once.
    pub frames_burst: u32,
    /// Frames of one header block.
    pub block_frames: u32,
    /// DATA frames that are empty and end nothing.
    pub empty: u32,
    /// Answers of ours that the peer has not read.
    pub unread: u32,
    /// Streams reset without an answer, in [`RESETS_US`].
    pub resets: u32,
}

impl From<&H2Limits> for Budgets {
    fn from(limits: &H2Limits) -> Self {
        Self {
            frames_per_second: limits.control_frames_per_second,
            frames_burst: limits.control_frame_burst,
            block_frames: limits.header_frames_max,
            empty: limits.empty_frames_max,
            unread: limits.control_frames_queued_max,
            resets: limits.resets_max,
        }
    }
}

/// Of what there was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flood {
    /// Frames that serve nothing.
    Frames,
    /// Frames of one header block.
    HeaderBlock,
    /// Empty DATA.
    EmptyData,
    /// Answers that the peer does not read.
    Unread,
    /// Resets in a short time.
    Resets,
    /// Resets among the last streams.
    ResetShare,
}

impl Flood {
    /// Its place among the reasons that metrics know.
    pub const fn index(self) -> usize {
        match self {
            Self::Frames => 0,
            Self::HeaderBlock => 1,
            Self::EmptyData => 2,
            Self::Unread => 3,
            Self::Resets => 4,
            Self::ResetShare => 5,
        }
    }

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        FLOOD_REASONS[self.index()]
    }
}

/// The accounts of one connection.
#[derive(Debug)]
pub struct Floods {
    budgets: Budgets,
    /// Octets to pass over: the rest of a frame, or of the preface.
    skip: u64,
    head: [u8; HEAD_LEN],
    /// Octets of `head` that are there.
    have: u8,
    /// What is left for frames that serve nothing, in parts of a frame.
    left: u64,
    /// When `left` was last filled up.
    filled_us: u64,
    /// Frames of the header block that has not ended; 0: none.
    block_frames: u32,
    block_empty: u32,
    empty: u32,
    /// Octets of answers that have not been written.
    owed: u64,
    resets: Resets,
    carried: bool,
    flood: Option<Flood>,
}

impl Floods {
    /// Of a client's connection, from its first octet.
    pub fn of_client(budgets: Budgets, now_us: u64) -> Self {
        Self { skip: PREFACE_LEN, ..Self::of_origin(budgets, now_us) }
    }

    /// Of a connection to an origin, from its first octet.
    pub fn of_origin(budgets: Budgets, now_us: u64) -> Self {
        Self {
            budgets,
            skip: 0,
            head: [0; HEAD_LEN],
            have: 0,
            left: u64::from(budgets.frames_burst) * FRAME,
            filled_us: now_us,
            block_frames: 0,
            block_empty: 0,
            empty: 0,
            owed: 0,
            resets: Resets::default(),
            carried: false,
            flood: None,
        }
    }

    /// These octets came now. Once there was too much, it stays so: nothing more is looked at.
    ///
    /// # Errors
    /// Of what there was too much.
    pub fn read(&mut self, mut octets: &[u8], now_us: u64) -> Result<(), Flood> {
        self.fill_up(now_us);
        while self.flood.is_none() && !octets.is_empty() {
            if self.skip > 0 {
                let passed = octets.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= passed as u64;
                octets = &octets[passed..];
                continue;
            }
            let have = usize::from(self.have);
            let taken = octets.len().min(HEAD_LEN - have);
            self.head[have..have + taken].copy_from_slice(&octets[..taken]);
            octets = &octets[taken..];
            if have + taken < HEAD_LEN {
                self.have = (have + taken) as u8;
                break;
            }
            self.have = 0;
            let length = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
            self.skip = u64::from(length);
            self.flood = self.frame(length, self.head[3], self.head[4]).err();
        }
        self.flood.map_or(Ok(()), Err)
    }

    /// So many octets were written to the peer: it may answer them.
    pub fn wrote(&mut self, octets: usize) {
        self.owed = self.owed.saturating_sub(octets as u64);
        self.earn((octets as u64).saturating_mul(FRAME / OCTETS_PER_FRAME));
    }

    /// A stream was answered, before or in spite of a reset.
    pub fn answered(&mut self) {
        self.resets.remember(false);
    }

    /// A stream was reset by the peer before it got an answer.
    ///
    /// # Errors
    /// That was one too many.
    pub fn reset(&mut self, now_us: u64) -> Result<(), Flood> {
        let found = self.resets.reset(&self.budgets, now_us);
        self.flood = self.flood.or(found.err());
        found
    }

    /// Of what there was too much, if there was.
    pub fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Has HEADERS or DATA come since this was last asked.
    pub fn take_carried(&mut self) -> bool {
        std::mem::take(&mut self.carried)
    }

    /// Has a header block or a frame begun that is not complete.
    pub fn is_within(&self) -> bool {
        self.is_within_block() || self.skip > 0 || self.have > 0
    }

    /// Has a header block begun whose last frame has not.
    pub fn is_within_block(&self) -> bool {
        self.block_frames > 0
    }

    fn frame(&mut self, length: u32, kind: u8, flags: u8) -> Result<(), Flood> {
        const END_HEADERS: u8 = 0x4;
        const END_STREAM: u8 = 0x1;
        const ACK: u8 = 0x1;
        self.carried |= matches!(kind, kind::DATA | kind::HEADERS);
        match kind {
            kind::DATA if length > 0 || flags & END_STREAM != 0 => Ok(()),
            kind::HEADERS | kind::PUSH_PROMISE => {
                self.block_frames = u32::from(flags & END_HEADERS == 0);
                self.block_empty = 0;
                self.earn(PER_STREAM);
                Ok(())
            }
            kind::CONTINUATION => {
                let ends = flags & END_HEADERS != 0;
                self.block_frames = self.block_frames.saturating_add(1);
                self.block_empty += u32::from(length == 0 && !ends);
                if self.block_frames > self.budgets.block_frames || self.block_empty > BLOCK_EMPTY_MAX {
                    return Err(Flood::HeaderBlock);
                }
                if ends {
                    self.block_frames = 0;
                }
                Ok(())
            }
            kind::DATA => {
                self.empty += 1;
                if self.empty > self.budgets.empty { Err(Flood::EmptyData) } else { Ok(()) }
            }
            kind::PING | kind::SETTINGS if flags & ACK == 0 => {
                self.owed += ANSWER_OCTETS;
                if self.owed > u64::from(self.budgets.unread) * ANSWER_OCTETS {
                    return Err(Flood::Unread);
                }
                self.spend()
            }
            // PRIORITY, WINDOW_UPDATE, RST_STREAM, GOAWAY, answers to PINGs, and what nobody knows
            _ => self.spend(),
        }
    }

    fn spend(&mut self) -> Result<(), Flood> {
        self.left = self.left.checked_sub(FRAME).ok_or(Flood::Frames)?;
        Ok(())
    }

    fn earn(&mut self, parts: u64) {
        self.left = self.left.saturating_add(parts).min(u64::from(self.budgets.frames_burst) * FRAME);
    }

    /// A microsecond earns a millionth of what a second does.
    fn fill_up(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.filled_us);
        self.filled_us = self.filled_us.max(now_us);
        self.earn(passed_us.saturating_mul(u64::from(self.budgets.frames_per_second)));
    }
}

/// Resets in time, and among the last streams. A connection without resets allocates nothing.
#[derive(Debug, Default)]
struct Resets {
    /// When the last ones were, oldest first; at most as many as are allowed.
    at_us: VecDeque<u64>,
    /// One bit for each of the last streams: was it reset.
    history: [u64; HISTORY.div_ceil(64)],
    next: u8,
    among: u8,
}

impl Resets {
    fn reset(&mut self, budgets: &Budgets, now_us: u64) -> Result<(), Flood> {
        self.remember(true);
        while self.at_us.front().is_some_and(|at_us| now_us.saturating_sub(*at_us) >= RESETS_US) {
            self.at_us.pop_front();
        }
        if self.at_us.len() >= budgets.resets as usize {
            return Err(Flood::Resets);
        }
        self.at_us.push_back(now_us);
        if usize::from(self.among) > HISTORY_RESETS_MAX { Err(Flood::ResetShare) } else { Ok(()) }
    }

    fn remember(&mut self, reset: bool) {
        let (word, bit) = (usize::from(self.next) / 64, 1 << (self.next % 64));
        if self.history[word] & bit != 0 {
            self.among -= 1;
        }
        self.history[word] = if reset { self.history[word] | bit } else { self.history[word] & !bit };
        self.among += u8::from(reset);
        self.next = if usize::from(self.next) + 1 == HISTORY { 0 } else { self.next + 1 };
    }
}

/// Frame types (RFC 9113 section 6) that are not merely counted.
mod kind {
    pub(super) const DATA: u8 = 0x0;
    pub(super) const HEADERS: u8 = 0x1;
    pub(super) const SETTINGS: u8 = 0x4;
    pub(super) const PUSH_PROMISE: u8 = 0x5;
    pub(super) const PING: u8 = 0x6;
    pub(super) const CONTINUATION: u8 = 0x9;
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

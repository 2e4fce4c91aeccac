//! What is written down of each decision, as one line of text that reads back exactly.
//!
//! ```text
//! 7 at=61000 phase=progressing weight=5% mirrored=0 shown=0% checks=0 rounds=0 applied=v2 promoted=v1 serving=v1
//!   paused=0 events=advance score=0.93 starts=3 won=0,0,-1.5,0,0,0 requests=250 failures=1 who=- why=- sum=9d8c4f0a7e21b365
//! ```
//!
//! (In one line.) Words of people are kept with their spaces and line ends escaped; the sum at the end tells a line that was
//! torn or changed. A rollout is brought back from its last readable line, whatever came after it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::event::Event;
use crate::guard::Capital;
use crate::policy::KINDS;
use crate::state::{Revision, State};
use crate::{Phase, Ppm, TimestampMs};

/// The longest line that is read, in bytes.
pub const LINE_BYTES_MAX: usize = 8_192;
/// Events of one entry, at most.
const EVENTS_MAX: usize = 16;

/// One decision: where the rollout stood after it, why, and with what evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Counts the entries of one rollout, from 1.
    pub sequence: u64,
    /// When.
    pub at: TimestampMs,
    /// Where the rollout stood then.
    pub state: State,
    /// Whether it was paused.
    pub paused: bool,
    /// What happened.
    pub events: Vec<Event>,
    /// The score against the canary.
    pub score: f64,
    /// The evidence, to go on with.
    pub capital: Capital,
    /// Who asked for it and why, if a person did.
    pub by: Option<(String, String)>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = Fielded(self).to_string();
        write!(f, "{line} sum={:016x}", sum(&line))
    }
}

/// An entry without its sum.
struct Fielded<'a>(&'a Entry);

impl fmt::Display for Fielded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.0;
        let state = &entry.state;
        let revision = |revision: &Option<Revision>| revision.as_ref().map_or("-".into(), |r| escape(r.as_str()));
        write!(f, "{} at={} phase={} weight={}", entry.sequence, entry.at.0, state.phase, state.weight)?;
        write!(f, " mirrored={} shown={}", u8::from(state.mirrored), state.shown_weight)?;
        write!(f, " checks={} rounds={}", state.failed_checks, state.iterations)?;
        write!(f, " applied={} promoted={}", revision(&state.applied), revision(&state.promoted))?;
        write!(f, " serving={} paused={}", revision(&state.serving), u8::from(entry.paused))?;
        let events: Vec<&str> = entry.events.iter().map(|event| event.code()).collect();
        write!(f, " events={} score={}", list(&events), entry.score)?;
        let won: Vec<String> = entry.capital.ln_won.iter().map(f64::to_string).collect();
        write!(f, " starts={} won={}", entry.capital.starts, won.join(","))?;
        write!(f, " requests={} failures={}", entry.capital.requests, entry.capital.failures)?;
        let (who, why) = entry.by.as_ref().map_or((None, None), |(who, why)| (Some(who), Some(why)));
        let words = |words: Option<&String>| words.map_or("-".into(), |words| format!("={}", escape(words)));
        write!(f, " who={} why={}", words(who), words(why))
    }
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(line: &str) -> Result<Entry, EntryError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(EntryError::TooLong);
        }
        let (line, written) = line.rsplit_once(" sum=").ok_or(EntryError::Field("sum"))?;
        if written != format!("{:016x}", sum(line)) {
            return Err(EntryError::Field("sum"));
        }
        let mut fields = Fields(line.split(' '));
        let sequence = fields.plain("sequence")?;
        let at = TimestampMs(fields.parse("at")?);
        let phase: Phase = fields.parse("phase")?;
        let weight: Ppm = fields.parse("weight")?;
        let mirrored = fields.flag("mirrored")?;
        let shown_weight: Ppm = fields.parse("shown")?;
        let failed_checks = fields.parse("checks")?;
        let iterations = fields.parse("rounds")?;
        let applied = fields.revision("applied")?;
        let promoted = fields.revision("promoted")?;
        let serving = fields.revision("serving")?;
        let paused = fields.flag("paused")?;
        let events = fields.events()?;
        let score = fields.number("score")?;
        let capital = fields.capital()?;
        let by = fields.words()?;
        let state =
            State { phase, weight, mirrored, shown_weight, failed_checks, iterations, applied, promoted, serving };
        Ok(Entry { sequence, at, state, paused, events, score, capital, by })
    }
}

/// The last entry that can be read of a journal's text, and how many lines could not be read. What was torn by a stop
/// in mid-write is at the end, and is passed over.
#[must_use]
pub fn last_entry(text: &str) -> (Option<Entry>, usize) {
    let mut unreadable = 0;
    for line in text.lines().rev().filter(|line| !line.is_empty()) {
        match line.parse() {
            Ok(entry) => return (Some(entry), unreadable),
            Err(_) => unreadable += 1,
        }
    }
    (None, unreadable)
}

/// Why a line is no entry.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EntryError {
    /// This field is missing, in the wrong place, or says nothing that can be read.
    #[error("`{0}` cannot be read")]
    Field(&'static str),
    /// Longer than any entry.
    #[error("longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
}

struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn text(&mut self, name: &'static str) -> Result<&'a str, EntryError> {
        let field = self.0.next().ok_or(EntryError::Field(name))?;
        field.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).ok_or(EntryError::Field(name))
    }

    fn plain<T: FromStr>(&mut self, name: &'static str) -> Result<T, EntryError> {
        self.0.next().and_then(|field| field.parse().ok()).ok_or(EntryError::Field(name))
    }

    fn parse<T: FromStr>(&mut self, name: &'static str) -> Result<T, EntryError> {
        self.text(name)?.parse().map_err(|_| EntryError::Field(name))
    }

    fn number(&mut self, name: &'static str) -> Result<f64, EntryError> {
        self.parse(name).and_then(|n: f64| if n.is_nan() { Err(EntryError::Field(name)) } else { Ok(n) })
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, EntryError> {
        match self.text(name)? {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(EntryError::Field(name)),
        }
    }

    fn revision(&mut self, name: &'static str) -> Result<Option<Revision>, EntryError> {
        match self.text(name)? {
            "-" => Ok(None),
            text => Ok(Some(unescape(text).and_then(|t| t.parse().ok()).ok_or(EntryError::Field(name))?)),
        }
    }

    fn events(&mut self) -> Result<Vec<Event>, EntryError> {
        let text = self.text("events")?;
        if text == "-" {
            return Ok(Vec::new());
        }
        let events: Result<Vec<Event>, ()> = text.split(',').take(EVENTS_MAX + 1).map(str::parse).collect();
        events.ok().filter(|events| events.len() <= EVENTS_MAX).ok_or(EntryError::Field("events"))
    }

    fn capital(&mut self) -> Result<Capital, EntryError> {
        let starts = self.parse("starts")?;
        let mut ln_won = [0.0; KINDS];
        let mut won = self.text("won")?.split(',');
        for slot in &mut ln_won {
            let value: Option<f64> = won.next().and_then(|text| text.parse().ok());
            *slot = value.filter(|value| !value.is_nan()).ok_or(EntryError::Field("won"))?;
        }
        if won.next().is_some() {
            return Err(EntryError::Field("won"));
        }
        Ok(Capital { starts, ln_won, requests: self.parse("requests")?, failures: self.parse("failures")? })
    }

    /// The last two fields, and nothing after them.
    fn words(&mut self) -> Result<Option<(String, String)>, EntryError> {
        let mut word = |name| match self.text(name)? {
            "-" => Ok(None),
            text => {
                let words = text.strip_prefix('=').and_then(unescape);
                words.map(Some).ok_or(EntryError::Field(name))
            }
        };
        let by = match (word("who")?, word("why")?) {
            (Some(who), Some(why)) => Some((who, why)),
            (None, None) => None,
            _ => return Err(EntryError::Field("why")),
        };
        if self.0.next().is_some() { Err(EntryError::Field("end")) } else { Ok(by) }
    }
}

/// FNV-1a over 64 bits: against torn writes and rotten bits, not against people.
fn sum(line: &str) -> u64 {
    line.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn list(words: &[&str]) -> String {
    if words.is_empty() { "-".into() } else { words.join(",") }
}

/// Text without spaces, control characters or percent signs: each byte of such a character as `%` and two digits.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char == '%' || char.is_whitespace() || char.is_control() {
            let mut bytes = [0; 4];
            for byte in char.encode_utf8(&mut bytes).bytes() {
                escaped.push_str(&format!("%{byte:02x}"));
            }
        } else {
            escaped.push(char);
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (high, low) = (rest.next()?, rest.next()?);
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(high)? * 16 + digit(low)?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;

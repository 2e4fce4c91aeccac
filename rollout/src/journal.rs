//! What is written down of each decision, as one line of text that reads back exactly.
//!
//! ```text
//! 7 at=61000 phase=progressing weight=5% mirrored=0 shown=0% checks=0 rounds=0 applied=v2 promoted=v1 serving=v1
//!   origin=v1 dry=- pace=evidence paused=0 held=- ceiling=- ended=- events=advance score=0.93 starts=3
//!   won=0,0,-1.5,0,0,0 requests=250 failures=1 who=- why=- sum=9d8c4f0a7e21b365
//! ```
//!
//! (In one line.) `ended` is the state that the last end ended, for undoing it: its values in the same order, between
//! commas. Words of people are kept with their spaces and line ends escaped; the sum at the end tells a line that was
//! torn or changed. A rollout is brought back from its last readable line, whatever came after it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::event::{Event, Hold};
use crate::guard::Capital;
use crate::policy::KINDS;
use crate::state::{Revision, State};
use crate::{PaceKind, Ppm, TimestampMs};

/// The longest line that is read, in bytes.
pub const LINE_BYTES_MAX: usize = 16_384;
/// Events of one entry, at most.
const EVENTS_MAX: usize = 16;

/// One decision: where the rollout stood after it, why, and with what evidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Counts the entries of one rollout, from 1.
    pub sequence: u64,
    /// When.
    pub at: TimestampMs,
    /// Where the rollout stood then.
    pub state: State,
    /// How it went.
    pub pace: PaceKind,
    /// Whether it was paused.
    pub paused: bool,
    /// Why the weight stayed, if it did.
    pub held: Option<Hold>,
    /// What a changed plan may not pass without a person's word.
    pub ceiling: Option<Ppm>,
    /// What the last end ended, for undoing it.
    pub ended: Option<State>,
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
        write!(f, "{} at={}", entry.sequence, entry.at.0)?;
        for (name, value) in STATE_FIELDS.iter().zip(values(state)) {
            write!(f, " {name}={value}")?;
        }
        let held = entry.held.map_or("-", |hold| Event::Hold(hold).code());
        write!(f, " pace={} paused={} held={held}", entry.pace.name(), u8::from(entry.paused))?;
        let ceiling = entry.ceiling.map_or("-".into(), |ceiling| ceiling.to_string());
        let ended = entry.ended.as_ref().map_or("-".into(), |ended| values(ended).join(","));
        write!(f, " ceiling={ceiling} ended={ended}")?;
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
        let mut values = [""; STATE_FIELDS.len()];
        for (value, name) in values.iter_mut().zip(STATE_FIELDS) {
            *value = fields.text(name)?;
        }
        let state = state_of(values)?;
        let pace = fields.pace()?;
        let paused = fields.flag("paused")?;
        let held = fields.held()?;
        let ceiling = fields.optional("ceiling", |text| text.parse().ok())?;
        let ended = fields.optional("ended", |text| {
            let values: Vec<&str> = text.split(',').take(STATE_FIELDS.len() + 1).collect();
            values.try_into().ok().and_then(|values| state_of(values).ok())
        })?;
        let events = fields.events()?;
        let score = fields.number("score")?;
        let capital = fields.capital()?;
        let by = fields.words()?;
        Ok(Entry { sequence, at, state, pace, paused, held, ceiling, ended, events, score, capital, by })
    }
}

/// The fields of a state, in their order.
const STATE_FIELDS: [&str; 11] =
    ["phase", "weight", "mirrored", "shown", "checks", "rounds", "applied", "promoted", "serving", "origin", "dry"];

/// Their values, none of which has a space or a comma.
fn values(state: &State) -> [String; STATE_FIELDS.len()] {
    let revision = |revision: &Option<Revision>| revision.as_ref().map_or("-".into(), |r| escape(r.as_str()));
    [
        state.phase.to_string(),
        state.weight.to_string(),
        u8::from(state.mirrored).to_string(),
        state.shown_weight.to_string(),
        state.failed_checks.to_string(),
        state.iterations.to_string(),
        revision(&state.applied),
        revision(&state.promoted),
        revision(&state.serving),
        revision(&state.origin),
        state.dry.map_or("-".into(), |dry| dry.to_string()),
    ]
}

fn state_of(values: [&str; STATE_FIELDS.len()]) -> Result<State, EntryError> {
    let mut fields = STATE_FIELDS.into_iter().zip(values);
    let mut next = || fields.next().unwrap_or_default();
    Ok(State {
        phase: read(next())?,
        weight: read(next())?,
        mirrored: flag(next())?,
        shown_weight: read(next())?,
        failed_checks: read(next())?,
        iterations: read(next())?,
        applied: revision(next())?,
        promoted: revision(next())?,
        serving: revision(next())?,
        origin: revision(next())?,
        dry: match next() {
            (_, "-") => None,
            field => Some(read(field)?),
        },
    })
}

/// A field by its name, and its text.
type Field<'a> = (&'static str, &'a str);

fn read<T: FromStr>((name, text): Field<'_>) -> Result<T, EntryError> {
    text.parse().map_err(|_| EntryError::Field(name))
}

fn flag((name, text): Field<'_>) -> Result<bool, EntryError> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(EntryError::Field(name)),
    }
}

fn revision((name, text): Field<'_>) -> Result<Option<Revision>, EntryError> {
    match text {
        "-" => Ok(None),
        text => Ok(Some(unescape(text).and_then(|t| t.parse().ok()).ok_or(EntryError::Field(name))?)),
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
        read((name, self.text(name)?))
    }

    fn number(&mut self, name: &'static str) -> Result<f64, EntryError> {
        self.parse(name).and_then(|n: f64| if n.is_nan() { Err(EntryError::Field(name)) } else { Ok(n) })
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, EntryError> {
        flag((name, self.text(name)?))
    }

    /// A value, or `-` for none.
    fn optional<T>(&mut self, name: &'static str, of: impl Fn(&str) -> Option<T>) -> Result<Option<T>, EntryError> {
        match self.text(name)? {
            "-" => Ok(None),
            text => of(text).map(Some).ok_or(EntryError::Field(name)),
        }
    }

    fn pace(&mut self) -> Result<PaceKind, EntryError> {
        let text = self.text("pace")?;
        let known = [PaceKind::Evidence, PaceKind::Interval].into_iter().find(|kind| kind.name() == text);
        known.ok_or(EntryError::Field("pace"))
    }

    fn held(&mut self) -> Result<Option<Hold>, EntryError> {
        let hold = |text: &str| if let Ok(Event::Hold(hold)) = text.parse() { Some(hold) } else { None };
        self.optional("held", hold)
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

/// Text without spaces, control characters, commas or percent signs: each byte of such a character as `%` and two digits.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char == '%' || char == ',' || char.is_whitespace() || char.is_control() {
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

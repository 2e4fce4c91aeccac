//! What binding did, step by step, for people to read.

use std::fmt;

use super::{Layer, Match, Path};

/// The steps of one binding, in the order they were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// At most [`Trace::STEPS_MAX`].
    pub steps: Vec<Step>,
    /// There were more.
    pub truncated: bool,
}

/// A name was looked up and something came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Lookups before this one on the way to it.
    pub depth: u16,
    /// What was looked up, printed.
    pub path: String,
    /// The dentry that answered; `None` if a namer did, or nobody.
    pub dentry: Option<UsedDentry>,
    /// What came out, printed: a tree, or what the namer said.
    pub outcome: String,
}

/// The dentry of a [`Step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedDentry {
    /// Which dtab it is in.
    pub layer: Layer,
    /// Its place there, from 0.
    pub position: usize,
    /// Its prefix, printed.
    pub prefix: String,
    /// Its destination, printed.
    pub destination: String,
}

impl Trace {
    /// Steps kept.
    pub const STEPS_MAX: usize = 1000;
    /// Printed names and trees are cut to so many bytes.
    pub const TEXT_BYTES_MAX: usize = 400;

    pub(super) fn dentry(&mut self, depth: u16, path: &Path, found: &Match<'_>) {
        self.push(|| Step {
            depth,
            path: cut(path),
            dentry: Some(UsedDentry {
                layer: found.layer,
                position: found.position,
                prefix: cut(&found.dentry.prefix),
                destination: cut(&found.dentry.destination),
            }),
            outcome: cut(found.dentry.apply(path)),
        });
    }

    pub(super) fn namer(&mut self, depth: u16, path: &Path, outcome: &str) {
        self.push(|| Step { depth, path: cut(path), dentry: None, outcome: cut(outcome) });
    }

    fn push(&mut self, step: impl FnOnce() -> Step) {
        if self.steps.len() < Trace::STEPS_MAX {
            self.steps.push(step());
        } else {
            self.truncated = true;
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dentry {
            Some(used) => write!(f, "{}  by {}  {} => {}", self.path, used.layer, used.prefix, used.destination)?,
            None => f.write_str(&self.path)?,
        }
        write!(f, "  is  {}", self.outcome)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Base => f.write_str("the router's dtab"),
            Layer::Sent(index) => write!(f, "request dtab {}", index + 1),
            Layer::Written(index) => write!(f, "rule dtab {}", index + 1),
        }
    }
}

/// Printed, and cut to [`Trace::TEXT_BYTES_MAX`] with `…` behind.
pub(super) fn cut(value: impl fmt::Display) -> String {
    let mut kept = Bounded { text: String::new() };
    // The only error is that the text is full.
    if fmt::write(&mut kept, format_args!("{value}")).is_err() {
        kept.text.push('…');
    }
    kept.text
}

struct Bounded {
    text: String,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = Trace::TEXT_BYTES_MAX - self.text.len();
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        let end = (0..=room).rev().find(|&at| part.is_char_boundary(at)).unwrap_or(0);
        self.text.push_str(&part[..end]);
        Err(fmt::Error)
    }
}

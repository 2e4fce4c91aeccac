//! PURE: the namespaces there are, and what a change makes of them.
//!
//! A change is planned against what is there, done on the disk, and only then committed: a plan that could not be done
//! has changed nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serin_config::dtab::Dtab;
use serin_config::model::{NAMESPACE_BYTES_MAX, is_namespace};

use super::version::Version;

/// Namespaces there can be.
pub const NAMESPACES_MAX: usize = 1_000;
/// The longest dtab, in bytes of the text that is kept.
pub const DTAB_BYTES_MAX: usize = 1 << 20;
/// All dtabs together, in bytes of the text that is kept.
pub const TOTAL_BYTES_MAX: usize = 32 << 20;

/// A dtab that may be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    dtab: Arc<Dtab>,
    text: Arc<str>,
}

impl Draft {
    /// # Errors
    /// Its text is longer than [`DTAB_BYTES_MAX`].
    pub fn new(dtab: Dtab) -> Result<Self, Refused> {
        let mut text = String::new();
        for dentry in &dtab.0 {
            text.push_str(&format!("{dentry};\n"));
            if text.len() > DTAB_BYTES_MAX {
                return Err(Refused::TooLarge);
            }
        }
        Ok(Self { dtab: Arc::new(dtab), text: text.into() })
    }

    /// The dtab.
    pub fn dtab(&self) -> &Arc<Dtab> {
        &self.dtab
    }

    /// What is kept: a dentry on each line.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A stored dtab.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Changes with each write.
    pub version: Version,
    /// What is stored.
    pub draft: Draft,
}

/// What a namespace holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A dtab.
    Readable(Stored),
    /// Something that nobody can read. It binds like an empty dtab until it is written anew or deleted.
    Unreadable {
        /// Why.
        why: Arc<str>,
        /// No version up to this number may be used again.
        up_to: u64,
    },
}

impl Content {
    fn number(&self) -> u64 {
        match self {
            Self::Readable(stored) => stored.version.get(),
            Self::Unreadable { up_to, .. } => *up_to,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Readable(stored) => stored.draft.text().len(),
            Self::Unreadable { .. } => 0,
        }
    }
}

/// What somebody wants of one namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It shall be new.
    Create(Draft),
    /// It shall be this, new or not.
    Put(Draft),
    /// It shall be this, if it is still of that version. `None`: a text that is no version, which nothing is of.
    Replace(Draft, Option<Version>),
    /// It shall be gone.
    Delete,
    /// It shall be gone, if it is still of that version. `None`: as in [`Change::Replace`].
    Remove(Option<Version>),
}

/// Why a change is not made. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is there already.
    #[error("the namespace exists already")]
    Exists,
    /// It is not there.
    #[error("there is no such namespace")]
    Unknown,
    /// Somebody else was faster.
    #[error("the version is not the one in force{}", .0.map_or_else(String::new, |version| format!(", which is {version}")))]
    Stale(Option<Version>),
    /// It could not be the name of a file.
    #[error(
        "a namespace is named by 1 to {NAMESPACE_BYTES_MAX} letters, digits, `-`, `_` and `.`, the first one no `.`"
    )]
    Name,
    /// The dtab is too long.
    #[error("the dtab is longer than {DTAB_BYTES_MAX} bytes")]
    TooLarge,
    /// There are as many as there can be.
    #[error("there are {NAMESPACES_MAX} namespaces already: delete one first")]
    TooMany,
    /// All dtabs together are too long.
    #[error("all stored dtabs together would be longer than {TOTAL_BYTES_MAX} bytes: delete one first")]
    TooMuch,
}

/// What is to be done on the disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write this.
    Write(Stored),
    /// Take it away, having noted that no version up to this number may be used again.
    Remove {
        /// The number.
        retired: u64,
    },
}

/// All namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespaces {
    contents: BTreeMap<Arc<str>, Content>,
    /// Versions of namespaces that are gone: a new one of that name begins behind them.
    retired: u64,
    bytes: usize,
}

impl Namespaces {
    /// What was found at the start.
    pub fn new(contents: BTreeMap<Arc<str>, Content>, retired: u64) -> Self {
        let bytes = contents.values().map(Content::bytes).sum();
        Self { contents, retired, bytes }
    }

    /// Versions up to here are used up by namespaces that are gone.
    pub fn retired(&self) -> u64 {
        self.retired
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.contents.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.contents.keys()
    }

    /// What one holds.
    pub fn get(&self, name: &str) -> Option<&Content> {
        self.contents.get(name)
    }

    /// The dtab that routing sees: `None` binds like an empty one.
    pub fn dtab(&self, name: &str) -> Option<&Arc<Dtab>> {
        match self.contents.get(name)? {
            Content::Readable(stored) => Some(stored.draft.dtab()),
            Content::Unreadable { .. } => None,
        }
    }

    /// Those that cannot be read, and why.
    pub fn unreadable(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.contents.iter().filter_map(|(name, content)| match content {
            Content::Unreadable { why, .. } => Some((name, why)),
            Content::Readable(_) => None,
        })
    }

    /// What a change would do.
    ///
    /// # Errors
    /// Why it may not be done.
    pub fn plan(&self, name: &str, change: &Change) -> Result<Effect, Refused> {
        if !is_namespace(name) {
            return Err(Refused::Name);
        }
        let now = self.contents.get(name);
        let draft = match (change, now) {
            (Change::Delete | Change::Remove(_) | Change::Replace(..), None) => return Err(Refused::Unknown),
            (Change::Create(_), Some(_)) => return Err(Refused::Exists),
            (Change::Replace(_, asked) | Change::Remove(asked), Some(content)) if !is(content, *asked) => {
                return Err(Refused::Stale(version(content)));
            }
            (Change::Delete | Change::Remove(_), Some(content)) => {
                return Ok(Effect::Remove { retired: self.retired.max(content.number()) });
            }
            (Change::Create(draft) | Change::Put(draft) | Change::Replace(draft, _), _) => draft,
        };
        if now.is_none() && self.contents.len() >= NAMESPACES_MAX {
            return Err(Refused::TooMany);
        }
        if self.bytes - now.map_or(0, Content::bytes) + draft.text().len() > TOTAL_BYTES_MAX {
            return Err(Refused::TooMuch);
        }
        let version = Version::after(now.map_or(self.retired, Content::number));
        Ok(Effect::Write(Stored { version, draft: draft.clone() }))
    }

    /// What was planned has been done.
    pub fn commit(&mut self, name: &str, effect: &Effect) {
        let gone = match effect {
            Effect::Write(stored) => {
                self.bytes += stored.draft.text().len();
                self.contents.insert(name.into(), Content::Readable(stored.clone()))
            }
            Effect::Remove { retired } => {
                self.retired = *retired;
                self.contents.remove(name)
            }
        };
        self.bytes -= gone.as_ref().map_or(0, Content::bytes);
    }
}

fn is(content: &Content, asked: Option<Version>) -> bool {
    asked.is_some() && version(content) == asked
}

fn version(content: &Content) -> Option<Version> {
    match content {
        Content::Readable(stored) => Some(stored.version),
        Content::Unreadable { .. } => None,
    }
}

#[cfg(test)]
mod tests;

//! PURE: how a request comes to an arm of a split: by chance, by a key of its user, or by what it is like.
//!
//! | the split says | the draw is | as evidence |
//! |---|---|---|
//! | rules of A/B | the lowest for who matches, the highest for all others | none: the arms see different users |
//! | `stickiness`, and the request has the key | a hash of the key | one user |
//! | session affinity, and the request has the cookie | a hash of its value | one user |
//! | session affinity, no cookie, both arms have a share | a hash of the value that is issued now | one user |
//! | anything else | random | one request |
//!
//! The first branch of a split gets the low draws. So a hashed user whose draw is below the canary's share stays below
//! it when the share rises: raising it only ever moves users from the primary to the canary.

use http::{HeaderMap, HeaderValue};
use serin_config::dtab::{Draws, SplitId, Weight};
use serin_config::model::{Affinity, MatchRule, Strategy};

use crate::router::{self, Parts, PeerKey};
use crate::snapshot::SplitInfo;
use crate::sticky;

/// Octets of a cookie's value that names a session. A longer one is none: who brings it gets another.
pub const SESSION_MAX: usize = 256;
/// Cookies issued with one response: as many as there are draws of it that are remembered.
pub const COOKIES_MAX: usize = Draws::MAX;

/// What draws look at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request.
    pub parts: Parts<'a>,
    /// Who sent it.
    pub peer: &'a PeerKey,
    /// It is the copy of another request: it takes part in nothing.
    pub copied: bool,
}

/// A draw of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where it falls among the branches: the first ones get the low draws.
    pub draw: u64,
    /// How it came about.
    pub basis: Basis,
}

/// How a draw came about: what its outcome may be evidence of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// At random, for this request alone.
    #[default]
    Chance,
    /// By what the request is like, or for the copy of another: comparing the arms by it would say nothing.
    Apart,
    /// At random for a user, by this hash of the user's key. All requests of the user are one draw.
    Session(u64),
}

/// How each split of one request was drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bases([Option<(SplitId, Basis)>; Draws::MAX]);

impl Bases {
    /// Remembers one; of those beyond the first [`Draws::MAX`] nobody asks.
    pub fn note(&mut self, split: SplitId, basis: Basis) {
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some((split, basis));
        }
    }

    /// How this split was drawn.
    pub fn of(&self, split: SplitId) -> Basis {
        self.0.iter().flatten().find(|(known, _)| *known == split).map_or(Basis::Chance, |(_, basis)| *basis)
    }
}

/// The session of a user who brought none: 128 random bits in hexadecimal digits, and the cookies that tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    value: [u8; 32],
    cookies: Vec<HeaderValue>,
}

impl Session {
    /// A session named by these bits.
    pub fn new(bits: [u64; 2]) -> Self {
        let mut value = [0; 32];
        let digits = bits.iter().flat_map(|word| (0..16).rev().map(move |at| (word >> (4 * at)) & 0xf));
        for (octet, digit) in value.iter_mut().zip(digits) {
            *octet = b"0123456789abcdef"[digit as usize];
        }
        Self { value, cookies: Vec::new() }
    }

    /// The draws begin anew, as they do when a name had to be waited for: the name stays.
    pub fn restart(&mut self) {
        self.cookies.clear();
    }

    /// Lines for `Set-Cookie`, at most [`COOKIES_MAX`].
    pub fn cookies(&self) -> &[HeaderValue] {
        &self.cookies
    }

    fn issue(&mut self, affinity: &Affinity) {
        let mut line = Vec::with_capacity(affinity.cookie.len() + affinity.attributes.len() + 33);
        line.extend_from_slice(affinity.cookie.as_bytes());
        line.push(b'=');
        line.extend_from_slice(&self.value);
        line.extend_from_slice(affinity.attributes.as_bytes());
        if self.cookies.len() < COOKIES_MAX
            && let Ok(line) = HeaderValue::from_maybe_shared(bytes::Bytes::from(line))
        {
            self.cookies.push(line);
        }
    }
}

/// Draws for one split.
///
/// `weights` are those in force, by branch. `random` gives the bits of a draw by chance, `session` those that name a
/// user who has no name yet; it is asked once for each request.
pub fn choose(
    info: &SplitInfo,
    weights: &[Weight],
    asked: &Asked<'_>,
    session: &mut Option<Box<Session>>,
    bits: &dyn Fn() -> [u64; 2],
    random: &mut dyn FnMut() -> u64,
) -> Chosen {
    let rollout = info.rollout.as_deref();
    if let Some(Strategy::Match(rules)) = rollout.map(|rollout| &rollout.strategy) {
        let matched = rules.iter().any(|rule| matches(rule, asked));
        return Chosen { draw: if matched { 0 } else { u64::MAX }, basis: Basis::Apart };
    }
    // a copy takes part in nothing: drawn like any other, and no evidence
    let basis = if asked.copied { Basis::Apart } else { Basis::Chance };
    let by = |key: &[u8]| {
        let draw = sticky::draw(info.name.as_bytes(), key);
        Chosen { draw, basis: if asked.copied { basis } else { Basis::Session(draw) } }
    };
    let headers = asked.parts.headers;
    if let Some(key) = info.sticky.as_ref().and_then(|key| router::sticky_key(key, headers, asked.peer)) {
        return by(key);
    }
    let Some(affinity) = rollout.and_then(|rollout| rollout.affinity.as_ref()) else {
        return Chosen { draw: random(), basis };
    };
    if let Some(key) = session_of(affinity, headers) {
        return by(key);
    }
    if asked.copied || !is_shared(weights) {
        return Chosen { draw: random(), basis };
    }
    let session = session.get_or_insert_with(|| Box::new(Session::new(bits())));
    session.issue(affinity);
    by(&session.value)
}

/// The session that a request tells of.
fn session_of<'a>(affinity: &Affinity, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    router::cookie(headers, &affinity.cookie).filter(|value| (1..=SESSION_MAX).contains(&value.len()))
}

/// Do at least two branches have a share: only then there is anything to stay at.
fn is_shared(weights: &[Weight]) -> bool {
    weights.iter().filter(|weight| !weight.is_zero()).count() > 1
}

/// Do all conditions of this rule hold.
fn matches(rule: &MatchRule, asked: &Asked<'_>) -> bool {
    router::matches(&rule.when, &asked.parts)
        && rule.headers.iter().all(|(name, wanted)| router::has_field(&asked.parts, name, wanted))
        && rule.query.iter().all(|(name, wanted)| router::has_parameter(&asked.parts, name, wanted))
}

#[cfg(test)]
mod tests;

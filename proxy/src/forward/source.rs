//! A request body that can be sent once more as long as nothing of it is lost.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use serin_metrics::Shard;

use crate::body::{Body, BodyError, Piece};

/// A first piece larger than this is not kept for a replay.
const KEPT_MAX: usize = 64 << 10;
/// Octets of requests that one worker copies for retries, all requests together.
const RETRY_BYTES_MAX: usize = 64 << 20;
/// The least that a copy begins with.
const COPY_MIN: usize = 4 << 10;
/// What a trailer field takes besides its octets.
const FIELD_BYTES: usize = 64;

/// A request body with what was taken of it. Most bodies that are worth a replay are one piece: keeping it is one more
/// reference to octets that are there anyway. Where a classifier may ask for a retry, further pieces are copied behind it:
/// a piece is a part of a block that is read for many, and an octet kept by reference would keep a whole block.
#[derive(Debug)]
pub(crate) struct Source {
    body: Body,
    kept: Kept,
    state: State,
    /// Where more than one piece may be kept.
    room: Option<Room>,
}

#[derive(Debug, Default)]
enum Kept {
    #[default]
    Nothing,
    Piece(Bytes),
    Copy(Box<Copy>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was taken yet.
    Fresh,
    /// All that was taken is kept.
    Taken,
    /// The kept octets are to be given out again, and what stands behind them.
    Octets,
    /// Only the kept trailers are.
    Trailers,
    /// More was taken than is kept.
    Spent,
}

/// All that was taken, copied.
#[derive(Debug)]
struct Copy {
    growing: Vec<u8>,
    /// The same as shared octets, once it is whole.
    whole: Bytes,
    trailers: Option<HeaderMap>,
    /// What it has of the worker's room.
    taken: usize,
    room: Rc<RetryRoom>,
}

/// How much of one body may be kept, and where it is accounted for.
#[derive(Debug)]
struct Room {
    octets_max: usize,
    of: Rc<RetryRoom>,
}

/// What one worker holds of requests for retries: 64 MiB at most.
#[derive(Debug)]
pub struct RetryRoom {
    taken: Cell<usize>,
    shard: Arc<Shard>,
}

impl RetryRoom {
    /// An empty one, which counts there what it refuses.
    pub fn new(shard: &Arc<Shard>) -> Self {
        Self { taken: Cell::new(0), shard: Arc::clone(shard) }
    }

    fn take(&self, octets: usize) -> bool {
        let taken = self.taken.get().saturating_add(octets);
        let fits = taken <= RETRY_BYTES_MAX;
        if fits {
            self.taken.set(taken);
        }
        fits
    }

    /// A request is longer than its service keeps.
    fn too_long(&self) {
        self.shard.worker().unheld_too_long.inc();
    }
}

impl Source {
    /// Nothing taken yet.
    pub(crate) fn new(body: Body) -> Self {
        Self { body, kept: Kept::Nothing, state: State::Fresh, room: None }
    }

    /// Keeps up to so many octets for a retry, if there is room for them. `announced`: how many will come.
    pub(crate) fn hold(&mut self, room: &Rc<RetryRoom>, octets_max: usize, announced: Option<u64>) {
        if announced.is_some_and(|length| length > octets_max as u64) {
            return room.too_long();
        }
        self.room = Some(Room { octets_max, of: Rc::clone(room) });
    }

    /// What is still to be given out, for an answer that has begun: there is no retry any more. Nothing is left here.
    pub(crate) fn take_rest(&mut self) -> Self {
        let mut rest = std::mem::replace(self, Self { state: State::Spent, ..Self::new(Body::default()) });
        if !rest.is_replaying() {
            rest.forget();
        }
        rest
    }

    /// Nothing was taken of it, or there was nothing.
    pub(crate) fn is_untouched(&self) -> bool {
        self.state == State::Fresh
    }

    /// Can it be sent again, of so many octets at most.
    pub(crate) fn is_held(&self, octets_max: usize) -> bool {
        match self.state {
            State::Fresh => true,
            State::Taken => self.body.is_end() && self.kept.len() <= octets_max,
            State::Octets | State::Trailers => self.kept.len() <= octets_max,
            State::Spent => false,
        }
    }

    /// Nothing more comes.
    pub(crate) fn is_end(&self) -> bool {
        !self.is_replaying() && self.body.is_end()
    }

    /// Octets still to come, if known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.state {
            State::Octets => self.kept.trailers().is_none().then(|| self.kept.len() as u64),
            _ => self.body.length(),
        }
    }

    /// All of it, if it came in one piece that is still held.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        match &self.kept {
            Kept::Piece(kept) => Some(kept.clone()).filter(|_| self.is_replaying() || self.body.is_end()),
            Kept::Nothing | Kept::Copy(_) => None,
        }
    }

    /// Goes back to the start. `false`: something is lost or has not come yet, and the body cannot be sent again.
    pub(crate) fn rewind(&mut self) -> bool {
        match self.state {
            State::Fresh | State::Octets => true,
            State::Taken | State::Trailers if self.body.is_end() => {
                self.kept.freeze();
                self.state = State::Octets;
                true
            }
            State::Taken | State::Trailers | State::Spent => false,
        }
    }

    /// The next piece.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        if let Some(again) = self.again() {
            return Poll::Ready(Some(Ok(again)));
        }
        let piece = ready!(self.body.poll_piece(cx));
        match &piece {
            Some(Ok(piece)) => self.keep(piece),
            Some(Err(_)) => self.forget(),
            None => {}
        }
        Poll::Ready(piece)
    }

    fn is_replaying(&self) -> bool {
        matches!(self.state, State::Octets | State::Trailers)
    }

    /// A piece that was given out before. It is still kept: another replay is possible.
    fn again(&mut self) -> Option<Piece> {
        if self.state == State::Octets {
            self.state = if self.kept.trailers().is_some() { State::Trailers } else { State::Taken };
            let octets = self.kept.octets();
            if !octets.is_empty() {
                return Some(Piece::Data(octets));
            }
        }
        if self.state == State::Trailers {
            self.state = State::Taken;
            return self.kept.trailers().cloned().map(Piece::Trailers);
        }
        None
    }

    fn keep(&mut self, piece: &Piece) {
        if self.state == State::Spent {
            return;
        }
        let first = self.state == State::Fresh;
        self.state = State::Taken;
        if self.room.as_ref().is_some_and(|room| self.kept.len() + weight(piece) > room.octets_max) {
            self.room.take().iter().for_each(|room| room.of.too_long());
        }
        let kept = match piece {
            Piece::Data(data) if first && data.len() <= KEPT_MAX => {
                self.kept = Kept::Piece(data.clone());
                true
            }
            _ => self.room.as_ref().is_some_and(|room| self.kept.add(piece, room)),
        };
        if !kept {
            self.forget();
        }
    }

    fn forget(&mut self) {
        (self.kept, self.room, self.state) = (Kept::Nothing, None, State::Spent);
    }
}

/// What keeping a piece costs.
fn weight(piece: &Piece) -> usize {
    match piece {
        Piece::Data(data) => data.len(),
        Piece::Trailers(fields) => {
            fields.iter().map(|(name, value)| FIELD_BYTES + name.as_str().len() + value.len()).sum()
        }
    }
}

impl Kept {
    /// Octets, without trailers.
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Piece(kept) => kept.len(),
            Self::Copy(copy) => copy.growing.len().max(copy.whole.len()),
        }
    }

    fn octets(&self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::Piece(kept) => kept.clone(),
            Self::Copy(copy) => copy.whole.clone(),
        }
    }

    fn trailers(&self) -> Option<&HeaderMap> {
        match self {
            Self::Copy(copy) => copy.trailers.as_ref(),
            Self::Nothing | Self::Piece(_) => None,
        }
    }

    /// Nothing more is added.
    fn freeze(&mut self) {
        if let Self::Copy(copy) = self
            && copy.whole.is_empty()
        {
            copy.whole = std::mem::take(&mut copy.growing).into();
        }
    }

    /// `false`: there is no room for it, and what is kept is of no use.
    fn add(&mut self, piece: &Piece, room: &Room) -> bool {
        let mut copy = match std::mem::take(self) {
            Self::Copy(copy) => copy,
            Self::Nothing => Box::new(Copy::new(&room.of)),
            Self::Piece(first) => {
                let mut copy = Box::new(Copy::new(&room.of));
                if !copy.add(&Piece::Data(first), room) {
                    return false;
                }
                copy
            }
        };
        let added = copy.add(piece, room);
        *self = Self::Copy(copy);
        added
    }
}

impl Copy {
    fn new(room: &Rc<RetryRoom>) -> Self {
        Self { growing: Vec::new(), whole: Bytes::new(), trailers: None, taken: 0, room: Rc::clone(room) }
    }

    fn add(&mut self, piece: &Piece, room: &Room) -> bool {
        let grown = match piece {
            Piece::Data(data) => self.grown(data.len(), room.octets_max),
            Piece::Trailers(_) => weight(piece),
        };
        if !self.room.take(grown) {
            room.of.shard.worker().unheld_no_room.inc();
            return false;
        }
        self.taken += grown;
        match piece {
            Piece::Data(data) => {
                self.growing.reserve_exact(self.growing.capacity() + grown - self.growing.len());
                self.growing.extend_from_slice(data);
            }
            Piece::Trailers(fields) => self.trailers = Some(fields.clone()),
        }
        true
    }

    /// By how much the memory grows for so many more octets: to twice of what it was, so that a body in many pieces is
    /// copied a few times only.
    fn grown(&self, more: usize, octets_max: usize) -> usize {
        let (has, wants) = (self.growing.capacity(), self.growing.len() + more);
        if wants <= has {
            return 0;
        }
        (2 * has).max(COPY_MIN).min(octets_max).max(wants) - has
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.room.taken.set(self.room.taken.get().saturating_sub(self.taken));
    }
}

#[cfg(test)]
mod tests;

//! A request body that can be sent once more as long as nothing of it is lost.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::body::{Body, BodyError, Piece};

/// A first piece larger than this is not kept for a replay.
const KEPT_MAX: usize = 64 << 10;

/// A request body with its first piece kept. Most bodies that are worth a replay are one piece: keeping it is one more
/// reference to octets that are there anyway.
#[derive(Debug)]
pub(crate) struct Source {
    body: Body,
    kept: Option<Bytes>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was taken yet.
    Fresh,
    /// One piece was taken, and is kept.
    OnePiece,
    /// The kept piece is to be given out again, and it is all there is.
    Replaying,
    /// More was taken than is kept.
    Spent,
}

impl Source {
    /// Nothing taken yet.
    pub(crate) fn new(body: Body) -> Self {
        Self { body, kept: None, state: State::Fresh }
    }

    /// What is left of a source that another has taken over.
    pub(crate) fn spent() -> Self {
        Self { body: Body::default(), kept: None, state: State::Spent }
    }

    /// Nothing was taken of it, or there was nothing.
    pub(crate) fn is_untouched(&self) -> bool {
        self.state == State::Fresh
    }

    /// Can it be sent again, of so many octets at most.
    pub(crate) fn is_held(&self, octets_max: usize) -> bool {
        match self.state {
            State::Fresh => true,
            State::OnePiece => self.body.is_end() && self.kept_len() <= octets_max,
            State::Replaying => self.kept_len() <= octets_max,
            State::Spent => false,
        }
    }

    fn kept_len(&self) -> usize {
        self.kept.as_ref().map_or(0, Bytes::len)
    }

    /// Nothing more comes.
    pub(crate) fn is_end(&self) -> bool {
        self.state != State::Replaying && self.body.is_end()
    }

    /// Octets still to come, if known.
    pub(crate) fn length(&self) -> Option<u64> {
        match (self.state, &self.kept) {
            (State::Replaying, Some(kept)) => Some(kept.len() as u64),
            _ => self.body.length(),
        }
    }

    /// All of it, if it came in one piece that is still held.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        self.kept.clone().filter(|_| self.state == State::Replaying || self.body.is_end())
    }

    /// Goes back to the start. `false`: something is lost, and the body cannot be sent again.
    pub(crate) fn rewind(&mut self) -> bool {
        match self.state {
            State::Fresh | State::Replaying => true,
            State::OnePiece if self.body.is_end() => {
                self.state = State::Replaying;
                true
            }
            State::OnePiece | State::Spent => false,
        }
    }

    /// The next piece.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        if self.state == State::Replaying {
            // still kept: a second replay is possible
            self.state = State::OnePiece;
            return Poll::Ready(self.kept.clone().map(|kept| Ok(Piece::Data(kept))));
        }
        let piece = ready!(self.body.poll_piece(cx));
        if let Some(piece) = &piece {
            self.state = match (self.state, piece) {
                (State::Fresh, Ok(Piece::Data(data))) if data.len() <= KEPT_MAX => {
                    self.kept = Some(data.clone());
                    State::OnePiece
                }
                _ => {
                    self.kept = None;
                    State::Spent
                }
            };
        }
        Poll::Ready(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn next(source: &mut Source) -> Option<Bytes> {
        match source.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(Piece::Data(data)))) => Some(data),
            _ => None,
        }
    }

    #[test]
    fn a_body_of_one_piece_can_be_sent_again_and_again() {
        let mut source = Source::new(Body::full("hello"));
        for _ in 0..3 {
            assert_eq!(source.length(), Some(5));
            assert_eq!(next(&mut source).as_deref(), Some(b"hello".as_slice()));
            assert_eq!(source.whole().as_deref(), Some(b"hello".as_slice()));
            assert!(source.is_end() && source.rewind());
        }
    }

    #[test]
    fn a_large_piece_is_not_kept() {
        let mut source = Source::new(Body::full(vec![0; KEPT_MAX + 1]));
        assert!(source.rewind());
        assert!(next(&mut source).is_some());
        assert!(!source.rewind() && source.whole().is_none());
    }

    #[test]
    fn only_what_fits_is_held_for_a_retry() {
        let mut source = Source::new(Body::full("hello"));
        assert!(source.is_untouched() && source.is_held(0));
        assert!(next(&mut source).is_some());
        assert!(!source.is_untouched() && source.is_held(5) && !source.is_held(4));
        assert!(source.rewind() && source.is_held(5) && !source.is_held(4));
        let mut gone = Source::spent();
        assert!(!gone.is_held(usize::MAX) && !gone.rewind());
    }

    #[test]
    fn no_body_is_always_replayable() {
        let mut source = Source::new(Body::default());
        assert!(source.is_end() && source.rewind() && next(&mut source).is_none() && source.rewind());
    }
}

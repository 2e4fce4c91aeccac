//! The layers of the stack, outermost first. Each is a tower service with a named future; none allocates.

pub mod admit;
pub mod deadline;
pub mod hygiene;
pub mod observe;
pub mod respond;
pub mod route;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::error::ProxyError;

pin_project! {
    /// Either an answer that is known already, or the inner future.
    #[derive(Debug)]
    pub struct Early<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Refused { error: Option<ProxyError> },
        Inner { #[pin] future: F },
    }
}

impl<F> Early<F> {
    /// Refused before anything inside was called.
    pub fn refused(error: ProxyError) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }

    /// Goes on inside.
    pub fn inner(future: F) -> Self {
        Self { state: State::Inner { future } }
    }
}

impl<T, F: Future<Output = Result<T, ProxyError>>> Future for Early<F> {
    type Output = Result<T, ProxyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Refused { error } => Poll::Ready(Err(error.take().unwrap_or(ProxyError::Cancelled))),
            StateProjection::Inner { future } => future.poll(cx),
        }
    }
}

//! The layers of the stack, outermost first. Each is a tower service with a named future; none allocates.

pub mod admit;
pub mod deadline;
pub mod diagnosis;
pub mod hygiene;
pub mod observe;
pub mod respond;
pub mod route;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::error::ProxyError;

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

pin_project! {
    /// Either an answer that is known already, or the inner future.
    pub struct Early<F: Future> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F: Future> {
        Refused { error: Option<ProxyError> },
        Boxed { future: Boxed<F::Output> },
        Inner { #[pin] future: F },
    }
}

impl<F: Future> std::fmt::Debug for Early<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.state {
            State::Refused { .. } => "Refused",
            State::Boxed { .. } => "Boxed",
            State::Inner { .. } => "Inner",
        })
    }
}

impl<F: Future> Early<F> {
    /// Refused before anything inside was called.
    pub fn refused(error: ProxyError) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }

    /// Goes on inside.
    pub fn inner(future: F) -> Self {
        Self { state: State::Inner { future } }
    }

    /// Goes on inside, with something around it that few requests need.
    pub fn boxed(future: Pin<Box<dyn Future<Output = F::Output>>>) -> Self {
        Self { state: State::Boxed { future } }
    }
}

impl<T, F: Future<Output = Result<T, ProxyError>>> Future for Early<F> {
    type Output = Result<T, ProxyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Refused { error } => Poll::Ready(Err(error.take().unwrap_or(ProxyError::Cancelled))),
            StateProjection::Boxed { future } => future.as_mut().poll(cx),
            StateProjection::Inner { future } => future.poll(cx),
        }
    }
}

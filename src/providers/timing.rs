//! How long a call takes, by the monotonic clock: as a whole, and without our own part in it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};

use crate::{Accepted, SendError};

/// How long one call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From the call to the end of the answer, or to what was taken for its end.
    pub whole: Duration,
    /// Until the first byte of the body was on its way: waiting for a connection, or making one. None where nothing
    /// has left.
    pub connected: Option<Duration>,
    /// From then to the head of the answer: the network and the provider alone. None where no answer began.
    pub raw: Option<Duration>,
}

/// Runs from the call on. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Stopwatch(Arc<Marks>);

#[derive(Debug)]
struct Marks {
    started: Instant,
    signed: OnceLock<()>,
    left: OnceLock<Instant>,
    answered: OnceLock<Instant>,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self(Arc::new(Marks {
            started: Instant::now(),
            signed: OnceLock::new(),
            left: OnceLock::new(),
            answered: OnceLock::new(),
        }))
    }

    /// The request is signed, and waits for nothing but its connection.
    pub fn is_signed(&self) {
        self.0.signed.get_or_init(|| ());
    }

    pub fn was_signed(&self) -> bool {
        self.0.signed.get().is_some()
    }

    /// Bytes are on their way. The first time counts.
    pub fn leaves(&self) {
        self.0.left.get_or_init(Instant::now);
    }

    /// Whether any of it may have gone out.
    pub fn has_left(&self) -> bool {
        self.0.left.get().is_some()
    }

    /// The head of the answer is there.
    pub fn is_answered(&self) {
        self.0.answered.get_or_init(Instant::now);
    }

    /// Adds what it shows to the outcome of the call.
    pub fn stop(&self, sent: Result<Option<String>, SendError>) -> Result<Accepted, SendError> {
        let timing = self.timing();
        match sent {
            Ok(reference) => Ok(Accepted { reference, timing }),
            Err(error) => Err(SendError { timing, ..error }),
        }
    }

    fn timing(&self) -> Timing {
        let Marks {
            started,
            left,
            answered,
            ..
        } = &*self.0;
        let since = |later: &Instant, earlier: &Instant| later.saturating_duration_since(*earlier);
        Timing {
            whole: started.elapsed(),
            connected: left.get().map(|left| since(left, started)),
            raw: left
                .get()
                .zip(answered.get())
                .map(|(left, answered)| since(answered, left)),
        }
    }
}

/// A body that tells the stopwatch when the connection asks for it, which is when it goes out.
pub(crate) struct TimedBody<B> {
    pub body: B,
    pub stopwatch: Stopwatch,
}

impl<B: http_body::Body + Unpin> http_body::Body for TimedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.stopwatch.leaves();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! How many runs of a queue a process works on at once. A slot is held while a story thinks or calls; not while its run,
//! ended or about to wait, is only being written. So the runs that are being written do not keep others from beginning.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// The slots of one queue in this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Semaphore>);

/// A run's place: taken or not.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    taken: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub fn new(concurrency: usize) -> Self {
        Self(Arc::new(Semaphore::new(concurrency)))
    }

    /// A place that is not taken yet.
    pub fn slot(&self) -> Slot {
        Slot {
            slots: self.clone(),
            taken: None,
        }
    }
}

impl Slot {
    /// Waits for its turn, in order.
    pub async fn enter(&mut self) {
        if self.taken.is_none() {
            // Nobody closes it.
            self.taken = self.slots.0.clone().acquire_owned().await.ok();
        }
    }

    pub fn leave(&mut self) {
        self.taken = None;
    }
}

/// How many runs to claim before there is a slot for them: as many as are begun in a moment, so that a queue of short
/// runs is claimed in large batches, and long ones are left to whoever has a free slot.
#[derive(Debug)]
pub(crate) struct Ahead {
    last: Instant,
    /// Claims a second, of late.
    rate: f64,
}

impl Ahead {
    pub const MOST: usize = 1024;
    const MOMENT: Duration = Duration::from_millis(50);
    /// The weight of the newest measurement.
    const NEWEST: f64 = 0.3;

    pub fn new() -> Self {
        Self {
            last: Instant::now(),
            rate: 0.0,
        }
    }

    pub fn runs(&self) -> usize {
        // As a float cannot be too large here: it is cut off at the most.
        (self.rate * Self::MOMENT.as_secs_f64()).clamp(0.0, 1024.0) as usize
    }

    /// Notes that so many were claimed.
    pub fn note(&mut self, claimed: usize) {
        let passed = self.last.elapsed().as_secs_f64().max(0.001);
        self.last = Instant::now();
        self.rate += Self::NEWEST * (claimed as f64 / passed - self.rate);
    }
}

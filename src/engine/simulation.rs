//! The engine's decisions one at a time, for tests that simulate many processes under virtual time.
//!
//! Everything that decides is the real code: claims, executor, runs, leases, batches and their SQL. What is missing are
//! the loops around them: a driver calls one operation after the other, on one thread, and so it alone chooses the
//! order of events. Database time is whatever `now()` finds on the search path of the driver's session.

use std::cell::{Cell, RefCell};

use uuid::Uuid;

mod process;

pub use process::{Fate, Process, Reply};

/// Guarantees that are switched off, to see whether an oracle notices. Holds for the current thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sabotage {
    /// A batch takes checkpoints of lost leases.
    pub fence: bool,
    /// A call to the outside world does not wait for the record of its intent.
    pub intent: bool,
    /// A batch that is repeated does not look for what is written already.
    pub repetition: bool,
}

thread_local! {
    static SABOTAGE: Cell<Sabotage> = const { Cell::new(Sabotage { fence: false, intent: false, repetition: false }) };
    static IDS: RefCell<Option<Ids>> = const { RefCell::new(None) };
}

pub fn set_sabotage(sabotage: Sabotage) {
    SABOTAGE.set(sabotage);
}

pub(crate) fn sabotage() -> Sabotage {
    SABOTAGE.get()
}

/// Where the ids of new runs come from, in place of the clock and of chance.
#[derive(Debug, Clone, Copy)]
struct Ids {
    world: u64,
    millis: u64,
    next: u16,
}

/// From here on the ids that this thread gives out are a function of `world`, of [`set_id_time`], and of their number.
/// The world's number is their last part, so it does not change how they sort.
pub fn set_id_world(world: u64) {
    IDS.set(Some(Ids {
        world,
        millis: 0,
        next: 0,
    }));
}

pub fn set_id_time(unix_millis: u64) {
    IDS.with_borrow_mut(|ids| {
        if let Some(ids) = ids {
            ids.millis = unix_millis;
        }
    });
}

/// The next id, in the form of a version 7 one; nothing where no world was set.
pub fn fresh_id() -> Option<Uuid> {
    IDS.with_borrow_mut(|ids| {
        let ids = ids.as_mut()?;
        ids.next += 1;
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&ids.next.to_be_bytes());
        bytes[2..].copy_from_slice(&ids.world.to_be_bytes());
        Some(uuid::Builder::from_unix_timestamp_millis(ids.millis, &bytes).into_uuid())
    })
}

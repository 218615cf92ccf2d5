//! The leases that this process holds. They are renewed together, in a task of its own that waits for nothing else;
//! a run whose lease cannot be renewed in time is stopped here before anybody else may take it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::statements::{self, Kept};

/// Runs held, by id. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<Uuid, Held>>>,
    length: Duration,
    /// Until when nothing is to be claimed, because renewing does not work.
    blocked: Arc<watch::Sender<Option<Instant>>>,
    /// When leases were last to be renewed, if the database was there and did not renew them all.
    in_vain: Arc<Mutex<Option<Instant>>>,
}

#[derive(Debug)]
struct Held {
    epoch: i64,
    /// When the statement that last moved the lease's end was sent, by this process' monotonic clock.
    since: Instant,
    lost: CancellationToken,
}

/// How long a worker claims nothing at most after it has lost a lease that it could not renew.
const LONGEST_SUSPICION: Duration = Duration::from_secs(30);

/// One held lease. Dropping it lets go of it here; what the database says of the run is not changed by that.
#[derive(Debug)]
pub(crate) struct Lease {
    pub run: Uuid,
    pub epoch: i64,
    /// When its claim was sent, by this process' monotonic clock.
    pub since: Instant,
    /// Cancelled when the lease is lost.
    pub lost: CancellationToken,
    leases: Leases,
}

/// Tells whether a lease is still held.
#[derive(Debug)]
pub(crate) struct Watch {
    run: Uuid,
    epoch: i64,
    leases: Leases,
}

impl Lease {
    pub fn watch(&self) -> Watch {
        Watch {
            run: self.run,
            epoch: self.epoch,
            leases: self.leases.clone(),
        }
    }
}

impl Watch {
    /// By this process' monotonic clock, which goes on while the process is stopped: what it wakes up to may be somebody
    /// else's by then, before any task has noticed.
    pub fn is_kept(&self) -> bool {
        let (held, oldest) = (self.leases.lock(), self.leases.oldest());
        held.get(&self.run).is_some_and(|lease| {
            lease.epoch == self.epoch && lease.since.elapsed() < oldest && !lease.lost.is_cancelled()
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        if held.get(&self.run).is_some_and(|lease| lease.epoch == self.epoch) {
            held.remove(&self.run);
        }
    }
}

impl Leases {
    pub fn new(length: Duration) -> Self {
        Self {
            held: Arc::default(),
            length,
            blocked: Arc::new(watch::Sender::new(None)),
            in_vain: Arc::default(),
        }
    }

    /// Returns when renewing works, as far as is known: at once, or after a renewal that succeeded, or after the longest
    /// time that a worker stands idle for nothing but suspicion.
    pub async fn can_be_kept(&self) {
        let mut blocked = self.blocked.subscribe();
        loop {
            let Some(until) = *blocked.borrow_and_update() else {
                return;
            };
            if tokio::time::timeout_at(until, blocked.changed()).await.is_err() {
                return;
            }
        }
    }

    fn note_blocked(&self) {
        let idle = (self.length * 10).min(LONGEST_SUSPICION);
        self.blocked.send_replace(Some(Instant::now() + idle));
    }

    fn note_free(&self) {
        self.blocked.send_if_modified(|blocked| blocked.take().is_some());
    }

    pub fn length(&self) -> Duration {
        self.length
    }

    /// Notes a lease taken by a claim that was sent at `since`.
    pub fn hold(&self, run: Uuid, epoch: i64, since: Instant) -> Lease {
        let lost = CancellationToken::new();
        let held = Held {
            epoch,
            since,
            lost: lost.clone(),
        };
        // It was lost without notice, and is back: its old life here must not go on beside the new one.
        if let Some(former) = self.lock().insert(run, held) {
            former.lost.cancel();
        }
        Lease {
            run,
            epoch,
            since,
            lost,
            leases: self.clone(),
        }
    }

    /// Renews until `stop`. A lease is renewed from a third of its length on, and given up at four fifths: the
    /// rest is the margin for a process that is slow to notice.
    pub async fn keep(self, pool: PgPool, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.length / 6);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let renewing = async {
            loop {
                ticks.tick().await;
                let sent = Instant::now();
                let (ids, epochs) = self.to_renew(sent);
                if ids.is_empty() {
                    continue;
                }
                let renewed = renew(&pool, &ids, &epochs, self.length).await;
                self.learn(&renewed);
                match renewed {
                    Ok(kept) => self.note(&ids, &epochs, &kept, sent),
                    Err(Unrenewed::Error(error)) => {
                        tracing::warn!(%error, runs = ids.len(), "could not renew leases");
                    }
                    Err(Unrenewed::TooSlow) => tracing::warn!(runs = ids.len(), "renewing leases took too long"),
                }
            }
        };
        let giving_up = async {
            let mut ticks = tokio::time::interval(self.length / 20);
            loop {
                ticks.tick().await;
                self.give_up(Instant::now());
            }
        };
        stop.run_until_cancelled(async { tokio::join!(renewing, giving_up) })
            .await;
    }

    /// A row that is locked, as its run may be written just now, and an answer that takes long tell nothing yet: there is time
    /// to try again.
    fn learn(&self, renewed: &Result<Vec<Kept>, Unrenewed>) {
        let in_vain = match renewed {
            Ok(kept) => kept.iter().any(|kept| !kept.renewed),
            Err(Unrenewed::TooSlow) => true,
            Err(Unrenewed::Error(_)) => false,
        };
        *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner) = in_vain.then(Instant::now);
        if renewed.iter().flatten().any(|kept| kept.renewed) {
            self.note_free();
        }
    }

    pub(crate) fn to_renew(&self, now: Instant) -> (Vec<Uuid>, Vec<i64>) {
        let held = self.lock();
        held.iter()
            .filter(|(_, lease)| now.saturating_duration_since(lease.since) >= self.length / 3)
            .map(|(id, lease)| (*id, lease.epoch))
            .unzip()
    }

    pub(crate) fn note(&self, ids: &[Uuid], epochs: &[i64], kept: &[Kept], sent: Instant) {
        let kept: HashMap<Uuid, bool> = kept.iter().map(|kept| (kept.run, kept.renewed)).collect();
        let mut held = self.lock();
        for (id, epoch) in ids.iter().zip(epochs) {
            let Some(lease) = held.get_mut(id).filter(|lease| lease.epoch == *epoch) else {
                continue;
            };
            match kept.get(id) {
                Some(true) => lease.since = sent,
                Some(false) => {}
                None => lease.lost.cancel(),
            }
        }
    }

    /// Where the database is there, and a lease could not be renewed in all its time, others could not either. Where it is
    /// not, claims meet the same error, and show when that is over; and where this process was stopped meanwhile, nothing was
    /// tried.
    pub(crate) fn give_up(&self, now: Instant) {
        let oldest = self.oldest();
        let held = self.lock();
        let ending = held
            .values()
            .filter(|lease| now.saturating_duration_since(lease.since) >= oldest && !lease.lost.is_cancelled());
        let given_up = ending.inspect(|lease| lease.lost.cancel()).count();
        let in_vain = *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        let was_tried = in_vain.is_some_and(|tried| now.saturating_duration_since(tried) < self.length / 2);
        if given_up > 0 && was_tried {
            self.note_blocked();
        }
    }

    /// The age at which a lease that was not renewed is given up.
    fn oldest(&self) -> Duration {
        self.length.mul_f64(0.8)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why leases were not renewed.
enum Unrenewed {
    /// The database said so, or could not be reached.
    Error(sqlx::Error),
    /// The database was there, and has not answered.
    TooSlow,
}

async fn renew(pool: &PgPool, ids: &[Uuid], epochs: &[i64], length: Duration) -> Result<Vec<Kept>, Unrenewed> {
    // What takes longer than this would come too late anyway.
    let latest = Instant::now() + length / 3;
    let mut conn = tokio::time::timeout_at(latest, pool.acquire())
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
        .map_err(Unrenewed::Error)?;
    tokio::time::timeout_at(latest, statements::renew(&mut conn, ids, epochs, length))
        .await
        .map_err(|_| Unrenewed::TooSlow)?
        .map_err(Unrenewed::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_for_too_long_knows_it_before_any_task_has_told_it() {
        let leases = Leases::new(Duration::from_secs(10));
        let run = Uuid::from_u128(1);
        let lease = leases.hold(run, 1, Instant::now());
        let watch = lease.watch();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(watch.is_kept());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!watch.is_kept(), "it is about to end");
        let _again = leases.hold(run, 2, Instant::now());
        assert!(!watch.is_kept(), "that is another life of it");
    }

    async fn can_be_kept(leases: &Leases, within: Duration) -> bool {
        tokio::time::timeout(within, leases.can_be_kept()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_lease_that_is_lost_for_want_of_renewal_stops_claims() {
        let leases = Leases::new(Duration::from_secs(10));
        let run = Uuid::from_u128(1);
        let lease = leases.hold(run, 1, Instant::now());
        for answer in [Ok(vec![Kept { run, renewed: false }]), Err(Unrenewed::TooSlow)] {
            tokio::time::advance(Duration::from_secs(2)).await;
            leases.learn(&answer);
            leases.give_up(Instant::now());
            assert!(can_be_kept(&leases, Duration::ZERO).await, "there is time to try again");
        }
        tokio::time::advance(Duration::from_secs(4)).await;
        leases.give_up(Instant::now());
        assert!(lease.lost.is_cancelled(), "eight seconds of ten are over");
        assert!(!can_be_kept(&leases, Duration::from_secs(20)).await);
        leases.give_up(Instant::now());
        assert!(
            can_be_kept(&leases, LONGEST_SUSPICION).await,
            "nobody stands idle for ever, while nothing more is lost"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_can_be_renewed_lets_claims_go_on() {
        let leases = Leases::new(Duration::from_secs(10));
        let run = Uuid::from_u128(1);
        let _lease = leases.hold(run, 1, Instant::now());
        tokio::time::advance(Duration::from_secs(8)).await;
        leases.learn(&Err(Unrenewed::TooSlow));
        leases.give_up(Instant::now());
        assert!(!can_be_kept(&leases, Duration::ZERO).await);
        leases.learn(&Ok(vec![Kept { run, renewed: true }]));
        assert!(can_be_kept(&leases, Duration::ZERO).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_claims_again_at_once() {
        let leases = Leases::new(Duration::from_secs(10));
        let run = Uuid::from_u128(1);
        let lease = leases.hold(run, 1, Instant::now());
        leases.learn(&Ok(vec![Kept { run, renewed: false }]));
        tokio::time::advance(Duration::from_secs(60)).await;
        leases.give_up(Instant::now());
        assert!(lease.lost.is_cancelled());
        assert!(can_be_kept(&leases, Duration::ZERO).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_cannot_be_reached_stops_no_claims() {
        let leases = Leases::new(Duration::from_secs(10));
        let nowhere = sqlx::postgres::PgPoolOptions::new()
            .acquire_timeout(Duration::from_secs(60))
            .connect_lazy("postgres://127.0.0.1:1/nowhere")
            .unwrap();
        let _keeping = tokio::spawn(leases.clone().keep(nowhere, CancellationToken::new()));
        let lease = leases.hold(Uuid::from_u128(1), 1, Instant::now());
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(lease.lost.is_cancelled());
        assert!(
            can_be_kept(&leases, Duration::ZERO).await,
            "claims will find out by themselves"
        );
    }
}

//! The way in for a message: its row and the run that delivers it commit together, before anybody is told yes.

use std::time::Duration;

use herald_engine::{Client, Error, NewRun, Submission};
use herald_store::{KeyType, notifications::NewNotification};

use crate::{deliver_email::DeliverEmail, deliver_sms::DeliverSms, effects::Insert, queues};

/// When a message may be sent: at once and for ever, where nothing else is said.
#[derive(Debug, Default, Clone, Copy)]
pub struct Timing {
    /// Not before this has passed.
    pub after: Duration,
    /// And then only for so long.
    pub expires_in: Option<Duration>,
}

/// Accepts a text. Returns after the commit, which concurrent callers share. Harmless to repeat with the same id: false
/// says that it was accepted before.
///
/// # Errors
/// As [`Client::submit`].
pub async fn sms(engine: &Client, row: NewNotification, timing: Timing) -> Result<bool, Error> {
    let run = NewRun::of(&DeliverSms { id: row.id })?;
    accept(engine, row, run, timing).await
}

/// Accepts an email, as [`sms`].
///
/// # Errors
/// As [`Client::submit`].
pub async fn email(engine: &Client, row: NewNotification, timing: Timing) -> Result<bool, Error> {
    let run = NewRun::of(&DeliverEmail { id: row.id })?;
    accept(engine, row, run, timing).await
}

/// The run bears the notification's id, so that a receipt finds it without a look-up.
async fn accept(engine: &Client, row: NewNotification, run: NewRun, timing: Timing) -> Result<bool, Error> {
    let id = row.id;
    let mut run = run.with_id(id).of_tenant(row.service_id).after(timing.after);
    if row.key_type == KeyType::Test {
        run = run.on(queues::RESEARCH);
    }
    if let Some(expires_in) = timing.expires_in {
        run = run.expires_within(timing.after + expires_in);
    }
    let submitted = engine.submit(Submission::new().effect(Insert(row)).start(run)).await?;
    Ok(!submitted.duplicates.contains(&id))
}

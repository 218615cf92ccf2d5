//! The way in for a message: its row and the run that delivers it commit together, before anybody is told yes.

use herald_engine::{Client, Error, NewRun, Submission};
use herald_store::{KeyType, notifications::NewNotification};

use crate::{deliver_email::DeliverEmail, deliver_sms::DeliverSms, effects::Insert, queues};

/// Accepts a text. Returns after the commit, which concurrent callers share. Harmless to repeat with the same id.
///
/// # Errors
/// As [`Client::submit`].
pub async fn sms(engine: &Client, row: NewNotification) -> Result<(), Error> {
    let run = NewRun::of(&DeliverSms { id: row.id })?;
    accept(engine, row, run).await
}

/// Accepts an email, as [`sms`].
///
/// # Errors
/// As [`Client::submit`].
pub async fn email(engine: &Client, row: NewNotification) -> Result<(), Error> {
    let run = NewRun::of(&DeliverEmail { id: row.id })?;
    accept(engine, row, run).await
}

/// The run bears the notification's id, so that a receipt finds it without a look-up.
async fn accept(engine: &Client, row: NewNotification, run: NewRun) -> Result<(), Error> {
    let mut run = run.with_id(row.id).of_tenant(row.service_id);
    if row.key_type == KeyType::Test {
        run = run.on(queues::RESEARCH);
    }
    engine
        .submit(Submission::new().effect(Insert(row)).start(run))
        .await
        .map(drop)
}

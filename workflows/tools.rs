//! The outside world as stories see it. Each outside error becomes *again*, *never* or *unknown* here, once.

mod calling;
mod choice;
mod house;
mod overdue;
mod reading;
mod sending;
mod switch;
mod traffic;

use std::{convert::Infallible, sync::Arc, time::Duration};

use herald_engine::{AttemptError, Prepared, RetryPolicy};
use herald_message::receipt::{Receipt, ses::Complaint};
use herald_providers::{SmsClient, callbacks, ses};
use herald_store::{
    complaints::{self, NewComplaint, Subject},
    notifications::{self, Settlement},
    sealed::Sealer,
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    effects::{Happened, What},
    measures,
    switching::Policy,
};
pub use calling::Answer;
use choice::Weights;
pub use overdue::TimedOut;
use reading::Reader;
pub use sending::{ProviderReference, SendPlan};
pub use switch::Moved;
use switch::Switch;
use traffic::Counter;

/// What deliveries work with. Made once by the program.
pub struct Tools {
    pool: PgPool,
    sealer: Arc<Sealer>,
    sms: Vec<SmsClient>,
    ses: ses::Client,
    callbacks: callbacks::Client,
    /// After the @ of every sender's address.
    email_domain: String,
    /// Where mail programs reach the API: for the unsubscribe link in an email's header.
    api_host: String,
    /// Where people reach the administration pages: for the unsubscribe link in an email's body.
    admin_host: String,
    weights: Arc<Weights>,
    switch: Arc<Switch>,
    messages: Reader,
    /// The policy of every send; that of emails has a queue of its own.
    pub(crate) sending: RetryPolicy,
    /// For how many days what has ended is remembered.
    keep_days: u16,
    keep_undeliverable_days: u16,
}

/// Plain values; nothing here reads the environment.
pub struct Settings {
    /// After the @ of every sender's address.
    pub email_domain: String,
    /// Where mail programs reach the API.
    pub api_host: String,
    /// Where people reach the administration pages.
    pub admin_host: String,
    /// The policy of every send.
    pub sending: RetryPolicy,
    /// When texts move from one provider to the other.
    pub switching: Policy,
    /// For how many days the engine remembers what has ended.
    pub keep_days: u16,
    /// For how many days an event that a service could not be told of can be replayed.
    pub keep_undeliverable_days: u16,
}

impl Tools {
    #[expect(
        clippy::disallowed_methods,
        reason = "what counts belongs to the tools, not to a story"
    )]
    pub fn new(
        pool: PgPool,
        sealer: Arc<Sealer>,
        (sms, ses, callbacks): (Vec<SmsClient>, ses::Client, callbacks::Client),
        Settings {
            email_domain,
            api_host,
            admin_host,
            sending,
            switching,
            keep_days,
            keep_undeliverable_days,
        }: Settings,
    ) -> Self {
        let (weights, messages) = (Arc::new(Weights::new(pool.clone())), Reader::new(pool.clone()));
        let switch = Arc::new(Switch::new(pool.clone(), switching, weights.clone()));
        let (counter, rings) = Counter::new();
        tokio::spawn(switch.clone().keep_sharing(Arc::downgrade(&counter), rings));
        measures::listen(counter);
        Self {
            pool,
            sealer,
            sms,
            ses,
            callbacks,
            email_domain,
            api_host,
            admin_host,
            weights,
            switch,
            messages,
            sending,
            keep_days,
            keep_undeliverable_days,
        }
    }

    /// Keeps to the limits of SES, for as long as it is polled.
    pub fn keep_pace_of_emails(&self) -> impl Future<Output = Infallible> + use<> {
        self.ses.clone().keep_pace()
    }

    /// A receipt has come.
    pub(crate) fn settle(&self, id: Uuid, receipt: Receipt, billable_units: Option<i32>) -> Happened {
        self.happened(What::Receipt(Settlement {
            id,
            receipt,
            billable_units,
        }))
    }

    /// People have cancelled the run that waits for its receipts.
    pub(crate) fn let_go(&self, id: Uuid) -> Happened {
        self.happened(What::LetGo(id))
    }

    /// No receipt has come in time, or it could not be sent while its service wanted it to be.
    pub(crate) fn time_is_over(&self, id: Uuid) -> Happened {
        self.happened(What::TimeIsOver(id))
    }

    /// A recipient has complained.
    pub(crate) fn record(&self, complaint: NewComplaint) -> Happened {
        self.happened(What::Complaint(complaint))
    }

    fn happened(&self, what: What) -> Happened {
        let sealer = Arc::clone(&self.sealer);
        Happened { what, sealer }
    }

    /// The email that SES knows by this reference.
    pub(crate) async fn find_email(&self, reference: &str) -> Result<Prepared<'_, (), Option<Uuid>>, AttemptError> {
        let reference = [reference.to_owned()];
        let found = async { notifications::id_by_reference(&mut *self.pool.acquire().await?, &reference).await };
        let found = in_time(found).await.map_err(database)?;
        let answer = found.into_iter().next().map(|(_, id)| id);
        Ok(Prepared::Done { plan: (), answer })
    }

    /// The email that a complaint is about.
    pub(crate) async fn complained_about(
        &self,
        complaint: &Complaint,
    ) -> Result<Prepared<'_, (), Option<Subject>>, AttemptError> {
        let (id, reference) = (complaint.notification_id, &complaint.reference);
        let subject = async { complaints::subject(&mut *self.pool.acquire().await?, id, reference).await };
        let answer = in_time(subject).await.map_err(database)?;
        Ok(Prepared::Done { plan: (), answer })
    }

    /// Takes a step from a provider of texts that is slow while the other is not.
    pub(crate) async fn leave_a_slow_provider(&self) -> Result<Prepared<'_, (), Option<Moved>>, AttemptError> {
        let answer = self.switch.leave_a_slow_one().await.map_err(database)?;
        Ok(Prepared::Done { plan: (), answer })
    }

    /// Takes a step toward the resting points of the providers of texts.
    pub(crate) async fn tend_back(&self) -> Result<Prepared<'_, (), Option<Moved>>, AttemptError> {
        let answer = self.switch.tend_back().await.map_err(database)?;
        Ok(Prepared::Done { plan: (), answer })
    }
}

/// What a query of an attempt may take: beyond that, its connection is as good as dead.
const LONGEST: Duration = Duration::from_secs(10);

async fn in_time<T>(asked: impl Future<Output = herald_store::Result<T>>) -> herald_store::Result<T> {
    let answer = tokio::time::timeout(LONGEST, asked).await;
    answer.unwrap_or_else(|_| Err(herald_store::Error::Unavailable("no answer".to_owned())))
}

/// Our own database. Services can read why an attempt failed; what the database says is for us alone.
fn database(error: impl std::fmt::Display) -> AttemptError {
    tracing::warn!(%error, "an attempt failed because our database did");
    our_database_failed()
}

/// Whatever it is, nothing has been done yet. A provider's long back-off is not meant for it.
fn our_database_failed() -> AttemptError {
    AttemptError::Again {
        why: "our database failed".to_owned(),
        after: Some(Duration::from_secs(15)),
    }
}

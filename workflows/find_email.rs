//! Finds the email that a receipt of SES is about, and hands the receipt to its delivery. The receipt may be faster
//! than the commit that records SES's reference; what nobody knows after minutes was not sent by us.

use herald_engine::{AttemptError, Failure, Prepared, Queue, Run, Seldom, Workflow};
use herald_message::receipt::Receipt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Tools, queues, receipts, retry};

/// Whoever shares our topics can make many of them.
static OF_NOBODY: Seldom = Seldom::new();

#[derive(Debug, Serialize, Deserialize)]
pub struct FindEmail {
    pub reference: String,
    pub receipt: Receipt,
}

impl Workflow for FindEmail {
    type Tools = Tools;
    const NAME: &'static str = "find_email";
    const QUEUE: Queue = queues::RECEIPTS;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        match look_for(run, || tools.find_email(&self.reference)).await? {
            Some(id) => run.signal("handed over", receipts::to_delivery(id, self.receipt)?),
            None => {
                if let Some(times) = OF_NOBODY.happened() {
                    tracing::warn!(times, "a receipt of SES is about no email of ours");
                }
                Ok(())
            }
        }
    }
}

/// Looks now and then until it is there; nothing if it has not come after a few minutes. Looks at which our database failed
/// do not count.
pub(crate) async fn look_for<'a, T, F>(run: &mut Run, mut look: impl FnMut() -> F + Send) -> Result<Option<T>, Failure>
where
    T: Serialize + DeserializeOwned + Send,
    F: Future<Output = Result<Prepared<'a, (), Option<T>>, AttemptError>> + Send,
{
    let mut pauses = retry::BETWEEN_LOOKS.into_iter();
    loop {
        let looked = run.attempt("find", &retry::reading(), |_| look()).await?;
        match (looked.answer.flatten(), pauses.next()) {
            (Some(found), _) => return Ok(Some(found)),
            (None, None) => return Ok(None),
            (None, Some(pause)) => run.sleep("not there yet", pause, queues::RECEIPTS).await?,
        }
    }
}

//! The way in for texts that people send to a service. They are kept, and their service will be told of them, before the
//! provider is answered.

use std::sync::Arc;

use herald_engine::{Client, Error, Submission};
use herald_store::{received::NewReceivedText, sealed::Sealer};

use crate::effects::{Happened, What};

/// Accepts a text. Returns after the commit, which concurrent callers share. Harmless to repeat with the same key.
///
/// # Errors
/// As [`Client::submit`].
pub async fn text(engine: &Client, sealer: &Arc<Sealer>, text: NewReceivedText) -> Result<(), Error> {
    let received = Happened {
        what: What::ReceivedText(text),
        sealer: Arc::clone(sealer),
    };
    engine.submit(Submission::new().effect(received)).await.map(drop)
}

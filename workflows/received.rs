//! The way in for texts that people send to a service. They are kept before the provider is answered.

use herald_engine::{Client, Error, Submission};
use herald_store::received::NewReceivedText;

use crate::effects::KeepReceivedText;

/// Accepts a text. Returns after the commit, which concurrent callers share. Harmless to repeat with the same key.
///
/// Whoever is to hear of the text is told by a run that starts in the same submission, once for the same key.
///
/// # Errors
/// As [`Client::submit`].
pub async fn text(engine: &Client, text: NewReceivedText) -> Result<(), Error> {
    engine
        .submit(Submission::new().effect(KeepReceivedText(text)))
        .await
        .map(drop)
}

//! Letters are not sent yet: a request is checked as far as its schema, and then refused as for a service that may not
//! send letters.

use std::sync::Arc;

use herald_store::NotificationType;
use poem::web::Data;
use poem_openapi::{Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use crate::{App, Error, Tag, auth::Caller, payload::Posted, send::NOT_ALLOWED_LETTERS, validation::Fields};

pub struct Letters;

#[OpenApi(tag = "Tag::Send")]
impl Letters {
    /// Send a letter
    ///
    /// Herald sends no letters yet; every service is told that it is not allowed to.
    #[oai(path = "/v2/notifications/letter", method = "post", operation_id = "sendLetter")]
    async fn send(&self, caller: Caller, app: Data<&Arc<App>>, body: Posted<LetterRequest>) -> Result<(), Error> {
        let _admission = app.limits.admit(&caller, NotificationType::Letter).await?;
        let fields = Fields::of_body(&body.bytes)?;
        if fields.has("content") {
            check_pdf(fields)?
        } else {
            check_templated(fields)?
        }
        Err(Error::bad_request(NOT_ALLOWED_LETTERS))
    }
}

fn check_templated(mut fields: Fields) -> Result<(), Error> {
    fields.require(&["template_id", "personalisation"]);
    fields.short_text("reference", 1000);
    fields.uuid("template_id");
    fields.object("personalisation");
    fields.finish()
}

fn check_pdf(mut fields: Fields) -> Result<(), Error> {
    fields.require(&["reference", "content"]);
    fields.text("reference");
    fields.text("content");
    fields.judged_text("postage", |postage| match postage {
        "first" | "second" | "economy" => Ok(()),
        _ => Err("invalid. It must be either first, second or economy."),
    });
    fields.finish()
}

/// A letter from a template, or a PDF in `content`.
#[derive(Debug, Object)]
struct LetterRequest {
    template_id: Option<Uuid>,
    personalisation: Option<Value>,
    /// The client's own.
    #[oai(validator(max_length = 1000))]
    reference: Option<String>,
    /// A PDF, in base64.
    content: Option<String>,
    /// `first`, `second` or `economy`; only with `content`.
    postage: Option<String>,
}

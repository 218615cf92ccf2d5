//! `POST /unsubscribe/…`: what a mail program calls when its reader wants no more of a service's emails (RFC 8058).
//! Nobody says who they are: the token, which only that email holds, is the proof.

use std::sync::Arc;

use chrono::Utc;
use herald_store::{unsubscribes, users};
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    App, Error, Tag,
    error::{LegacyErrors, OtherError},
    payload::Answer,
};

pub struct Unsubscribing;

#[OpenApi(tag = "Tag::Notifications")]
impl Unsubscribing {
    /// Unsubscribe with one click
    ///
    /// Mail programs find the address in the header `List-Unsubscribe` of an email. It is good for a year, and asking
    /// again changes nothing.
    #[oai(
        path = "/unsubscribe/:notification_id/:token",
        method = "post",
        operation_id = "unsubscribe"
    )]
    async fn unsubscribe(
        &self,
        app: Data<&Arc<App>>,
        /// The email's id.
        notification_id: Path<String>,
        /// From the link; it holds whose it is.
        token: Path<String>,
    ) -> Result<Unsubscribed, OtherError> {
        let id = Uuid::try_parse(&notification_id).map_err(|_| Error::NoRoute)?;
        let Some(address) = app.sealer.unsubscribing_address(id, &token, Utc::now()) else {
            return Ok(refused("This is not a valid unsubscribe link."));
        };
        let mut connection = app.pool.acquire().await?;
        if unsubscribes::is_waiting(&mut connection, id).await? {
            return Ok(done());
        }
        let Some(email) = unsubscribes::email(&mut connection, id).await? else {
            return Ok(refused("This unsubscribe link is invalid or expired."));
        };
        match users::Newsletter::of(email.service_id) {
            Some(newsletter) => users::unsubscribe(&mut connection, newsletter, &address).await?,
            None => unsubscribes::insert(&mut connection, Uuid::now_v7(), &email, &address).await?,
        };
        Ok(done())
    }
}

fn done() -> Unsubscribed {
    Unsubscribed::Done(Answer(Confirmation {
        message: "Unsubscribe successful".to_owned(),
        result: "success".to_owned(),
    }))
}

fn refused(why: &str) -> Unsubscribed {
    Unsubscribed::Refused(Answer(LegacyErrors::new(
        serde_json::json!({ "unsubscribe request": why }),
    )))
}

#[derive(ApiResponse)]
enum Unsubscribed {
    /// The reader gets no more such emails.
    #[oai(status = 200)]
    Done(Answer<Confirmation>),
    /// The link was never one of ours, or is none any more.
    #[oai(status = 404)]
    Refused(Answer<LegacyErrors>),
}

#[derive(Debug, Serialize, Object)]
struct Confirmation {
    message: String,
    /// Always `success`.
    result: String,
}

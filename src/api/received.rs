//! `GET /v2/received-text-messages`: what people texted to a service's number, newest first, a page at a time.

use std::sync::Arc;

use herald_store::{received, sealed::context};
use poem::{Request, web::Data};
use poem_openapi::{ApiResponse, Object, OpenApi, param::Query};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    App, Error, Tag,
    auth::Caller,
    paging::{Links, Parameters, older_than},
    payload::{Answer, Timestamp},
    send,
};

pub struct ReceivedTexts;

#[OpenApi(tag = "Tag::ReceivedTexts")]
impl ReceivedTexts {
    /// Received text messages
    ///
    /// Newest first, a page at a time, whatever the type of the key. Other parameters are refused.
    #[oai(
        path = "/v2/received-text-messages",
        method = "get",
        operation_id = "listReceivedTextMessages"
    )]
    async fn list(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        request: &Request,
        /// Only those older than this text message.
        #[oai(name = "older_than")]
        _older_than: Query<Option<String>>,
    ) -> Result<ReceivedTextList, Error> {
        let parameters = Parameters::of(request)?;
        let mut fields = parameters.fields();
        let older_than = older_than(&parameters, &mut fields);
        fields.finish()?;

        let mut connection = app.pool.acquire().await?;
        let limit = app.settings.page_size.into();
        let page = received::page(&mut connection, caller.service().id, older_than, limit).await?;
        let texts = page.into_iter().map(|text| ReceivedText::new(&app, text));
        let texts = texts.collect::<Result<Vec<_>, Error>>()?;

        // As in Notify, the link to this page does not say where it began.
        let current = format!("{}/v2/received-text-messages", send::host_of(request, &app.settings));
        let next = texts.last().map(|last| format!("{current}?older_than={}", last.id));
        Ok(ReceivedTextList::Ok(Answer(ListOfReceivedTexts {
            links: Links { current, next },
            received_text_messages: texts,
        })))
    }
}

#[derive(ApiResponse)]
enum ReceivedTextList {
    /// A page of them.
    #[oai(status = 200)]
    Ok(Answer<ListOfReceivedTexts>),
}

#[derive(Debug, Serialize, Object)]
#[oai(rename = "ReceivedTextMessages")]
struct ListOfReceivedTexts {
    links: Links,
    received_text_messages: Vec<ReceivedText>,
}

#[derive(Debug, Serialize, Object)]
#[oai(rename = "ReceivedTextMessage")]
struct ReceivedText {
    content: String,
    created_at: Timestamp,
    id: Uuid,
    /// The service's number.
    notify_number: String,
    service_id: Uuid,
    /// Who sent it: an international number without plus, or a name.
    user_number: String,
}

impl ReceivedText {
    fn new(app: &App, text: received::ReceivedText) -> Result<Self, Error> {
        let content = app.sealer.open(context::RECEIVED_TEXT, &text.content);
        Ok(Self {
            content: content.map_err(|error| Error::Internal(error.into()))?,
            created_at: Timestamp(text.created_at),
            id: text.id,
            notify_number: text.notify_number,
            service_id: text.service_id,
            user_number: text.user_number,
        })
    }
}

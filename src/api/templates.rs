//! Templates, as a service sees them.

use std::{collections::BTreeMap, sync::Arc};

use herald_store::{
    NotificationType,
    templates::{self, Template},
};
use poem::{Request, web::Data};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    App, Error, Tag,
    auth::Caller,
    content, formats,
    list::TYPES,
    paging::{Parameters, one_of},
    payload::{Answer, Posted, Timestamp},
    validation::Fields,
};

pub struct Templates;

#[OpenApi(tag = "Tag::Templates")]
impl Templates {
    /// All templates
    ///
    /// By name, then by type. Archived ones are left out.
    #[oai(path = "/v2/templates", method = "get", operation_id = "listTemplates")]
    async fn list(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        request: &Request,
        /// `sms`, `email` or `letter`
        #[oai(name = "type")]
        _kind: Query<Option<String>>,
    ) -> Result<TemplateList, Error> {
        let kind = read_query(request)?;
        let mut connection = app.pool.acquire().await?;
        let templates = templates::all(&mut connection, caller.service().id, kind).await?;
        let templates = templates.iter().map(TemplateView::from).collect();
        Ok(TemplateList::Ok(Answer(ListOfTemplates { templates })))
    }

    /// The latest version of a template
    #[oai(path = "/v2/template/:template_id", method = "get", operation_id = "getTemplate")]
    async fn get(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        /// The template's id.
        template_id: Path<String>,
    ) -> Result<OneTemplate, Error> {
        let id = read_id(&template_id)?;
        let template = app
            .cache
            .template(caller.service().id, id)
            .await?
            .ok_or(Error::NotFound)?;
        Ok(OneTemplate::Ok(Answer(TemplateView::from(&*template))))
    }

    /// A version of a template
    ///
    /// Version 0 is the latest.
    #[oai(
        path = "/v2/template/:template_id/version/:version",
        method = "get",
        operation_id = "getTemplateVersion"
    )]
    async fn get_version(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        /// The template's id.
        template_id: Path<String>,
        /// The version's number; 0 for the latest.
        version: Path<String>,
    ) -> Result<OneTemplate, Error> {
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::NoRoute);
        }
        let id = read_id(&template_id)?;
        // A number beyond the column's is a version that nobody has.
        let version = version.parse().unwrap_or(i32::MAX);
        if version == 0 {
            let template = app
                .cache
                .template(caller.service().id, id)
                .await?
                .ok_or(Error::NotFound)?;
            return Ok(OneTemplate::Ok(Answer(TemplateView::from(&*template))));
        }
        let mut connection = app.pool.acquire().await?;
        let template = templates::version(&mut connection, caller.service().id, id, version).await?;
        Ok(OneTemplate::Ok(Answer(TemplateView::from(
            &template.ok_or(Error::NotFound)?,
        ))))
    }

    /// A template, filled in
    #[oai(
        path = "/v2/template/:template_id/preview",
        method = "post",
        operation_id = "previewTemplate"
    )]
    async fn preview(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        /// The template's id.
        template_id: Path<String>,
        body: Posted<PreviewRequest>,
    ) -> Result<Previewed, Error> {
        let mut fields = if body.bytes.is_empty() {
            Fields::default()
        } else {
            Fields::of_body(&body.bytes)?
        };
        let id = fields.judged("id", "is not a valid UUID", formats::uuid(&template_id));
        let personalisation = fields.object("personalisation").unwrap_or_default();
        fields.finish_open()?;
        let id = id.unwrap_or_default();
        let template = app
            .cache
            .template(caller.service().id, id)
            .await?
            .ok_or(Error::NotFound)?;
        let filled = content::preview(&template, &personalisation)?;
        Ok(Previewed::Ok(Answer(Preview {
            body: filled.body,
            html: filled.html,
            id,
            postage: template.postage.clone(),
            subject: filled.subject,
            kind: template.template_type.as_str().to_owned(),
            version: template.version,
        })))
    }
}

fn read_id(text: &str) -> Result<Uuid, Error> {
    formats::uuid(text).ok_or_else(|| Error::invalid("id is not a valid UUID"))
}

/// Only `type` may be asked for.
fn read_query(request: &Request) -> Result<Option<NotificationType>, Error> {
    let parameters = Parameters::of(request)?;
    let mut fields = parameters.fields();
    fields.take("type");
    let kind = parameters.first("type");
    let kind = kind.filter(|kind| one_of(&mut fields, "type", kind, &TYPES));
    fields.finish()?;
    Ok(kind.and_then(|kind| kind.parse().ok()))
}

#[derive(ApiResponse)]
enum TemplateList {
    /// All of them.
    #[oai(status = 200)]
    Ok(Answer<ListOfTemplates>),
}

#[derive(ApiResponse)]
enum OneTemplate {
    /// The template, in that version.
    #[oai(status = 200)]
    Ok(Answer<TemplateView>),
}

#[derive(ApiResponse)]
enum Previewed {
    /// What would be sent.
    #[oai(status = 200)]
    Ok(Answer<Preview>),
}

#[derive(Debug, Serialize, Object)]
#[oai(rename = "Templates")]
struct ListOfTemplates {
    templates: Vec<TemplateView>,
}

#[derive(Debug, Serialize, Object)]
#[oai(rename = "Template")]
struct TemplateView {
    /// With its placeholders.
    body: String,
    created_at: Timestamp,
    /// The author's email address.
    created_by: String,
    id: Uuid,
    letter_contact_block: Option<String>,
    name: String,
    /// The placeholders.
    personalisation: BTreeMap<String, Placeholder>,
    postage: Option<String>,
    subject: Option<String>,
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    kind: String,
    updated_at: Option<Timestamp>,
    version: i32,
}

#[derive(Debug, Serialize, Object)]
struct Placeholder {
    /// Always true.
    required: bool,
}

impl From<&Template> for TemplateView {
    fn from(template: &Template) -> Self {
        let placeholders = content::placeholders(template)
            .into_iter()
            .map(|name| (name.to_owned(), Placeholder { required: true }));
        // Texts have no subject, whatever the row says.
        let subject = template
            .subject
            .clone()
            .filter(|_| template.template_type != NotificationType::Sms);
        Self {
            body: template.content.clone(),
            created_at: Timestamp(template.created_at),
            created_by: template.created_by.clone(),
            id: template.id,
            letter_contact_block: None,
            name: template.name.clone(),
            personalisation: placeholders.collect(),
            postage: template.postage.clone(),
            subject,
            kind: template.template_type.as_str().to_owned(),
            updated_at: template.updated_at.map(Timestamp),
            version: template.version,
        }
    }
}

#[derive(Debug, Object)]
struct PreviewRequest {
    /// Values for the placeholders.
    personalisation: Option<serde_json::Value>,
}

#[derive(Debug, Serialize, Object)]
struct Preview {
    body: String,
    /// Of an email.
    html: Option<String>,
    id: Uuid,
    postage: Option<String>,
    subject: Option<String>,
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    kind: String,
    version: i32,
}

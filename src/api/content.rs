//! What messages say: the checks of a template's values, and the texts that clients are shown.

use herald_message::{
    email::{self, EmailTemplate},
    personalisation::Personalisation,
    sms::{self, SmsTemplate},
    template,
};
use herald_store::{NotificationType, templates::Template};
use serde_json::{Map, Value};

use crate::{Error, files};

/// A message as its service sees it: never with the service's name in front.
pub struct Content {
    pub body: String,
    /// Of emails and letters.
    pub subject: Option<String>,
}

/// Fills a template in, with whatever values there are.
pub fn fill(kind: NotificationType, subject: Option<&str>, content: &str, values: &Map<String, Value>) -> Content {
    let values = Personalisation::from_json(values);
    let subject = subject.unwrap_or_default();
    match kind {
        NotificationType::Sms => Content {
            body: sms::render(&SmsTemplate { content, prefix: None }, &values).body,
            subject: None,
        },
        NotificationType::Email | NotificationType::Letter => {
            let template = EmailTemplate {
                subject,
                content,
                unsubscribe_link: None,
            };
            Content {
                body: email::body(&template, &values),
                subject: Some(email::subject(&template, &values)),
            }
        }
    }
}

/// The names of a template's placeholders, in the order of their first appearance, the subject's first.
pub fn placeholders(template: &Template) -> Vec<&str> {
    template::placeholders(&contents(template))
}

/// # Errors
/// When a placeholder has no value.
fn check_complete(template: &Template, values: &Personalisation) -> Result<(), Error> {
    let missing = template::missing(&contents(template), values);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "Missing personalisation: {}",
        missing.join(", ")
    )))
}

/// Subject and content. Texts have no subject, whatever the row says.
fn contents(template: &Template) -> Vec<&str> {
    let subject = template
        .subject
        .as_deref()
        .filter(|_| template.template_type != NotificationType::Sms);
    subject.into_iter().chain([template.content.as_str()]).collect()
}

/// A filled text.
pub struct Text {
    pub body: String,
    characters: usize,
}

/// # Errors
/// When a value is missing, nothing is left to say, or a file is among the values.
pub fn text(template: &Template, values: &Map<String, Value>) -> Result<Text, Error> {
    let personalisation = Personalisation::from_json(values);
    check_complete(template, &personalisation)?;
    let rendered = sms::render(
        &SmsTemplate {
            content: &template.content,
            prefix: None,
        },
        &personalisation,
    );
    if rendered.is_empty {
        return Err(Error::bad_request("Your message is empty."));
    }
    if values.values().any(files::is_file) {
        return Err(Error::bad_request("Can only send a file by email"));
    }
    Ok(Text {
        characters: rendered.character_count,
        body: rendered.message,
    })
}

impl Text {
    pub fn check_length(&self) -> Result<(), Error> {
        let (limit, characters) = (sms::SMS_CHARACTER_LIMIT, self.characters);
        if characters <= limit {
            return Ok(());
        }
        Err(Error::bad_request(format!(
            "Your message is too long. Text messages cannot be longer than {limit} characters. Your message is {characters} characters long."
        )))
    }
}

/// # Errors
/// When a value is missing, or nothing is left to say.
pub fn check_email(template: &Template, values: &Map<String, Value>) -> Result<(), Error> {
    let personalisation = Personalisation::from_json(values);
    check_complete(template, &personalisation)?;
    let email = email_template(template);
    if email::is_empty(&email, &personalisation) {
        Err(Error::bad_request("Your message is empty."))
    } else {
        Ok(())
    }
}

/// A filled email.
pub struct Email {
    pub subject: String,
    /// Markdown.
    pub body: String,
}

/// # Errors
/// When it is too long.
pub fn email(template: &Template, values: &Map<String, Value>) -> Result<Email, Error> {
    let (template, values) = (email_template(template), Personalisation::from_json(values));
    let body = email::body(&template, &values);
    let (limit, bytes) = (email::EMAIL_BYTE_LIMIT, body.len());
    if bytes > limit {
        return Err(Error::bad_request(format!(
            "Your message is too long. Emails cannot be longer than {limit} bytes. Your message is {bytes} bytes."
        )));
    }
    Ok(Email {
        subject: email::subject(&template, &values),
        body,
    })
}

fn email_template(template: &Template) -> EmailTemplate<'_> {
    EmailTemplate {
        subject: template.subject.as_deref().unwrap_or_default(),
        content: &template.content,
        unsubscribe_link: None,
    }
}

/// A filled template, with the email's HTML.
pub struct Preview {
    pub body: String,
    pub subject: Option<String>,
    pub html: Option<String>,
}

/// # Errors
/// When a value is missing.
pub fn preview(template: &Template, values: &Map<String, Value>) -> Result<Preview, Error> {
    let personalisation = Personalisation::from_json(values);
    check_complete(template, &personalisation)?;
    let Content { body, subject } = fill(
        template.template_type,
        template.subject.as_deref(),
        &template.content,
        values,
    );
    let html = (template.template_type == NotificationType::Email)
        .then(|| email::render(&email_template(template), &personalisation).html);
    Ok(Preview { body, subject, html })
}

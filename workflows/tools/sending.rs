//! Texts and emails to their providers.

use std::time::Duration;

use futures::FutureExt;
use herald_engine::{AttemptError, PastAttempt, Prepared, Submission};
use herald_message::{
    email::{self, Branding, EmailTemplate},
    personalisation::Personalisation,
    receipt::{Provider, Receipt},
    sms::{self, SmsTemplate},
    status::Status,
};
use herald_providers::{Accepted, Email, Outcome, SendError, Text};
use herald_store::{
    KeyType, NotificationType,
    notifications::{Sent, ToSend},
    sealed::{OpenError, context},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Tools, choice::Choice, our_database_failed, reading::Unread};
use crate::{effects::CountFragments, measures, research};

/// What a send is going to be, journaled before it happens.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendPlan {
    /// It was not in the status `created` any more: it is somebody else's.
    NotNeeded,
    /// A test key's: no provider is called, and these receipts come.
    Pretend { sent: Sent, receipts: Vec<Receipt> },
    /// How the row will look once the provider has taken it.
    Send(Sent),
}

impl SendPlan {
    /// What is written when the provider has not taken it.
    pub(crate) fn not_taken(&self) -> Submission {
        match self {
            Self::Send(Sent { id, billable_units, .. }) => Submission::new().effect(CountFragments {
                id: *id,
                fragments: *billable_units,
            }),
            Self::NotNeeded | Self::Pretend { .. } => Submission::new(),
        }
    }
}

/// Where the reader of an email can say that it was the last.
struct Unsubscribing {
    /// For mail programs.
    url: Option<String>,
    /// For people.
    page: Option<String>,
}

/// The provider's own name for the message, where it has one.
pub type ProviderReference = Option<String>;

type PreparedSend<'a> = Result<Prepared<'a, SendPlan, ProviderReference>, AttemptError>;

/// The longest pause that a provider may impose on us: an absurd Retry-After must not park a message for ever.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

impl Tools {
    /// Renders a text and chooses who sends it. `age`: at the claim.
    pub(crate) async fn send_text(&self, id: Uuid, age: Duration, past: Vec<PastAttempt>) -> PreparedSend<'_> {
        let earlier = past.len();
        let prepared = self.prepare_text(id, age, past).await;
        prepared.map_err(|error| unhurried(error, earlier))
    }

    async fn prepare_text(&self, id: Uuid, age: Duration, past: Vec<PastAttempt>) -> PreparedSend<'_> {
        let Some(message) = self.to_send(id).await? else {
            return Ok(not_needed());
        };
        measure_queue(&message, age, &past);
        let personalisation = self.personalisation(&message)?;
        let prefix = message.prefix_sms.then_some(message.service_name.as_str());
        let rendered = sms::render(
            &SmsTemplate {
                content: &message.template_content,
                prefix,
            },
            &personalisation,
        );
        let to = message
            .normalised_to
            .clone()
            .ok_or_else(|| AttemptError::never("the recipient has no normal form"))?;
        let Choice {
            provider,
            leaves_others,
        } = self.weights.choose_sms(message.international, &tried(&past)).await?;
        let status = if message.international {
            Status::Sent
        } else {
            Status::Sending
        };
        let billable_units = i32::try_from(rendered.fragments).unwrap_or(i32::MAX);
        let sent = Sent {
            id,
            sent_by: provider.name().to_owned(),
            status,
            billable_units,
            reference: None,
        };
        if message.key_type == KeyType::Test {
            let receipts = research::sms(&to, provider);
            let sent = Sent {
                status: Status::Sending,
                ..sent
            };
            return Ok(Prepared::Done {
                plan: SendPlan::Pretend { sent, receipts },
                answer: None,
            });
        }
        let client = self.sms.iter().find(|client| client.provider() == provider);
        let client = client.ok_or_else(|| AttemptError::again("no client for the chosen provider"))?;
        let text = Text {
            to,
            from: message.reply_to_text.unwrap_or_default(),
            body: rendered.message,
            reference: id,
            international: message.international,
        };
        let call = async move {
            learnt(provider, client.send(&text).await).map_err(|error| match error {
                AttemptError::Again { why, .. } if leaves_others => AttemptError::Again {
                    why,
                    after: Some(Duration::ZERO),
                },
                error => error,
            })
        };
        Ok(Prepared::Call {
            plan: SendPlan::Send(sent),
            call: call.boxed(),
        })
    }

    /// Renders an email. `age`: at the claim.
    pub(crate) async fn send_email(&self, id: Uuid, age: Duration, past: Vec<PastAttempt>) -> PreparedSend<'_> {
        let earlier = past.len();
        let prepared = self.prepare_email(id, age, past).await;
        prepared.map_err(|error| unhurried(error, earlier))
    }

    #[expect(clippy::disallowed_methods, reason = "drawn in an attempt, whose plan is recorded")]
    async fn prepare_email(&self, id: Uuid, age: Duration, past: Vec<PastAttempt>) -> PreparedSend<'_> {
        let Some(message) = self.to_send(id).await? else {
            return Ok(not_needed());
        };
        measure_queue(&message, age, &past);
        let sent_by = Provider::Ses.name().to_owned();
        let sent = Sent {
            id,
            sent_by,
            status: Status::Sending,
            billable_units: 0,
            reference: None,
        };
        if message.key_type == KeyType::Test {
            let receipts = vec![research::email(message.normalised_to.as_deref().unwrap_or(&message.to))];
            let sent = Sent {
                reference: Some(Uuid::now_v7().to_string()),
                ..sent
            };
            return Ok(Prepared::Done {
                plan: SendPlan::Pretend { sent, receipts },
                answer: None,
            });
        }
        let personalisation = self.personalisation(&message)?;
        let Unsubscribing { url, page } = self.unsubscribing(&message);
        let template = EmailTemplate {
            subject: message.template_subject.as_deref().unwrap_or_default(),
            content: &message.template_content,
            unsubscribe_link: page.as_deref(),
        };
        let rendered = email::render(&template, &personalisation);
        let html = email::document(&rendered, &Branding::default());
        let from_name = message.custom_email_sender_name.unwrap_or(message.service_name);
        let email = Email {
            to: message.normalised_to.unwrap_or(message.to),
            from_name,
            from_address: format!("{}@{}", message.email_sender_local_part, self.email_domain),
            reply_to: message.reply_to_text,
            subject: rendered.subject,
            plain_text: rendered.plain_text,
            html,
            unsubscribe: url,
            reference: id,
        };
        // Before the intent: who waits here has sent nothing, whatever becomes of this process.
        self.ses.turn().await;
        let call = async move { learnt(Provider::Ses, self.ses.send(&email).await) };
        Ok(Prepared::Call {
            plan: SendPlan::Send(sent),
            call: call.boxed(),
        })
    }

    /// The header has the service's own link, if it gave one; templates can ask for ours in the header and in the body.
    fn unsubscribing(&self, message: &ToSend) -> Unsubscribing {
        let (id, given) = (message.id, message.unsubscribe_link.clone());
        if !message.template_has_unsubscribe_link {
            return Unsubscribing { url: given, page: None };
        }
        let token = self.sealer.unsubscribe_token(id, &message.to, message.created_at);
        Unsubscribing {
            url: given.or_else(|| Some(format!("{}/unsubscribe/{id}/{token}", self.api_host))),
            page: Some(format!("{}/unsubscribe/{id}/{token}", self.admin_host)),
        }
    }

    /// How many fragments a text has, for a row whose send recorded none. Nothing for an email or an unknown id.
    pub(crate) async fn fragments_of(&self, id: Uuid) -> Result<Prepared<'_, (), Option<i32>>, AttemptError> {
        let message = self
            .read(id)
            .await?
            .filter(|message| message.notification_type == NotificationType::Sms);
        let fragments = match message {
            None => None,
            Some(message) => {
                let personalisation = self.personalisation(&message)?;
                let prefix = message.prefix_sms.then_some(message.service_name.as_str());
                let template = SmsTemplate {
                    content: &message.template_content,
                    prefix,
                };
                i32::try_from(sms::render(&template, &personalisation).fragments).ok()
            }
        };
        Ok(Prepared::Done {
            plan: (),
            answer: fragments,
        })
    }

    /// The message, if it is still to be sent.
    async fn to_send(&self, id: Uuid) -> Result<Option<ToSend>, AttemptError> {
        let message = self
            .read(id)
            .await?
            .ok_or_else(|| AttemptError::never("there is no such notification"))?;
        if message.status != Status::Created {
            tracing::warn!(notification = %id, status = %message.status, "is not to be sent any more");
            return Ok(None);
        }
        if !message.service_active {
            return Err(AttemptError::never("the service is inactive"));
        }
        Ok(Some(message))
    }

    async fn read(&self, id: Uuid) -> Result<Option<ToSend>, AttemptError> {
        let unread = |Unread| our_database_failed();
        self.messages.read(id).await.map_err(unread)
    }

    fn personalisation(&self, message: &ToSend) -> Result<Personalisation, AttemptError> {
        let Some(sealed) = &message.personalisation else {
            return Ok(Personalisation::default());
        };
        let json = self.sealer.open(context::PERSONALISATION, sealed).map_err(|error| {
            let why = format!("the personalisation cannot be opened: {error}");
            match error {
                // A key that is missing here may be known to a worker with other settings.
                OpenError::UnknownKey(_) => AttemptError::again(why),
                OpenError::Forged | OpenError::Form => AttemptError::never(why),
            }
        })?;
        let values =
            serde_json::from_str(&json).map_err(|_| AttemptError::never("the personalisation is not an object"))?;
        Ok(Personalisation::from_json(&values))
    }
}

/// Attempts of a message that trouble with our own database may cost at short intervals.
const HURRIED: usize = 8;

/// Such trouble is soon over, or lasts: after a few attempts the next come by the policy's schedule, so that a message is not
/// given up within minutes.
fn unhurried(error: AttemptError, earlier: usize) -> AttemptError {
    match error {
        AttemptError::Again { why, after: Some(_) } if earlier >= HURRIED => AttemptError::Again { why, after: None },
        error => error,
    }
}

fn not_needed<'a>() -> Prepared<'a, SendPlan, ProviderReference> {
    Prepared::Done {
        plan: SendPlan::NotNeeded,
        answer: None,
    }
}

/// How long a message was due until a worker claimed it: repetitions wait for other reasons.
fn measure_queue(message: &ToSend, age: Duration, past: &[PastAttempt]) {
    if past.is_empty() && message.key_type != KeyType::Test {
        let ahead = message.scheduled_for.map(|wanted| wanted - message.created_at);
        let ahead = ahead.and_then(|ahead| ahead.to_std().ok()).unwrap_or_default();
        measures::queued(message.notification_type, age.saturating_sub(ahead));
    }
}

/// The providers of the attempts so far, oldest first.
fn tried(past: &[PastAttempt]) -> Vec<String> {
    let plans = past
        .iter()
        .filter_map(|attempt| serde_json::from_value(attempt.plan.clone()).ok());
    plans
        .filter_map(|plan| match plan {
            SendPlan::Send(sent) => Some(sent.sent_by),
            SendPlan::NotNeeded | SendPlan::Pretend { .. } => None,
        })
        .collect()
}

/// What a call has brought, once it is counted.
fn learnt(provider: Provider, sent: Result<Accepted, SendError>) -> Result<ProviderReference, AttemptError> {
    let timing = sent
        .as_ref()
        .map_or_else(|error| error.timing, |accepted| accepted.timing);
    measures::called(provider.name(), timing, sent.as_ref().err());
    match sent {
        Ok(accepted) => Ok(accepted.reference),
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &SendError) -> AttemptError {
    let why = in_words(error);
    match error.outcome {
        Outcome::Refused => AttemptError::again(why),
        Outcome::Throttled { after } => AttemptError::Again {
            why,
            after: after.map(|after| after.min(LONGEST_PAUSE)),
        },
        Outcome::Never => AttemptError::never(why),
        Outcome::Unknown => AttemptError::unknown(why),
    }
}

pub(super) fn in_words(error: &SendError) -> String {
    match error.status {
        Some(status) => format!("{} ({status})", error.reason),
        None => error.reason.clone(),
    }
}

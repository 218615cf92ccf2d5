//! The envelope in which Amazon SNS posts, and the text that its signature covers. Pure: whether the signature is right
//! is another matter, since that takes a certificate from the network.

use serde::Deserialize;

use super::CallbackError;

/// What an envelope is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Kind {
    Notification,
    /// SNS wants to see that the endpoint is ours, and that we want its messages: by fetching `subscribe_url`.
    SubscriptionConfirmation,
    /// Somebody has ended the subscription. Fetching `subscribe_url` would begin it again.
    UnsubscribeConfirmation,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Notification => "Notification",
            Self::SubscriptionConfirmation => "SubscriptionConfirmation",
            Self::UnsubscribeConfirmation => "UnsubscribeConfirmation",
        }
    }
}

/// One request body. SNS always sends all of it, but for the subject; what is missing shows when it is needed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Envelope {
    #[serde(rename = "Type")]
    pub kind: Kind,
    pub message: Option<String>,
    pub message_id: Option<String>,
    pub subject: Option<String>,
    pub timestamp: Option<String>,
    pub topic_arn: Option<String>,
    pub token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    pub subscribe_url: Option<String>,
    pub signature_version: Option<String>,
    /// In base64.
    pub signature: Option<String>,
    #[serde(rename = "SigningCertURL")]
    pub certificate_url: Option<String>,
}

impl Envelope {
    /// Reads a request body. Nothing in it is to be believed yet.
    pub fn parse(body: &[u8]) -> Result<Self, CallbackError> {
        serde_json::from_slice(body).map_err(|_| CallbackError::Unreadable("SES", "the body is not an SNS envelope"))
    }

    /// What was signed, after "Verifying the signatures of Amazon SNS messages" in AWS' documentation: names and values
    /// in alphabetical order, a line each. None when something that belongs to it is missing.
    #[must_use]
    pub fn signed_text(&self) -> Option<String> {
        let mut text = String::new();
        let mut add = |name: &str, value: &str| {
            for line in [name, value] {
                text.push_str(line);
                text.push('\n');
            }
        };
        add("Message", self.message.as_deref()?);
        add("MessageId", self.message_id.as_deref()?);
        if self.kind == Kind::Notification {
            if let Some(subject) = &self.subject {
                add("Subject", subject);
            }
            add("Timestamp", self.timestamp.as_deref()?);
        } else {
            add("SubscribeURL", self.subscribe_url.as_deref()?);
            add("Timestamp", self.timestamp.as_deref()?);
            add("Token", self.token.as_deref()?);
        }
        add("TopicArn", self.topic_arn.as_deref()?);
        add("Type", self.kind.name());
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Envelope;

    fn signed_text(envelope: &serde_json::Value) -> Option<String> {
        Envelope::parse(envelope.to_string().as_bytes()).unwrap().signed_text()
    }

    #[test]
    fn the_signed_text_is_the_documented_one() {
        let mut envelope = json!({
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
            "Subject": "My First Message",
            "Message": "Hello\nworld!",
            "Timestamp": "2012-05-02T00:54:06.655Z",
            "SubscribeURL": "https://sns.us-west-2.amazonaws.com/",
            "Token": "t",
        });
        let first = "Message\nHello\nworld!\nMessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\n";
        let topic = "TopicArn\narn:aws:sns:us-west-2:123456789012:MyTopic\n";
        let time = "Timestamp\n2012-05-02T00:54:06.655Z\n";
        assert_eq!(
            signed_text(&envelope).unwrap(),
            format!("{first}Subject\nMy First Message\n{time}{topic}Type\nNotification\n")
        );
        envelope["Subject"] = json!(null);
        assert_eq!(
            signed_text(&envelope).unwrap(),
            format!("{first}{time}{topic}Type\nNotification\n")
        );
        for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
            envelope["Type"] = json!(kind);
            let url = "SubscribeURL\nhttps://sns.us-west-2.amazonaws.com/\n";
            assert_eq!(
                signed_text(&envelope).unwrap(),
                format!("{first}{url}{time}Token\nt\n{topic}Type\n{kind}\n")
            );
        }
    }

    #[test]
    fn an_envelope_without_its_topic_has_no_signed_text() {
        assert_eq!(signed_text(&json!({"Type": "Notification", "Message": "{}"})), None);
        assert!(Envelope::parse(br#"{"Type": "Letter"}"#).is_err());
    }
}

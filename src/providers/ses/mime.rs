//! An email as SES takes it: text and HTML as alternatives, domains in ASCII, names quoted or encoded.

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::url::URL;

use crate::{Email, Outcome, SendError};

/// What SendRawEmail needs; the envelope's addresses stand beside the content.
pub(super) struct Message {
    pub from: String,
    pub to: String,
    pub content: Vec<u8>,
}

/// Writes the message. An address that has no ASCII form will never have one.
pub(super) fn build(email: &Email) -> Result<Message, SendError> {
    let from = ascii_address(&email.from_address)?;
    let to = ascii_address(&email.to)?;
    let reply_to = email.reply_to.as_deref().map(ascii_address).transpose()?;
    let (_, domain) = from.rsplit_once('@').unwrap_or(("", "localhost"));
    let name = one_line(&email.from_name);
    let mut message = MessageBuilder::new()
        // SES puts its own id in its place, and a message without any is looked at askance.
        .message_id(format!("{}@{domain}", email.reference))
        .from(Address::new_address(Some(name.as_str()), from.as_str()))
        .to(Address::new_address(None::<&str>, to.as_str()))
        .subject(one_line(&email.subject))
        .text_body(email.plain_text.as_str())
        .html_body(email.html.as_str());
    if let Some(reply_to) = &reply_to {
        message = message.reply_to(Address::new_address(None::<&str>, reply_to.as_str()));
    }
    if let Some(url) = &email.unsubscribe {
        message = message.header("List-Unsubscribe", URL::new(header_url(url))).header(
            "List-Unsubscribe-Post",
            mail_builder::headers::raw::Raw::new("List-Unsubscribe=One-Click"),
        );
    }
    let content = message
        .write_to_vec()
        .map_err(|_| SendError::new(Outcome::Never, None, "Request failed: it cannot be written"))?;
    Ok(Message { from, to, content })
}

/// The address with its domain in the form that travels: `jo@bücher.example` → `jo@xn--bcher-kva.example`.
fn ascii_address(address: &str) -> Result<String, SendError> {
    let unusable = || SendError::new(Outcome::Never, None, "Request refused: an address has no ASCII form");
    let (local, domain) = address.rsplit_once('@').ok_or_else(unusable)?;
    if local.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return Err(unusable());
    }
    let domain = idna::domain_to_ascii(domain).map_err(|_| unusable())?;
    Ok(format!("{local}@{domain}"))
}

/// Header text on one line: what a line break could smuggle in stays text.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn header_url(url: &str) -> String {
    url.chars()
        .filter(|c| !c.is_control() && !matches!(c, ' ' | '<' | '>'))
        .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::build;
    use crate::{Email, Outcome};

    fn email() -> Email {
        Email {
            to: "jo@bücher.example".into(),
            from_name: "Planning \"Team\"".into(),
            from_address: "planning@notify.tools".into(),
            reply_to: Some("antwort@bücher.example".into()),
            subject: "Hello".into(),
            plain_text: "Dear Jo\n".into(),
            html: "<p>Dear Jo</p>".into(),
            unsubscribe: Some("https://a.uk/u?x=1".into()),
            reference: Uuid::nil(),
        }
    }

    fn lines(email: &Email) -> Vec<String> {
        let content = String::from_utf8(build(email).unwrap().content).unwrap();
        content.lines().map(str::to_owned).collect()
    }

    #[test]
    fn headers_are_as_notify_sends_them() {
        let lines = lines(&email());
        for expected in [
            "From: \"Planning \\\"Team\\\"\" <planning@notify.tools>",
            "To: <jo@xn--bcher-kva.example>",
            "Reply-To: <antwort@xn--bcher-kva.example>",
            "Subject: Hello",
            "List-Unsubscribe: <https://a.uk/u?x=1>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:#?}");
        }
    }

    #[test]
    fn a_line_break_adds_no_header() {
        let mut email = email();
        email.subject = "Hello\r\nBcc: eve@example.com".into();
        email.from_name = "A\r\nBcc: eve@example.com".into();
        email.unsubscribe = Some("https://a.uk/\r\nBcc: <eve@example.com>".into());
        assert!(!lines(&email).iter().any(|line| line.starts_with("Bcc")));
    }

    #[test]
    fn an_address_without_domain_is_never_sent() {
        let mut email = email();
        email.to = "jo".into();
        assert_eq!(build(&email).err().unwrap().outcome, Outcome::Never);
    }
}

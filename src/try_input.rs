//! `herald try`: shows what a number, an address or a template becomes. JSON lines in, JSON lines out.

use herald_message::{
    email::{self, EmailTemplate},
    email_address,
    personalisation::Personalisation,
    phone::{self, NotAllowed},
    sms::{self, SmsTemplate},
    template,
};
use serde_json::{Value, json};

/// Up to so many characters the API's body of a text message is shown even when it is the message itself.
const SHOWN_TWICE: usize = 80;

/// A text message: `{content, personalisation, service_name, prefix_sms}` into what it says and what it costs, or the
/// refusal of the API. Counts are left out when there is nothing to count.
pub fn sms(input: &Value) -> Value {
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let content = text("content");
    let values = input["personalisation"]
        .as_object()
        .map(Personalisation::from_json)
        .unwrap_or_default();
    let missing = template::missing(&[content], &values);
    let mut result = json!({"placeholders": template::placeholders(&[content]), "missing": missing});
    if !missing.is_empty() {
        result["api_error"] = json!(format!("Missing personalisation: {}", missing.join(", ")));
        return result;
    }
    let prefix = (input["prefix_sms"] == true).then(|| text("service_name"));
    let rendered = sms::render(&SmsTemplate { content, prefix }, &values);
    if rendered.is_empty {
        result["api_error"] = json!("Your message is empty.");
        return result;
    }
    if rendered.too_long {
        result["api_error"] = json!(format!(
            "Your message is too long. Text messages cannot be longer than {} characters. \
             Your message is {} characters long.",
            sms::SMS_CHARACTER_LIMIT,
            rendered.character_count_without_prefix,
        ));
    }
    if rendered.body != rendered.message || rendered.message.chars().count() <= SHOWN_TWICE {
        result["api_body"] = json!(rendered.body);
    }
    result["message"] = json!(rendered.message);
    result["fragment_count"] = json!(rendered.fragments);
    result["is_unicode"] = json!(rendered.is_unicode);
    result["too_long"] = json!(rendered.too_long);
    result["character_count"] = json!(rendered.character_count);
    result["character_count_without_prefix"] = json!(rendered.character_count_without_prefix);
    result
}

/// A phone number: `{input, settings: {international, landline}}` into its facts, or the refusal, by request validation
/// (stage `schema`) or for lack of a permission (stage `service`).
pub fn phone(input: &Value) -> Value {
    let may = |name: &str| input["settings"][name] == true;
    let permissions = phone::Permissions {
        international: may("international"),
        landline: may("landline"),
    };
    let number = match phone::parse(input["input"].as_str().unwrap_or_default()) {
        Ok(number) => number,
        Err(refusal) => {
            let message = format!("phone_number {refusal}");
            return json!({"stage": "schema", "error": "ValidationError", "code": refusal.code(), "message": message});
        }
    };
    match number.allowed(permissions) {
        Ok(()) => json!({
            "normalised": number.normalised,
            "international": number.international,
            "country_prefix": number.country_prefix,
            "rate_multiplier": number.rate_multiplier,
            "crown_dependency": number.crown_dependency,
        }),
        Err(refusal @ NotAllowed::NotAUkMobile) => json!({
            "stage": "service",
            "error": "InvalidPhoneError",
            "code": "not_a_uk_mobile",
            "message": refusal.to_string(),
        }),
        Err(refusal @ NotAllowed::InternationalForbidden) => {
            json!({"stage": "service", "error": "BadRequestError", "message": refusal.to_string()})
        }
    }
}

/// An email address: `{input}` into the form that is searched, or the refusal.
pub fn email_address(input: &Value) -> Value {
    match email_address::parse(input["input"].as_str().unwrap_or_default()) {
        Ok(address) => json!({"normalised": address.normalised}),
        Err(refusal) => json!({"error": "ValidationError", "message": format!("email_address {refusal}")}),
    }
}

/// An email: `{subject, content, personalisation, unsubscribe_link}` into its parts, or the refusal of the API. What
/// is the same as something else is left out.
pub fn email(input: &Value) -> Value {
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let (subject, content) = (text("subject"), text("content"));
    let template = EmailTemplate {
        subject,
        content,
        unsubscribe_link: input["unsubscribe_link"].as_str(),
    };
    let values = input["personalisation"]
        .as_object()
        .map(Personalisation::from_json)
        .unwrap_or_default();
    let mut result = json!({"placeholders": email::placeholders(&template)});
    let missing = template::missing(&[subject, content], &values);
    if !missing.is_empty() {
        result["api_error"] = json!(format!("Missing personalisation: {}", missing.join(", ")));
        result["missing"] = json!(missing);
        return result;
    }
    if email::is_empty(&template, &values) {
        result["api_error"] = json!("Your message is empty.");
        return result;
    }
    let rendered = email::render(&template, &values);
    if rendered.subject_html != rendered.subject {
        result["subject_html"] = json!(rendered.subject_html);
    }
    if rendered.body != content {
        result["body"] = json!(rendered.body);
    }
    result["subject"] = json!(rendered.subject);
    result["html"] = json!(rendered.html);
    result["plain_text"] = json!(rendered.plain_text);
    result["preheader"] = json!(rendered.preheader);
    result
}


use crate::{personalisation::Personalisation, template::{self, Fill}};
pub struct EmailTemplate<'a> { pub subject: &'a str, pub content: &'a str, pub unsubscribe_link: Option<&'a str> }
pub struct RenderedEmail { pub subject: String, pub subject_html: String, pub body: String, pub html: String, pub plain_text: String, pub preheader: String }
#[derive(Default)]
pub struct Branding;
pub const MAX_BYTES: usize = 2_000_000;
pub fn shown(t: &EmailTemplate, p: &Personalisation) -> (String, String) { (template::fill(t.subject, p, Fill::TEXT), template::fill(t.content, p, Fill::TEXT)) }
pub fn is_empty(t: &EmailTemplate, p: &Personalisation) -> bool { shown(t, p).1.trim().is_empty() }
pub fn render(t: &EmailTemplate, p: &Personalisation) -> RenderedEmail {
    let (subject, body) = shown(t, p);
    RenderedEmail { subject_html: subject.clone(), subject, html: body.clone(), plain_text: body.clone(), preheader: body.clone(), body }
}
pub fn document(e: &RenderedEmail, _b: &Branding) -> String { e.html.clone() }

//! The whole HTML document of an email: head, hidden preheader, banner, body. The layout is tables with inline styles,
//! for mail clients know little else.

use super::RenderedEmail;

/// Whose mail it is. The default is the GOV.UK banner alone. Nothing in it has to be escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branding {
    /// A black bar with "GOV.UK" at the top.
    pub govuk_banner: bool,
    /// The organisation's logo and name stand in a bar of its colour, not beside a line of it.
    pub brand_banner: bool,
    /// A colour such as `#00703c`. Others than three or six hexadecimal digits are not used.
    pub colour: Option<String>,
    /// The URL of an image.
    pub logo_url: Option<String>,
    /// The organisation's name, shown next to its logo.
    pub text: Option<String>,
    /// What is read out in place of the logo; without it, the name is.
    pub alt_text: Option<String>,
}

impl Default for Branding {
    fn default() -> Self {
        Self {
            govuk_banner: true,
            brand_banner: false,
            colour: None,
            logo_url: None,
            text: None,
            alt_text: None,
        }
    }
}

/// How wide the content is at most, in pixels.
const WIDTH: u32 = 580;

const GOVUK_BLACK: &str = "#0b0c0c";

/// A document with the subject as title and the email's HTML as body.
#[must_use]
pub fn document(email: &RenderedEmail, branding: &Branding) -> String {
    let RenderedEmail {
        subject_html,
        preheader,
        html,
        ..
    } = email;
    let govuk = if branding.govuk_banner {
        govuk_banner()
    } else {
        String::new()
    };
    let brand = brand(branding);
    let content = centred(
        "#ffffff",
        &format!("<td style=\"padding: 30px 10px; font-family: Helvetica, Arial, sans-serif;\">\n{html}\n</td>"),
    );
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="format-detection" content="telephone=no">
<title>{subject_html}</title>
</head>
<body style="margin: 0; padding: 0; font-family: Helvetica, Arial, sans-serif; background: #ffffff;">
<span style="display: none; font-size: 1px; color: #ffffff; max-height: 0; overflow: hidden;">{preheader}…</span>
{govuk}{brand}{content}</body>
</html>
"#
    )
}

fn govuk_banner() -> String {
    centred(
        GOVUK_BLACK,
        "<td style=\"padding: 15px 10px; font-size: 28px; font-weight: bold;\">\
         <a href=\"https://www.gov.uk\" style=\"color: #ffffff; text-decoration: none;\">GOV.UK</a></td>",
    )
}

/// The organisation's banner, or its logo and name beside a line of its colour; nothing if it has none of them.
fn brand(branding: &Branding) -> String {
    let given = |text: &Option<String>| text.as_deref().map(attribute).filter(|text| !text.is_empty());
    let (name, logo) = (given(&branding.text), given(&branding.logo_url));
    let colour = branding.colour.as_deref().filter(|colour| is_colour(colour));
    if name.is_none() && logo.is_none() {
        return String::new();
    }
    let alternative = given(&branding.alt_text).unwrap_or_default();
    let height = if branding.brand_banner { 27 } else { 108 };
    let image = logo.map_or_else(String::new, |url| {
        format!("<img src=\"{url}\" alt=\"{alternative}\" height=\"{height}\" style=\"border: 0; max-width: 100%;\">")
    });
    let (background, ink, line) = match (branding.brand_banner, colour) {
        (true, colour) => (colour.unwrap_or(GOVUK_BLACK), "#ffffff", String::new()),
        (false, Some(colour)) => ("#ffffff", GOVUK_BLACK, format!(" border-left: 2px solid {colour};")),
        (false, None) => ("#ffffff", GOVUK_BLACK, String::new()),
    };
    let between = if image.is_empty() || name.is_none() { "" } else { "<br>" };
    let name = name.unwrap_or_default();
    centred(
        background,
        &format!(
            "<td style=\"padding: 10px;\"><div style=\"padding: 0 10px; font-size: 19px; line-height: 25px; \
             color: {ink};{line}\">{image}{between}{name}</div></td>"
        ),
    )
}

/// A bar over the whole width with a table row in its middle.
fn centred(background: &str, cell: &str) -> String {
    format!(
        "<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" \
         style=\"border-collapse: collapse; background: {background};\"><tr><td align=\"center\">\n\
         <table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" \
         style=\"border-collapse: collapse; max-width: {WIDTH}px; text-align: left;\"><tr>{cell}</tr></table>\n\
         </td></tr></table>\n"
    )
}

fn is_colour(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or_default();
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Escaped for an attribute in double quotes, and so for text as well.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

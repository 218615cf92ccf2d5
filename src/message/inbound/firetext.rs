//! What Firetext sends: a form with `source`, `destination`, `message` and `time`.

use super::{InboundText, Names, NoText, at_home, sender};

const NAMES: Names = Names {
    to: "destination",
    from: "source",
    content: "message",
    reference: "",
};

/// Reads the form. Of a field given twice the first counts.
pub fn parse(body: &[u8]) -> Result<InboundText, NoText> {
    let field = |name: &'static str| {
        form_urlencoded::parse(body)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .ok_or(NoText::Missing(name))
    };
    let text = InboundText {
        to: at_home(&field(NAMES.to)?),
        from: sender(&field(NAMES.from)?),
        content: field(NAMES.content)?,
        reference: None,
        sent_at: field("time")?,
    };
    text.check(NAMES)
}

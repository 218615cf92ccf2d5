//! What the routes of the internal API share: how they read bodies, and how they refuse, always in the legacy shape.

use poem::http::StatusCode;
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaResponses, Registry},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    Error,
    error::{LegacyErrors, OtherError, described, legacy},
    payload::Answer,
};

/// The most characters of a reason.
pub const LONGEST_REASON: usize = 500;

/// Why a request is refused. Documents only what every route of the internal API can answer.
#[derive(Debug)]
pub enum Refusal {
    /// A field of the body, or the whole of it (`_schema`), is not as it must be.
    Field {
        name: String,
        fault: String,
    },
    Other(OtherError),
}

impl Refusal {
    pub fn of_field(name: impl Into<String>, fault: impl Into<String>) -> Self {
        Self::Field {
            name: name.into(),
            fault: fault.into(),
        }
    }
}

/// Reads a body; what is wrong with it is told with the field's path.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let name = if path == "." { "_schema".to_owned() } else { path };
        Refusal::of_field(name, error.into_inner().to_string())
    })?;
    json.end()
        .map_err(|error| Refusal::of_field("_schema", error.to_string()))?;
    Ok(value)
}

/// Why somebody does something; it is kept for ever.
pub fn reason(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > LONGEST_REASON {
        let fault = format!("Must be from 1 to {LONGEST_REASON} characters long.");
        return Err(Refusal::of_field("reason", fault));
    }
    storable("reason", text)?;
    Ok(text.to_owned())
}

/// Postgres cannot store U+0000 in text, nor compare with it.
pub fn storable(name: &str, text: &str) -> Result<(), Refusal> {
    if text.contains('\0') {
        return Err(Refusal::of_field(name, "Must not contain null characters."));
    }
    Ok(())
}

impl<E> From<E> for Refusal
where
    Error: From<E>,
{
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl From<Refusal> for poem::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Field { name, fault } => {
                Self::from_response(legacy(StatusCode::BAD_REQUEST, json!({ name: [fault] })))
            }
            Refusal::Other(error) => error.into(),
        }
    }
}

impl ApiResponse for Refusal {
    fn meta() -> MetaResponses {
        let mut meta = OtherError::meta();
        meta.responses.extend([
            described::<LegacyErrors>(
                400,
                "A parameter or a field of the body is wrong; `message` says which and why.",
            ),
            described::<LegacyErrors>(
                401,
                "There is no bearer token, or it is of somebody who may not call this.",
            ),
            described::<LegacyErrors>(403, "The token is wrong, or too old."),
        ]);
        meta
    }

    fn register(registry: &mut Registry) {
        OtherError::register(registry);
        <Answer<LegacyErrors> as Payload>::register(registry);
    }
}

//! How a request can fail, and the two shapes in which clients of GOV.UK Notify expect to be told.
//!
//! *v2*: `{"status_code": N, "errors": [{"error": Class, "message": text}]}`; *legacy*, for everything outside `/v2` and for
//! routes that do not exist: `{"result": "error", "message": text-or-object}`. The classes are wire text that
//! clients switch on. An error that is not the caller's fault is logged here, once, and told without detail.

use std::borrow::Cow;

use herald_store::KeyType;
use poem::{Response, error::ResponseError, http::StatusCode};
use poem_openapi::{
    ApiResponse, Object,
    error::ParseParamError,
    payload::Payload,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::Type,
};
use serde::Serialize;
use serde_json::json;

use crate::payload::{Answer, json_response};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body or the query does not fit its schema; one message a fault.
    #[error("{}", .0.join("; "))]
    Validation(Vec<String>),
    #[error("{message}")]
    Auth { status: StatusCode, message: &'static str },
    /// What is asked for is well formed, but cannot be done.
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    #[error("{0}")]
    InvalidPhone(String),
    #[error("Exceeded rate limit for key type {} of {rate} requests per 60 seconds", shown(*.key_type))]
    RateLimit { key_type: KeyType, rate: i32 },
    #[error("Exceeded send limits ({name}: {limit}) for today")]
    DailyLimit { name: &'static str, limit: i64 },
    #[error("The idempotency key was used for another request")]
    KeyReused,
    /// It is too late for what is asked for.
    #[error("{0}")]
    Conflict(&'static str),
    #[error("No result found")]
    NotFound,
    /// The address is not one of ours after all.
    #[error("there is no such route")]
    NoRoute,
    #[error("The request is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("The body of the request did not arrive in time")]
    TooSlow,
    #[error("{0}")]
    NotAvailable(&'static str),
    #[error("Timeout serving request")]
    TimedOut,
    #[error("The service is temporarily unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("Internal server error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::BadRequest(message.into())
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Validation(vec![message.into()])
    }

    fn http_status(&self) -> StatusCode {
        match self {
            Self::Validation(_) | Self::BadRequest(_) | Self::InvalidPhone(_) => StatusCode::BAD_REQUEST,
            Self::Auth { status, .. } => *status,
            Self::RateLimit { .. } | Self::DailyLimit { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NotFound | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NotAvailable(_) => StatusCode::NOT_IMPLEMENTED,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn class(&self) -> &'static str {
        match self {
            Self::Validation(_) => "ValidationError",
            Self::Auth { .. } => "AuthError",
            Self::BadRequest(_) => "BadRequestError",
            Self::InvalidPhone(_) => "InvalidPhoneError",
            Self::RateLimit { .. } => "RateLimitError",
            Self::DailyLimit { .. } => "TooManyRequestsError",
            Self::KeyReused => "IdempotencyKeyError",
            Self::Conflict(_) => "ConflictError",
            Self::NotFound | Self::NoRoute => "NoResultFound",
            Self::TooLarge { .. } => "RequestEntityTooLarge",
            Self::TooSlow => "RequestTimeout",
            Self::NotAvailable(_) => "NotImplementedError",
            Self::TimedOut => "GatewayTimeout",
            Self::Unavailable(_) => "ServiceUnavailable",
            Self::Internal(_) => "InternalServerError",
        }
    }

    pub fn to_response(&self, shape: Shape) -> Response {
        match self {
            Self::Internal(cause) => tracing::error!(error = %causes(cause.as_ref()), "a request failed"),
            Self::Unavailable(cause) => {
                tracing::warn!(error = %causes(cause.as_ref()), "a request could not be served")
            }
            Self::NoRoute => return not_found(),
            _ => {}
        }
        let status = self.http_status();
        let mut response = match shape {
            Shape::V2 => json_response(status, &self.to_errors()),
            Shape::Legacy => legacy(status, self.to_string()),
        };
        if matches!(self, Self::TooLarge { .. } | Self::TooSlow) {
            // The rest of the body is not read, so nothing more can follow on this connection.
            response
                .headers_mut()
                .insert("connection", poem::http::HeaderValue::from_static("close"));
        }
        response
    }

    fn to_errors(&self) -> Errors {
        let error = |message| ErrorMessage {
            error: self.class().to_owned(),
            message,
        };
        Errors {
            errors: match self {
                Self::Validation(messages) => messages.iter().cloned().map(error).collect(),
                other => vec![error(other.to_string())],
            },
            status_code: self.http_status().as_u16(),
        }
    }
}

/// In which of its shapes an error is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    V2,
    Legacy,
}

impl Shape {
    /// The shape of a route, by its path.
    pub fn of(path: &str) -> Self {
        if path.starts_with("/v2/") {
            Self::V2
        } else {
            Self::Legacy
        }
    }
}

/// How the rate limit's message calls a sort of key.
fn shown(key_type: KeyType) -> &'static str {
    match key_type {
        KeyType::Normal => "LIVE",
        KeyType::Team => "TEAM",
        KeyType::Test => "TEST",
    }
}

/// A text with its causes; none of ours carries personal data.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
                Self::Unavailable(error.into())
            }
            _ => Self::Internal(error.into()),
        }
    }
}

impl From<herald_store::Error> for Error {
    fn from(error: herald_store::Error) -> Self {
        if error.is_transient() {
            Self::Unavailable(error.into())
        } else {
            Self::Internal(error.into())
        }
    }
}

impl From<herald_engine::Error> for Error {
    fn from(error: herald_engine::Error) -> Self {
        match error {
            herald_engine::Error::Unavailable => Self::Unavailable(error.into()),
            herald_engine::Error::Database(error) => error.into(),
            _ => Self::Internal(error.into()),
        }
    }
}

impl ResponseError for Error {
    fn status(&self) -> StatusCode {
        self.http_status()
    }

    fn as_response(&self) -> Response {
        self.to_response(Shape::V2)
    }
}

impl ApiResponse for Error {
    fn meta() -> MetaResponses {
        let mut responses = failures::<Errors>();
        responses.extend([
            described::<Errors>(
                400,
                "`ValidationError`, `BadRequestError` or `InvalidPhoneError`: it cannot be done as it is asked for.",
            ),
            described::<Errors>(401, "`AuthError`: there is no bearer token."),
            described::<Errors>(403, "`AuthError`: the token is wrong, too old, or of a revoked key."),
            described::<Errors>(404, "`NoResultFound`: the service has no such thing."),
            described::<Errors>(409, "`ConflictError`: it is too late for that."),
            described::<Errors>(
                422,
                "`IdempotencyKeyError`: the `Idempotency-Key`, or the reference that serves as one, was used for another request.",
            ),
            described::<Errors>(
                429,
                "`RateLimitError`: too many requests in a minute; `TooManyRequestsError`: too many messages today.",
            ),
            described::<Errors>(501, "`NotImplementedError`: Herald cannot do this yet."),
        ]);
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        <Answer<Errors> as Payload>::register(registry);
    }
}

/// An error of routes outside `/v2`, which is told in the legacy shape. Documents only what may befall any request: how else
/// they refuse is the routes' own.
#[derive(Debug)]
pub struct OtherError(Error);

impl<E> From<E> for OtherError
where
    Error: From<E>,
{
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<OtherError> for poem::Error {
    fn from(error: OtherError) -> Self {
        error.0.into()
    }
}

impl ApiResponse for OtherError {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: failures::<LegacyErrors>(),
        }
    }

    fn register(registry: &mut Registry) {
        <Answer<LegacyErrors> as Payload>::register(registry);
    }
}

/// What may befall any request, in the shape of its route.
fn failures<T: Type>() -> Vec<MetaResponse> {
    vec![
        described::<T>(408, "The body did not arrive in time."),
        described::<T>(413, "The body is too large."),
        described::<T>(500, "Something went wrong that is not the caller's fault."),
        described::<T>(503, "Not now; try again later."),
        described::<T>(504, "It took too long. Whether it was done is not known."),
    ]
}

/// An answer of the shape `T`, for the documentation.
pub fn described<T: Type>(status: u16, description: &'static str) -> MetaResponse {
    MetaResponse {
        description,
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: <Answer<T> as Payload>::CONTENT_TYPE,
            schema: <Answer<T> as Payload>::schema_ref(),
        }],
        headers: Vec::new(),
    }
}

/// What every `/v2` route answers when it fails.
#[derive(Debug, Serialize, Object)]
struct Errors {
    errors: Vec<ErrorMessage>,
    status_code: u16,
}

#[derive(Debug, Serialize, Object)]
#[oai(rename = "Error")]
struct ErrorMessage {
    /// The class of the error, such as `ValidationError`.
    error: String,
    /// What is wrong, in English.
    message: String,
}

/// The legacy shape.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "LegacyError")]
pub struct LegacyErrors {
    /// What is wrong: text, or JSON of any kind.
    message: serde_json::Value,
    /// Always `error`.
    result: String,
}

impl LegacyErrors {
    pub fn new(message: impl Into<serde_json::Value>) -> Self {
        Self {
            message: message.into(),
            result: "error".to_owned(),
        }
    }
}

pub fn legacy(status: StatusCode, message: impl Into<serde_json::Value>) -> Response {
    json_response(status, &LegacyErrors::new(message))
}

/// What is wrong with a token, in the legacy shape; other errors as they are.
pub fn legacy_token(error: Error) -> poem::Error {
    match error {
        Error::Auth { status, message } => poem::Error::from_response(legacy(status, json!({ "token": [message] }))),
        other => other.into(),
    }
}

/// Answers for an error of a route, or of the framework: a route or method that does not exist, or a bug.
pub fn answer(error: poem::Error, shape: Shape) -> Response {
    if let Some(ours) = error.downcast_ref::<Error>() {
        return ours.to_response(shape);
    }
    if error.is_from_response() {
        return error.into_response();
    }
    if let Some(fault) = error.downcast_ref::<ParseParamError>() {
        return match shape {
            Shape::V2 => Error::invalid(format!("{} {}", fault.name, fault.reason)).to_response(shape),
            Shape::Legacy => legacy(StatusCode::BAD_REQUEST, json!({ fault.name: [fault.reason] })),
        };
    }
    match error.status() {
        StatusCode::NOT_FOUND => not_found(),
        StatusCode::METHOD_NOT_ALLOWED => legacy(
            StatusCode::METHOD_NOT_ALLOWED,
            "The method is not allowed for the requested URL.",
        ),
        _ => Error::Internal(error.to_string().into()).to_response(shape),
    }
}

/// Werkzeug's text for a route that does not exist, which clients have seen for years.
pub fn not_found() -> Response {
    legacy(
        StatusCode::NOT_FOUND,
        "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.",
    )
}

//! What goes over the wire: bodies as they arrive, with limits, and JSON answers with their keys in order.
//!
//! Answers are plain `serde` structs whose fields stand in alphabetical order, because Notify sorts keys.
//! Bodies are read whatever their content type, and only then judged: poem-openapi's own payloads stop at the
//! first fault and know no limits.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use poem::{
    IntoResponse, Request, RequestBody, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions, NewType,
    payload::Payload,
    registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

use crate::{App, Error};

/// How much of a body is accepted, and for how long it is waited for.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    pub bytes: usize,
    pub patience: Duration,
}

impl Default for BodyLimits {
    /// Room for the longest email (2,000,000 bytes) in its JSON.
    fn default() -> Self {
        Self {
            bytes: 2 * 1024 * 1024,
            patience: Duration::from_secs(15),
        }
    }
}

/// The bytes of a body that is documented as a `T`, in JSON or as a form.
#[derive(Debug)]
pub struct Posted<T, const FORM: bool = false> {
    pub bytes: Vec<u8>,
    documented: PhantomData<T>,
}

impl<'a, T: Type, const FORM: bool> ApiExtractor<'a> for Posted<T, FORM> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content_type = if FORM {
            "application/x-www-form-urlencoded"
        } else {
            "application/json"
        };
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type,
                schema: T::schema_ref(),
            }],
            required: T::IS_REQUIRED,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let limits = request
            .data::<Arc<App>>()
            .map(|app| app.settings.body)
            .unwrap_or_default();
        let announced = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > limits.bytes) {
            return Err(Error::TooLarge { limit: limits.bytes }.into());
        }
        Ok(Self {
            bytes: read(body, limits).await?,
            documented: PhantomData,
        })
    }
}

async fn read(body: &mut RequestBody, limits: BodyLimits) -> Result<Vec<u8>, Error> {
    let Ok(body) = body.take() else { return Ok(Vec::new()) };
    let mut parts = body.into_bytes_stream();
    let mut bytes = Vec::new();
    let all = async {
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| {
                tracing::debug!(%error, "the client went away in the middle of a body");
                Error::TooSlow
            })?;
            if bytes.len() + part.len() > limits.bytes {
                return Err(Error::TooLarge { limit: limits.bytes });
            }
            bytes.extend_from_slice(&part);
        }
        Ok(())
    };
    tokio::time::timeout(limits.patience, all)
        .await
        .map_err(|_elapsed| Error::TooSlow)??;
    Ok(bytes)
}

/// UTC, always with six digits after the point.
#[derive(Debug, NewType)]
#[oai(to_header = false)]
pub struct Timestamp(pub DateTime<Utc>);

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }
}

/// A JSON answer.
#[derive(Debug)]
pub struct Answer<T>(pub T);

impl<T: Type> Payload for Answer<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        json_response(StatusCode::OK, &self.0)
    }
}

pub fn json_response(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("answers are made of maps with text keys, lists, text and numbers");
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(body)
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::{Stream, stream};
    use poem::Body;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        bytes: 10,
        patience: Duration::from_millis(5),
    };

    async fn outcome(
        parts: impl Stream<Item = Result<&'static str, io::Error>> + Send + 'static,
    ) -> Result<String, String> {
        let mut body = RequestBody::new(Body::from_bytes_stream(parts));
        let read = read(&mut body, LIMITS).await.map_err(|error| error.to_string());
        read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[tokio::test]
    async fn a_body_has_so_many_bytes_and_takes_so_long_at_most() {
        assert_eq!(
            outcome(stream::iter([Ok("12345"), Ok("67890")])).await,
            Ok("1234567890".to_owned())
        );
        let too_large = outcome(stream::iter([Ok("12345"), Ok("67890"), Ok("1")])).await;
        assert_eq!(too_large, Err("The request is larger than 10 bytes".to_owned()));
        let too_slow = Err("The body of the request did not arrive in time".to_owned());
        assert_eq!(
            outcome(stream::iter([Ok("1")]).chain(stream::pending())).await,
            too_slow
        );
        assert_eq!(
            outcome(stream::iter([Ok("1"), Err(io::ErrorKind::ConnectionReset.into())])).await,
            too_slow
        );
    }
}

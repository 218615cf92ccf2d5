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
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{App, Error};

/// How much of a body is accepted, and for how long it is waited for.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    pub bytes: usize,
    pub patience: Duration,
    /// Of a body that may have files in it.
    pub bytes_with_files: usize,
    /// Bodies of more than `bytes` at the same time, whoever sends them: each is in memory several times over.
    pub large_at_once: usize,
}

impl Default for BodyLimits {
    /// Room for the longest email (2,000,000 bytes) in its JSON, and for five files of 2 MB in base64 beside it.
    fn default() -> Self {
        Self {
            bytes: 2 * 1024 * 1024,
            patience: Duration::from_secs(15),
            bytes_with_files: 16 * 1024 * 1024,
            large_at_once: 16,
        }
    }
}

/// What a body is and how long it may be.
pub trait Kind: Send + Sync + 'static {
    const CONTENT_TYPE: &'static str = "application/json";

    fn most_bytes(limits: BodyLimits) -> usize {
        limits.bytes
    }
}

#[derive(Debug)]
pub struct Json;

impl Kind for Json {}

#[derive(Debug)]
pub struct JsonWithFiles;

impl Kind for JsonWithFiles {
    fn most_bytes(limits: BodyLimits) -> usize {
        limits.bytes_with_files
    }
}

#[derive(Debug)]
pub struct Form;

impl Kind for Form {
    const CONTENT_TYPE: &'static str = "application/x-www-form-urlencoded";
}

/// The bytes of a body that is documented as a `T`.
#[derive(Debug)]
pub struct Posted<T, K = Json> {
    pub bytes: Vec<u8>,
    /// Held while a large body is in memory.
    _turn: Option<OwnedSemaphorePermit>,
    documented: PhantomData<(T, K)>,
}

impl<'a, T: Type, K: Kind> ApiExtractor<'a> for Posted<T, K> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: K::CONTENT_TYPE,
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
        let app = request.data::<Arc<App>>().expect("every route has the app");
        let limits = app.settings.body;
        let most = K::most_bytes(limits);
        let announced = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > most) {
            return Err(Error::TooLarge { limit: most }.into());
        }
        let (bytes, turn) = read(body, limits, most, &app.large_bodies).await?;
        Ok(Self {
            bytes,
            _turn: turn,
            documented: PhantomData,
        })
    }
}

/// Reads a body of `most` bytes at most. One that is longer than ordinary ones waits for its turn.
async fn read(
    body: &mut RequestBody,
    limits: BodyLimits,
    most: usize,
    turns: &Arc<Semaphore>,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Error> {
    let Ok(body) = body.take() else {
        return Ok((Vec::new(), None));
    };
    let until = Instant::now() + limits.patience;
    let mut parts = body.into_bytes_stream();
    let (mut bytes, mut turn) = (Vec::new(), None);
    while let Some(part) = timeout_at(until, parts.next())
        .await
        .map_err(|_elapsed| Error::TooSlow)?
    {
        let part = part.map_err(|error| {
            tracing::debug!(%error, "the client went away in the middle of a body");
            Error::TooSlow
        })?;
        let length = bytes.len() + part.len();
        if length > most {
            return Err(Error::TooLarge { limit: most });
        }
        if length > limits.bytes && turn.is_none() {
            turn = Some(next_turn(turns, until).await?);
        }
        bytes.extend_from_slice(&part);
    }
    Ok((bytes, turn))
}

async fn next_turn(turns: &Arc<Semaphore>, until: Instant) -> Result<OwnedSemaphorePermit, Error> {
    match timeout_at(until, Arc::clone(turns).acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Error::Unavailable("too many large requests at once".into())),
    }
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
        bytes_with_files: 15,
        large_at_once: 1,
    };

    async fn outcome(
        parts: impl Stream<Item = Result<&'static str, io::Error>> + Send + 'static,
    ) -> Result<String, String> {
        let mut body = RequestBody::new(Body::from_bytes_stream(parts));
        let turns = Arc::new(Semaphore::new(0));
        let read = read(&mut body, LIMITS, LIMITS.bytes, &turns)
            .await
            .map_err(|error| error.to_string());
        read.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned())
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

    #[tokio::test]
    async fn large_bodies_wait_for_one_another_and_others_do_not() {
        let turns = Arc::new(Semaphore::new(LIMITS.large_at_once));
        let post = async |parts: [&'static str; 2]| {
            let mut body = RequestBody::new(Body::from_bytes_stream(stream::iter(parts.map(Ok::<_, io::Error>))));
            read(&mut body, LIMITS, LIMITS.bytes_with_files, &turns).await
        };
        let (large, ordinary) = (["1234567890", "12345"], ["12345", "67890"]);
        let first = post(large).await.expect("it is its turn");
        assert!(matches!(post(large).await, Err(Error::Unavailable(_))));
        let (bytes, turn) = post(ordinary).await.expect("it is not large");
        assert!(bytes.len() == LIMITS.bytes && turn.is_none());
        drop(first);
        post(large).await.expect("it is its turn now");
        let too_large = post(["1234567890", "123456"]).await;
        assert!(matches!(too_large, Err(Error::TooLarge { limit: 15 })));
    }
}

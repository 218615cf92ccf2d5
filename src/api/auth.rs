//! Who is calling: the checks of a service's bearer token, in the order and the words of GOV.UK Notify.

use std::sync::Arc;

use chrono::Utc;
use herald_store::{KeyType, services::Service};
use poem::{
    Request, RequestBody,
    http::{HeaderMap, StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use uuid::Uuid;

use crate::{
    App, Error,
    cache::KnownService,
    formats,
    token::{SigningKey, Token, Verdict},
};

const SCHEME: &str = "ServiceKey";

pub const NOT_A_TOKEN: &str = "Invalid token: make sure your API token matches the example at https://docs.notifications.service.gov.uk/rest-api.html#authorisation-header";

/// A service, proven by one of its keys.
#[derive(Debug, Clone)]
pub struct Caller {
    known: Arc<KnownService>,
    pub key_id: Uuid,
    pub key_type: KeyType,
}

impl Caller {
    pub fn service(&self) -> &Service {
        &self.known.service
    }

    /// Whether the service has a permission, such as `sms` or `international_sms`.
    pub fn may(&self, permission: &str) -> bool {
        self.service().permissions.contains(permission)
    }

    async fn of(request: &Request) -> Result<Self, Error> {
        let app: &Arc<App> = request.data().expect("every request is given the application");
        let token = bearer(request.headers())?;
        let token = Token::read(token).ok_or_else(|| forbidden(NOT_A_TOKEN))?;
        let issuer = token
            .issuer()
            .ok_or_else(|| forbidden("Invalid token: iss field not provided"))?;
        let service_id = issuer
            .as_str()
            .and_then(formats::uuid)
            .ok_or_else(|| forbidden("Invalid token: service id is not the right data type"))?;
        let known = app
            .cache
            .service(service_id)
            .await?
            .ok_or_else(|| forbidden("Invalid token: service not found"))?;
        if known.keys.is_empty() {
            return Err(forbidden("Invalid token: service has no API keys"));
        }
        if !known.service.active {
            return Err(forbidden("Invalid token: service is archived"));
        }
        let key = signer(&known.keys, |key| &key.signing, &token, Utc::now().timestamp())?;
        if key.revoked {
            return Err(forbidden("Invalid token: API key revoked"));
        }
        let (key_id, key_type) = (key.id, key.key_type);
        Ok(Self {
            known,
            key_id,
            key_type,
        })
    }
}

/// The first of the caller's keys that signed the token. An objection of a key is final, except that it did not sign.
pub fn signer<'k, K>(
    keys: &'k [K],
    signing: impl Fn(&K) -> &SigningKey,
    token: &Token<'_>,
    now: i64,
) -> Result<&'k K, Error> {
    for key in keys {
        match token.check(signing(key), now) {
            Verdict::Good => return Ok(key),
            Verdict::OtherKey => {}
            Verdict::NotHs256 => return Err(forbidden("Invalid token: algorithm used is not HS256")),
            Verdict::ClockOff => {
                return Err(forbidden(
                    "Error: Your system clock must be accurate to within 30 seconds",
                ));
            }
            Verdict::Unacceptable => return Err(forbidden(NOT_A_TOKEN)),
        }
    }
    Err(forbidden("Invalid token: API key not found"))
}

/// The token in the header. The scheme may be spelled in any case; HTTP takes the space away when nothing follows it.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let header = headers
        .get(header::AUTHORIZATION)
        .filter(|header| !header.is_empty())
        .ok_or_else(|| unauthorized("Unauthorized: authentication token must be provided"))?;
    let header = header.to_str().unwrap_or_default();
    match header.split_at_checked(6) {
        Some((scheme, "")) if scheme.eq_ignore_ascii_case("bearer") => Ok(""),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") && rest.starts_with(' ') => Ok(&rest[1..]),
        _ => Err(unauthorized("Unauthorized: authentication bearer scheme must be used")),
    }
}

pub fn unauthorized(message: &'static str) -> Error {
    Error::Auth {
        status: StatusCode::UNAUTHORIZED,
        message,
    }
}

pub fn forbidden(message: &'static str) -> Error {
    Error::Auth {
        status: StatusCode::FORBIDDEN,
        message,
    }
}

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "A JSON Web Token, made for each request, signed with the secret of one of the service's API keys \
                     (HS256), with the claims `iss` (the service's id) and `iat` (seconds since 1970, at most 30 \
                     seconds from our clock).",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: Some("JWT"),
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let caller = Self::of(request).await?;
        tracing::info!(
            service = %caller.service().id,
            key = %caller.key_id,
            client = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()),
            path = request.uri().path(),
            "authenticated"
        );
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn token_of(value: &'static str) -> Result<String, String> {
        let headers = [(header::AUTHORIZATION, HeaderValue::from_static(value))]
            .into_iter()
            .collect();
        bearer(&headers).map(str::to_owned).map_err(|error| error.to_string())
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case_and_nothing_else() {
        assert_eq!(token_of("bEaReR x.y.z"), Ok("x.y.z".to_owned()));
        assert_eq!(token_of("Bearer"), Ok(String::new()));
        for other in ["Bearerx.y.z", "Basic x", "Bear", "Bearer\tx"] {
            assert_eq!(
                token_of(other),
                Err("Unauthorized: authentication bearer scheme must be used".to_owned()),
                "{other}"
            );
        }
        for none in [
            bearer(&HeaderMap::new())
                .map(str::to_owned)
                .map_err(|error| error.to_string()),
            token_of(""),
        ] {
            assert_eq!(
                none,
                Err("Unauthorized: authentication token must be provided".to_owned())
            );
        }
    }
}

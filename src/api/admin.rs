//! Who calls the internal API: the administration pages, by a bearer token that they sign as `notify-admin`. The checks
//! are those of a service's token, in the words of GOV.UK Notify and in the legacy shape.

use std::sync::Arc;

use chrono::Utc;
use herald_engine::Actor;
use poem::{Request, RequestBody, http::HeaderMap};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use crate::{
    App, Error,
    auth::{self, NOT_A_TOKEN},
    error,
    token::{SigningKey, Token},
};

/// The issuer of the administration pages' tokens.
pub const ADMIN_CLIENT: &str = "notify-admin";

const SCHEME: &str = "AdminKey";
const NOT_ALLOWED: &str = "Unauthorized: not allowed to perform this action";
const USER_HEADER: &str = "X-Notify-User-Id";
const LONGEST_USER: usize = 64;

/// Secrets by which tokens of the administration pages are known; several while they are exchanged for new ones.
/// Without any, nobody gets in.
#[derive(Clone, Default)]
pub struct AdminKeys(Vec<SigningKey>);

impl AdminKeys {
    pub fn new(secrets: &[String]) -> Self {
        Self(
            secrets
                .iter()
                .map(|secret| SigningKey::new(secret.as_bytes()))
                .collect(),
        )
    }
}

/// The administration pages, proven by one of their secrets.
#[derive(Debug)]
pub struct Administrator {
    /// Who acts there, by their account.
    user: Option<String>,
}

impl Administrator {
    /// As whom a deed is recorded.
    pub fn acting_because(&self, reason: String) -> Actor {
        let name = match &self.user {
            Some(user) => format!("{ADMIN_CLIENT} (user {user})"),
            None => ADMIN_CLIENT.to_owned(),
        };
        Actor { name, reason }
    }

    fn of(request: &Request) -> Result<Self, Error> {
        let app: &Arc<App> = request.data().expect("every request is given the application");
        let AdminKeys(keys) = &app.settings.admin_keys;
        let token = auth::bearer(request.headers())?;
        if keys.is_empty() {
            return Err(auth::unauthorized(NOT_ALLOWED));
        }
        let token = Token::read(token).ok_or_else(|| auth::forbidden(NOT_A_TOKEN))?;
        let issuer = token
            .issuer()
            .ok_or_else(|| auth::forbidden("Invalid token: iss field not provided"))?;
        if issuer != ADMIN_CLIENT {
            return Err(auth::unauthorized(NOT_ALLOWED));
        }
        auth::signer(keys, |key| key, &token, Utc::now().timestamp())?;
        Ok(Self {
            user: acting_user(request.headers()),
        })
    }
}

/// Cut off where it is longer than any id.
fn acting_user(headers: &HeaderMap) -> Option<String> {
    let user = headers.get(USER_HEADER)?.to_str().ok()?.trim();
    (!user.is_empty()).then(|| user.chars().take(LONGEST_USER).collect())
}

impl<'a> ApiExtractor<'a> for Administrator {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "A JSON Web Token, made for each request, signed with a secret of the internal clients (HS256), with \
                     the claims `iss` (`notify-admin`) and `iat` (seconds since 1970, at most 30 seconds from our \
                     clock). The header `X-Notify-User-Id` may say which person acts; it is recorded with the deed.",
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
        let admin = Self::of(request).map_err(error::legacy_token)?;
        tracing::info!(
            client = ADMIN_CLIENT,
            user = admin.user,
            path = request.uri().path(),
            "authenticated"
        );
        Ok(admin)
    }
}

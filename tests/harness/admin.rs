//! A caller of the internal API.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Herald, http};

/// The setting of the harness: the second secret is on its way in.
pub const ADMIN_KEYS: &str = r#"{"notify-admin": ["the first secret", "the second secret"]}"#;

pub struct Admin<'a> {
    herald: &'a Herald,
    http: reqwest::Client,
    token: Option<String>,
}

impl<'a> Admin<'a> {
    pub fn new(herald: &'a Herald) -> Self {
        Self::of(herald, "notify-admin", "the first secret")
    }

    pub fn of(herald: &'a Herald, issuer: &str, secret: &str) -> Self {
        let issued = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": issuer, "iat": issued});
        let key = EncodingKey::from_secret(secret.as_bytes());
        Self {
            token: Some(jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()),
            ..Self::nobody(herald)
        }
    }

    pub fn nobody(herald: &'a Herald) -> Self {
        Self {
            herald,
            http: http(),
            token: None,
        }
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::PUT, path, Some(body)).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.herald.base_url))
            .header("X-Notify-User-Id", "ada");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

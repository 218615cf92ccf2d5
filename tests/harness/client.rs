//! A caller of the API with the development seed's live key, and a look at the stub's phone.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::{Herald, eventually};

pub const SERVICE: &str = "c1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11";
const LIVE: &str = "7b0c6a0e-52f4-4c3b-9f60-1f6f0b8a2c41";
const TEST: &str = "d4a1b7e3-6c2f-4b1d-a5e8-3b7f9c0d8e43";
/// The same of another service, which [`Herald::seed_another_service`] makes: a copy under these ids.
pub const ANOTHER: [(&str, &str); 3] = [
    (SERVICE, "e1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11"),
    (LIVE, "eb0c6a0e-52f4-4c3b-9f60-1f6f0b8a2c41"),
    (SMS_TEMPLATE, "ed2d7f4c-7c0e-4f7e-8f3d-0a8f4b0c2e21"),
];
pub const SMS_TEMPLATE: &str = "0d2d7f4c-7c0e-4f7e-8f3d-0a8f4b0c2e21";
pub const EMAIL_TEMPLATE: &str = "5b8f5f5e-1c43-4b8e-9b56-7d1e2a9c4f31";

/// A client for any request.
pub fn http() -> reqwest::Client {
    // It wants a provider of cryptography, though nothing here is encrypted. Another test may have set it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

pub struct Client<'a> {
    herald: &'a Herald,
    http: reqwest::Client,
    service: &'static str,
    secret: &'static str,
    template: &'static str,
    /// By how many seconds the API's clock is ahead of ours.
    ahead: i64,
}

impl<'a> Client<'a> {
    pub fn live(herald: &'a Herald) -> Self {
        Self {
            herald,
            http: http(),
            service: SERVICE,
            secret: LIVE,
            template: SMS_TEMPLATE,
            ahead: 0,
        }
    }

    /// Of the service that [`Herald::seed_another_service`] makes.
    pub fn of_another_service(herald: &'a Herald) -> Self {
        let [(_, service), (_, secret), (_, template)] = ANOTHER;
        Self {
            service,
            secret,
            template,
            ..Self::live(herald)
        }
    }

    /// With tokens for an API whose clock is ahead by so many seconds.
    pub fn ahead(self, seconds: i64) -> Self {
        Self { ahead: seconds, ..self }
    }

    pub fn test(herald: &'a Herald) -> Self {
        Self {
            secret: TEST,
            ..Self::live(herald)
        }
    }

    /// Sends a text and returns its id.
    pub async fn send_text(&self, to: &str) -> String {
        self.send("sms", &self.text(to)).await
    }

    /// Sends a text and returns its id if it was accepted; whatever else happens is none.
    pub async fn try_send_text(&self, to: &str) -> Option<String> {
        let request = self.http.post(format!("{}/v2/notifications/sms", self.herald.base_url));
        let answer = request
            .bearer_auth(self.token())
            .json(&self.text(to))
            .send()
            .await
            .ok()?;
        if answer.status() != 201 {
            return None;
        }
        let answer: Value = answer.json().await.ok()?;
        Some(answer["id"].as_str()?.to_owned())
    }

    /// Sends an email and returns its id.
    pub async fn send_email(&self, to: &str) -> String {
        let body = json!({"email_address": to, "template_id": EMAIL_TEMPLATE, "personalisation": {"name": "Ada"}});
        self.send("email", &body).await
    }

    async fn send(&self, what: &str, body: &Value) -> String {
        let url = format!("{}/v2/notifications/{what}", self.herald.base_url);
        let answer = self
            .http
            .post(url)
            .bearer_auth(self.token())
            .json(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
        let answer: Value = answer.json().await.unwrap();
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Posts to any route; the answer's status and body.
    pub async fn post(&self, path: &str, headers: &[(&'static str, &str)], body: &Value) -> (u16, Value) {
        let mut request = self.http.post(format!("{}{path}", self.herald.base_url)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.bearer_auth(self.token()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub async fn get(&self, id: &str) -> Value {
        self.look_at(&format!("/v2/notifications/{id}")).await
    }

    pub async fn look_at(&self, path: &str) -> Value {
        self.http
            .get(format!("{}{path}", self.herald.base_url))
            .bearer_auth(self.token())
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub async fn until(&self, id: &str, status: &str) -> Value {
        eventually(&format!("{id} is {status}"), || async {
            let notification = self.get(id).await;
            (notification["status"] == status).then_some(notification)
        })
        .await
    }

    /// What the phone got with this reference.
    pub async fn phone(&self, reference: &str) -> Vec<Value> {
        self.look_at_phone(&format!("?reference={reference}")).await
    }

    /// Everything that the phone got.
    pub async fn whole_phone(&self) -> Vec<Value> {
        self.look_at_phone("").await
    }

    /// How many messages the phone got.
    pub async fn phone_count(&self) -> usize {
        let url = format!("{}/phone/count", self.herald.stub_url);
        let answer: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        usize::try_from(answer["messages"].as_u64().unwrap()).unwrap()
    }

    async fn look_at_phone(&self, filter: &str) -> Vec<Value> {
        let url = format!("{}/phone{filter}", self.herald.stub_url);
        let answer: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        answer["messages"].as_array().unwrap().clone()
    }

    /// Sets the stub's faults for a provider.
    pub async fn faults(&self, provider: &str, faults: &Value) {
        let url = format!("{}/faults/{provider}", self.herald.stub_url);
        let answer = self.http.put(url).json(faults).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    fn token(&self) -> String {
        token(self.service, self.secret, self.ahead)
    }

    fn text(&self, to: &str) -> Value {
        json!({"phone_number": to, "template_id": self.template, "personalisation": {"name": "Ada"}})
    }
}

/// A bearer token of the development seed's live key.
pub fn live_token() -> String {
    token(SERVICE, LIVE, 0)
}

fn token(service: &str, secret: &str, ahead: i64) -> String {
    let issued = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": service, "iat": issued.saturating_add_signed(ahead)});
    jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .unwrap()
}

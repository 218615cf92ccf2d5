//! Amazon SNS as it calls us: whether a message is really from one of our topics, and the answer to "is this endpoint
//! yours?".
//!
//! A message names the certificate of its signature by URL. Only SNS' own hosts are asked for one, and over TLS, which
//! vouches for it; so its chain is not looked at again.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use herald_message::receipt::{Provider, sns::Envelope};
use moka::future::Cache;
use reqwest::Url;
use ring::signature::{RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, alg_id, pem::PemObject,
};
use tokio::sync::Semaphore;
use webpki::EndEntityCert;

use crate::timing::Stopwatch;
use crate::{Timeouts, http};

/// Whom to believe.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// ARNs of our topics. Whoever has an account can make others, and SNS signs what they say.
    pub topics: Vec<String>,
    /// Whether topics and signatures have to be right.
    pub verify: bool,
    /// Hosts beside SNS' own, as `host:port`, which may also speak plain HTTP: a stub.
    pub hosts: Vec<String>,
    pub timeouts: Timeouts,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not from whom it says, or not for us; it never will be.
    #[error("{0}")]
    Forged(&'static str),
    /// It cannot be told now: SNS shall come again.
    #[error("{0}")]
    Later(&'static str),
}

/// Cheap to clone; clones share what they have fetched.
#[derive(Clone)]
pub struct Client {
    settings: Arc<Settings>,
    certificates: Cache<String, Arc<CertificateDer<'static>>>,
    /// Whoever invents URLs may keep these busy, but nothing else.
    fetches: Arc<Semaphore>,
}

const FETCHES: usize = 4;

/// SNS has one at a time for a region, and a new one about once a year.
const CERTIFICATES: u64 = 32;
const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

impl Client {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            certificates: Cache::builder()
                .max_capacity(CERTIFICATES)
                .time_to_live(CERTIFICATE_LIFE)
                .build(),
            fetches: Arc::new(Semaphore::new(FETCHES)),
        }
    }

    /// Whether the message is from one of our topics.
    ///
    /// # Errors
    /// [`Refusal::Forged`] when it is not, [`Refusal::Later`] when its certificate could not be had.
    pub async fn check(&self, envelope: &Envelope) -> Result<(), Refusal> {
        if !self.settings.verify {
            return Ok(());
        }
        let is_ours = |topic| self.settings.topics.contains(topic);
        if !envelope.topic_arn.as_ref().is_some_and(is_ours) {
            return Err(Refusal::Forged("it is of another topic"));
        }
        let (text, signature) = signed(envelope).ok_or(Refusal::Forged("it is not signed"))?;
        let algorithm: &dyn SignatureVerificationAlgorithm = match envelope.signature_version.as_deref() {
            Some("1") => &RsaSha1,
            Some("2") => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(Refusal::Forged("its signature is of an unknown version")),
        };
        let certificate = self.certificate(envelope).await?;
        EndEntityCert::try_from(&*certificate)
            .and_then(|certificate| certificate.verify_signature(algorithm, text.as_bytes(), &signature))
            .map_err(|_| Refusal::Forged("its signature is wrong"))
    }

    /// Answers a subscription's question. The message has been checked before.
    ///
    /// # Errors
    /// [`Refusal::Forged`] when the answer would go elsewhere, [`Refusal::Later`] when it did not arrive.
    pub async fn confirm(&self, envelope: &Envelope) -> Result<(), Refusal> {
        let url = self
            .trusted(envelope.subscribe_url.as_deref(), region(envelope))
            .ok_or(Refusal::Forged("the subscription would be confirmed elsewhere"))?;
        self.fetch(url).await.map(drop)
    }

    async fn certificate(&self, envelope: &Envelope) -> Result<Arc<CertificateDer<'static>>, Refusal> {
        let url = self
            .trusted(envelope.certificate_url.as_deref(), region(envelope))
            .filter(names_a_certificate)
            .ok_or(Refusal::Forged("its certificate would come from elsewhere"))?;
        let fetching = async {
            let pem = self.fetch(url.clone()).await?;
            let certificate = CertificateDer::from_pem_slice(&pem).ok();
            certificate
                .filter(|certificate| EndEntityCert::try_from(certificate).is_ok())
                .map(Arc::new)
                .ok_or(Refusal::Forged("its certificate is none"))
        };
        let certificate = self.certificates.try_get_with(url.to_string(), fetching).await;
        certificate.map_err(|refusal: Arc<Refusal>| *refusal)
    }

    /// The URL, if it leads to SNS in that region.
    fn trusted(&self, url: Option<&str>, region: Option<&str>) -> Option<Url> {
        let url = Url::parse(url?).ok()?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return None;
        }
        let host = url.host_str()?;
        let is_sns = url.scheme() == "https"
            && url.port().is_none()
            && region.is_some_and(|region| is_host_of_sns(host, region));
        let address = format!("{host}:{}", url.port_or_known_default()?);
        (is_sns || self.settings.hosts.contains(&address)).then_some(url)
    }

    /// The body behind a URL, within the limits of [`http`]: no redirects, so many bytes, so much time.
    async fn fetch(&self, url: Url) -> Result<Vec<u8>, Refusal> {
        let turn = tokio::time::timeout(self.settings.timeouts.total, self.fetches.acquire());
        let Ok(_turn) = turn.await else {
            return Err(Refusal::Later("too many others are looked up"));
        };
        let client = http::client(&url, self.settings.timeouts)
            .map_err(|_| Refusal::Later("SNS cannot be reached from here"))?;
        match http::exchange(Provider::Ses, client.get(url), &Stopwatch::start()).await {
            Ok(answer) => Ok(answer.body),
            Err(error)
                if error
                    .status
                    .is_some_and(|status| (300..500).contains(&status) && status != 429) =>
            {
                Err(Refusal::Forged("SNS knows nothing of its URL"))
            }
            Err(_) => Err(Refusal::Later("SNS gave no answer")),
        }
    }
}

/// The text and what is said to be its signature.
fn signed(envelope: &Envelope) -> Option<(String, Vec<u8>)> {
    let signature = BASE64.decode(envelope.signature.as_deref()?).ok()?;
    Some((envelope.signed_text()?, signature))
}

/// Where the message's topic is, by its ARN: `arn:aws:sns:<region>:<account>:<name>`.
fn region(envelope: &Envelope) -> Option<&str> {
    envelope.topic_arn.as_deref()?.split(':').nth(3)
}

/// `sns.<region>.amazonaws.com`, and the same in China. Others of that form are S3's, whose buckets anybody may own:
/// `sns.s3-eu-west-1.amazonaws.com`.
fn is_host_of_sns(host: &str, region: &str) -> bool {
    let named = host.strip_prefix("sns.").and_then(|rest| {
        rest.strip_suffix(".amazonaws.com")
            .or_else(|| rest.strip_suffix(".amazonaws.com.cn"))
    });
    named == Some(region) && is_a_region(region)
}

/// Words and a digit, such as `eu-west-1` and `us-gov-west-1`.
fn is_a_region(text: &str) -> bool {
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    text.rsplit_once('-').is_some_and(|(words, number)| {
        words.contains('-') && words.split('-').all(is_word) && matches!(number.as_bytes(), [b'0'..=b'9'])
    })
}

/// Beside certificates these hosts serve an API, whose answers can be made to hold what a caller wants.
fn names_a_certificate(url: &Url) -> bool {
    let name = url
        .path()
        .strip_prefix("/SimpleNotificationService-")
        .and_then(|rest| rest.strip_suffix(".pem"));
    url.query().is_none() && name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Of signatures of version 1, which SNS makes for every topic that nobody has set to version 2. webpki offers none with
/// SHA-1.
#[derive(Debug)]
struct RsaSha1;

impl SignatureVerificationAlgorithm for RsaSha1 {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    /// sha1WithRSAEncryption, 1.2.840.113549.1.1.5, without parameters. Only certificate chains ask for it.
    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5, 5, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::{Client, Settings, names_a_certificate};

    #[test]
    fn only_hosts_of_sns_are_trusted_and_only_over_tls() {
        let client = Client::new(Settings {
            hosts: vec!["127.0.0.1:6300".into()],
            ..Settings::default()
        });
        let trusted_in = |region: &str, url: &str| client.trusted(Some(url), Some(region)).is_some();
        let trusted = |url: &str| trusted_in("eu-west-1", url);
        for (region, url) in [
            (
                "eu-west-1",
                "https://sns.eu-west-1.amazonaws.com/x?Action=ConfirmSubscription",
            ),
            ("us-gov-west-1", "https://sns.us-gov-west-1.amazonaws.com/x"),
            ("cn-north-1", "https://sns.cn-north-1.amazonaws.com.cn/x"),
            ("eu-west-1", "https://SNS.eu-west-1.amazonaws.com:443/x"),
            ("eu-west-1", "http://127.0.0.1:6300/x"),
        ] {
            assert!(trusted_in(region, url), "{url}");
        }
        // Buckets of the name `sns`, and whoever owns one could invent topics.
        for region in [
            "s3-eu-west-1",
            "s3",
            "s3-external-1",
            "s3-website-eu-west-1",
            "s3.eu-west-1",
            "",
        ] {
            for url in [
                format!("https://sns.{region}.amazonaws.com/SimpleNotificationService-1.pem"),
                format!("https://sns.{region}.amazonaws.com.cn/SimpleNotificationService-1.pem"),
            ] {
                assert!(!trusted(&url), "{url}");
                assert!(!trusted_in(region, &url), "{url}");
            }
        }
        for url in [
            "http://sns.eu-west-1.amazonaws.com/x",
            "https://sns.eu-west-1.amazonaws.com:8443/x",
            "https://sns.eu-west-1.amazonaws.com.evil.example/x",
            "https://sns.evil.example/.amazonaws.com",
            "https://sns.us-east-1.amazonaws.com/x",
            "https://sns.a.b.amazonaws.com/x",
            "https://sns..amazonaws.com/x",
            "https://bucket.s3.amazonaws.com/x",
            "https://sns.eu-west-1.amazonaws.com@evil.example/x",
            "https://user@sns.eu-west-1.amazonaws.com/x",
            "https://evil.example/sns.eu-west-1.amazonaws.com",
            "http://127.0.0.1:6301/x",
            "file:///etc/passwd",
            "",
        ] {
            assert!(!trusted(url), "{url}");
        }
        assert!(client.trusted(None, Some("eu-west-1")).is_none());
        let of_no_topic = client.trusted(Some("https://sns.eu-west-1.amazonaws.com/x"), None);
        assert!(of_no_topic.is_none());
    }

    #[test]
    fn only_certificates_are_fetched_as_certificates() {
        let is_one = |path: &str| {
            let url = format!("https://sns.eu-west-1.amazonaws.com{path}");
            names_a_certificate(&url.parse().unwrap())
        };
        assert!(is_one("/SimpleNotificationService-0123456789abcdef.pem"));
        for path in [
            "/",
            "/?Action=GetEndpointAttributes&x=.pem",
            "/SimpleNotificationService-01.pem?x=.pem",
            "/SimpleNotificationService-../x.pem",
            "/x/SimpleNotificationService-01.pem",
        ] {
            assert!(!is_one(path), "{path}");
        }
    }
}

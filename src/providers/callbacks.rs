//! Calls to services, at addresses that they choose. A service must not reach what is ours through us: only public
//! addresses are called, and the address that is checked is the one that is connected to.

use std::{
    error::Error as StdError,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use herald_message::callback::signature;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::CONTENT_TYPE,
    redirect::Policy,
};
use uuid::Uuid;

use crate::{
    Secret, SetupError, certificate,
    http::{read, retry_after, use_ring},
};

/// A whole call, from looking the name up to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Also calls private addresses, and without TLS: for developers' machines and tests.
    pub allow_private: bool,
}

/// One call.
pub struct Call {
    pub url: String,
    pub bearer_token: Secret,
    /// None: it is not signed.
    pub signing_key: Option<Vec<u8>>,
    /// The event's; the same in every repetition.
    pub id: Uuid,
    pub sequence: i64,
    /// JSON.
    pub body: String,
}

/// Why a service was not told. Holds neither its address nor anything that it said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Later it may be: `after` is what it asked for.
    #[error("{why}")]
    Again { why: String, after: Option<Duration> },
    #[error("{why}")]
    Never { why: String },
}

/// Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    /// None where this machine has no certificates.
    secure: Option<reqwest::Client>,
    /// Where calls without TLS are allowed.
    plain: Option<reqwest::Client>,
    allow_private: bool,
}

impl Client {
    pub fn new(Settings { allow_private }: Settings) -> Result<Self, SetupError> {
        use_ring();
        let secure = builder(allow_private).build();
        if let Err(error) = &secure {
            tracing::warn!(%error, "no service can be called over TLS");
        }
        let plain = || builder(true).tls_certs_only([]).build().map_err(SetupError::Client);
        Ok(Self {
            secure: secure.ok(),
            plain: allow_private.then(plain).transpose()?,
            allow_private,
        })
    }

    /// Calls once.
    pub async fn call(&self, call: &Call) -> Result<(), Refusal> {
        let url = self.checked(&call.url)?;
        let http = match url.scheme() {
            "https" => self.secure.as_ref(),
            _ => self.plain.as_ref(),
        };
        let http = http.ok_or_else(|| again("this machine has no certificates"))?;
        let id = call.id.to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let mut request = http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .bearer_auth(call.bearer_token.expose())
            .header("Herald-Sequence", call.sequence)
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp);
        if let Some(key) = &call.signing_key {
            request = request.header("webhook-signature", signature(key, &id, timestamp, &call.body));
        }
        let answered = request.body(call.body.clone()).send().await;
        let mut response = answered.map_err(|error| no_answer(&error))?;
        let (status, after) = (response.status().as_u16(), retry_after(&response));
        // Only to keep the connection: what it says changes nothing.
        drop(read(&mut response).await);
        match status {
            200..300 => Ok(()),
            300..400 => Err(never(format!("answered {status}: redirects are not followed"))),
            429 | 500.. => Err(Refusal::Again {
                why: format!("answered {status}"),
                after,
            }),
            _ => Err(never(format!("answered {status}"))),
        }
    }

    /// The address, without credentials in it: ours are in a header. An address in numbers never comes to the resolver.
    fn checked(&self, url: &str) -> Result<Url, Refusal> {
        let mut url = Url::parse(url).map_err(|_| never("the address is no URL"))?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_private => {}
            _ => return Err(never("the address does not begin with https://")),
        }
        let host = url.host_str().unwrap_or_default();
        let number: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        if number.is_some_and(|number| !self.allow_private && !is_public(number)) {
            return Err(never(NOT_PUBLIC));
        }
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| never("the address is no URL"))?;
        Ok(url)
    }
}

fn builder(allow_private: bool) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent("herald")
        .http1_only()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        // A proxy would connect to addresses that were never checked.
        .no_proxy()
        .timeout(PATIENCE)
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(2);
    if allow_private {
        builder
    } else {
        builder.https_only(true).dns_resolver(Arc::new(PublicOnly))
    }
}

fn again(why: &str) -> Refusal {
    let why = why.to_owned();
    Refusal::Again { why, after: None }
}

fn never(why: impl Into<String>) -> Refusal {
    Refusal::Never { why: why.into() }
}

fn no_answer(error: &reqwest::Error) -> Refusal {
    if is_refused_address(error) {
        never(NOT_PUBLIC)
    } else if error.is_builder() {
        never("the call cannot be written: the token or the address holds what no header may")
    } else if let Some(why) = certificate::distrusted(error) {
        again(why)
    } else if error.is_timeout() {
        again("no answer in time")
    } else if error.is_connect() {
        again("could not connect")
    } else {
        again("no response")
    }
}

fn is_refused_address(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<NotPublic>() {
            return true;
        }
        next = error.source();
    }
    false
}

const NOT_PUBLIC: &str = "the address is not a public one";

#[derive(Debug)]
struct NotPublic;

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NOT_PUBLIC)
    }
}

impl StdError for NotPublic {}

/// Looks names up as the system does, and leaves out every address that is not public.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let is_empty = found.is_empty();
            let mut public = found.into_iter().filter(|address| is_public(address.ip())).peekable();
            if public.peek().is_none() && !is_empty {
                return Err(NotPublic.into());
            }
            Ok(Box::new(public) as Addrs)
        })
    }
}

/// Whether an address belongs to the public internet, by the registries of special addresses (RFC 6890 and later).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = matches!(
        (a, b, c),
        // This network, private, loopback, multicast and reserved.
        (0 | 10 | 127 | 224.., _, _)
            // Shared by providers.
            | (100, 64..=127, _)
            // Link-local: where clouds tell machines their secrets.
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            // Protocol assignments, documentation, relays, benchmarks.
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special
}

/// Of the addresses of version 6 only 2000::/3 is in use. Some of these, and some others, hold one of version 4.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // As a translator of the network's own writes addresses of version 4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments with Teredo among them, documentation, 6to4.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for address in [
            "8.8.8.8",
            "100.63.255.255",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "2a00:1450::1",
            "2001:4860:4860::8888",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn names_are_refused_by_what_they_stand_for_and_numbers_before_they_are_called() {
        use_ring();
        // It needs no certificates to be refused.
        let secure = builder(false).tls_certs_only([]).build().unwrap();
        let client = Client {
            secure: Some(secure),
            plain: None,
            allow_private: false,
        };
        for url in [
            "https://localhost/",
            "https://127.0.0.1:8443/x",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://169.254.169.254/latest",
        ] {
            assert_eq!(client.call(&call(url)).await, Err(never(NOT_PUBLIC)), "{url}");
        }
        for url in ["http://example.gov.uk/", "ftp://example.gov.uk/", "file:///etc/passwd"] {
            let refusal = never("the address does not begin with https://");
            assert_eq!(client.call(&call(url)).await, Err(refusal), "{url}");
        }
    }

    fn call(url: &str) -> Call {
        Call {
            url: url.to_owned(),
            bearer_token: "a token".into(),
            signing_key: None,
            id: Uuid::nil(),
            sequence: 1,
            body: "{}".to_owned(),
        }
    }
}

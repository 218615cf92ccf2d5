//! Settings. The environment is read here and nowhere else. A setting that is missing or malformed stops the start
//! with one line that names it and says what is allowed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use herald_providers::{ReceiptUrl, Secret, Timeouts, callbacks, documents, firetext, mmg, ses, sns};
use herald_store::sealed::{Key, NotifySigner, NotifyTokenKey, Sealer};
use herald_workflows::switching::{MEMORY, Policy};

use crate::build_info;

/// The port of the API where nothing else is said.
pub const DEFAULT_PORT: u16 = 6011;

/// One setting as it was found.
struct Setting {
    name: &'static str,
    value: Option<String>,
}

fn setting(name: &'static str) -> Setting {
    Setting {
        name,
        value: std::env::var(name).ok().filter(|value| !value.trim().is_empty()),
    }
}

impl Setting {
    fn required(self, allowed: &str) -> anyhow::Result<String> {
        self.value
            .ok_or_else(|| anyhow!("the setting {} is missing: {allowed}", self.name))
    }

    fn or(self, default: &str) -> String {
        self.value.unwrap_or_else(|| default.to_owned())
    }

    fn parsed<T: FromStr>(self, default: T, allowed: &str, fits: impl Fn(&T) -> bool) -> anyhow::Result<T> {
        let Some(value) = self.value else { return Ok(default) };
        match value.trim().parse() {
            Ok(value) if fits(&value) => Ok(value),
            _ => bail!("the setting {} is malformed: it must be {allowed}", self.name),
        }
    }

    /// Things with commas between them; none where nothing is set.
    fn list(self) -> Vec<String> {
        let value = self.value.unwrap_or_default();
        let items = value.split(',').map(|item| item.trim().to_owned());
        items.filter(|item| !item.is_empty()).collect()
    }

    /// A JSON list of texts, as Notify has its lists of secrets; none where nothing is set.
    fn json_list(self) -> anyhow::Result<Vec<String>> {
        let Some(value) = self.value else { return Ok(Vec::new()) };
        serde_json::from_str(&value).map_err(|_| {
            anyhow!(
                r#"the setting {} is malformed: it must be a JSON list of texts, such as ["the current one", "the next one"]"#,
                self.name
            )
        })
    }

    fn seconds(self, default: u64) -> anyhow::Result<Duration> {
        let seconds = self.parsed(default, "a number of seconds from 1 to 86400", |n| {
            (1..=86_400).contains(n)
        })?;
        Ok(Duration::from_secs(seconds))
    }

    fn switch(self, default: bool) -> anyhow::Result<bool> {
        match self.value.as_deref().map(str::trim) {
            None => Ok(default),
            Some("1" | "true" | "True") => Ok(true),
            Some("0" | "false" | "False") => Ok(false),
            Some(_) => bail!("the setting {} is malformed: it must be 1 or 0", self.name),
        }
    }

    fn url(self) -> anyhow::Result<Option<String>> {
        match self.value {
            Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => {
                bail!(
                    "the setting {} is malformed: it must be a URL that begins with http:// or https://",
                    self.name
                )
            }
            url => Ok(url),
        }
    }
}

pub fn database_url() -> anyhow::Result<String> {
    setting("DATABASE_URL").required("a URL such as postgres://user:password@host:5432/herald")
}

/// Postgres itself, where `DATABASE_URL` leads to a pooler.
pub fn direct_database_url() -> Option<String> {
    setting("DATABASE_DIRECT_URL").value
}

/// The database that the environment names, if it names one.
pub fn given_database_url() -> Option<String> {
    setting("DATABASE_URL").value
}

pub fn database_connections() -> anyhow::Result<u32> {
    setting("DATABASE_CONNECTIONS").parsed(16, "a number from 2 to 1000", |n| (2..=1000).contains(n))
}

/// Keys for what is sealed at rest, the current one first, and Notify's own for rows that it wrote.
pub fn sealer() -> anyhow::Result<Sealer> {
    const NAME: &str = "HERALD_SEALING_KEYS";
    let allowed = "comma-separated id:base64 pairs of 32-byte keys, the current one first (one is made by: echo k1:$(openssl rand -base64 32))";
    let keys = setting(NAME).required(allowed)?;
    let mut keys = keys
        .split(',')
        .map(Key::parse)
        .collect::<Result<Vec<Key>, _>>()
        .map_err(|error| anyhow!("the setting {NAME} is malformed: {error}; it must be {allowed}"))?;
    let current = keys.remove(0);
    let mut sealer = Sealer::new(current, keys);
    if let Some(key) = setting("NOTIFY_TOKEN_SECRET_KEY").value {
        let key = NotifyTokenKey::parse(&key).context(
            "the setting NOTIFY_TOKEN_SECRET_KEY is malformed: it must be 32 bytes in base64url, as Notify is given it",
        )?;
        sealer = sealer.reading_notify_tokens(key);
    }
    let Some(secrets) = setting("NOTIFY_SECRET_KEYS").value else {
        return Ok(sealer);
    };
    let secrets: Vec<String> = secrets.split(',').map(|secret| secret.trim().to_owned()).collect();
    let salt = setting("NOTIFY_DANGEROUS_SALT").required("the salt that goes with NOTIFY_SECRET_KEYS")?;
    Ok(sealer.reading_notify(NotifySigner::new(&secrets, &salt)))
}

/// Where a server listens: `HOST` and `PORT`.
pub fn listen(default_port: u16) -> anyhow::Result<SocketAddr> {
    let port = port(default_port)?;
    Ok((host()?, port).into())
}

fn host() -> anyhow::Result<IpAddr> {
    let host = setting("HOST").or("127.0.0.1");
    host.parse()
        .map_err(|_| anyhow!("the setting HOST is malformed: it must be an IP address"))
}

pub fn port(default: u16) -> anyhow::Result<u16> {
    setting("PORT").parsed(default, "a port from 1 to 65535", |port| *port > 0)
}

/// Who is told what is measured.
pub fn metrics() -> anyhow::Result<herald_metrics::Settings> {
    let a_port = |name, default: u16| setting(name).parsed(default, "a port from 1 to 65535", |port| *port > 0);
    let statsd = herald_metrics::Statsd {
        host: setting("STATSD_HOST").or("localhost"),
        port: a_port("STATSD_PORT", 8125)?,
        prefix: setting("STATSD_PREFIX").or("herald"),
    };
    let prometheus = match setting("METRICS_PORT").value {
        None => None,
        Some(_) => Some((host()?, a_port("METRICS_PORT", 0)?).into()),
    };
    Ok(herald_metrics::Settings {
        statsd: setting("STATSD_ENABLED").switch(false)?.then_some(statsd),
        prometheus,
    })
}

pub fn api() -> anyhow::Result<herald_api::Settings> {
    let default = herald_api::Settings::default();
    Ok(herald_api::Settings {
        api_host: setting("API_HOST_NAME").url()?.unwrap_or(default.api_host),
        admin_host: setting("ADMIN_BASE_URL").url()?.unwrap_or(default.admin_host),
        document_host: setting("DOCUMENT_DOWNLOAD_HOST")
            .url()?
            .unwrap_or(default.document_host),
        email_domain: setting("NOTIFY_EMAIL_DOMAIN").or(&default.email_domain),
        redis_url: setting("REDIS_URL").value,
        rate_limit: setting("API_RATE_LIMIT_ENABLED").switch(default.rate_limit)?,
        receipts: herald_api::ReceiptCredentials {
            firetext: credentials("FIRETEXT_RECEIPT_CREDENTIALS")?,
            mmg: credentials("MMG_RECEIPT_CREDENTIALS")?,
            ses: credentials("SES_RECEIPT_CREDENTIALS")?,
        },
        inbound: herald_api::InboundCredentials {
            mmg_names: setting("MMG_INBOUND_SMS_USERNAME").json_list()?,
            mmg_passwords: setting("MMG_INBOUND_SMS_AUTH").json_list()?,
            firetext_passwords: setting("FIRETEXT_INBOUND_SMS_AUTH").json_list()?,
        },
        admin_keys: herald_api::AdminKeys::new(&admin_secrets()?),
        page_size: setting("API_PAGE_SIZE")
            .parsed(default.page_size, "a number from 1 to 1000", |n| (1..=1000).contains(n))?,
        build: build_info::of_this_program(),
        ..default
    })
}

/// Which messages of SNS are believed: without topics, none.
pub fn sns() -> anyhow::Result<sns::Settings> {
    Ok(sns::Settings {
        topics: setting("SES_SNS_TOPIC_ARNS").list(),
        verify: setting("SES_SNS_VERIFY").parsed(true, "true or false", |_| true)?,
        hosts: setting("SES_SNS_CERTIFICATE_HOSTS").list(),
        timeouts: Timeouts::default(),
    })
}

/// The service that takes the files of emails; none where nothing is set.
pub fn documents() -> anyhow::Result<Option<documents::Settings>> {
    const HOST: &str = "DOCUMENT_DOWNLOAD_API_HOST";
    const KEY: &str = "DOCUMENT_DOWNLOAD_API_KEY";
    let (url, key) = (setting(HOST).url()?, setting(KEY));
    if url.is_none() && key.value.is_none() {
        return Ok(None);
    }
    // A virus scan is part of it; and the answer to the client must come before its 30 seconds are over.
    let total = setting("DOCUMENT_DOWNLOAD_TIMEOUT_SECONDS").seconds(20)?;
    Ok(Some(documents::Settings {
        url: url.with_context(|| format!("the setting {HOST} is missing: the URL of the service that {KEY} opens"))?,
        api_key: Secret::new(key.required("the key of the service at DOCUMENT_DOWNLOAD_API_HOST")?),
        timeouts: Timeouts {
            total,
            read: total,
            ..Timeouts::default()
        },
    }))
}

/// The secrets of the administration pages, the current one first; none where nothing is set.
pub fn admin_secrets() -> anyhow::Result<Vec<String>> {
    const NAME: &str = "INTERNAL_CLIENT_API_KEYS";
    let Some(value) = setting(NAME).value else {
        return Ok(Vec::new());
    };
    let clients: Option<BTreeMap<String, Vec<String>>> = serde_json::from_str(&value).ok();
    clients
        .filter(|clients| clients.values().flatten().all(|secret| !secret.trim().is_empty()))
        .map(|mut clients| clients.remove(herald_api::ADMIN_CLIENT).unwrap_or_default())
        .with_context(|| {
            format!(
                r#"the setting {NAME} is malformed: it must be a JSON object of lists of secrets, such as {{"{}": ["secret"]}}"#,
                herald_api::ADMIN_CLIENT
            )
        })
}

/// Who runs this program, by the system's account.
pub fn user() -> Option<String> {
    setting("USER").value
}

fn credentials(name: &'static str) -> anyhow::Result<Option<herald_api::BasicCredentials>> {
    let Some(value) = setting(name).value else {
        return Ok(None);
    };
    let (user, password) = value
        .split_once(':')
        .ok_or_else(|| anyhow!("the setting {name} is malformed: it must be user:password"))?;
    Ok(Some(herald_api::BasicCredentials {
        user: user.to_owned(),
        password: password.to_owned(),
    }))
}

/// The ways out.
pub struct Providers {
    pub firetext: firetext::Settings,
    pub mmg: mmg::Settings,
    pub ses: ses::Settings,
}

pub fn providers() -> anyhow::Result<Providers> {
    let total = setting("PROVIDER_TIMEOUT_SECONDS").seconds(10)?;
    let timeouts = Timeouts {
        total,
        read: total,
        ..Timeouts::default()
    };
    let api_key = setting("FIRETEXT_API_KEY").required("the key of the Firetext account")?;
    Ok(Providers {
        firetext: firetext::Settings {
            url: setting("FIRETEXT_URL")
                .url()?
                .unwrap_or_else(|| firetext::DEFAULT_URL.to_owned()),
            international_api_key: Secret::new(setting("FIRETEXT_INTERNATIONAL_API_KEY").or(&api_key)),
            api_key: Secret::new(api_key),
            receipts: receipts("FIRETEXT_RECEIPT_URL", "FIRETEXT_RECEIPT_CREDENTIALS")?,
            timeouts,
        },
        mmg: mmg::Settings {
            url: setting("MMG_URL").url()?.unwrap_or_else(|| mmg::DEFAULT_URL.to_owned()),
            api_key: Secret::new(setting("MMG_API_KEY").required("the key of the MMG account")?),
            receipts: receipts("MMG_RECEIPT_URL", "MMG_RECEIPT_CREDENTIALS")?,
            timeouts,
        },
        ses: ses::Settings {
            region: setting("AWS_REGION").or("eu-west-1"),
            endpoint_url: setting("SES_STUB_URL").url()?,
            configuration_set: setting("SES_CONFIGURATION_SET").value,
            credentials: None,
            timeouts,
        },
    })
}

fn receipts(url: &'static str, credentials_of: &'static str) -> anyhow::Result<Option<ReceiptUrl>> {
    let Some(url) = setting(url).url()? else {
        return Ok(None);
    };
    let credentials = credentials(credentials_of)?.map(|given| (given.user, Secret::new(given.password)));
    Ok(Some(ReceiptUrl { url, credentials }))
}

/// How services are called.
pub fn callbacks() -> anyhow::Result<callbacks::Settings> {
    let setting = setting("SERVICE_CALLBACKS_ALLOW_PRIVATE");
    let allow_private = setting.parsed(0, "1 (developers' machines only) or 0", |n: &u8| *n <= 1)?;
    Ok(callbacks::Settings {
        allow_private: allow_private == 1,
    })
}

/// For how many days an event that a service could not be told of can be replayed.
pub fn keep_undeliverable_days() -> anyhow::Result<u16> {
    let allowed = "a number of days from 1 to 365";
    setting("SERVICE_CALLBACKS_KEEP_DAYS").parsed(7, allowed, |n| (1..=365).contains(n))
}

/// When texts move from one provider to the other. By default as Notify does, and what Herald adds.
pub fn switching() -> anyhow::Result<Policy> {
    let default = Policy::default();
    let count =
        |name, default| setting(name).parsed(default, "a number from 1 to 1000000", |n| (1..=1_000_000).contains(n));
    let percent = |name, default| match setting(name) {
        Setting { value: None, .. } => Ok(default),
        given => {
            let percent = given.parsed(0.0, "a percentage above 0, up to 100", |n| *n > 0.0 && *n <= 100.0)?;
            anyhow::Ok(percent / 100.0)
        }
    };
    let pause = |name, default: Duration| setting(name).seconds(default.as_secs());
    let longest = |name, default: Duration| {
        let most = MEMORY.as_secs();
        let allowed = format!("a number of seconds from 1 to {most}: falls are remembered for no longer");
        let seconds = setting(name).parsed(default.as_secs(), &allowed, |n| (1..=most).contains(n))?;
        anyhow::Ok(Duration::from_secs(seconds))
    };
    let slow_after = pause("SLOW_DELIVERY_SECONDS", default.slow_after)?;
    let slow_within = pause("SLOW_DELIVERY_WINDOW_SECONDS", default.slow_within)?;
    ensure!(
        slow_after < slow_within,
        "the setting SLOW_DELIVERY_WINDOW_SECONDS is malformed: it must be more than SLOW_DELIVERY_SECONDS, or nothing within \
         it can be slow"
    );
    Ok(Policy {
        resting_points: resting_points(default.resting_points)?,
        step: setting("PROVIDER_STEP").parsed(default.step, "a weight from 1 to 100", |n| (1..=100).contains(n))?,
        errors_a_minute: count("PROVIDER_ERRORS_A_MINUTE", default.errors_a_minute)?,
        errors_pause: pause("PROVIDER_ERRORS_PAUSE_SECONDS", default.errors_pause)?,
        slow_after,
        slow_within,
        slow_share: percent("SLOW_DELIVERY_PERCENT", default.slow_share)?,
        slow_pause: pause("SLOW_DELIVERY_PAUSE_SECONDS", default.slow_pause)?,
        outage_faults: count("PROVIDER_OUTAGE_FAULTS", default.outage_faults)?,
        outage_share: percent("PROVIDER_OUTAGE_PERCENT", default.outage_share)?,
        outage_alert_after: outage_alert_after(default.outage_alert_after)?,
        rest_after: pause("PROVIDER_REST_SECONDS", default.rest_after)?,
        longest_pause: longest("PROVIDER_LONGEST_PAUSE_SECONDS", default.longest_pause)?,
        longest_rest: longest("PROVIDER_LONGEST_REST_SECONDS", default.longest_rest)?,
    })
}

/// Counts are kept for an hour, so that it cannot be much longer.
fn outage_alert_after(default: Duration) -> anyhow::Result<Duration> {
    let seconds = setting("PROVIDER_OUTAGE_ALERT_SECONDS");
    let allowed = "a number of seconds from 1 to 600";
    let seconds = seconds.parsed(default.as_secs(), allowed, |n| (1..=600).contains(n))?;
    Ok(Duration::from_secs(seconds))
}

fn resting_points(default: Vec<(String, i32)>) -> anyhow::Result<Vec<(String, i32)>> {
    const NAME: &str = "SMS_PROVIDER_RESTING_POINTS";
    let Some(value) = setting(NAME).value else {
        return Ok(default);
    };
    let names: BTreeSet<&String> = default.iter().map(|(name, _)| name).collect();
    let points: Option<BTreeMap<String, u8>> = serde_json::from_str(&value).ok();
    points
        .filter(|points| points.keys().eq(names))
        .filter(|points| points.values().map(|point| i32::from(*point)).sum::<i32>() == 100)
        .map(|points| points.into_iter().map(|(name, point)| (name, point.into())).collect())
        .with_context(|| {
            format!(
                r#"the setting {NAME} is malformed: it must be a JSON object of weights of both providers that add up to 100, such as {{"mmg": 51, "firetext": 49}}"#
            )
        })
}

/// How long an attempt of unknown outcome is given to be proved by a receipt, before it is made again on record.
pub fn unknown_outcome_patience() -> anyhow::Result<Duration> {
    setting("UNKNOWN_OUTCOME_PATIENCE_SECONDS").seconds(60)
}

/// For how many days the engine remembers what has ended: journals, signals, keys.
pub fn keep_days() -> anyhow::Result<u16> {
    setting("ENGINE_RETENTION_DAYS").parsed(14, "a number of days from 1 to 3650", |n| (1..=3650).contains(n))
}

pub fn worker() -> anyhow::Result<herald_engine::WorkerSettings> {
    let default = herald_engine::WorkerSettings::default();
    Ok(herald_engine::WorkerSettings {
        concurrency: setting("WORKER_CONCURRENCY").parsed(default.concurrency, "a number from 1 to 10000", |n| {
            (1..=10_000).contains(n)
        })?,
        lease: setting("WORKER_LEASE_SECONDS").seconds(default.lease.as_secs())?,
        ..default
    })
}

pub fn stub() -> anyhow::Result<herald_stub::Settings> {
    let default = herald_stub::Settings::default();
    let allowed = "a range of milliseconds such as 100-1000";
    let delay = setting("STUB_RECEIPT_DELAY_MS").or("100-1000");
    let millis = |text: &str| text.trim().parse().ok().map(Duration::from_millis);
    let range = delay
        .split_once('-')
        .and_then(|(from, to)| Some(millis(from)?..=millis(to)?));
    let range = range.filter(|range| !range.is_empty());
    Ok(herald_stub::Settings {
        api_url: setting("HERALD_API_URL").url()?,
        receipt_delay: range
            .with_context(|| format!("the setting STUB_RECEIPT_DELAY_MS is malformed: it must be {allowed}"))?,
        ..default
    })
}

/// Which log lines are written: `HERALD_LOG`, in the form of tracing's filters. Of certificates that are not trusted we tell
/// ourselves, once; the verifier would, as an error, at each attempt to connect.
pub fn log_filter(default: &str) -> anyhow::Result<tracing_subscriber::EnvFilter> {
    let wanted = setting("HERALD_LOG").or(default);
    format!("rustls_platform_verifier=off,{wanted}")
        .parse()
        .map_err(|error| {
            anyhow!(
                "the setting HERALD_LOG is malformed: it must be a filter such as info,herald_engine=debug ({error})"
            )
        })
}

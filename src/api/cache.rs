//! What requests need to know of services, kept for a moment, so that the happy path asks the database nothing.
//!
//! Nothing here is older than two seconds when it is used: a revoked key or a changed template takes effect that
//! soon everywhere, without a word between processes, and at once where [`crate::changes`] hears of it. What does not
//! exist is remembered as well. Of many requests that miss the same entry, one asks. An error is told to all who
//! waited for it, and not kept.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::NaiveDate;
use herald_message::{email_address, phone};
use herald_store::{
    KeyType, rates, recipients,
    sealed::Sealer,
    senders,
    services::{self, Service},
    templates::{self, Template},
};
use moka::future::Cache as Moka;
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{Error, token::SigningKey};

const KEPT: Duration = Duration::from_millis(1500);

/// An entry is as old as the start of its query. One that took longer than this is used, but not kept.
const FRESH: Duration = Duration::from_millis(500);

/// How long a request waits for a query.
const PATIENCE: Duration = Duration::from_secs(5);

const ENTRIES: u64 = 20_000;

/// A service and the keys that open it.
#[derive(Debug)]
pub struct KnownService {
    pub service: Service,
    pub keys: Vec<KnownKey>,
}

#[derive(Debug)]
pub struct KnownKey {
    pub id: Uuid,
    pub key_type: KeyType,
    pub revoked: bool,
    pub signing: SigningKey,
}

/// Whom a service in trial mode, or a team key, may write to, in normal form.
#[derive(Debug, Default)]
pub struct TeamAndGuests {
    pub phone_numbers: HashSet<String>,
    pub email_addresses: HashSet<String>,
}

pub struct Cache {
    pool: PgPool,
    sealer: Arc<Sealer>,
    services: Moka<Uuid, Option<Arc<KnownService>>>,
    templates: Moka<(Uuid, Uuid), Option<Arc<Template>>>,
    sms_senders: Moka<(Uuid, Option<Uuid>), Option<Arc<str>>>,
    reply_to: Moka<(Uuid, Option<Uuid>), Option<Arc<str>>>,
    recipients: Moka<Uuid, Arc<TeamAndGuests>>,
    sms_rates: Moka<NaiveDate, Option<Decimal>>,
    /// How often everything was forgotten: what was asked for before is not kept.
    forgotten: AtomicU64,
}

impl Cache {
    pub fn new(pool: PgPool, sealer: Arc<Sealer>) -> Self {
        Self {
            pool,
            sealer,
            services: short_lived(),
            templates: short_lived(),
            sms_senders: short_lived(),
            reply_to: short_lived(),
            recipients: short_lived(),
            sms_rates: short_lived(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Something has changed in the database.
    pub fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.services.invalidate_all();
        self.templates.invalidate_all();
        self.sms_senders.invalidate_all();
        self.reply_to.invalidate_all();
        self.recipients.invalidate_all();
        self.sms_rates.invalidate_all();
    }

    pub async fn service(&self, id: Uuid) -> Result<Option<Arc<KnownService>>, Error> {
        self.read(&self.services, id, async |connection| {
            let service = services::for_requests(connection, id, &self.sealer).await?;
            Ok(service.map(|service| Arc::new(KnownService::from(service))))
        })
        .await
    }

    /// The current version of a template, archived or not.
    pub async fn template(&self, service_id: Uuid, id: Uuid) -> Result<Option<Arc<Template>>, Error> {
        self.read(&self.templates, (service_id, id), async |connection| {
            Ok(templates::latest(connection, service_id, id).await?.map(Arc::new))
        })
        .await
    }

    /// One of the service's text message senders, or its default.
    pub async fn sms_sender(&self, service_id: Uuid, id: Option<Uuid>) -> Result<Option<Arc<str>>, Error> {
        self.read(&self.sms_senders, (service_id, id), async |connection| {
            let sender = match id {
                Some(id) => senders::sms(connection, service_id, id).await?,
                None => senders::sms_default(connection, service_id).await?,
            };
            Ok(sender.map(Arc::from))
        })
        .await
    }

    /// One of the service's reply-to addresses, or its default.
    pub async fn reply_to(&self, service_id: Uuid, id: Option<Uuid>) -> Result<Option<Arc<str>>, Error> {
        self.read(&self.reply_to, (service_id, id), async |connection| {
            let address = match id {
                Some(id) => senders::reply_to(connection, service_id, id).await?,
                None => senders::reply_to_default(connection, service_id).await?,
            };
            Ok(address.map(Arc::from))
        })
        .await
    }

    pub async fn team_and_guests(&self, service_id: Uuid) -> Result<Arc<TeamAndGuests>, Error> {
        self.read(&self.recipients, service_id, async |connection| {
            Ok(Arc::new(TeamAndGuests::from(
                recipients::allowed(connection, service_id).await?,
            )))
        })
        .await
    }

    /// Pounds for one fragment on a London day.
    pub async fn sms_rate(&self, day: NaiveDate) -> Result<Option<Decimal>, Error> {
        self.read(&self.sms_rates, day, async |connection| {
            rates::sms_rate(connection, day).await
        })
        .await
    }

    /// The kept value, or else the query's. The query's future is large and rarely needed, so it is boxed.
    async fn read<K, V>(
        &self,
        kept: &Moka<K, V>,
        key: K,
        query: impl AsyncFnOnce(&mut PgConnection) -> herald_store::Result<V>,
    ) -> Result<V, Error>
    where
        K: Copy + Eq + Hash + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        match kept.get(&key).await {
            Some(value) => Ok(value),
            None => Box::pin(self.load(kept, key, query)).await,
        }
    }

    async fn load<K, V>(
        &self,
        kept: &Moka<K, V>,
        key: K,
        query: impl AsyncFnOnce(&mut PgConnection) -> herald_store::Result<V>,
    ) -> Result<V, Error>
    where
        K: Copy + Eq + Hash + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let (started, forgotten) = (Instant::now(), self.forgotten.load(Ordering::SeqCst));
        let query = async {
            let asked = async { query(&mut *self.pool.acquire().await?).await };
            let late = |_elapsed| herald_store::Error::Unavailable("it did not answer in time".to_owned());
            tokio::time::timeout(PATIENCE, asked).await.map_err(late)?
        };
        let loaded = kept.try_get_with(key, query).await;
        if started.elapsed() > FRESH || self.forgotten.load(Ordering::SeqCst) != forgotten {
            kept.invalidate(&key).await;
        }
        loaded.map_err(|error| {
            if error.is_transient() {
                Error::Unavailable(error.into())
            } else {
                Error::Internal(error.into())
            }
        })
    }
}

impl From<Service> for KnownService {
    fn from(mut service: Service) -> Self {
        let keys = std::mem::take(&mut service.keys);
        let keys = keys.into_iter().map(|key| KnownKey {
            id: key.id,
            key_type: key.key_type,
            revoked: key.expires.is_some(),
            signing: SigningKey::new(key.secret.as_bytes()),
        });
        Self {
            keys: keys.collect(),
            service,
        }
    }
}

impl From<recipients::Allowed> for TeamAndGuests {
    fn from(allowed: recipients::Allowed) -> Self {
        let mut known = Self::default();
        let texts = allowed
            .team
            .into_iter()
            .flat_map(|member| [Some(member.email_address), member.mobile_number]);
        for text in texts.flatten().chain(allowed.guests) {
            if let Ok(address) = email_address::parse(&text) {
                known.email_addresses.insert(address.normalised);
            } else if let Ok(number) = phone::parse(&text) {
                known.phone_numbers.insert(number.normalised);
            }
        }
        known
    }
}

fn short_lived<K: Eq + Hash + Send + Sync + 'static, V: Clone + Send + Sync + 'static>() -> Moka<K, V> {
    Moka::builder().max_capacity(ENTRIES).time_to_live(KEPT).build()
}

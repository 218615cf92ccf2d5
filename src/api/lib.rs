//! The REST API: the wire format of GOV.UK Notify, so that its official clients work unmodified.
//!
//! A request passes [`edge`] (headers, limits, the shape of errors), proves its service ([`auth`]), and then each
//! handler reads as the story of that request: read the fields, check, accept. Nothing on the way asks the
//! database ([`cache`]) until the one commit that accepts a message; the answer is given after that commit.

mod admin;
mod auth;
mod cache;
mod callbacks;
mod callbacks_spec;
mod cancel;
mod changes;
mod content;
mod credentials;
mod edge;
mod email;
mod engine;
mod error;
mod files;
mod formats;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod inbound;
mod internal;
mod letter;
mod limits;
mod list;
mod once;
mod paging;
mod payload;
mod read;
mod receipts;
mod received;
mod recipient;
mod sanitise;
mod send;
mod server;
mod sms;
mod spec;
mod status;
mod templates;
mod timeline;
mod token;
mod unsubscribe;
mod validation;

use std::{future::Future, sync::Arc, time::Duration};

use herald_providers::{documents, sns};
use herald_store::sealed::Sealer;
use poem::EndpointExt;
use poem_openapi::{OpenApiService, Tags};
use sqlx::PgPool;
use tokio::{net::TcpListener, sync::Semaphore};

pub use admin::{ADMIN_CLIENT, AdminKeys};
pub use callbacks_spec::callbacks_spec;
pub use error::Error;
pub use inbound::InboundCredentials;
pub use internal::LONGEST_REASON;
pub use payload::BodyLimits;
pub use receipts::{BasicCredentials, ReceiptCredentials};
pub use send::LONGEST_EXPIRY;
pub use status::Build;

/// What the API needs of the rest of the program.
pub struct Deps {
    /// For what the caches miss, and for reading notifications. Creation writes through `engine`.
    pub pool: PgPool,
    /// Where LISTEN works, which takes one connection of it for good.
    pub listening: PgPool,
    pub engine: herald_engine::Client,
    /// For what providers tell: it may gather, since nobody waits.
    pub arrivals: herald_engine::Client,
    pub sealer: Arc<Sealer>,
    /// Takes the files of emails. None: emails with files are turned away.
    pub documents: Option<documents::Client>,
    /// Tells which messages of SNS are ours.
    pub sns: sns::Client,
    pub settings: Settings,
}

/// Plain values; nothing here reads the environment.
#[derive(Clone)]
pub struct Settings {
    /// Where people reach this API, such as `https://api.notifications.service.gov.uk`: for links in messages.
    pub api_host: String,
    /// Where people reach the administration pages: for links in error messages.
    pub admin_host: String,
    /// Where recipients download files.
    pub document_host: String,
    /// What follows the @ in the senders of emails.
    pub email_domain: String,
    /// Where limits are kept; in the database, where there is no Redis.
    pub redis_url: Option<String>,
    /// Whether requests are limited by the minute.
    pub rate_limit: bool,
    pub receipts: ReceiptCredentials,
    pub inbound: InboundCredentials,
    pub admin_keys: AdminKeys,
    pub body: BodyLimits,
    /// Rows on one page of a list.
    pub page_size: u16,
    /// How long a request may take before it is answered with 504.
    pub patience: Duration,
    /// How long requests that were accepted may take after the signal to stop.
    pub grace: Duration,
    pub build: Build,
}

impl Default for Settings {
    fn default() -> Self {
        let host = "http://localhost:6011";
        Self {
            api_host: host.to_owned(),
            admin_host: "http://localhost:6012".to_owned(),
            document_host: "http://localhost:7000".to_owned(),
            email_domain: "notify.tools".to_owned(),
            redis_url: None,
            rate_limit: true,
            receipts: ReceiptCredentials::default(),
            inbound: InboundCredentials::default(),
            admin_keys: AdminKeys::default(),
            body: BodyLimits::default(),
            page_size: 250,
            patience: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            build: Build::default(),
        }
    }
}

/// What handlers share.
struct App {
    pool: PgPool,
    engine: herald_engine::Client,
    arrivals: herald_engine::Client,
    sealer: Arc<Sealer>,
    documents: Option<documents::Client>,
    sns: sns::Client,
    settings: Settings,
    cache: cache::Cache,
    limits: limits::Limits,
    /// A permit a large body.
    large_bodies: Arc<Semaphore>,
}

/// Answers requests on `listener` until `shutdown`, and returns when those accepted by then are answered, or
/// after `settings.grace`.
///
/// # Errors
/// When `settings.redis_url` is no address of a Redis.
pub async fn serve(listener: TcpListener, deps: Deps, shutdown: impl Future<Output = ()>) -> Result<(), NotARedis> {
    let Deps {
        pool,
        listening,
        engine,
        arrivals,
        sealer,
        documents,
        sns,
        settings,
    } = deps;
    let (patience, grace) = (settings.patience, settings.grace);
    let cache = cache::Cache::new(pool.clone(), Arc::clone(&sealer));
    let limits = limits::Limits::new(pool.clone(), settings.redis_url.as_deref(), settings.rate_limit)?;
    let app = Arc::new(App {
        pool,
        engine,
        arrivals,
        sealer,
        documents,
        large_bodies: Arc::new(Semaphore::new(settings.body.large_at_once)),
        sns,
        settings,
        cache,
        limits,
    });
    let listening = tokio::spawn(changes::listen(Arc::clone(&app), listening));
    let both = OpenApiService::new((public(), internal()), "", "");
    let routes = spec::routes(&public_service()).nest("/", both).data(app);
    server::run(
        listener,
        edge::Edge::around(routes.map_to_response(), patience),
        shutdown,
        grace,
    )
    .await;
    listening.abort();
    Ok(())
}

/// The address of Redis cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("it is not the address of a Redis, such as redis://host:6379/0")]
pub struct NotARedis;

impl From<redis::RedisError> for NotARedis {
    /// Without the address, which may hold a password.
    fn from(_: redis::RedisError) -> Self {
        Self
    }
}

/// The OpenAPI document of the public API: JSON, indented, the same for every build of one version.
pub fn public_spec() -> String {
    spec::of(&public_service())
}

/// The OpenAPI document of the internal API, in the same form.
pub fn internal_spec() -> String {
    let service = OpenApiService::new(internal(), "Herald, internal", "1").description(
        "For the administration pages and for operators. It is served beside the public API, to callers with a secret of the internal clients.",
    );
    spec::of(&service)
}

type Public = (
    sms::Texts,
    email::Emails,
    letter::Letters,
    read::Notifications,
    timeline::Timelines,
    cancel::Cancellation,
    list::NotificationLists,
    received::ReceivedTexts,
    unsubscribe::Unsubscribing,
    templates::Templates,
    receipts::Receipts,
    inbound::InboundTexts,
    status::Status,
);

fn public() -> Public {
    (
        sms::Texts,
        email::Emails,
        letter::Letters,
        read::Notifications,
        timeline::Timelines,
        cancel::Cancellation,
        list::NotificationLists,
        received::ReceivedTexts,
        unsubscribe::Unsubscribing,
        templates::Templates,
        receipts::Receipts,
        inbound::InboundTexts,
        status::Status,
    )
}

fn public_service() -> OpenApiService<Public, ()> {
    OpenApiService::new(public(), "Herald", "2").description(
        "Sends text messages and emails. The interface is that of GOV.UK Notify's REST API: its official clients work unmodified.",
    )
}

type Internal = (engine::Runs, engine::Queues, engine::Audit, callbacks::Callbacks);

fn internal() -> Internal {
    (engine::Runs, engine::Queues, engine::Audit, callbacks::Callbacks)
}

#[derive(Tags)]
enum Tag {
    /// Sending messages.
    Send,
    /// Messages that were sent.
    Notifications,
    /// Messages that people sent to services.
    ReceivedTexts,
    Templates,
    /// What providers call.
    Receipts,
    /// Whether the service is well.
    Status,
}

/// What only the administration pages and operators call.
#[derive(Tags)]
enum InternalTag {
    /// Where runs and queues of the engine stand, and hands on them.
    Engine,
    /// What services are still to be told, or could not be told.
    Callbacks,
}

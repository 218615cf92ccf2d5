//! The fake outside world for development and tests: Firetext, MMG and SES, the phone and inbox behind them, the
//! document-download service, and services that are called back.
//!
//! | route | what |
//! |---|---|
//! | `POST /firetext`, `POST /mmg` | take a text as the real firms do, and post receipts afterwards |
//! | `POST /ses`, `POST /` | SendRawEmail and SendEmail of SES as the AWS SDK calls them, and SNS notices afterwards |
//! | `GET /phone`, `DELETE /phone`, `GET /phone/count` | what arrived, in order; `?reference=` filters |
//! | `POST /documents/services/{id}/documents` | takes a file and gives a link to it, under `/documents/{id}` |
//! | `GET /documents` | the files that are kept, and how often one was brought |
//! | `POST /callbacks`, `POST /callbacks/{name}` | endpoints of services |
//! | `GET /callbacks`, `DELETE /callbacks` | what they were called with, in order; `?endpoint=` filters |
//! | `GET`, `PUT`, `DELETE /faults/{firetext,mmg,ses,documents,callbacks,callbacks/…}` | how to fail: see [`faults::Fault`] |
//! | `GET /SimpleNotificationService-stub.pem` | the certificate of the key that signs those notices: see [`sns`] |
//! | `GET /sns/confirm?Token=…`, `GET /sns/confirmed` | confirms a subscription; the tokens of those confirmed |
//! | `GET /receipts` | counts of receipts: waiting, attempts, posted, refused, given up |
//! | `GET /` | ok |

mod answer;
mod callbacks;
mod documents;
pub mod faults;
mod phone;
mod receipts;
mod server;
mod ses;
mod sms;
pub mod sns;

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::callbacks::Calls;
use crate::documents::Documents;
use crate::faults::Faults;
use crate::phone::Phone;
use crate::receipts::Receipts;

/// SES takes 10 MB, which base64 makes larger.
const LONGEST_REQUEST: usize = 16 * 1024 * 1024;

/// How the fake world behaves while nobody asks it to fail.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Base URL of Herald's API: receipts go to `{api_url}/notifications/…` unless the request names a URL itself.
    pub api_url: Option<String>,
    /// A receipt is posted after a time drawn evenly from this range.
    pub receipt_delay: RangeInclusive<Duration>,
    /// Receipts under way at the same time.
    pub receipt_connections: usize,
    /// For how long a receipt that nobody takes is tried again.
    pub receipt_patience: Duration,
    /// Messages that the phone keeps: the newest ones. Each takes some 500 bytes.
    pub phone_capacity: usize,
    /// Bytes of files that are kept: those of the newest ones.
    pub document_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_url: None,
            receipt_delay: Duration::from_millis(100)..=Duration::from_secs(1),
            receipt_connections: 32,
            receipt_patience: Duration::from_secs(300),
            phone_capacity: 1_000_000,
            document_bytes: 64 * 1024 * 1024,
        }
    }
}

/// What all handlers share.
struct World {
    faults: Faults,
    calls: Calls,
    phone: Phone,
    documents: Documents,
    receipts: Receipts,
    confirmed: sns::Confirmed,
}

/// Serves until `shutdown` ends; then connections are cut and receipts that wait are forgotten.
pub async fn serve(listener: TcpListener, settings: Settings, shutdown: impl Future) {
    // Where it listens is only ever unknown when it does not.
    let certificate_url = listener.local_addr().map(sns::certificate_url).unwrap_or_default();
    let world = Arc::new(World {
        faults: Faults::default(),
        calls: Calls::default(),
        phone: Phone::new(settings.phone_capacity),
        documents: Documents::new(settings.document_bytes),
        receipts: Receipts::new(&settings, certificate_url),
        confirmed: sns::Confirmed::default(),
    });
    let router = router(Arc::clone(&world));
    tokio::select! {
        never = server::run(listener, router) => match never {},
        _ = shutdown => {}
    }
    world.receipts.forget();
}

fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/firetext", post(sms::firetext))
        .route("/mmg", post(sms::mmg))
        .route("/ses", post(ses::call))
        .route("/ses/", post(ses::call))
        .route("/", get(|| async { "ok" }).post(ses::call))
        .route("/phone", get(phone::list).delete(phone::empty))
        .route("/phone/count", get(phone::count))
        .route("/documents", get(documents::list))
        .route("/documents/{id}", get(documents::download))
        .route("/documents/services/{service_id}/documents", post(documents::upload))
        .route(
            "/faults/{*party}",
            get(faults::show).put(faults::set).delete(faults::clear),
        )
        .route("/receipts", get(receipts::show))
        .route(sns::CERTIFICATE_PATH, get(sns::certificate))
        .route("/sns/confirm", get(sns::confirm))
        .route("/sns/confirmed", get(sns::confirmed))
        .route(
            "/callbacks",
            get(callbacks::list).delete(callbacks::forget).post(callbacks::call),
        )
        .route("/callbacks/{name}", post(callbacks::call))
        .layer(DefaultBodyLimit::max(LONGEST_REQUEST))
        .with_state(world)
}

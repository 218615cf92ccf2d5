//! A provider behind TLS: certificates of a test's own authority, and a front that shows them and passes on what it
//! decrypts.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

/// Who signs the certificates of a test. Whoever is given the file as `SSL_CERT_FILE` trusts it.
pub struct Authority {
    pub file: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = std::env::temp_dir().join(format!("herald-authority-{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { file, issuer }
    }

    /// A server at 127.0.0.1 whose certificate is over in so many days, or has been for as many.
    fn server(&self, ends_in_days: i64) -> Arc<ServerConfig> {
        let ends = Utc::now() + TimeDelta::days(ends_in_days);
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
        let part = |number: u32| u8::try_from(number).unwrap();
        let midnight = |day: DateTime<Utc>| date_time_ymd(day.year(), part(day.month()), part(day.day()));
        params.not_before = midnight(ends - TimeDelta::days(30));
        params.not_after = midnight(ends);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![CertificateDer::from(certificate)];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        // Another test may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ServerConfig::builder().with_no_client_auth();
        Arc::new(config.with_single_cert(chain, key.into()).unwrap())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Stands before a server that speaks without TLS.
pub struct TlsFront {
    /// `https://…`, without a path.
    pub url: String,
    shown: watch::Sender<Arc<ServerConfig>>,
    arrived: Arc<AtomicUsize>,
}

impl TlsFront {
    /// `url` is `http://…`. The first certificate is valid.
    pub async fn before(url: &str, authority: &Authority) -> Self {
        let server = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (shown, seen) = watch::channel(authority.server(VALID));
        let arrived = Arc::new(AtomicUsize::new(0));
        let counted = arrived.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), seen.clone(), counted.clone()));
            }
        });
        Self { url, shown, arrived }
    }

    /// Shows a certificate that is valid, or one that has expired. Connections of before end, as with a new start.
    pub fn show(&self, authority: &Authority, is_valid: bool) {
        let days = if is_valid { VALID } else { -VALID };
        self.shown.send_replace(authority.server(days));
    }

    /// How many bytes have arrived that were meant for the server.
    pub fn arrived(&self) -> usize {
        self.arrived.load(Ordering::Relaxed)
    }
}

/// More than the hours that a day of rounding may take from it.
const VALID: i64 = 10;

async fn pass(
    client: TcpStream,
    server: String,
    mut shown: watch::Receiver<Arc<ServerConfig>>,
    arrived: Arc<AtomicUsize>,
) {
    let config = shown.borrow_and_update().clone();
    let Ok(client) = TlsAcceptor::from(config).accept(client).await else {
        return;
    };
    let server = TcpStream::connect(server).await.unwrap();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            arrived.fetch_add(read, Ordering::Relaxed);
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        _ = copy(&mut from_server, &mut to_client) => {}
        _ = shown.changed() => {}
    }
}

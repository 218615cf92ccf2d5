//! `herald dev`: everything on this machine, ready to send: a private Postgres, migrations, seed data, and the same
//! processes that production has, with the stub as the outside world.

use std::{
    ffi::OsString,
    io::Write,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use herald_store::{
    CallbackType, NOTIFY_USER_ID,
    callbacks::{self, Lane, NewEndpoint},
    sealed::{Key, Sealer, context},
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    config, operate,
    postgres::{Cluster, Durability},
    seed, shutdown,
    supervisor::{Role, supervise},
    wiring,
};

/// What a fresh database is filled with. Its keys open nothing but this machine's stub.
const SEED: &str = include_str!("dev.json");
const SERVICE_ID: &str = "c1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11";
const SMS_TEMPLATE_ID: &str = "0d2d7f4c-7c0e-4f7e-8f3d-0a8f4b0c2e21";
const EMAIL_TEMPLATE_ID: &str = "5b8f5f5e-1c43-4b8e-9b56-7d1e2a9c4f31";
const KEYS: [(&str, &str, &str); 3] = [
    ("HERALD_API_KEY", "development", "7b0c6a0e-52f4-4c3b-9f60-1f6f0b8a2c41"),
    (
        "HERALD_TEAM_API_KEY",
        "development-team",
        "2f9d8c51-0f0e-4a64-8a7b-9e3c5d1b6f42",
    ),
    (
        "HERALD_TEST_API_KEY",
        "development-test",
        "d4a1b7e3-6c2f-4b1d-a5e8-3b7f9c0d8e43",
    ),
];
const ADMIN: [(&str, &str); 2] = [
    ("HERALD_ADMIN_CLIENT_ID", "notify-admin"),
    ("HERALD_ADMIN_SECRET", "dev-notify-secret-key"),
];

/// How the stub knows the calls of the service.
const CALLBACK_TOKEN: &str = "development-callback-token";
const SIGNING_SECRET: &str = "whsec_ZGV2ZWxvcG1lbnQtb25seS1ub3QtYS1zZWNyZXQtISE=";

/// For this machine's own database only.
const SEALING_KEYS: &str = "dev:ZGV2ZWxvcG1lbnQtb25seS1ub3QtYS1zZWNyZXQtISE=";

/// Where it keeps its things.
const DIR: &str = ".herald";

pub async fn dev(start_paused: bool, callbacks: bool) -> anyhow::Result<()> {
    let port = config::port(config::DEFAULT_PORT)?;
    free(port)?;
    let dir = PathBuf::from(DIR);
    std::fs::create_dir_all(&dir)?;
    let given = config::given_database_url();
    let mut cluster = match given {
        Some(_) => None,
        None => Some(Cluster::start(&dir.join("postgres"), Durability::Full).await?),
    };
    let ready = prepare(&dir, port, given, cluster.as_ref(), (start_paused, callbacks)).await;
    let ended = match ready {
        Ok(roles) => run(roles, port, cluster.as_mut(), start_paused).await,
        Err(error) => Err(error),
    };
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
    ended
}

/// Migrates and fills the database, and writes down how everything is reached.
async fn prepare(
    dir: &Path,
    port: u16,
    given: Option<String>,
    cluster: Option<&Cluster>,
    (start_paused, callbacks): (bool, bool),
) -> anyhow::Result<Vec<Role>> {
    let (url, shown) = match (given, cluster) {
        (Some(url), _) => (url.clone(), url),
        (None, Some(cluster)) => (cluster.url.clone(), cluster.tcp_url.clone()),
        (None, None) => unreachable!("without a given database there is a cluster"),
    };
    let sealing_keys = std::env::var("HERALD_SEALING_KEYS").unwrap_or_else(|_| SEALING_KEYS.to_owned());
    let pool = wiring::connect(&url, 2).await?;
    wiring::migrate(&pool).await?;
    if start_paused {
        operate::start_paused(&pool, "herald dev --start-paused").await?;
    }
    let sealer = sealer(&sealing_keys)?;
    seed::load(&pool, SEED, &sealer).await.context("the seed data")?;
    let stub_port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    call_the_stub(&pool, &sealer, stub_port, callbacks).await?;
    pool.close().await;
    write_environment(dir, port, stub_port, &shown)?;
    Ok(roles(port, stub_port, &url, &sealing_keys))
}

/// The service is told at the stub, if that is wanted or was before: its port is another one each time.
async fn call_the_stub(pool: &PgPool, sealer: &Sealer, stub_port: u16, is_wanted: bool) -> anyhow::Result<()> {
    let service_id = SERVICE_ID.parse()?;
    let mut lanes = CallbackType::ALL
        .map(|callback_type| Lane {
            service_id,
            callback_type,
        })
        .to_vec();
    let mut conn = pool.acquire().await?;
    if !is_wanted {
        lanes = callbacks::wanted(&mut conn, &lanes).await?;
    }
    for lane in lanes {
        let endpoint = NewEndpoint {
            lane,
            url: format!("http://127.0.0.1:{stub_port}/callbacks"),
            bearer_token: sealer.seal(context::CALLBACK_TOKEN, CALLBACK_TOKEN),
            signing_secret: Some(sealer.seal(context::CALLBACK_SIGNING_SECRET, SIGNING_SECRET)),
            updated_by_id: NOTIFY_USER_ID,
        };
        callbacks::set(&mut conn, &endpoint).await?;
    }
    Ok(())
}

fn sealer(keys: &str) -> anyhow::Result<Sealer> {
    let keys: Vec<_> = keys.split(',').map(Key::parse).collect::<Result<_, _>>()?;
    let mut keys = keys.into_iter();
    let current = keys.next().context("the setting HERALD_SEALING_KEYS is empty")?;
    Ok(Sealer::new(current, keys.collect()))
}

async fn run(roles: Vec<Role>, port: u16, cluster: Option<&mut Cluster>, start_paused: bool) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let supervised = tokio::spawn(supervise(roles, stop.clone()));
    let serving = async {
        announce(port, start_paused).await?;
        wait(cluster).await
    };
    let ended = tokio::select! {
        ended = serving => ended,
        () = shutdown::requested() => Ok(()),
    };
    stop.cancel();
    let _ = supervised.await;
    ended
}

/// Until it is to stop, or the database is gone.
async fn wait(cluster: Option<&mut Cluster>) -> anyhow::Result<()> {
    let database_gone = async {
        match cluster {
            Some(cluster) => cluster.ended().await,
            None => std::future::pending().await,
        }
    };
    let status = database_gone.await?;
    anyhow::bail!("Postgres ended by itself ({status}); its log is {DIR}/postgres/server.log")
}

/// The processes of production, each with what it needs to know.
fn roles(port: u16, stub_port: u16, database_url: &str, sealing_keys: &str) -> Vec<Role> {
    let api_url = format!("http://127.0.0.1:{port}");
    let stub_url = format!("http://127.0.0.1:{stub_port}");
    let documents_url = format!("{stub_url}/documents");
    let log = std::env::var("HERALD_LOG").unwrap_or_else(|_| "warn".to_owned());
    let common = [
        ("DATABASE_URL", database_url),
        ("HERALD_SEALING_KEYS", sealing_keys),
        ("HERALD_LOG", &log),
        ("FIRETEXT_RECEIPT_CREDENTIALS", "firetext:development"),
        ("MMG_RECEIPT_CREDENTIALS", "mmg:development"),
    ];
    let providers = [
        ("FIRETEXT_URL", format!("{stub_url}/firetext")),
        ("MMG_URL", format!("{stub_url}/mmg")),
        ("SES_STUB_URL", format!("{stub_url}/ses")),
        ("FIRETEXT_API_KEY", "development".to_owned()),
        ("MMG_API_KEY", "development".to_owned()),
        ("FIRETEXT_RECEIPT_URL", format!("{api_url}/notifications/sms/firetext")),
        ("MMG_RECEIPT_URL", format!("{api_url}/notifications/sms/mmg")),
        ("AWS_ACCESS_KEY_ID", "development".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "development".to_owned()),
        ("AWS_REGION", "eu-west-1".to_owned()),
        ("SERVICE_CALLBACKS_ALLOW_PRIVATE", "1".to_owned()),
        // One port has room for one process: the API.
        ("METRICS_PORT", String::new()),
    ];
    let role = |arguments: &[&str], extra: Vec<(&str, String)>| Role {
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        environment: common
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .chain(
                extra
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), OsString::from(value))),
            )
            .collect(),
    };
    vec![
        role(
            &["stub"],
            vec![("PORT", stub_port.to_string()), ("HERALD_API_URL", api_url.clone())],
        ),
        role(
            &["api"],
            vec![
                ("PORT", port.to_string()),
                ("API_HOST_NAME", api_url),
                ("DOCUMENT_DOWNLOAD_HOST", documents_url.clone()),
                ("DOCUMENT_DOWNLOAD_API_HOST", documents_url),
                ("DOCUMENT_DOWNLOAD_API_KEY", "development".to_owned()),
                ("SES_SNS_TOPIC_ARNS", herald_stub::sns::TOPIC.to_owned()),
                ("SES_SNS_CERTIFICATE_HOSTS", format!("127.0.0.1:{stub_port}")),
                ("MMG_INBOUND_SMS_USERNAME", r#"["development"]"#.to_owned()),
                ("MMG_INBOUND_SMS_AUTH", r#"["development"]"#.to_owned()),
                ("FIRETEXT_INBOUND_SMS_AUTH", r#"["development"]"#.to_owned()),
                ("INTERNAL_CLIENT_API_KEYS", admin_keys()),
            ],
        ),
        role(
            &["worker", "--queues", "send-sms,send-email,research"],
            providers.to_vec(),
        ),
        role(
            &[
                "worker",
                "--queues",
                "retry,retry-email,receipts,service-callbacks,service-callbacks-retry,periodic",
            ],
            providers.to_vec(),
        ),
        role(&["beat"], vec![("METRICS_PORT", String::new())]),
    ]
}

/// As the setting has it.
fn admin_keys() -> String {
    let [(_, client), (_, secret)] = ADMIN;
    serde_json::json!({ client: [secret] }).to_string()
}

fn write_environment(dir: &Path, port: u16, stub_port: u16, database_url: &str) -> anyhow::Result<()> {
    let mut lines = vec![
        format!("HERALD_API_URL=http://127.0.0.1:{port}"),
        format!("HERALD_STUB_URL=http://127.0.0.1:{stub_port}"),
        format!("DATABASE_URL={database_url}"),
        format!("HERALD_SERVICE_ID={SERVICE_ID}"),
    ];
    lines.extend(KEYS.map(|(setting, name, secret)| format!("{setting}={name}-{SERVICE_ID}-{secret}")));
    lines.push(format!("HERALD_SMS_TEMPLATE_ID={SMS_TEMPLATE_ID}"));
    lines.push(format!("HERALD_EMAIL_TEMPLATE_ID={EMAIL_TEMPLATE_ID}"));
    lines.extend(ADMIN.map(|(setting, value)| format!("{setting}={value}")));
    let file = dir.join("dev.env");
    std::fs::write(&file, lines.join("\n") + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    // It holds keys.
    Ok(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?)
}

/// Says that it is ready, once the API answers.
async fn announce(port: u16, start_paused: bool) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        ensure!(
            tokio::time::Instant::now() < until,
            "the API did not start within a minute"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let program = std::env::current_exe()?;
    writeln!(
        std::io::stdout(),
        "\nHerald is ready on http://127.0.0.1:{port} (settings: {DIR}/dev.env; Ctrl-C stops everything). Send a text:\n\n  \
         . {DIR}/dev.env; curl -H \"Authorization: Bearer $({} token \"$HERALD_API_KEY\")\" $HERALD_API_URL/v2/notifications/sms \
         --json '{{\"phone_number\": \"07700900123\", \"template_id\": \"{SMS_TEMPLATE_ID}\", \"personalisation\": {{\"name\": \"Ada\"}}}}'\n",
        program.display(),
    )?;
    if start_paused {
        writeln!(
            std::io::stdout(),
            "All queues are paused: what is sent is accepted and waits. Open one:\n\n  \
             (set -a; . {DIR}/dev.env; {} queues resume send-sms --reason 'it looks well')\n",
            program.display(),
        )?;
    }
    Ok(())
}

fn free(port: u16) -> anyhow::Result<()> {
    TcpListener::bind(("127.0.0.1", port))
        .map(drop)
        .with_context(|| format!("port {port} is taken; the setting PORT chooses another"))
}

//! A Postgres of a test's own, as durable as production's, which the test may crash, starve and start again.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use sqlx::{Connection, PgConnection};

use super::eventually;

/// Ends the server when standard input ends, which it does with the test, however the test ends.
pub(super) const GUARD: &str = r#"exec 3<&0
"$@" </dev/null & server=$!
(read -r _ <&3; kill -QUIT $server) & guard=$!
wait $server
kill $guard 2>/dev/null"#;

pub struct Cluster {
    dir: PathBuf,
    port: u16,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    server: Mutex<Option<Child>>,
    /// Reaches it over its socket.
    pub url: String,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Cluster {
    /// A new cluster with these settings (`name=value`).
    pub async fn start(settings: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("herald-cluster-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&dir).unwrap();
        Self::start_in(dir, settings, &[]).await
    }

    /// A new cluster in an empty folder, whose server has these environment variables.
    pub async fn start_in(dir: PathBuf, settings: &[&str], environment: &[(&str, String)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let socket = dir.display().to_string().replace('/', "%2F");
        let cluster = Self {
            url: format!("postgres://herald@localhost:{port}/postgres?host={socket}"),
            port,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            server: Mutex::default(),
            dir,
        };
        if let Some((user, group)) = account() {
            std::os::unix::fs::chown(&cluster.dir, Some(user), Some(group)).unwrap();
        }
        let made = cluster
            .command("initdb")
            .args(["--username=herald", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--pgdata={}", cluster.data().display()))
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        cluster.start_again().await;
        cluster
    }

    /// Starts the server, after [`Self::stop`] or a crash, and waits until it answers.
    pub async fn start_again(&self) {
        self.spawn();
        eventually("Postgres answers", || async {
            PgConnection::connect(&self.url).await.ok()
        })
        .await;
    }

    /// Stops the server in the way that `pg_ctl stop --mode` calls so: `immediate` is a crash.
    pub async fn stop(&self, mode: &str) {
        let mut stop = tokio::process::Command::from(self.command("pg_ctl"));
        stop.args(["stop", "--silent", &format!("--mode={mode}"), "--pgdata"])
            .arg(self.data());
        stop.output().await.unwrap();
        self.end();
    }

    /// Whether the server's process is there.
    pub fn is_up(&self) -> bool {
        let mut server = self.server.lock().unwrap();
        server
            .as_mut()
            .is_some_and(|server| matches!(server.try_wait(), Ok(None)))
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    fn spawn(&self) {
        let mut server = self.command("/bin/sh");
        server
            .args(["-c", GUARD, "sh"])
            .arg(programs().join("postgres"))
            .arg("-D")
            .arg(self.data());
        let ours = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.dir.display()),
            "shared_buffers=128MB".to_owned(),
        ];
        for setting in ours.iter().chain(&self.settings) {
            server.arg("-c").arg(setting);
        }
        let log = self.dir.join("server.log");
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        server
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        *self.server.lock().unwrap() = Some(server.spawn().unwrap());
    }

    /// Waits for the server's end; without a stop before, this is a crash.
    fn end(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            drop(server.stdin.take());
            let _ = server.wait();
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A program of Postgres, or another one, run as the server's account.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs().join(program));
        command.current_dir("/");
        if let Some((user, group)) = account() {
            command.uid(user).gid(group);
        }
        command
    }
}

/// The newest installed version's folder of programs.
pub fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.max_by_key(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    newest.map_or_else(PathBuf::new, |version| version.path().join("bin"))
}

/// Postgres refuses to run as root.
pub fn account() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let line = accounts.lines().find(|line| line.starts_with("postgres:")).unwrap();
    let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
    Some((ids.next().unwrap(), ids.next().unwrap()))
}

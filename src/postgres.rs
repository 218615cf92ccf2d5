//! A private Postgres for one machine: its cluster lives in a folder of the project, listens on a socket in there and
//! on a free port of the loopback, and ends with its owner. Made from the Postgres programs found on the machine.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tokio::{
    process::{Child, ChildStdin, Command},
    time::{Instant, sleep},
};

/// What to install where Postgres is absent.
pub const MISSING: &str = "Postgres is not installed: install the package `postgresql` (Debian, Ubuntu: apt-get install postgresql), \
     or set DATABASE_URL to a database that is running";

const USER: &str = "herald";
const DATABASE: &str = "herald";

/// What a crash of the machine may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Full,
    /// Nothing is flushed to disk: for tests.
    None,
}

/// Runs the server until standard input ends, which it does with the owner, however the owner ends. SIGINT is
/// Postgres' fast shutdown.
const GUARD: &str = r#"exec 3<&0
"$@" </dev/null & server=$!
(read -r _ <&3; kill -INT $server) & guard=$!
wait $server; status=$?
kill $guard 2>/dev/null
exit $status"#;

/// A running cluster. It ends with its owner.
pub struct Cluster {
    server: Child,
    owner: Option<ChildStdin>,
    /// Reaches it over its socket.
    pub url: String,
    /// Reaches it over the loopback, with a password: for tools.
    pub tcp_url: String,
}

impl Cluster {
    /// Starts the cluster in `dir`, making it if it is not there. A server left over from an owner that was killed is
    /// stopped first.
    pub async fn start(dir: &Path, durability: Durability) -> anyhow::Result<Self> {
        let programs = programs().context(MISSING)?;
        let account = Account::for_server()?;
        let dir = account.usable_dir(dir)?;
        let data = dir.join("data");
        let password = password(&dir)?;
        if !data.join("PG_VERSION").exists() {
            init(&programs, &account, &dir, &data).await?;
        } else if data.join("postmaster.pid").exists() {
            let stop = ["stop", "--mode=fast", "--silent", "--pgdata"];
            let _ = account
                .command(&programs.join("pg_ctl"))
                .args(stop)
                .arg(&data)
                .status()
                .await;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = account.command(Path::new("/bin/sh"));
        server
            .args(["-c", GUARD, "sh"])
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(&data);
        for setting in settings(port, &dir, durability) {
            server.arg("-c").arg(setting);
        }
        let log = fs::File::create(dir.join("server.log"))?;
        server.stdout(log.try_clone()?).stderr(log).stdin(Stdio::piped());
        // Ctrl-C is for the owner, which stops its other children first.
        server.process_group(0);
        let mut server = server.spawn().context("could not start Postgres")?;
        let owner = server.stdin.take();
        let socket = dir.display().to_string().replace('/', "%2F");
        let url = format!("postgres://{USER}@localhost:{port}/{DATABASE}?host={socket}");
        wait_until_ready(&programs, &dir, port, &mut server).await?;
        make_database(&programs, &dir, port).await?;
        let tcp_url = format!("postgres://{USER}:{password}@127.0.0.1:{port}/{DATABASE}");
        Ok(Self {
            server,
            owner,
            url,
            tcp_url,
        })
    }

    /// Stops it, disconnecting whoever is connected.
    pub async fn stop(mut self) {
        drop(self.owner.take());
        let _ = tokio::time::timeout(Duration::from_secs(10), self.server.wait()).await;
    }

    /// Resolves when the server has ended by itself.
    pub async fn ended(&mut self) -> io::Result<std::process::ExitStatus> {
        self.server.wait().await
    }
}

fn settings(port: u16, dir: &Path, durability: Durability) -> Vec<String> {
    let mut settings = vec![
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("unix_socket_directories={}", dir.display()),
        "max_connections=200".to_owned(),
        "shared_buffers=512MB".to_owned(),
        "max_wal_size=4GB".to_owned(),
        "wal_compression=on".to_owned(),
        "log_min_messages=warning".to_owned(),
    ];
    if durability == Durability::None {
        settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"].map(str::to_owned));
    }
    settings
}

async fn init(programs: &Path, account: &Account, dir: &Path, data: &Path) -> anyhow::Result<()> {
    let made = account
        .command(&programs.join("initdb"))
        .args([
            "--username",
            USER,
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ])
        .arg(format!("--pwfile={}", dir.join("password").display()))
        .arg("--pgdata")
        .arg(data)
        .output()
        .await
        .context("could not run initdb")?;
    ensure!(
        made.status.success(),
        "initdb failed: {}",
        String::from_utf8_lossy(&made.stderr).trim()
    );
    Ok(())
}

async fn wait_until_ready(programs: &Path, dir: &Path, port: u16, server: &mut Child) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if let Some(status) = server.try_wait()? {
            bail!(
                "Postgres ended at once ({status}); its log is {}",
                dir.join("server.log").display()
            );
        }
        let ready = client(programs, "pg_isready", dir, port)
            .arg("--quiet")
            .status()
            .await?;
        if ready.success() {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!(
        "Postgres did not become ready within a minute; its log is {}",
        dir.join("server.log").display()
    )
}

async fn make_database(programs: &Path, dir: &Path, port: u16) -> anyhow::Result<()> {
    let made = client(programs, "createdb", dir, port).arg(DATABASE).output().await?;
    let words = String::from_utf8_lossy(&made.stderr).into_owned();
    ensure!(
        made.status.success() || words.contains("already exists"),
        "could not make the database: {}",
        words.trim()
    );
    Ok(())
}

fn client(programs: &Path, name: &str, dir: &Path, port: u16) -> Command {
    let mut command = Command::new(programs.join(name));
    command
        .arg("--host")
        .arg(dir)
        .args(["--port", &port.to_string(), "--username", USER]);
    command.stdout(Stdio::null()).kill_on_drop(true);
    command
}

/// The newest installed version's folder of programs.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists() && bin.join("postgres").exists())
        .collect();
    versions.sort();
    let on_path = || std::env::split_paths(&std::env::var_os("PATH")?).find(|bin| bin.join("initdb").exists());
    versions.pop().map(|(_, bin)| bin).or_else(on_path)
}

/// The password of the loopback connection, made once.
fn password(dir: &Path) -> anyhow::Result<String> {
    let file = dir.join("password");
    if !file.exists() {
        fs::write(&file, uuid::Uuid::new_v4().simple().to_string())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let owner = fs::metadata(dir)?;
        chown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(fs::read_to_string(file)?.trim().to_owned())
}

/// Who runs the server: Postgres refuses to run as root.
struct Account {
    drop_to: Option<(u32, u32)>,
}

impl Account {
    fn for_server() -> anyhow::Result<Self> {
        if fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(Self { drop_to: None });
        }
        let accounts = fs::read_to_string("/etc/passwd")?;
        let ids = |name: &str| {
            let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        let ids = ids("postgres")
            .or_else(|| ids("nobody"))
            .context("Postgres refuses to run as root, and there is no account `postgres` to run it as")?;
        Ok(Self { drop_to: Some(ids) })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.drop_to {
            command.uid(uid).gid(gid);
        }
        // A folder that every account can stand in.
        command.current_dir("/");
        command
    }

    /// Makes the folder, owned by the server's account. When that account cannot reach it, as below a private home
    /// folder, or its path is too long for a socket, a folder of /var/tmp takes its place and is linked.
    fn usable_dir(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let mut dir = dir.canonicalize()?;
        let reachable = |dir: &Path| {
            let mut above = dir.ancestors().skip(1);
            above.all(|above| fs::metadata(above).is_ok_and(|meta| meta.mode() & 0o001 != 0))
        };
        const LONGEST_SOCKET_DIR: usize = 80;
        if dir.as_os_str().len() > LONGEST_SOCKET_DIR || (self.drop_to.is_some() && !reachable(&dir)) {
            let mut hasher = DefaultHasher::new();
            dir.hash(&mut hasher);
            let elsewhere = PathBuf::from(format!("/var/tmp/herald-{:016x}", hasher.finish()));
            fs::create_dir_all(&elsewhere)?;
            let owner = fs::metadata(&elsewhere)?.uid();
            let ours = [
                Some(fs::metadata("/proc/self")?.uid()),
                self.drop_to.map(|(uid, _)| uid),
            ];
            ensure!(
                ours.contains(&Some(owner)),
                "{} belongs to another account",
                elsewhere.display()
            );
            let link = dir.join("elsewhere");
            if !link.exists() {
                let _ = symlink(&elsewhere, &link);
            }
            dir = elsewhere;
        }
        if let Some((uid, gid)) = self.drop_to {
            chown(&dir, Some(uid), Some(gid))?;
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        Ok(dir)
    }
}

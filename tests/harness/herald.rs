//! The built program's processes on a database of their own, started as production starts them.

use std::{
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
};

use herald_stub::sns;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Database, admin::ADMIN_KEYS, client::ANOTHER, database, eventually, http};

pub const SEALING_KEYS: &str = "test:ZGV2ZWxvcG1lbnQtb25seS1ub3QtYS1zZWNyZXQtISE=";

/// A running Herald. Its processes end with it.
pub struct Herald {
    pub base_url: String,
    pub stub_url: String,
    pub database: Database,
    processes: Mutex<Vec<Process>>,
    settings: Vec<(&'static str, String)>,
}

/// A child whose standard input ends with this process, and which is killed when it is dropped.
pub struct Process(Child);

impl Process {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until it has ended by itself; whether it ended well.
    pub fn ended_well(mut self) -> bool {
        self.0.wait().unwrap().success()
    }

    /// TERM, and its end; everybody else goes on meanwhile. Whether it ended well.
    pub async fn terminate(self) -> bool {
        self.signal("-TERM");
        tokio::task::spawn_blocking(|| self.ended_well()).await.unwrap()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Herald {
    /// The API on a database with this fixture; nothing works on what it accepts.
    pub async fn start_api_only(fixture: &Value) -> Self {
        let herald = Self::prepare(fixture, database().await);
        herald.start(&["api"], &herald.base_url).await;
        herald
    }

    /// As [`Self::start_api_only`], for nobody of the administration pages.
    pub async fn start_api_without_admin_keys() -> Self {
        let mut herald = Self::prepare(&json!({}), database().await);
        herald.settings.retain(|(name, _)| *name != "INTERNAL_CLIENT_API_KEYS");
        herald.start(&["api"], &herald.base_url).await;
        herald
    }

    /// The API and the outside world, with the development seed. Workers come by [`Self::worker`].
    pub async fn start_without_workers() -> Self {
        Self::start_on(database().await).await
    }

    /// As [`Self::start_without_workers`], on a given database.
    pub async fn start_on(database: Database) -> Self {
        let herald = Self::start_without_api(database).await;
        herald.start(&["api"], &herald.base_url).await;
        herald
    }

    /// The outside world alone, with the development seed. The API comes by [`Self::api_with`].
    pub async fn start_without_api(database: Database) -> Self {
        let herald = Self::prepare(&development_seed(), database);
        herald.start(&["stub"], &herald.stub_url).await;
        herald
    }

    /// The outside world alone, on an empty database that another build of the program has migrated and seeded.
    pub async fn start_at_version(program: &Path, database: Database) -> Self {
        let herald = Self::unseeded(database);
        assert!(herald.role_of(program, &["migrate"]).status().unwrap().success());
        herald.seed_by(program, &development_seed());
        herald.start(&["stub"], &herald.stub_url).await;
        herald
    }

    /// Everything, with the development seed.
    pub async fn start_all() -> Self {
        Self::start_all_with(&development_seed()).await
    }

    /// Everything, with a fixture of one's own.
    pub async fn start_all_with(fixture: &Value) -> Self {
        let herald = Self::prepare(fixture, database().await);
        herald.start(&["stub"], &herald.stub_url).await;
        herald.start(&["api"], &herald.base_url).await;
        let worker = herald.worker();
        herald.processes.lock().unwrap().push(worker);
        herald
    }

    /// A worker of all queues.
    pub fn worker(&self) -> Process {
        self.worker_with("all", &[])
    }

    pub fn beat(&self) -> Process {
        Process(self.role(&["beat"]).spawn().unwrap())
    }

    /// Posts what SES says, in an envelope that SNS has signed.
    pub async fn post_ses(&self, message: &Value) -> u16 {
        self.post_ses_to(&self.base_url, message).await
    }

    /// As [`Self::post_ses`], to a process of the API.
    pub async fn post_ses_to(&self, api: &str, message: &Value) -> u16 {
        let envelope = self.signed(json!({"Type": "Notification", "Message": message.to_string()}));
        self.post_sns_to(api, &envelope).await
    }

    /// Posts an envelope as it is.
    pub async fn post_sns(&self, envelope: &Value) -> u16 {
        self.post_sns_to(&self.base_url, envelope).await
    }

    async fn post_sns_to(&self, api: &str, envelope: &Value) -> u16 {
        let url = format!("{api}/notifications/email/ses");
        let request = http().post(url).header("content-type", "text/plain; charset=UTF-8");
        request
            .body(envelope.to_string())
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    }

    /// An envelope with the signature of the stub's SNS.
    pub fn signed(&self, envelope: Value) -> Value {
        sns::signed(envelope, &format!("{}{}", self.stub_url, sns::CERTIFICATE_PATH))
    }

    /// A command of the program, from its start to its end.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.command_with(arguments, &[])
    }

    /// The same, with settings of its own.
    pub fn command_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        let mut command = self.role(arguments);
        command
            .env("USER", "ada")
            .envs(settings.iter().copied())
            .output()
            .unwrap()
    }

    /// A worker of some queues, with settings of its own.
    pub fn worker_with(&self, queues: &str, settings: &[(&str, &str)]) -> Process {
        let mut worker = self.role(&["worker", "--queues", queues]);
        Process(worker.envs(settings.iter().copied()).spawn().unwrap())
    }

    /// A worker of all queues whose log, errors only, goes into a file.
    pub fn worker_logging(&self, log: &Path, settings: &[(&str, &str)]) -> Process {
        let mut worker = self.role(&["worker", "--queues", "all"]);
        worker.envs(settings.iter().copied()).stderr(File::create(log).unwrap());
        Process(worker.spawn().unwrap())
    }

    /// Any role that has nothing to listen on, such as `beat`.
    pub fn role_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Process {
        Process(self.role(arguments).envs(settings.iter().copied()).spawn().unwrap())
    }

    /// The API, with settings of its own.
    pub async fn api_with(&self, settings: &[(&str, &str)]) -> Process {
        self.listening(&["api"], &self.base_url, settings).await
    }

    /// The API, with settings of its own; its log, errors only, goes into a file.
    pub async fn api_logging(&self, log: &Path, settings: &[(&str, &str)]) -> Process {
        let mut api = self.role(&["api"]);
        api.envs(settings.iter().copied()).stderr(File::create(log).unwrap());
        until_it_listens(api, &self.base_url).await
    }

    /// Another process of the API, and its address.
    pub async fn another_api(&self) -> (Process, String) {
        self.api_of(this_program()).await
    }

    /// The same of another build of the program.
    pub async fn api_of(&self, program: &Path) -> (Process, String) {
        let url = free_address();
        let api = self.role_of(program, &["api"]);
        (until_it_listens(api, &url).await, url)
    }

    /// A role of another build of the program that has nothing to listen on.
    pub fn process_of(&self, program: &Path, arguments: &[&str]) -> Process {
        Process(self.role_of(program, arguments).spawn().unwrap())
    }

    /// A second service, like that of the development seed.
    pub fn seed_another_service(&self) {
        let mut seed = include_str!("../../src/dev.json").to_owned();
        for (own, another) in ANOTHER {
            seed = seed.replace(own, another);
        }
        let mut seed: Value = serde_json::from_str(&seed).unwrap();
        let service = &mut seed["services"][0];
        service["name"] = json!("Another Service");
        service["email_sender_local_part"] = json!("another.service");
        service["sms_senders"][0]["id"] = json!(uuid::Uuid::new_v4());
        service["templates"].as_array_mut().unwrap().truncate(1);
        service["keys"].as_array_mut().unwrap().truncate(1);
        service["keys"][0]["id"] = json!(uuid::Uuid::new_v4());
        self.seed_by(this_program(), &seed);
    }

    fn prepare(fixture: &Value, database: Database) -> Self {
        let herald = Self::unseeded(database);
        herald.seed_by(this_program(), fixture);
        herald
    }

    fn unseeded(database: Database) -> Self {
        let (base_url, stub_url) = (free_address(), free_address());
        let settings = vec![
            ("DATABASE_URL", database.url.clone()),
            ("HERALD_SEALING_KEYS", SEALING_KEYS.to_owned()),
            ("HERALD_API_URL", base_url.clone()),
            ("API_HOST_NAME", base_url.clone()),
            ("INTERNAL_CLIENT_API_KEYS", ADMIN_KEYS.to_owned()),
            ("STUB_RECEIPT_DELAY_MS", "5-50".to_owned()),
            ("FIRETEXT_URL", format!("{stub_url}/firetext")),
            ("FIRETEXT_API_KEY", "test".to_owned()),
            ("FIRETEXT_RECEIPT_URL", format!("{base_url}/notifications/sms/firetext")),
            ("MMG_URL", format!("{stub_url}/mmg")),
            ("MMG_API_KEY", "test".to_owned()),
            ("MMG_RECEIPT_URL", format!("{base_url}/notifications/sms/mmg")),
            ("DOCUMENT_DOWNLOAD_API_HOST", format!("{stub_url}/documents")),
            ("DOCUMENT_DOWNLOAD_API_KEY", "test".to_owned()),
            ("SES_STUB_URL", format!("{stub_url}/ses")),
            ("SES_SNS_TOPIC_ARNS", sns::TOPIC.to_owned()),
            (
                "SES_SNS_CERTIFICATE_HOSTS",
                stub_url.trim_start_matches("http://").to_owned(),
            ),
            ("MMG_INBOUND_SMS_USERNAME", r#"["old", "username"]"#.to_owned()),
            ("MMG_INBOUND_SMS_AUTH", r#"["testkey", "next"]"#.to_owned()),
            ("FIRETEXT_INBOUND_SMS_AUTH", r#"["testkey"]"#.to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("WORKER_LEASE_SECONDS", "2".to_owned()),
            ("UNKNOWN_OUTCOME_PATIENCE_SECONDS", "3".to_owned()),
            ("PROVIDER_TIMEOUT_SECONDS", "2".to_owned()),
            ("SERVICE_CALLBACKS_ALLOW_PRIVATE", "1".to_owned()),
        ];
        Self {
            base_url,
            stub_url,
            database,
            processes: Mutex::default(),
            settings,
        }
    }

    fn seed_by(&self, program: &Path, fixture: &Value) {
        let file = std::env::temp_dir().join(format!("herald-fixture-{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&file, fixture.to_string()).unwrap();
        let seeded = self.role_of(program, &["seed"]).arg(&file).status().unwrap();
        std::fs::remove_file(file).unwrap();
        assert!(seeded.success(), "the fixture does not load");
    }

    async fn start(&self, arguments: &[&str], url: &str) {
        let process = self.listening(arguments, url, &[]).await;
        self.processes.lock().unwrap().push(process);
    }

    async fn listening(&self, arguments: &[&str], url: &str, settings: &[(&str, &str)]) -> Process {
        let mut role = self.role(arguments);
        role.envs(settings.iter().copied());
        until_it_listens(role, url).await
    }

    fn role(&self, arguments: &[&str]) -> Command {
        self.role_of(this_program(), arguments)
    }

    /// A command of a build of the program, with the settings of all.
    pub fn role_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(self.settings.iter().map(|(name, value)| (*name, value)));
        command
            .env("HERALD_SUPERVISED", "1")
            .env("HERALD_LOG", "error")
            .stdin(Stdio::piped());
        command
    }
}

/// Starts a role at this address.
async fn until_it_listens(mut role: Command, url: &str) -> Process {
    let address = url.strip_prefix("http://").unwrap();
    let port = address.rsplit(':').next().unwrap();
    let process = Process(role.env("PORT", port).spawn().unwrap());
    eventually(&format!("somebody listens at {address}"), || async {
        TcpStream::connect(address).await.ok()
    })
    .await;
    process
}

/// What `herald dev` begins with.
fn development_seed() -> Value {
    serde_json::from_str(include_str!("../../src/dev.json")).unwrap()
}

/// What a command wrote, to people and about errors.
pub fn words(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|words| String::from_utf8_lossy(words))
        .concat()
}

/// The built program.
pub fn program() -> Command {
    Command::new(this_program())
}

/// The program as it is now.
pub fn this_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_herald"))
}

/// A port on which nobody listens yet.
pub fn free_port() -> u16 {
    // Below those that the system gives away by itself: it would give one again before it is listened on.
    std::iter::repeat_with(|| rand::random_range(10_000..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

fn free_address() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

//! `herald dev` keeps the development contract: it serves, writes down how it is reached, starts again what dies, and
//! stops everything when it is told to.

use std::{
    collections::HashMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{eventually, http, program, words};

struct Dev {
    dir: PathBuf,
    process: Child,
    settings: HashMap<String, String>,
}

impl Dev {
    async fn start() -> Self {
        Self::start_with(&["--callbacks"]).await
    }

    async fn start_with(options: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("herald-dev-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = program();
        command
            .arg("dev")
            .args(options)
            .current_dir(&dir)
            .env("PORT", port.to_string())
            .env("HERALD_LOG", "error");
        // It ends with this test, however the test ends.
        command
            .env("HERALD_SUPERVISED", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let process = command.spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}/_status?simple=1");
        eventually("the API answers", || async { http().get(&url).send().await.ok() }).await;
        let settings = fs::read_to_string(dir.join(".herald/dev.env")).unwrap();
        let settings = settings.lines().map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        Self {
            settings: settings.collect(),
            dir,
            process,
        }
    }

    fn setting(&self, name: &str) -> &str {
        self.settings
            .get(name)
            .unwrap_or_else(|| panic!("dev.env has no {name}"))
    }

    fn token(&self, key: &str) -> String {
        let output = program().args(["token", self.setting(key)]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Sends a text with a key.
    async fn send(&self, key: &str, to: &str) -> String {
        let url = format!("{}/v2/notifications", self.setting("HERALD_API_URL"));
        let body = json!({
            "phone_number": to,
            "template_id": self.setting("HERALD_SMS_TEMPLATE_ID"),
            "personalisation": {"name": "Ada"},
        });
        let sent = http()
            .post(format!("{url}/sms"))
            .bearer_auth(self.token(key))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(sent.status(), 201);
        let sent: Value = sent.json().await.unwrap();
        sent["id"].as_str().unwrap().to_owned()
    }

    async fn until_delivered(&self, key: &str, id: &str) {
        let url = format!("{}/v2/notifications", self.setting("HERALD_API_URL"));
        eventually("the text is delivered", || async {
            let request = http().get(format!("{url}/{id}")).bearer_auth(self.token(key));
            let text: Value = request.send().await.ok()?.json().await.ok()?;
            (text["status"] == "delivered").then_some(())
        })
        .await;
    }

    /// Sends a text with a key and waits until it is delivered.
    async fn deliver(&self, key: &str, to: &str) -> String {
        let id = self.send(key, to).await;
        self.until_delivered(key, &id).await;
        id
    }

    /// The processes that it has started.
    fn children(&self) -> Vec<u32> {
        let of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let parent = |pid: u32| {
            of(pid)?
                .rsplit(')')
                .next()?
                .split_whitespace()
                .nth(1)?
                .parse::<u32>()
                .ok()
        };
        let all = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        all.filter(|&pid| parent(pid) == Some(self.process.id())).collect()
    }
}

fn command_line(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .unwrap_or_default()
        .replace('\0', " ")
}

fn signal(signal: &str, pid: u32) {
    assert!(
        std::process::Command::new("kill")
            .args([signal, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn dev_is_ready_to_send_survives_its_processes_and_stops_them_all() {
    let mut dev = Dev::start().await;
    let id = dev.deliver("HERALD_API_KEY", "07700900123").await;
    dev.deliver("HERALD_TEAM_API_KEY", "07700900001").await;
    dev.deliver("HERALD_TEST_API_KEY", "07700900123").await;
    let phone = format!("{}/phone?reference={id}", dev.setting("HERALD_STUB_URL"));
    let phone: Value = http().get(phone).send().await.unwrap().json().await.unwrap();
    assert_eq!(phone["messages"].as_array().map(Vec::len), Some(1));
    for name in [
        "DATABASE_URL",
        "HERALD_SERVICE_ID",
        "HERALD_EMAIL_TEMPLATE_ID",
        "HERALD_ADMIN_CLIENT_ID",
        "HERALD_ADMIN_SECRET",
    ] {
        assert!(!dev.setting(name).is_empty());
    }

    let token = program()
        .args(["token", "--admin", dev.setting("HERALD_ADMIN_SECRET")])
        .output()
        .unwrap();
    let queues = http()
        .get(format!("{}/engine/queues", dev.setting("HERALD_API_URL")))
        .bearer_auth(String::from_utf8(token.stdout).unwrap().trim());
    assert_eq!(queues.send().await.unwrap().status(), 200);

    let children = dev.children();
    let worker = children
        .iter()
        .find(|&&pid| command_line(pid).contains("send-sms"))
        .unwrap();
    signal("-KILL", *worker);
    dev.deliver("HERALD_API_KEY", "07700900123").await;

    let children = dev.children();
    assert!(children.len() >= 6, "{children:?}");
    signal("-TERM", dev.process.id());
    assert!(dev.process.wait().unwrap().success());
    let left: Vec<String> = children
        .into_iter()
        .filter(|&pid| Path::new(&format!("/proc/{pid}")).exists())
        .map(command_line)
        .collect();
    assert!(left.is_empty(), "{left:?}");
    fs::remove_dir_all(&dev.dir).unwrap();
}

#[tokio::test]
async fn dev_that_starts_paused_sends_nothing_until_its_queues_are_opened() {
    let mut dev = Dev::start_with(&["--start-paused"]).await;
    let herald = |command: &[&str]| {
        let mut herald = program();
        herald.args(command).env("DATABASE_URL", dev.setting("DATABASE_URL"));
        words(&herald.output().unwrap())
    };
    let id = dev.send("HERALD_API_KEY", "07700900123").await;
    let shown = herald(&["runs", "show", &id]);
    assert!(shown.contains("paused"), "{shown}");
    for queue in ["send-sms", "receipts"] {
        let opened = herald(&["queues", "resume", queue, "--by", "ada", "--reason", "looks well"]);
        assert!(opened.contains("is open"), "{opened}");
    }
    dev.until_delivered("HERALD_API_KEY", &id).await;
    signal("-TERM", dev.process.id());
    assert!(dev.process.wait().unwrap().success());
    fs::remove_dir_all(&dev.dir).unwrap();
}

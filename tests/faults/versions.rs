//! Two versions of the program at once: a deploy and a roll-back, with runs in flight all the while. `make faults` builds
//! the former version from the history of the repository, and says where in `HERALD_FORMER`.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::json;

use super::{
    count,
    load::{load_while, outage},
    oracle, providers,
    report::{Verdict, fault},
    until,
};
use crate::{
    arrivals::complaint,
    callbacks::{calls, endpoint, lane, until_idle},
    harness::{Balancer, Client, Herald, Process, SERVICE, empty_database, http, this_program, words},
};

const NOT_BUILT: &str =
    "no former version was built: make faults builds it where the history of the repository is there";

const MADE_KNOWN: &str = "until a version that knows it comes";

/// The processes of one version.
struct Fleet {
    api: Process,
    address: String,
    worker: Process,
    beat: Process,
}

impl Fleet {
    /// Starts beside whatever runs, and takes requests from then on.
    async fn start(herald: &Herald, program: &Path, balancer: &Balancer) -> Self {
        let worker = herald.process_of(program, &["worker", "--queues", "all"]);
        let beat = herald.process_of(program, &["beat"]);
        let (api, address) = herald.api_of(program).await;
        balancer.add(&address);
        Self {
            api,
            address,
            worker,
            beat,
        }
    }

    /// As a deploy ends it: no new requests, then TERM.
    async fn end(self, balancer: &Balancer) {
        balancer.remove(&self.address);
        for process in [self.api, self.worker, self.beat] {
            assert!(process.terminate().await, "a process did not end well");
        }
    }
}

/// A command from its start to its end, while others go on.
async fn done(command: Command) -> Output {
    tokio::process::Command::from(command).output().await.unwrap()
}

/// Sees to it that some texts back off, some wait for their receipts, and some are held by a worker.
async fn put_runs_in_flight(herald: &Herald, client: &Client<'_>) {
    let (backing_off, waiting, held) = (
        "select count(*) from engine.run where queue = 'retry' and state = 'sleeping' and due_at > now() + interval '1 min'",
        "select count(*) from engine.run where state = 'waiting'",
        "select count(*) from engine.run where state = 'running'",
    );
    providers(client, json!({"status": 503})).await;
    until(herald, "texts back off", backing_off, |runs| runs >= 20).await;
    providers(client, json!({"latency_ms": 300, "receipt_delay_ms": 4_000})).await;
    until(herald, "texts wait for their receipts", waiting, |runs| runs >= 20).await;
    until(herald, "texts are held by a worker", held, |runs| runs >= 5).await;
}

/// The rest of the back-offs of texts is not waited for.
async fn hurry(herald: &Herald, queue: &'static str) -> u64 {
    let sql = "update engine.run set due_at = now() where queue = $1 and state = 'sleeping'";
    let hurried = sqlx::query(sql).bind(queue).execute(&*herald.database).await.unwrap();
    hurried.rows_affected()
}

/// What a process of the API says of itself.
async fn commit_of(api: &str) -> String {
    let status: serde_json::Value = http()
        .get(format!("{api}/_status"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    status["git_commit"].as_str().unwrap().to_owned()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_deploy_and_a_roll_back_with_runs_in_flight_lose_and_repeat_nothing() {
    let what = "a former version without callbacks, switching and complaints is rolled forward to this one, back (one worker by kill -9), \
                and forward again, under load, with texts that back off, wait and are held at each step";
    fault("59", what, async |report| {
        let Some(former) = std::env::var_os("HERALD_FORMER").filter(|path| !path.is_empty()) else {
            return Verdict::Skipped(NOT_BUILT.to_owned());
        };
        let (old, new) = (Path::new(&former), this_program());
        let herald = Herald::start_at_version(old, empty_database().await).await;
        oracle::watch(&herald.database).await;
        let balancer = Balancer::at(&herald.base_url).await;
        let client = Client::live(&herald);
        let first = Fleet::start(&herald, old, &balancer).await;
        report.note(format!("the former version is {}", commit_of(&first.address).await));
        let mut emails = vec![client.send_email("ada@example.com").await];

        let (load, _last) = load_while(&client, 40, async {
            put_runs_in_flight(&herald, &client).await;

            // The deploy: migrations first, then the new processes beside the old ones.
            let early = done(herald.role_of(new, &["worker", "--queues", "all"])).await;
            assert!(words(&early).contains("run `herald migrate` first"), "{}", words(&early));
            let migrated = done(herald.role_of(new, &["migrate"])).await;
            assert!(migrated.status.success(), "{}", words(&migrated));
            let second = Fleet::start(&herald, new, &balancer).await;
            outage(3.0).await;
            first.end(&balancer).await;
            outage(3.0).await;
            let hurried = hurry(&herald, "retry").await;
            report.note(format!("{hurried} back-offs of the former version were ended by this one"));

            // What only the new version does: it calls services, and emails have a queue of their own to back off in.
            client.faults("callbacks", &json!({"status": 503})).await;
            endpoint(&herald, lane(SERVICE), "callbacks").await;
            client.faults("ses", &json!({"status": 503})).await;
            for _ in 0..10 {
                emails.push(client.send_email("ada@example.com").await);
            }
            let waiting = "select count(*) from engine.run where queue = 'retry-email' and state = 'sleeping' and due_at > now() + interval '1 min'";
            until(&herald, "emails back off", waiting, |runs| runs == 10).await;
            put_runs_in_flight(&herald, &client).await;

            // The roll-back. What the former version will not play is known before.
            let check = done(herald.role_of(old, &["check-upgrade"])).await;
            let listed = words(&check).lines().filter(|line| line.contains("no workflow of this name")).count();
            assert!(!check.status.success() && listed > 0, "{}", words(&check));
            let same = done(herald.role_of(new, &["check-upgrade"])).await;
            assert!(same.status.success(), "{}", words(&same));
            let refusal = done(herald.role_of(old, &["migrate"])).await;
            assert!(!refusal.status.success(), "it is said to refuse a newer schema");
            report.note("the former version's migrate refuses the newer schema and is left out; this version's does not");
            let another = herald.process_of(new, &["worker", "--queues", "all"]);
            let third = Fleet::start(&herald, old, &balancer).await;
            outage(3.0).await;
            another.kill();
            balancer.remove(&second.address);
            assert!(second.worker.terminate().await && second.beat.terminate().await);
            // The new API is the last to go: it accepts something that no worker knows any more.
            let reference = "select reference from notifications where notification_type = 'email' and notification_status = 'delivered'";
            let reference: String = sqlx::query_scalar(reference).fetch_one(&*herald.database).await.unwrap();
            let report_of_spam = complaint(&reference, "f-59");
            assert_eq!(herald.post_ses_to(&second.address, &report_of_spam).await, 200);
            assert!(second.api.terminate().await);
            let parked = "select count(*) from engine.run where state = 'parked'";
            until(&herald, "the complaint is parked", parked, |runs| runs > 0).await;
            outage(3.0).await;
            let hurried = hurry(&herald, "retry").await;
            report.note(format!("{hurried} back-offs of this version were ended by the former one"));
            put_runs_in_flight(&herald, &client).await;
            assert_eq!(count(&herald, waiting).await, 10, "nobody takes what waits in a queue that is not known");

            // Forward again.
            let fourth = Fleet::start(&herald, new, &balancer).await;
            third.end(&balancer).await;
            let unknown = count(&herald, parked).await;
            let redrive = ["runs", "redrive", "--state", "parked", "--by", "ada", "--reason", MADE_KNOWN];
            let redriven = done(herald.role_of(new, &redrive)).await;
            assert!(redriven.status.success(), "{}", words(&redriven));
            report.note(format!("{unknown} runs parked {MADE_KNOWN}, {listed} and 10 emails waited in queues that the former version has not"));
            for party in ["callbacks", "ses"] {
                client.faults(party, &json!({})).await;
            }
            providers(&client, json!({})).await;
            hurry(&herald, "retry").await;
            hurry(&herald, "retry-email").await;
            outage(4.0).await;
            fourth
        })
        .await;
        report.note(format!("{} texts not answered with 201", load.unanswered));
        emails.extend(load.ids());
        until_idle(&herald).await;
        oracle::check(report, &herald, &emails).await;
        let workers = count(&herald, "select count(distinct owner) from engine.journal").await;
        assert_eq!(workers, 5, "a worker had nothing to do");
        let told = oracle::services_were_told(&herald, &calls(&herald, "callbacks").await).await;
        report.note(format!("{told} told to the service, in order: what the new version settled"));
        assert_eq!(count(&herald, "select count(*) from complaints").await, 1);
        let unplayed = "select count(*) from engine.firing f where outcome = 'fired'
            and not exists (select from engine.journal j where j.run_id = f.run_id)";
        assert_eq!(count(&herald, unplayed).await, 0, "a scheduled instant was fired and never played (I7)");
        Verdict::Passed
    })
    .await;
}

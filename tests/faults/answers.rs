//! Every way in which a provider can answer badly, or not at all: what is tried again, and what the phone gets.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{
    count, herald,
    load::{load_while, outage, send},
    oracle::{self, Tally},
    providers,
    report::{Report, Verdict, fault},
    until,
};
use crate::harness::{Authority, Client, Herald, TlsFront, eventually};

const ATTEMPTS: &str =
    "select count(*) from engine.journal, jsonb_array_elements(events) e where e ->> 'event' = 'intent'";
const RESENT: &str =
    "select count(*) from engine.journal, jsonb_array_elements(events) e where e ->> 'event' = 'resent'";

/// Sends texts for a while, with these faults of Firetext and of MMG, and checks the oracle without them.
async fn plays(report: &Report, [firetext, mmg]: [serde_json::Value; 2], seconds: f64) -> Herald {
    let herald = herald().await;
    let client = Client::live(&herald);
    let _workers = [herald.worker(), herald.worker()];
    client.faults("firetext", &firetext).await;
    client.faults("mmg", &mmg).await;
    let (load, ()) = load_while(&client, 20, outage(seconds)).await;
    providers(&client, json!({})).await;
    oracle::check(report, &herald, &load.ids()).await;
    herald
}

/// Where receipts come, what was taken is not sent again, on record or not. A request that was too slow to be taken may be.
async fn nobody_got_it_twice(herald: &Herald) {
    let texts = count(herald, "select count(*) from notifications").await;
    assert_eq!(
        Client::live(herald).phone_count().await,
        texts,
        "a receipt told that it was taken"
    );
}

/// The workers' PROVIDER_TIMEOUT_SECONDS in tests.
const TIME_OUT_MS: usize = 2_000;

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_provider_that_hangs_or_drips_holds_nobody_up() {
    let done =
        "Firetext never answers, nor takes a text; MMG takes each, and half of its answers come a byte a second; 10 s";
    fault("34", done, async |report| {
        let faults = [
            json!({"hang": true, "accept": false}),
            json!({"drip": true, "share": 0.5}),
        ];
        let herald = plays(report, faults, 10.0).await;
        let longest = "select max((e ->> 'took_ms')::bigint) from engine.journal, jsonb_array_elements(events) e";
        let longest = count(&herald, longest).await;
        let begun = "
            select (1000 * percentile_cont(0.99) within group (order by extract(epoch from j.at at time zone 'utc' - n.created_at)))::bigint
            from engine.journal j join notifications n on n.id = j.run_id, jsonb_array_elements(j.events) e
            where e ->> 'event' = 'intent' and e ->> 'attempt' = '1'";
        let begun = count(&herald, begun).await;
        report.note(format!(
            "the longest call took {longest} ms; 99 of 100 first calls began within {begun} ms"
        ));
        assert!(longest < 2 * TIME_OUT_MS, "a call took {longest} ms");
        assert!(begun < TIME_OUT_MS / 2, "texts waited for calls of others: {begun} ms");
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_provider_that_wants_a_pause_is_left_alone_and_cannot_want_it_for_ever() {
    let done =
        "Firetext answers 429 with a Retry-After of 30 years, then both with one of 6 s, then both with 30 years";
    fault("36", done, async |report| {
        let absurd = json!({"status": 429, "retry_after": 1_000_000_000});
        let herald = plays(report, [absurd.clone(), json!({})], 5.0).await;
        let client = Client::live(&herald);
        let asleep = "select count(*) from engine.run where state = 'sleeping' and attempt = 2";
        let asked_by_both = async || {
            until(&herald, "all have been asked to wait by both", asleep, |runs| {
                runs == 20
            })
            .await;
        };
        providers(&client, json!({"status": 429, "retry_after": 6})).await;
        send(&client, 20).await;
        let _worker = herald.worker();
        asked_by_both().await;
        providers(&client, json!({})).await;
        until(
            &herald,
            "all are delivered",
            "select count(*) from engine.run",
            |runs| runs == 0,
        )
        .await;
        let shortest: f64 = sqlx::query_scalar(SHORTEST_PAUSE)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        report.note(format!(
            "where 6 s were asked for, the shortest pause was {shortest:.1} s"
        ));
        assert!((6.0..60.0).contains(&shortest), "{shortest} s");

        providers(&client, absurd).await;
        let mut ids = send(&client, 20).await;
        asked_by_both().await;
        let latest: DateTime<Utc> = sqlx::query_scalar("select max(due_at) from engine.run")
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        let pause = latest - Utc::now();
        report.note(format!("the longest pause is {} s", pause.num_seconds()));
        providers(&client, json!({})).await;
        sqlx::query("update engine.run set due_at = now()")
            .execute(&*herald.database)
            .await
            .unwrap();
        let before: Vec<String> = client
            .whole_phone()
            .await
            .iter()
            .map(|text| text["reference"].to_string())
            .collect();
        ids.extend(before.into_iter().map(|id| id.trim_matches('"').to_owned()));
        oracle::check(report, &herald, &ids).await;
        assert!(pause <= TimeDelta::from_std(LONGEST_PAUSE).unwrap(), "{pause}");
        Verdict::Passed
    })
    .await;
}

/// From the second refusal to the third attempt.
const SHORTEST_PAUSE: &str = "select extract(epoch from min(next.at - refused.at))::float8
    from engine.journal refused join engine.journal next using (run_id)
    where refused.events @> '[{\"event\": \"failed\", \"attempt\": 2}]' and next.events @> '[{\"event\": \"intent\", \"attempt\": 3}]'";

/// Fifteen minutes, and what jitter may add.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60 * 11 / 10);

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_yes_that_is_none_is_no_and_half_a_yes_is_looked_into() {
    let done =
        "Firetext answers 200 with an error in its body; MMG takes each text and half of its answers are cut short";
    fault("37", done, async |report| {
        let no = json!({"status": 200, "accept": false, "code": "5"});
        let herald = plays(report, [no, json!({"truncate": true, "share": 0.5})], 10.0).await;
        nobody_got_it_twice(&herald).await;
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn what_was_taken_before_the_connection_broke_is_sent_again_only_without_a_receipt() {
    let taken = "both take each text and reset half of the connections";
    fault("38a", taken, async |report| {
        let half = json!({"reset_after_accept": true, "share": 0.5});
        let herald = plays(report, [half.clone(), half], 10.0).await;
        nobody_got_it_twice(&herald).await;
        Verdict::Passed
    })
    .await;
    let silent = "Firetext takes each text, resets the connection, and never sends a receipt";
    fault("38b", silent, async |report| {
        let silent = json!({"reset_after_accept": true, "missing_receipts": true});
        let herald = plays(report, [silent, json!({})], 5.0).await;
        assert!(count(&herald, RESENT).await > 0, "there is nothing else to go by");
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_permanent_refusal_is_not_tried_again() {
    fault("42", "SES answers InvalidParameterValue to 20 emails", async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let never = json!({"status": 400, "code": "InvalidParameterValue", "message": "Missing final '@domain'"});
        client.faults("ses", &never).await;
        for _ in 0..20 {
            client.send_email("ada@example.com").await;
        }
        let _worker = herald.worker();
        let failed = "select count(*) from notifications where notification_status = 'technical-failure'";
        until(&herald, "all have failed", failed, |failed| failed == 20).await;
        client.faults("ses", &json!({})).await;
        let moving = "select count(*) from engine.run where state <> 'failed'";
        until(&herald, "no run goes on", moving, |runs| runs == 0).await;
        let attempts = count(&herald, ATTEMPTS).await;
        let phone = client.phone_count().await;
        report.tally(Tally {
            accepted: 20,
            phone,
            resent: count(&herald, RESENT).await,
        });
        report.note(format!("{attempts} attempts"));
        assert_eq!((attempts, phone), (20, 0));
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn redirects_are_not_followed_and_a_huge_answer_is_not_read() {
    let done = "Firetext redirects half of the texts to itself; MMG takes each, and answers half of them with 10 MB";
    fault("43", done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        // They are called for together, so that answers that are read whole are in memory together.
        let mut ids = send(&client, 100).await;
        let again = format!("{}/firetext", herald.stub_url);
        // Who follows it sends a text that the journal has as refused, and the next attempt sends it once more.
        let redirect = json!({"status": 307, "location": again, "share": 0.5});
        client.faults("firetext", &redirect).await;
        client
            .faults("mmg", &json!({"body": "x".repeat(10_000_000), "share": 0.5}))
            .await;
        let worker = herald.worker();
        let (load, ()) = load_while(&client, 20, outage(10.0)).await;
        ids.extend(load.ids());
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let most = most.trim_end_matches("kB").trim().parse::<usize>().unwrap() / 1_024;
        report.note(format!("the worker took {most} MB at most"));
        assert!(most < 180, "{most} MB: the answers were read");
        providers(&client, json!({})).await;
        oracle::check(report, &herald, &ids).await;
        nobody_got_it_twice(&herald).await;
        Verdict::Passed
    })
    .await;
}

const NOT_SENT: &str = "select count(*) from engine.journal, jsonb_array_elements(events) e
    where e ->> 'event' = 'failed' and e ->> 'outcome' = 'refused' and e ->> 'why' = $1";

/// How many attempts have failed for the certificate's sake.
async fn distrusted(herald: &Herald) -> usize {
    let count = sqlx::query_scalar(NOT_SENT).bind("Request failed: its certificate has expired");
    let count: i64 = count.fetch_one(&*herald.database).await.unwrap();
    usize::try_from(count).unwrap()
}

/// An hour passes over what providers did and became; weights may return, and what waits is due.
async fn an_hour_later(herald: &Herald) {
    let later = "
        update provider_traffic set second = second - interval '1 hour';
        update provider_details set updated_at = updated_at - interval '1 hour';
        update provider_alerts set since = since - interval '1 hour';
        update provider_details_history set updated_at = updated_at - interval '1 hour';
        update engine.run set due_at = now() where state = 'sleeping';
        insert into engine.schedule values ('tend_providers_back', now() - interval '6 minutes')";
    sqlx::raw_sql(later).execute(&*herald.database).await.unwrap();
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_provider_whose_certificate_has_expired_is_told_nothing_until_it_has_a_new_one() {
    let done = "Firetext and SES show a certificate that expired ten days ago, and later one that is valid";
    fault("43b", done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let authority = Authority::new();
        let fronts = [
            TlsFront::before(&herald.stub_url, &authority).await,
            TlsFront::before(&herald.stub_url, &authority).await,
        ];
        let [firetext, ses] = [format!("{}/firetext", fronts[0].url), format!("{}/ses", fronts[1].url)];
        let roots = authority.file.to_str().unwrap();
        let log = std::env::temp_dir().join(format!("herald-log-{}", uuid::Uuid::new_v4()));
        let settings = [
            ("SSL_CERT_FILE", roots),
            ("FIRETEXT_URL", &firetext),
            ("SES_STUB_URL", &ses),
        ];
        let _worker = herald.worker_logging(&log, &settings);
        let emails = async |ids: &mut Vec<String>| {
            for _ in 0..5 {
                ids.push(client.send_email("ada@example.com").await);
            }
        };
        let all_delivered = "select count(*) from notifications where notification_status <> 'delivered'";
        let mut ids = send(&client, 50).await;
        emails(&mut ids).await;
        until(&herald, "all are delivered", all_delivered, |others| others == 0).await;
        let arrived = || fronts.each_ref().map(TlsFront::arrived);
        let before = arrived();
        assert!(before.iter().all(|bytes| *bytes > 0), "they go this way: {before:?}");

        fronts.iter().for_each(|front| front.show(&authority, false));
        emails(&mut ids).await;
        let raised = "select count(*) from provider_alerts where raised and name like '%_refuses_us'";
        let (load, ()) = load_while(&client, 20, async {
            until(&herald, "people are told of both", raised, |raised| raised == 2).await;
            let left = "select count(*) from provider_details where identifier = 'firetext' and priority = 0";
            until(&herald, "texts have left Firetext", left, |left| left == 1).await;
        })
        .await;
        ids.extend(load.ids());
        let texts_left = "select count(*) from notifications
            where notification_type = 'sms' and notification_status <> 'delivered'";
        until(&herald, "texts are delivered all the same", texts_left, |others| {
            others == 0
        })
        .await;
        assert_eq!(
            arrived(),
            before,
            "not a byte of a message reaches whom we do not trust"
        );
        let repeated = "select count(*) from engine.journal, jsonb_array_elements(events) e
            where e ->> 'event' = 'intent' and (e ->> 'attempt')::int > 1";
        let asleep = "select count(*) from engine.run where state = 'sleeping' and queue = 'retry-email'";
        until(&herald, "the emails wait", asleep, |runs| runs == 5).await;
        let texts = count(&herald, repeated).await;
        report.note(format!("{texts} texts went on to MMG at once, and 5 emails waited"));
        let refused = (distrusted(&herald).await, count(&herald, RESENT).await);
        assert_eq!(refused, (texts + 5, 0), "each attempt was refused, none is in doubt");
        let told = std::fs::read_to_string(&log).unwrap();
        assert_eq!(told.lines().count(), 2, "a line a provider: {told}");
        for provider in ["firetext", "ses"] {
            let line = told
                .lines()
                .find(|line| line.contains(&format!("{provider}_refuses_us")))
                .unwrap();
            assert!(
                line.contains("ERROR") && line.contains("certificate has expired"),
                "{line}"
            );
        }

        fronts.iter().for_each(|front| front.show(&authority, true));
        an_hour_later(&herald).await;
        let _beat = herald.beat();
        let (load, ()) = load_while(&client, 20, async {
            eventually("both are used again, and the alerts are over", || async {
                let used = arrived().iter().zip(before).all(|(now, before)| *now > before);
                (used && count(&herald, raised).await == 0).then_some(())
            })
            .await;
        })
        .await;
        ids.extend(load.ids());
        oracle::check(report, &herald, &ids).await;
        std::fs::remove_file(log).unwrap();
        Verdict::Passed
    })
    .await;
}

//! A setting that is missing or malformed stops the start with one line that names it and says what is allowed.

use crate::harness::program;

/// Arguments, settings, and what the line must name: the setting and what is allowed.
type Case = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

fn refused(role: &[&str], settings: &[(&str, &str)]) -> String {
    let output = program()
        .args(role)
        .env_clear()
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{role:?} starts with {settings:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_wrong_setting_is_named_in_one_line() {
    const KEYS: (&str, &str) = ("HERALD_SEALING_KEYS", "k:ZGV2ZWxvcG1lbnQtb25seS1ub3QtYS1zZWNyZXQtISE=");
    const DATABASE: (&str, &str) = ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    // An address that no other test listens on.
    const HOST: (&str, &str) = ("HOST", "127.0.0.77");
    let cases: [Case; 20] = [
        (&["migrate"], &[], "DATABASE_URL", "a URL such as"),
        (
            &["migrate"],
            &[("DATABASE_URL", "no url")],
            "DATABASE_URL",
            "a Postgres URL",
        ),
        (
            &["migrate"],
            &[DATABASE, ("DATABASE_CONNECTIONS", "many")],
            "DATABASE_CONNECTIONS",
            "from 2 to 1000",
        ),
        (
            &["api"],
            &[DATABASE, ("PORT", "70000")],
            "PORT",
            "a port from 1 to 65535",
        ),
        (
            &["beat"],
            &[
                DATABASE,
                ("SMS_PROVIDER_RESTING_POINTS", r#"{"mmg": 60, "firetext": 60}"#),
            ],
            "SMS_PROVIDER_RESTING_POINTS",
            "add up to 100",
        ),
        (
            &["beat"],
            &[
                DATABASE,
                ("SMS_PROVIDER_RESTING_POINTS", r#"{"mmg": 51, "Firetext": 49}"#),
            ],
            "SMS_PROVIDER_RESTING_POINTS",
            "of both providers",
        ),
        (
            &["beat"],
            &[DATABASE, ("SLOW_DELIVERY_WINDOW_SECONDS", "300")],
            "SLOW_DELIVERY_WINDOW_SECONDS",
            "more than SLOW_DELIVERY_SECONDS",
        ),
        (
            &["beat"],
            &[DATABASE, ("PROVIDER_LONGEST_REST_SECONDS", "21601")],
            "PROVIDER_LONGEST_REST_SECONDS",
            "from 1 to 21600",
        ),
        (
            &["beat"],
            &[DATABASE, ("PROVIDER_OUTAGE_PERCENT", "0")],
            "PROVIDER_OUTAGE_PERCENT",
            "a percentage above 0",
        ),
        (
            &["beat"],
            &[DATABASE, ("PROVIDER_OUTAGE_ALERT_SECONDS", "0")],
            "PROVIDER_OUTAGE_ALERT_SECONDS",
            "from 1 to 600",
        ),
        (
            &["beat"],
            &[DATABASE, ("PROVIDER_STEP", "101")],
            "PROVIDER_STEP",
            "a weight from 1 to 100",
        ),
        (&["api"], &[("PORT", "0")], "PORT", "a port from 1 to 65535"),
        (
            &["stub"],
            &[("PORT", "1"), ("HOST", "nowhere")],
            "HOST",
            "an IP address",
        ),
        (
            &["api"],
            &[DATABASE, ("DOCUMENT_DOWNLOAD_API_HOST", "http://127.0.0.1:1")],
            "DOCUMENT_DOWNLOAD_API_KEY",
            "the key of the service",
        ),
        (
            &["api"],
            &[DATABASE, ("DOCUMENT_DOWNLOAD_API_KEY", "secret")],
            "DOCUMENT_DOWNLOAD_API_HOST",
            "the URL of the service",
        ),
        (
            &["worker", "--queues", "all"],
            &[KEYS, DATABASE, ("WORKER_LEASE_SECONDS", "-1")],
            "WORKER_LEASE_SECONDS",
            "seconds",
        ),
        (
            &["api"],
            &[HOST, ("SES_SNS_VERIFY", "perhaps")],
            "SES_SNS_VERIFY",
            "true or false",
        ),
        (
            &["api"],
            &[HOST, ("MMG_INBOUND_SMS_AUTH", "secret")],
            "MMG_INBOUND_SMS_AUTH",
            "a JSON list",
        ),
        (
            &["token", "--admin"],
            &[("INTERNAL_CLIENT_API_KEYS", r#"{"notify-admin": [""]}"#)],
            "INTERNAL_CLIENT_API_KEYS",
            "a JSON object of lists",
        ),
        (
            &["beat"],
            &[KEYS, DATABASE, ("HERALD_LOG", "=====")],
            "HERALD_LOG",
            "a filter",
        ),
    ];
    for (role, settings, name, allowed) in cases {
        let line = refused(role, settings);
        assert!(
            line.contains(name) && line.contains(allowed),
            "{role:?} with {settings:?}: {line}"
        );
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn an_unknown_queue_is_named_together_with_the_known_ones() {
    let line = refused(&["worker", "--queues", "send-sms,letters"], &[]);
    assert!(line.contains("letters") && line.contains("receipts"), "{line}");
}

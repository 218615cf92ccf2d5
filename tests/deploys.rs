//! What a deploy and a roll-back ask of the program: a newer database is fine, an older one is not, and what another
//! version has begun is listed.

use sqlx::Executor;

use crate::harness::{Herald, words};

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_as_it_is_and_an_older_one_starts_nothing() {
    let herald = Herald::start_without_workers().await;
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (99991231000000, 'of a later version', true, '', 0)";
    herald.database.execute(newer).await.unwrap();
    let migrated = herald.command(&["migrate"]);
    assert!(migrated.status.success(), "{}", words(&migrated));

    let first = "delete from _sqlx_migrations where version = (select min(version) from _sqlx_migrations)";
    herald.database.execute(first).await.unwrap();
    for role in [&["api"][..], &["worker", "--queues", "all"], &["beat"]] {
        let refused = herald.command(role);
        assert!(!refused.status.success(), "{role:?} starts");
        let why = "the database lacks 1 migrations of this version: run `herald migrate` first";
        assert!(words(&refused).contains(why), "{role:?}: {}", words(&refused));
    }
}

#[tokio::test]
async fn runs_in_a_queue_that_this_version_does_not_know_are_listed_before_it_is_rolled_back_to() {
    let herald = Herald::start_without_workers().await;
    let run = "insert into engine.run (id, workflow, queue, state, due_at, input)
        values (gen_random_uuid(), 'keep_house', $1, 'sleeping', now() + interval '1 day', '{}')";
    sqlx::query(run)
        .bind("periodic")
        .execute(&*herald.database)
        .await
        .unwrap();
    let fine = herald.command(&["check-upgrade"]);
    assert_eq!(words(&fine), "all 1 live runs can go on\n");
    // Whatever state it is in, somebody will have to take it up.
    let states = [
        "state = 'sleeping'",
        "state = 'ready'",
        "state = 'ready', control = 'paused', due_at = 'infinity'",
        "state = 'blocked', key = 'k', key_limit = 1",
        "state = 'blocked', key = 'k', key_limit = 1, control = 'paused', due_at = 'infinity'",
    ];
    for (n, state) in states.iter().enumerate() {
        let queue = format!("of-tomorrow-{n}");
        sqlx::query(run).bind(&queue).execute(&*herald.database).await.unwrap();
        let put = format!("update engine.run set {state} where queue = '{queue}'");
        herald.database.execute(sqlx::AssertSqlSafe(put)).await.unwrap();
    }
    let checked = herald.command(&["check-upgrade"]);
    assert!(!checked.status.success());
    for (n, state) in states.iter().enumerate() {
        let line = format!("1 runs are in the queue \"of-tomorrow-{n}\", which is not known here");
        assert!(words(&checked).contains(&line), "{state}: {}", words(&checked));
    }
}

//! The tables stay small, and keeping them so stops nobody.

use herald_engine::{NewRun, Submission, make_partitions, tidy};
use uuid::Uuid;

use super::toy::{Errand, Toys};

/// A day's partition of the journal with one row of each of these runs.
async fn past_day(toys: &Toys, day: &str, runs: &[Uuid]) {
    for kind in ["journal", "signal"] {
        let name = format!("engine.{kind}_{}", day.replace('-', ""));
        let sql = format!(
            "create table {name} partition of engine.{kind}
             for values from ('{}') to ('{}')",
            first_id(toys, day, 0).await,
            first_id(toys, day, 1).await
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&*toys.database)
            .await
            .unwrap();
    }
    for run in runs {
        sqlx::query("insert into engine.journal (run_id, seq, epoch, events) values ($1, 1, 1, '[]')")
            .bind(run)
            .execute(&*toys.database)
            .await
            .unwrap();
    }
}

async fn first_id(toys: &Toys, day: &str, later: i32) -> Uuid {
    sqlx::query_scalar("select engine.first_id_of($1::date + $2)")
        .bind(day)
        .bind(later)
        .fetch_one(&*toys.database)
        .await
        .unwrap()
}

async fn partitions(toys: &Toys, of: &str) -> Vec<String> {
    sqlx::query_scalar("select inhrelid::regclass::text from pg_inherits where inhparent = $1::regclass order by 1")
        .bind(of)
        .fetch_all(&*toys.database)
        .await
        .unwrap()
}

#[tokio::test]
async fn days_that_are_over_are_dropped_unless_one_of_their_runs_lives() {
    let toys = Toys::new().await;
    let (over, living) = (
        first_id(&toys, "2026-01-05", 0).await,
        first_id(&toys, "2026-01-07", 0).await,
    );
    past_day(&toys, "2026-01-05", &[over]).await;
    past_day(&toys, "2026-01-07", &[living]).await;
    let run = NewRun::of(&Errand::simple()).unwrap().with_id(living).once("a key");
    toys.client.submit(Submission::new().start(run)).await.unwrap();
    sqlx::query("update engine.run_key set created_at = now() - interval '20 days'")
        .execute(&*toys.database)
        .await
        .unwrap();
    let tidied = tidy(&toys.database, 14).await.unwrap();
    assert_eq!(tidied.partitions, ["engine.journal_20260105", "engine.signal_20260105"]);
    assert_eq!(tidied.keys, 1);
    let left = partitions(&toys, "engine.journal").await;
    assert!(left.contains(&"engine.journal_20260107".to_owned()), "{left:?}");
    let again = tidy(&toys.database, 14).await.unwrap();
    assert_eq!(again.partitions, Vec::<String>::new());
}

#[tokio::test]
async fn what_stands_in_no_day_goes_too_however_much_it_is_unless_its_run_lives() {
    let toys = Toys::new().await;
    let (over, living) = (
        first_id(&toys, "2026-01-05", 0).await,
        first_id(&toys, "2026-01-07", 0).await,
    );
    let run = NewRun::of(&Errand::simple()).unwrap().with_id(living);
    toys.client.submit(Submission::new().start(run)).await.unwrap();
    for run in [over, living] {
        let rows = "insert into engine.journal (run_id, seq, epoch, events) select $1, n, 1, '[]' from generate_series(1, 7500) n";
        sqlx::query(rows).bind(run).execute(&*toys.database).await.unwrap();
    }
    assert_eq!(tidy(&toys.database, 14).await.unwrap().strays, 7_500);
    let left = "select count(*) filter (where run_id = $1), count(*) from engine.journal_default";
    let left: (i64, i64) = sqlx::query_as(left)
        .bind(living)
        .fetch_one(&*toys.database)
        .await
        .unwrap();
    assert_eq!(left, (7_500, 7_500));
}

#[tokio::test]
async fn a_day_is_emptied_while_others_write_and_taken_away_later() {
    let toys = Toys::new().await;
    let over = first_id(&toys, "2026-01-05", 0).await;
    past_day(&toys, "2026-01-05", &[over]).await;
    let mut writer = toys.database.begin().await.unwrap();
    let write = "insert into engine.journal (run_id, seq, epoch, events) values ($1, 1, 1, '[]')";
    sqlx::query(write)
        .bind(Uuid::now_v7())
        .execute(&mut *writer)
        .await
        .unwrap();
    let tidied = tidy(&toys.database, 14).await.unwrap();
    assert_eq!(tidied.partitions, ["engine.signal_20260105"]);
    let rows: i64 = sqlx::query_scalar("select count(*) from engine.journal_20260105")
        .fetch_one(&*toys.database)
        .await
        .unwrap();
    assert_eq!(rows, 0);
    writer.commit().await.unwrap();
    assert_eq!(
        tidy(&toys.database, 14).await.unwrap().partitions,
        ["engine.journal_20260105"]
    );
}

#[tokio::test]
async fn keeping_house_does_not_wait_behind_a_long_reader() {
    let toys = Toys::new().await;
    let over = first_id(&toys, "2026-01-05", 0).await;
    past_day(&toys, "2026-01-05", &[over]).await;
    let before = partitions(&toys, "engine.journal").await;
    let mut dump = toys.database.begin().await.unwrap();
    sqlx::query("lock table engine.journal, engine.signal in access share mode")
        .execute(&mut *dump)
        .await
        .unwrap();
    make_partitions(&toys.database, 10).await.unwrap();
    assert_eq!(tidy(&toys.database, 14).await.unwrap().partitions, Vec::<String>::new());
    assert_eq!(partitions(&toys, "engine.journal").await, before);
    dump.commit().await.unwrap();
    make_partitions(&toys.database, 10).await.unwrap();
    assert_eq!(tidy(&toys.database, 14).await.unwrap().partitions.len(), 2);
    assert!(partitions(&toys, "engine.journal").await.len() > before.len());
}

#[tokio::test]
async fn partitions_of_the_days_ahead_are_made_while_others_write() {
    let toys = Toys::new().await;
    let mut writer = toys.database.begin().await.unwrap();
    let write = "insert into engine.journal (run_id, seq, epoch, events) values ($1, 1, 1, '[]')";
    sqlx::query(write)
        .bind(Uuid::now_v7())
        .execute(&mut *writer)
        .await
        .unwrap();
    let before = partitions(&toys, "engine.journal").await.len();
    make_partitions(&toys.database, 10).await.unwrap();
    assert!(partitions(&toys, "engine.journal").await.len() > before);
    writer.commit().await.unwrap();
    make_partitions(&toys.database, 10).await.unwrap();
}

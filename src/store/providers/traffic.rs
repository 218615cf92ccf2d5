//! What providers do, as all workers counted it, and how fast they deliver.

use sqlx::PgConnection;

use crate::Result;

/// Requests to a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    pub requests: i64,
    /// Those that did not end with its yes.
    pub errors: i64,
    /// Those among them that were its own trouble.
    pub faults: i64,
}

/// What a process, or all of them, counted of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub provider: String,
    pub requests: i64,
    pub errors: i64,
    pub faults: i64,
    /// All requests together.
    pub took_ms: i64,
    /// Requests that got the head of an answer, and how long they took from the bytes on their way until then.
    pub answers: i64,
    pub raw_ms: i64,
    /// Messages that became `sending`, and how long they had waited since their creation.
    pub sends: i64,
    pub waited_ms: i64,
    /// Receipts that changed a message, and how long after the send they came.
    pub receipts: i64,
    pub receipts_ms: i64,
}

/// Adds to the second that it is now, by the database's clock.
pub async fn add_traffic(conn: &mut PgConnection, counted: &[Traffic]) -> Result<()> {
    // In one order, so that two processes wait for each other's rows instead of in a circle.
    let mut counted: Vec<&Traffic> = counted.iter().collect();
    counted.sort_by(|a, b| a.provider.cmp(&b.provider));
    let numbers = |of: fn(&Traffic) -> i64| -> Vec<i64> { counted.iter().map(|traffic| of(traffic)).collect() };
    let providers: Vec<&str> = counted.iter().map(|traffic| traffic.provider.as_str()).collect();
    sqlx::query!(
        "
        insert into provider_traffic as t (
            second, provider, requests, errors, faults, took_ms, answers, raw_ms, sends, waited_ms, receipts,
            receipts_ms)
        select date_trunc('second', now()), c.*
        from unnest(
            $1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]
        ) c (provider, requests, errors, faults, took_ms, answers, raw_ms, sends, waited_ms, receipts, receipts_ms)
        on conflict (second, provider) do update
        set requests = t.requests + excluded.requests, errors = t.errors + excluded.errors,
            faults = t.faults + excluded.faults, took_ms = t.took_ms + excluded.took_ms,
            answers = t.answers + excluded.answers, raw_ms = t.raw_ms + excluded.raw_ms,
            sends = t.sends + excluded.sends, waited_ms = t.waited_ms + excluded.waited_ms,
            receipts = t.receipts + excluded.receipts, receipts_ms = t.receipts_ms + excluded.receipts_ms
        ",
        &providers as &[&str],
        &numbers(|traffic| traffic.requests),
        &numbers(|traffic| traffic.errors),
        &numbers(|traffic| traffic.faults),
        &numbers(|traffic| traffic.took_ms),
        &numbers(|traffic| traffic.answers),
        &numbers(|traffic| traffic.raw_ms),
        &numbers(|traffic| traffic.sends),
        &numbers(|traffic| traffic.waited_ms),
        &numbers(|traffic| traffic.receipts),
        &numbers(|traffic| traffic.receipts_ms),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Requests of one second.
#[derive(Clone, Debug, PartialEq)]
pub struct Second {
    pub provider: String,
    pub seconds_ago: f64,
    pub tally: Tally,
}

/// What all processes counted of these providers second by second, newest first. Seconds without requests are left out.
pub async fn seconds(conn: &mut PgConnection, providers: &[&str], within: f64) -> Result<Vec<Second>> {
    let rows = sqlx::query!(
        r#"
        select provider, extract(epoch from clock_timestamp() - second)::float8 as "seconds_ago!",
            requests, errors, faults
        from provider_traffic
        where second > now() - $2::float8 * interval '1 second' and provider = any($1) and requests > 0
        order by second desc
        "#,
        providers as &[&str],
        within,
    )
    .fetch_all(conn)
    .await?;
    let seconds = rows.into_iter().map(|row| Second {
        provider: row.provider,
        seconds_ago: row.seconds_ago,
        tally: Tally {
            requests: row.requests.into(),
            errors: row.errors.into(),
            faults: row.faults.into(),
        },
    });
    Ok(seconds.collect())
}

/// What all processes counted in the last so many seconds; a provider that did nothing is left out.
pub async fn traffic(conn: &mut PgConnection, seconds: f64) -> Result<Vec<Traffic>> {
    Ok(sqlx::query_as!(
        Traffic,
        r#"
        select provider, sum(requests)::bigint as "requests!", sum(errors)::bigint as "errors!",
            sum(faults)::bigint as "faults!", sum(took_ms)::bigint as "took_ms!", sum(answers)::bigint as "answers!",
            sum(raw_ms)::bigint as "raw_ms!", sum(sends)::bigint as "sends!", sum(waited_ms)::bigint as "waited_ms!",
            sum(receipts)::bigint as "receipts!", sum(receipts_ms)::bigint as "receipts_ms!"
        from provider_traffic
        where second > now() - $1::float8 * interval '1 second'
        group by provider order by provider
        "#,
        seconds,
    )
    .fetch_all(conn)
    .await?)
}

/// Takes away the seconds older than so many, and says how many rows that were.
pub async fn forget_traffic(conn: &mut PgConnection, seconds: f64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from provider_traffic where second < now() - $1::float8 * interval '1 second'",
        seconds,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// How many of a provider's recent texts are slow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub identifier: String,
    /// Texts that it took, and that are delivered or on their way.
    pub total: i64,
    /// Those that took, or have been on their way for, longer than is good.
    pub slow: i64,
}

/// Of each active provider of texts: those created in the last `created_within` seconds that took `slow_after` seconds
/// or more. A provider without traffic has none.
///
/// There is no index of times over all services, and there need not be: ids grow with the time at which they were
/// made (found by them first, which `offset 0` sees to). That time is the API's, so the ids are looked at with as much again to both sides, and the database's own time
/// decides.
pub async fn deliveries(conn: &mut PgConnection, created_within: f64, slow_after: f64) -> Result<Vec<Delivery>> {
    Ok(sqlx::query_as!(
        Delivery,
        r#"
        select p.identifier, coalesce(d.total, 0) as "total!", coalesce(d.slow, 0) as "slow!"
        from provider_details p
        left join (
            select sent_by, count(*) as total, count(*) filter (
                where case when notification_status = 'delivered' then updated_at - sent_at
                    else (now() at time zone 'utc') - sent_at end >= $2::float8 * interval '1 second') as slow
            from (select * from notifications where id between (lpad(to_hex((extract(epoch from now() - $1::float8 * interval '2 seconds') * 1000)::bigint),
                    12, '0') || repeat('0', 20))::uuid
                and (lpad(to_hex((extract(epoch from now() + $1::float8 * interval '1 second') * 1000)::bigint),
                    12, '0') || repeat('f', 20))::uuid offset 0) n
            where created_at > (now() at time zone 'utc') - $1::float8 * interval '1 second'
                and notification_type = 'sms' and key_type <> 'test'
                and notification_status in ('delivered', 'pending', 'sending')
                and sent_at is not null and sent_by is not null
            group by sent_by
        ) d on d.sent_by = p.identifier
        where p.active and p.notification_type = 'sms'
        order by p.identifier
        "#,
        created_within,
        slow_after,
    )
    .fetch_all(conn)
    .await?)
}

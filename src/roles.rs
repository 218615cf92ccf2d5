//! The long-running roles, as production starts them.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use herald_engine::{
    BatchLimits, Beat, Client, Queue, Worker,
    look::{self, COUNTED_AS, QueueView},
};
use herald_store::{NotificationType, providers};
use herald_workflows::{
    keep_house::DAYS_AHEAD,
    queues::{self, RECEIPTS, RETRY_EMAIL, SEND_EMAIL, URGENT},
    switching::{ALERTS, Policy, slow_share},
};
use sqlx::PgPool;
use tokio::{net::TcpListener, time::MissedTickBehavior};

use crate::{config, shutdown, wiring};

pub async fn api() -> anyhow::Result<()> {
    let listener = bind(config::listen(config::DEFAULT_PORT)?).await?;
    measure()?;
    let deps = wiring::api_deps().await?;
    tracing::info!(address = %listener.local_addr()?, "the API is ready");
    herald_api::serve(listener, deps, shutdown::requested())
        .await
        .context("the setting REDIS_URL is malformed")?;
    Ok(())
}

pub async fn worker(queues: Vec<Queue>) -> anyhow::Result<()> {
    let mut settings = config::worker()?;
    let mut limits = BatchLimits::default();
    if !queues.iter().any(|queue| URGENT.contains(queue)) {
        settings.gather = wiring::GATHER;
        limits = wiring::patient();
    }
    measure()?;
    let (pool, listening) = wiring::listening_pools().await?;
    let tools = wiring::tools(pool.clone()).await?;
    // Emails of which nobody knew whether they were sent are sent again from where their receipts were waited for.
    if [SEND_EMAIL, RETRY_EMAIL, RECEIPTS]
        .iter()
        .any(|queue| queues.contains(queue))
    {
        tokio::spawn(tools.keep_pace_of_emails());
    }
    let registry = herald_workflows::registry(tools);
    let client = Client::new(pool.clone(), limits);
    let names: Vec<&str> = queues.iter().map(|queue| queue.0).collect();
    tracing::info!(queues = names.join(","), "the worker is ready");
    Worker {
        pool,
        listening,
        client,
        queues,
        settings,
    }
    .run(registry, shutdown::requested())
    .await?;
    Ok(())
}

/// Starts what happens by the clock. Any number of beats may run.
pub async fn beat() -> anyhow::Result<()> {
    let switching = config::switching()?;
    measure()?;
    let pool = wiring::migrated_pool().await?;
    // Before the first hour has come, and whether or not a worker plays it.
    if let Err(error) = herald_engine::make_partitions(&pool, DAYS_AHEAD).await {
        tracing::error!(%error, "could not make the partitions of the days ahead");
    }
    tokio::spawn(measure_queues(pool.clone()));
    tokio::spawn(measure_providers(pool.clone(), switching));
    let beat = Beat::new(pool, herald_workflows::schedule::all())?;
    tracing::info!("the beat is ready");
    beat.run(shutdown::requested()).await;
    Ok(())
}

pub async fn stub() -> anyhow::Result<()> {
    let listener = bind(config::listen(6300)?).await?;
    tracing::info!(address = %listener.local_addr()?, "the stub is ready");
    herald_stub::serve(listener, config::stub()?, shutdown::requested()).await;
    Ok(())
}

fn measure() -> anyhow::Result<()> {
    herald_metrics::start(config::metrics()?)
        .context("cannot serve what is measured; the settings HOST and METRICS_PORT say where")
}

/// How full the queues are, for whoever watches: the beat tells it for all processes.
async fn measure_queues(pool: PgPool) {
    let known = queues::ALL.map(|queue| queue.0);
    loop {
        match look::queues_and(&pool, &known).await {
            Ok(queues) => queues.iter().for_each(measure_queue),
            Err(error) => tracing::debug!(%error, "the queues could not be counted"),
        }
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
}

fn measure_queue(queue: &QueueView) {
    for state in COUNTED_AS {
        let count = queue.counts.iter().find(|count| count.state == state);
        herald_metrics::queue_depth(&queue.name, state, count.map_or(0, |count| count.runs));
    }
}

/// Who gets which share of the texts, what needs a person, and, as often as that changes anything, who delivers slowly.
async fn measure_providers(pool: PgPool, policy: Policy) {
    let mut ticks = tokio::time::interval(Duration::from_secs(15));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in 0u64.. {
        ticks.tick().await;
        if let Err(error) = look_at_providers(&pool, &policy, tick.is_multiple_of(4)).await {
            tracing::debug!(%error, "the providers could not be looked at");
        }
    }
}

async fn look_at_providers(pool: &PgPool, policy: &Policy, at_deliveries: bool) -> herald_store::Result<()> {
    let mut conn = pool.acquire().await?;
    let all = providers::all(&mut conn).await?;
    for provider in all.iter().filter(|of| of.notification_type == NotificationType::Sms) {
        let share = if provider.active { provider.priority } else { 0 };
        herald_metrics::provider_share(&provider.identifier, share);
    }
    let raised = providers::alerts(&mut conn).await?;
    for name in ALERTS {
        herald_metrics::alert(name, raised.iter().any(|alert| alert.name == name));
    }
    if at_deliveries {
        let (within, after) = (policy.slow_within.as_secs_f64(), policy.slow_after.as_secs_f64());
        for delivery in providers::deliveries(&mut conn, within, after).await? {
            herald_metrics::slow_delivery(&delivery.identifier, slow_share(&delivery));
        }
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; the settings HOST and PORT say where"))
}

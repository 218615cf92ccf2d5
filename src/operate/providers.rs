//! `herald providers …`: who sends with which weight, how they do, why weights moved, and overrides of all that. What
//! people set is pinned: no rule moves the weights of its channel until it is lifted.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use clap::Subcommand;
use herald_store::providers::{self, Alert, Change, Delivery, Shown, Traffic, Version};
use herald_workflows::switching::{MINUTE, Policy, slow_share};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    Deed, Output,
    table::{age, aligned, instant, or_dash, plain},
};
use crate::config;

#[derive(Debug, Subcommand)]
pub enum Providers {
    /// All providers: weights, what they were asked and failed in the last minute, how fast they answer and deliver, and
    /// the alerts that are raised.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Every change of one provider or of all, newest first, with its reason and the numbers that it was decided upon.
    History {
        name: Option<String>,
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Set a provider's weight, and keep it there. Of two providers of texts, the other one gets the rest of 100.
    SetPriority {
        name: String,
        #[arg(value_parser = clap::value_parser!(i32).range(0..=100))]
        weight: i32,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
    /// Send nothing more through a provider.
    Disable {
        name: String,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
    /// Send through a provider again, and leave its weight to the rules.
    Enable {
        name: String,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
    /// Leave a provider's weight to the rules again: it returns to its resting point step by step.
    Lift {
        name: String,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
}

/// What people want of a provider.
#[derive(Clone, Copy)]
enum Wish {
    Weight(i32),
    Disable,
    Enable,
    Lift,
}

impl Providers {
    pub async fn carry_out(self, pool: &PgPool) -> anyhow::Result<()> {
        let (name, wish, deed, output) = match self {
            Self::List { output } => return list(pool, output).await,
            Self::History { name, limit, output } => return history(pool, name.as_deref(), limit, output).await,
            Self::SetPriority {
                name,
                weight,
                deed,
                output,
            } => (name, Wish::Weight(weight), deed, output),
            Self::Disable { name, deed, output } => (name, Wish::Disable, deed, output),
            Self::Enable { name, deed, output } => (name, Wish::Enable, deed, output),
            Self::Lift { name, deed, output } => (name, Wish::Lift, deed, output),
        };
        change(pool, &name, wish, deed, output).await
    }
}

async fn change(pool: &PgPool, name: &str, wish: Wish, deed: Deed, output: Output) -> anyhow::Result<()> {
    let actor = deed.actor()?;
    let mut transaction = pool.begin().await?;
    let named = find(&providers::all(&mut transaction).await?, name)?;
    providers::lock(&mut transaction, named.notification_type).await?;
    // As they are now that nobody else can change them.
    let all = providers::all(&mut transaction).await?;
    let named = find(&all, name)?;
    let others: Vec<&Shown> = all
        .iter()
        .filter(|other| other.active && other.id != named.id && other.notification_type == named.notification_type)
        .collect();
    let (active, pinned, priority) = wanted(&named, wish, !others.is_empty())?;
    let mut changes = vec![Change {
        id: named.id,
        version: named.version,
        priority,
        active,
        pinned,
        reason: &actor.reason,
    }];
    if let (Wish::Weight(weight), true, [other]) = (wish, named.active, others.as_slice()) {
        changes.push(Change {
            id: other.id,
            version: other.version,
            priority: 100 - weight,
            active: other.active,
            pinned: other.pinned,
            reason: &actor.reason,
        });
    }
    let numbers = json!({"rule": "override", "wish": words(wish), "of": named.identifier});
    providers::change(&mut transaction, &changes, &numbers, Some(&actor.name))
        .await
        .context("somebody else is changing it")?;
    transaction.commit().await?;
    let is = words(wish);
    output.print(&[json!({"provider": named.identifier, "is": is})], |_| {
        format!("{} is {is}", named.identifier)
    })
}

/// Whether it is active and pinned, and its weight, once the wish is fulfilled.
fn wanted(named: &Shown, wish: Wish, has_others: bool) -> anyhow::Result<(bool, bool, i32)> {
    let Shown {
        identifier,
        priority,
        active,
        pinned,
        ..
    } = named;
    match wish {
        Wish::Weight(weight) => Ok((*active, true, weight)),
        Wish::Disable => {
            ensure!(active, "{identifier} is disabled already");
            ensure!(
                has_others,
                "{identifier} is the last active provider of its channel; to stop sending, pause the queue: herald queues pause"
            );
            Ok((false, true, *priority))
        }
        Wish::Enable => {
            ensure!(!active, "{identifier} is enabled already");
            Ok((true, false, *priority))
        }
        Wish::Lift => {
            ensure!(pinned, "{identifier} is not pinned");
            ensure!(active, "{identifier} is disabled; enable it");
            Ok((true, false, *priority))
        }
    }
}

fn words(wish: Wish) -> String {
    match wish {
        Wish::Weight(weight) => format!("pinned at {weight}"),
        Wish::Disable => "disabled".to_owned(),
        Wish::Enable => "enabled".to_owned(),
        Wish::Lift => "left to the rules".to_owned(),
    }
}

fn find(all: &[Shown], name: &str) -> anyhow::Result<Shown> {
    let Some(found) = all.iter().find(|provider| provider.identifier == name) else {
        let known: Vec<&str> = all.iter().map(|provider| provider.identifier.as_str()).collect();
        bail!("there is no provider {name:?}; known are: {}", known.join(", "));
    };
    Ok(found.clone())
}

async fn history(pool: &PgPool, name: Option<&str>, limit: i64, output: Output) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    if let Some(name) = name {
        find(&providers::all(&mut conn).await?, name)?;
    }
    let versions = providers::history(&mut conn, name, limit).await?;
    let objects: Vec<Value> = versions.iter().map(object).collect();
    output.print(&objects, |_| {
        let rows = versions.iter().map(|version| {
            [
                or_dash(version.updated_at, instant),
                version.identifier.clone(),
                version.version.to_string(),
                version.priority.to_string(),
                state(version.active, version.pinned).to_owned(),
                version.changed_by.clone().unwrap_or_else(|| "a rule".to_owned()),
                or_dash(version.reason.as_deref(), str::to_owned),
                or_dash(version.numbers.as_ref(), Value::to_string),
            ]
        });
        let head = [
            "AT", "PROVIDER", "VERSION", "WEIGHT", "STATE", "BY", "REASON", "NUMBERS",
        ];
        aligned(head, rows)
    })
}

fn object(version: &Version) -> Value {
    json!({
        "provider": version.identifier, "version": version.version, "weight": version.priority,
        "active": version.active, "pinned": version.pinned, "at": version.updated_at, "reason": version.reason,
        "by": version.changed_by, "numbers": version.numbers,
    })
}

/// A provider and what is known of how it does.
struct Line {
    provider: Shown,
    rest: Option<i32>,
    traffic: Traffic,
    delivery: Option<Delivery>,
}

async fn list(pool: &PgPool, output: Output) -> anyhow::Result<()> {
    let policy = config::switching()?;
    let mut conn = pool.acquire().await?;
    let mut traffic = providers::traffic(&mut conn, MINUTE.as_secs_f64()).await?;
    let (within, after) = (policy.slow_within.as_secs_f64(), policy.slow_after.as_secs_f64());
    let deliveries = providers::deliveries(&mut conn, within, after).await?;
    let alerts = providers::alerts(&mut conn).await?;
    let lines: Vec<Line> = providers::all(&mut conn)
        .await?
        .into_iter()
        .map(|provider| {
            let own = traffic
                .iter_mut()
                .find(|traffic| traffic.provider == provider.identifier);
            Line {
                rest: rest(&policy, &provider),
                traffic: own.map(std::mem::take).unwrap_or_default(),
                delivery: deliveries
                    .iter()
                    .find(|of| of.identifier == provider.identifier)
                    .cloned(),
                provider,
            }
        })
        .collect();
    let objects: Vec<Value> = lines.iter().map(Line::object).chain(alerts.iter().map(alert)).collect();
    output.print(&objects, |_| text(&lines, &alerts))
}

fn rest(policy: &Policy, provider: &Shown) -> Option<i32> {
    let (_, weight) = policy
        .resting_points
        .iter()
        .find(|(name, _)| *name == provider.identifier)?;
    Some(*weight)
}

fn alert(alert: &Alert) -> Value {
    json!({"alert": alert.name, "since": alert.since, "numbers": alert.numbers})
}

fn text(lines: &[Line], alerts: &[Alert]) -> String {
    let head = [
        "PROVIDER",
        "CHANNEL",
        "STATE",
        "WEIGHT",
        "AT REST",
        "ASKED/MIN",
        "ERRORS",
        "FAULTS",
        "TOOK",
        "RAW",
        "WAITED",
        "RECEIPT AFTER",
        "SLOW",
        "CHANGED",
        "BY",
        "WHY",
    ];
    let mut text = aligned(head, lines.iter().map(Line::cells));
    for alert in alerts {
        let line = format!(
            "ALERT {} since {}: {}\n",
            alert.name,
            instant(alert.since),
            alert.numbers
        );
        text.push_str(&plain(line.trim_end()));
        text.push('\n');
    }
    text
}

impl Line {
    fn cells(&self) -> [String; 16] {
        let (provider, traffic) = (&self.provider, &self.traffic);
        [
            provider.identifier.clone(),
            provider.notification_type.to_string(),
            state(provider.active, provider.pinned).to_owned(),
            provider.priority.to_string(),
            or_dash(self.rest, |rest| rest.to_string()),
            traffic.requests.to_string(),
            traffic.errors.to_string(),
            traffic.faults.to_string(),
            or_dash(mean(traffic.took_ms, traffic.requests), millis),
            or_dash(mean(traffic.raw_ms, traffic.answers), millis),
            or_dash(mean(traffic.waited_ms, traffic.sends), millis),
            or_dash(mean(traffic.receipts_ms, traffic.receipts), millis),
            or_dash(self.delivery.as_ref(), |delivery| {
                format!("{:.0}% of {}", slow_share(delivery) * 100.0, delivery.total)
            }),
            or_dash(provider.updated_at, |at| age(at, Utc::now())),
            or_dash(provider.updated_at, |_| {
                provider.changed_by.clone().unwrap_or_else(|| "a rule".to_owned())
            }),
            or_dash(provider.reason.as_deref(), str::to_owned),
        ]
    }

    fn object(&self) -> Value {
        let (provider, traffic) = (&self.provider, &self.traffic);
        json!({
            "provider": provider.identifier, "channel": provider.notification_type, "active": provider.active,
            "pinned": provider.pinned, "weight": provider.priority, "resting_point": self.rest,
            "last_minute": {
                "requests": traffic.requests, "errors": traffic.errors, "faults": traffic.faults,
                "took_ms": mean(traffic.took_ms, traffic.requests), "raw_ms": mean(traffic.raw_ms, traffic.answers),
                "waited_ms": mean(traffic.waited_ms, traffic.sends),
                "receipt_after_ms": mean(traffic.receipts_ms, traffic.receipts),
            },
            "deliveries": self.delivery.as_ref().map(|of| json!({"total": of.total, "slow": of.slow})),
            "changed_at": provider.updated_at, "by": provider.changed_by, "reason": provider.reason,
        })
    }
}

fn state(active: bool, pinned: bool) -> &'static str {
    match (active, pinned) {
        (true, false) => "active",
        (true, true) => "pinned",
        (false, _) => "disabled",
    }
}

fn mean(sum: i64, of: i64) -> Option<i64> {
    sum.checked_div(of)
}

fn millis(millis: i64) -> String {
    format!("{:?}", Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

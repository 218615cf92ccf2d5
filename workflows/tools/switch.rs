//! Moves traffic between the providers of texts, and raises what needs a person. Any process may decide at any time: all
//! read the same numbers, and a move is decided upon once more under a lock of both providers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use herald_store::{
    NotificationType, Result,
    providers::{self, Change, Delivery, EMAIL_FAILING, Fall, SMS_FAILING, Traffic, Watched},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    choice::Weights,
    traffic::{Counter, Seen, Warning, Warnings},
};
use crate::switching::{
    LATELY, MEMORY, MINUTE, Move, Policy, RECENTLY, Rule, is_well, slow_share, takes_messages_again,
};

/// Counts are shared, and errors thought about, once in this time.
const SECOND: Duration = Duration::from_secs(1);

/// What sharing and thinking may take: beyond that, the connection is as good as dead.
const LONGEST: Duration = Duration::from_secs(5);

/// How long counts are kept.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Notify's alert: this share of all texts slow, for so many looks in a row.
const SLOW_OVERALL: f64 = 0.1;
const LOOKS: i32 = 10;

pub(super) struct Switch {
    pool: PgPool,
    policy: Policy,
    weights: Arc<Weights>,
    /// Whether an alert was raised when this process last looked: its end has to be seen.
    is_alarmed: AtomicBool,
}

/// A move that was made, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    pub rule: Rule,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fell: Option<String>,
    pub weights: BTreeMap<String, i32>,
}

impl Switch {
    pub fn new(pool: PgPool, policy: Policy, weights: Arc<Weights>) -> Self {
        Self {
            pool,
            policy,
            weights,
            is_alarmed: AtomicBool::new(false),
        }
    }

    /// Shares what this process counts, at once when it was quiet and once a second under load, and decides where there
    /// were errors. Ends when there is nobody to count any more.
    pub async fn keep_sharing(self: Arc<Self>, counter: Weak<Counter>, mut rings: mpsc::Receiver<()>) {
        let mut warnings = Warnings::default();
        let mut seconds = interval(SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while rings.recv().await.is_some() {
            seconds.tick().await;
            let Some(seen) = counter.upgrade().map(|counter| counter.take()) else {
                return;
            };
            warnings.due(&seen, Instant::now()).iter().for_each(warn);
            let shared = timeout(LONGEST, self.share(seen));
            // What could not be shared is of a second that is over.
            match shared.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "what providers do could not be shared"),
                Err(_) => tracing::warn!("what providers do could not be shared: no answer"),
            }
        }
    }

    async fn share(&self, seen: Vec<Seen>) -> Result<()> {
        let mut conn = self.pool.acquire().await?;
        let (traffic, troubles): (Vec<_>, Vec<_>) =
            seen.into_iter().map(|seen| (seen.traffic, seen.for_a_person)).unzip();
        providers::add_traffic(&mut conn, &traffic).await?;
        let erred = traffic.iter().any(|traffic| traffic.errors > 0);
        if !erred && !self.is_alarmed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let texts = watched(&mut conn, NotificationType::Sms).await?;
        let emails = watched(&mut conn, NotificationType::Email).await?;
        for (Traffic { provider, .. }, why) in traffic.iter().zip(&troubles) {
            let is_active = texts.iter().chain(&emails).any(|side| side.identifier == *provider);
            if let Some(why) = why.as_ref().filter(|_| is_active) {
                raise(&mut conn, &refused_by(provider), 1, &json!({ "error": why })).await?;
            }
        }
        if let Some(pair) = pair(&texts) {
            // Falls that are remembered can only forbid a move, so they are asked for only where there may be one.
            if self.policy.after_errors(&pair, &[]).is_some() {
                let decide = |pair: &[Watched; 2], falls: &[Fall]| self.policy.after_errors(pair, falls);
                self.carry_out(&mut conn, decide, &Map::new()).await?;
            }
        }
        self.look_for_outages(&mut conn, &texts, &emails).await
    }

    /// Looks at how fast texts are delivered, and takes a step from a provider that is slow while the other is not.
    pub async fn leave_a_slow_one(&self) -> Result<Option<Moved>> {
        let mut conn = self.pool.acquire().await?;
        providers::forget_traffic(&mut conn, HOUR.as_secs_f64()).await?;
        let texts = watched(&mut conn, NotificationType::Sms).await?;
        let emails = watched(&mut conn, NotificationType::Email).await?;
        self.look_for_outages(&mut conn, &texts, &emails).await?;
        let (within, after) = (
            self.policy.slow_within.as_secs_f64(),
            self.policy.slow_after.as_secs_f64(),
        );
        let deliveries = providers::deliveries(&mut conn, within, after).await?;
        self.look_for_slowness(&mut conn, &deliveries).await?;
        let numbers = of_deliveries(&deliveries);
        let decide = |pair: &[Watched; 2], falls: &[Fall]| {
            let slow = pair.each_ref().map(|side| {
                let delivery = deliveries
                    .iter()
                    .find(|delivery| delivery.identifier == side.identifier);
                delivery.map_or(0.0, slow_share)
            });
            self.policy.after_slowness(pair, slow, falls)
        };
        self.carry_out(&mut conn, decide, &numbers).await
    }

    /// Takes a step toward the resting points, after a time without changes.
    pub async fn tend_back(&self) -> Result<Option<Moved>> {
        let decide = |pair: &[Watched; 2], falls: &[Fall]| self.policy.toward_rest(pair, falls);
        let mut conn = self.pool.acquire().await?;
        self.carry_out(&mut conn, decide, &Map::new()).await
    }

    /// Makes the move that is decided upon while nobody else can make one.
    async fn carry_out(
        &self,
        conn: &mut PgConnection,
        decide: impl Fn(&[Watched; 2], &[Fall]) -> Option<Move>,
        more: &Map<String, Value>,
    ) -> Result<Option<Moved>> {
        let mut transaction = conn.begin().await?;
        providers::lock(&mut transaction, NotificationType::Sms).await?;
        let Some(pair) = pair(&watched(&mut transaction, NotificationType::Sms).await?) else {
            return Ok(None);
        };
        let falls = falls(&mut transaction).await?;
        let Some(decided) = decide(&pair, &falls) else {
            return Ok(None);
        };
        let reason = |index: usize| match decided.fell {
            None => "Adjusted back to resting point",
            Some(fell) if fell == index => "Reduced due to reduced reliability",
            Some(_) => "Increased due to reduced reliability in other provider",
        };
        let changes = [0, 1].map(|index| Change {
            id: pair[index].id,
            version: pair[index].version,
            priority: decided.weights[index],
            active: true,
            pinned: false,
            reason: reason(index),
        });
        let changed: Vec<Change> = changes
            .into_iter()
            .zip(&pair)
            .filter(|(change, side)| change.priority != side.priority)
            .map(|(change, _)| change)
            .collect();
        let numbers = numbers(&pair, &decided, falls.len(), more);
        providers::change(&mut transaction, &changed, &numbers, None).await?;
        transaction.commit().await?;
        self.weights.forget().await;
        let moved = Moved {
            rule: decided.rule,
            fell: decided.fell.map(|fell| pair[fell].identifier.clone()),
            weights: names(&pair).zip(decided.weights).collect(),
        };
        tracing::warn!(rule = ?moved.rule, fell = moved.fell, weights = ?moved.weights, %numbers, "texts move between providers");
        Ok(Some(moved))
    }

    /// Raises an alert for each channel that nobody serves any more, and lowers those that are over.
    async fn look_for_outages(&self, conn: &mut PgConnection, texts: &[Watched], emails: &[Watched]) -> Result<()> {
        let raised = providers::alerts(conn).await?;
        let is_raised = |name: &str| raised.iter().any(|alert| alert.name == name);
        let mut is_alarmed = !raised.is_empty();
        for (sides, alert) in [(texts, SMS_FAILING), (emails, EMAIL_FAILING)] {
            if !is_raised(alert) && self.policy.all_fail(sides) {
                let within = self.policy.outage_alert_after + MINUTE;
                let names: Vec<&str> = sides.iter().map(|side| side.identifier.as_str()).collect();
                let seconds = providers::seconds(conn, &names, within.as_secs_f64()).await?;
                if self.policy.have_failed_for_long(sides, &seconds) {
                    raise(conn, alert, 1, &of_traffic(sides)).await?;
                    is_alarmed = true;
                }
            } else if is_raised(alert) && sides.iter().any(is_well) {
                lower(conn, alert).await?;
            }
        }
        for alert in raised.iter().filter(|alert| alert.name.ends_with(REFUSES_US)) {
            let mut sides = texts.iter().chain(emails);
            let side = sides.find(|side| refused_by(&side.identifier) == alert.name);
            // One that people have disabled is asked no more.
            if side.is_none_or(|side| takes_messages_again(side, alert.seconds)) {
                lower(conn, &alert.name).await?;
            }
        }
        // Should all have been lowered, the next look learns it.
        self.is_alarmed.store(is_alarmed, Ordering::Relaxed);
        Ok(())
    }

    async fn look_for_slowness(&self, conn: &mut PgConnection, deliveries: &[Delivery]) -> Result<()> {
        let numbers = Value::Object(of_deliveries(deliveries));
        let are_slow = deliveries
            .iter()
            .all(|delivery| self.policy.is_slow(slow_share(delivery)));
        judge(
            conn,
            "sms_providers_slow",
            !deliveries.is_empty() && are_slow,
            1,
            &numbers,
        )
        .await?;
        let overall = Delivery {
            identifier: String::new(),
            total: deliveries.iter().map(|delivery| delivery.total).sum(),
            slow: deliveries.iter().map(|delivery| delivery.slow).sum(),
        };
        judge(
            conn,
            "sms_delivery_slow",
            slow_share(&overall) >= SLOW_OVERALL,
            LOOKS,
            &numbers,
        )
        .await
    }
}

/// The two providers among which rules move texts, by name; none where there are not two.
fn pair(texts: &[Watched]) -> Option<[Watched; 2]> {
    texts.to_vec().try_into().ok()
}

async fn watched(conn: &mut PgConnection, channel: NotificationType) -> Result<Vec<Watched>> {
    let windows = [LATELY, RECENTLY, MINUTE].map(|window| window.as_secs_f64());
    providers::watched(conn, channel, windows).await
}

async fn falls(conn: &mut PgConnection) -> Result<Vec<Fall>> {
    providers::falls(conn, MEMORY.as_secs_f64()).await
}

async fn judge(conn: &mut PgConnection, alert: &str, is_bad: bool, after: i32, numbers: &Value) -> Result<()> {
    if is_bad {
        raise(conn, alert, after, numbers).await
    } else {
        lower(conn, alert).await
    }
}

async fn raise(conn: &mut PgConnection, alert: &str, after: i32, numbers: &Value) -> Result<()> {
    if providers::raise_alert(conn, alert, after, numbers).await? {
        tracing::error!(alert, %numbers, "{}", in_words(alert));
    }
    Ok(())
}

async fn lower(conn: &mut PgConnection, alert: &str) -> Result<()> {
    if let Some(seconds) = providers::lower_alert(conn, alert).await? {
        tracing::warn!(
            alert,
            after_seconds = seconds.round(),
            "it is over: {}",
            in_words(alert)
        );
    }
    Ok(())
}

const REFUSES_US: &str = "_refuses_us";

fn refused_by(provider: &str) -> String {
    format!("{provider}{REFUSES_US}")
}

fn in_words(alert: &str) -> &'static str {
    match alert {
        SMS_FAILING => "every provider of texts fails",
        EMAIL_FAILING => "every provider of emails fails",
        "sms_providers_slow" => "every provider of texts delivers slowly",
        "sms_delivery_slow" => "texts have been delivered slowly for a while",
        _ => "a provider and we do not work together until somebody acts: credentials, a quota, or its certificate",
    }
}

/// A provider's errors and rate limits are warnings.
fn warn(warning: &Warning) {
    let Warning {
        provider,
        requests,
        errors,
        faults,
        last_error,
    } = warning;
    tracing::warn!(
        provider,
        requests,
        errors,
        faults,
        last_error,
        "a provider did not take messages"
    );
}

fn names(pair: &[Watched; 2]) -> impl Iterator<Item = String> {
    pair.iter().map(|side| side.identifier.clone())
}

/// What a move was decided upon.
fn numbers(pair: &[Watched; 2], decided: &Move, falls: usize, more: &Map<String, Value>) -> Value {
    let mut numbers = Map::new();
    numbers.insert("rule".to_owned(), json!(decided.rule));
    if let Some(fell) = decided.fell {
        numbers.insert("fell".to_owned(), json!(pair[fell].identifier));
    }
    numbers.insert("falls_remembered".to_owned(), json!(falls));
    for (side, weight) in pair.iter().zip(decided.weights) {
        let mut of_side = json!({
            "from": side.priority, "to": weight, "last_seconds": side.lately, "last_ten_seconds": side.recent,
            "last_minute": side.before,
        });
        if let Some(delivery) = more.get(&side.identifier) {
            of_side["deliveries"] = delivery.clone();
        }
        numbers.insert(side.identifier.clone(), of_side);
    }
    Value::Object(numbers)
}

fn of_traffic(sides: &[Watched]) -> Value {
    let each = sides.iter().map(|side| {
        let numbers = json!({
            "last_seconds": side.lately, "last_ten_seconds": side.recent, "last_minute": side.before,
        });
        (side.identifier.clone(), numbers)
    });
    Value::Object(each.collect())
}

fn of_deliveries(deliveries: &[Delivery]) -> Map<String, Value> {
    let each = deliveries.iter().map(|delivery| {
        let numbers = json!({"total": delivery.total, "slow": delivery.slow});
        (delivery.identifier.clone(), numbers)
    });
    each.collect()
}

//! Limits in Redis, under the keys and in the forms of GOV.UK Notify, whose own programs may use the same Redis. Redis is
//! never more than a help: whatever is wrong with it, requests are let in, and hardly wait for it.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use herald_engine::Seldom;
use herald_store::KeyType;
use redis::{
    Client, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::Instant;

use super::{Bucket, Place, Taken, Verdict};

/// How long a request waits for Redis.
const PATIENCE: Duration = Duration::from_millis(100);

/// For how long Redis is left alone after an error.
const REST: Duration = Duration::from_secs(1);

/// What Redis keeps of a day.
const DAY_SECONDS: u64 = 86_400;

/// Takes a token and reads a count. A bucket is twelve bytes: the seconds since 1970 at which it was last filled, and its
/// tokens, as Lua's `struct` packs `<di`; anything else under its key counts as a bucket that was never used. A count that
/// is not there, or is no number, begins at zero. Answers with the tokens that are left, and the count.
const ASK: &str = r#"
local size, per_second = tonumber(ARGV[1]), tonumber(ARGV[2])
local tokens = size
if size > 0 then
    local time = redis.call('TIME')
    local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
    local filled = now
    local known = redis.pcall('GET', KEYS[2])
    if type(known) == 'string' and #known == 12 then
        local at, left = struct.unpack('<di', known)
        if at == at and at <= now + 1 and at > 0 then
            local more = math.max(0, math.floor((now - at) * per_second))
            tokens = math.min(size, math.max(0, left) + more)
            if tokens < size then
                filled = at + more / per_second
            end
        end
    end
    tokens = math.max(0, tokens - 1)
    redis.call('SET', KEYS[2], struct.pack('<di', filled, tokens))
end
local count = redis.pcall('GET', KEYS[1])
if type(count) ~= 'string' or not string.match(count, '^%d+$') then
    redis.call('SET', KEYS[1], 0, 'EX', ARGV[3])
    count = '0'
end
return {tokens, count}
"#;

/// Counts a message, with the first one for a day from now.
const COUNT: &str = r#"
local known = redis.pcall('GET', KEYS[1])
if type(known) == 'string' and string.match(known, '^%d+$') then
    return redis.call('INCR', KEYS[1])
end
redis.call('SET', KEYS[1], 1, 'EX', ARGV[1])
return 1
"#;

pub struct Shared(Arc<State>);

struct State {
    connection: ConnectionManager,
    ask: Script,
    count: Script,
    trouble: Trouble,
}

impl Shared {
    /// # Errors
    /// When that is no address of a Redis.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        Ok(Self(Arc::new(State {
            connection: ConnectionManager::new_lazy_with_config(Client::open(url)?, config)?,
            ask: Script::new(ASK),
            count: Script::new(COUNT),
            trouble: Trouble::new(),
        })))
    }

    pub async fn ask(&self, bucket: Option<Bucket>, place: Place, key_type: KeyType) -> Verdict {
        let Self(state) = self;
        let asked = state.asked(async { state.judge(bucket, place, key_type).await }).await;
        asked.unwrap_or(Verdict::Good(None))
    }

    /// Counts messages that were accepted, without keeping their answers waiting.
    pub fn count(&self, taken: Vec<Taken>) {
        if taken.is_empty() {
            return;
        }
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let counting = async {
                for Taken { place, .. } in taken {
                    let key = daily_key(&place, KeyType::Normal);
                    let mut connection = state.connection.clone();
                    let mut script = state.count.key(key);
                    script.arg(DAY_SECONDS).invoke_async::<i64>(&mut connection).await?;
                }
                Ok(())
            };
            state.asked(counting).await;
        });
    }
}

impl State {
    async fn judge(&self, bucket: Option<Bucket>, place: Place, key_type: KeyType) -> Result<Verdict, RedisError> {
        let mut connection = self.connection.clone();
        let mut script = self.ask.key(daily_key(&place, key_type));
        if let Some(bucket) = bucket {
            script.key(format!("{}-tokens-{}", bucket.service_id, bucket.key_type.as_str()));
        }
        let (size, per_second) = bucket.map_or((0, 0.0), |bucket| (bucket.size(), bucket.per_second()));
        let script = script.arg(size).arg(per_second).arg(DAY_SECONDS);
        let (left, count): (i64, String) = script.invoke_async(&mut connection).await?;
        if bucket.is_some() && left < 1 {
            return Ok(Verdict::TooFast);
        }
        // What is too large for a number is too many as well.
        let count = count.parse().unwrap_or(i64::MAX);
        Ok(if count >= place.limit {
            Verdict::TooMany
        } else {
            Verdict::Good(None)
        })
    }

    /// What Redis answers, if it does so well and in time.
    async fn asked<T>(&self, question: impl Future<Output = Result<T, RedisError>>) -> Option<T> {
        if self.trouble.is_resting() {
            return None;
        }
        match tokio::time::timeout(PATIENCE, question).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => self.trouble.note(&error.to_string()),
            Err(_elapsed) => self.trouble.note("it did not answer in time"),
        }
        None
    }
}

fn daily_key(place: &Place, key_type: KeyType) -> String {
    let (service, name, day) = (place.service_id, place.counted.name(), Utc::now().date_naive());
    let test = if key_type == KeyType::Test { "test-" } else { "" };
    format!("{service}-{test}{name}-{day}-count")
}

/// What was wrong with Redis lately.
struct Trouble {
    last: Mutex<Option<Instant>>,
    errors: Seldom,
}

impl Trouble {
    const fn new() -> Self {
        Self {
            last: Mutex::new(None),
            errors: Seldom::new(),
        }
    }

    fn is_resting(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < REST)
    }

    fn note(&self, error: &str) {
        herald_metrics::redis_failed();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if let Some(errors) = self.errors.happened() {
            tracing::error!(error, errors, "Redis is not well: requests are not limited meanwhile");
        }
    }
}

//! Limits in Postgres, exact over all API processes. While one statement is under way the next requests gather, and share
//! a statement; so a busy service costs a row lock a batch, not a request.

use std::{collections::BTreeMap, time::Duration};

use chrono::NaiveDate;
use herald_store::limits::{self, MessagesWanted, TokensWanted};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{Bucket, Place, Taken, Verdict};
use crate::Error;

/// Requests in one statement at most.
const BATCH: usize = 256;

/// Those that wait for the next one, at most; more wait for their place.
const WAITING: usize = 4 * BATCH;

/// What a statement may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Exact(mpsc::Sender<Ask>);

enum Ask {
    Enter {
        bucket: Option<Bucket>,
        place: Option<Place>,
        reply: oneshot::Sender<Result<Verdict, String>>,
    },
    Leave(Vec<Taken>),
}

impl Exact {
    pub fn new(pool: PgPool) -> Self {
        let (sender, mut asks) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while asks.recv_many(&mut batch, BATCH).await > 0 {
                answer(&pool, std::mem::take(&mut batch)).await;
            }
        });
        Self(sender)
    }

    /// # Errors
    /// When Postgres does not answer: without it nothing could be accepted either.
    pub async fn ask(&self, bucket: Option<Bucket>, place: Option<Place>) -> Result<Verdict, Error> {
        if bucket.is_none() && place.is_none() {
            return Ok(Verdict::Good(None));
        }
        let (reply, answer) = oneshot::channel();
        let gone = || Error::Unavailable("the limits are not kept any more".into());
        let ask = Ask::Enter { bucket, place, reply };
        self.0.send(ask).await.map_err(|_| gone())?;
        answer
            .await
            .map_err(|_| gone())?
            .map_err(|error| Error::Unavailable(error.into()))
    }

    /// Never waits: what cannot be given back now counts against the service for the rest of the day.
    pub fn give_back(&self, taken: Vec<Taken>) {
        if !taken.is_empty() && self.0.try_send(Ask::Leave(taken)).is_err() {
            tracing::warn!("messages that were not accepted stay counted for today: too many at once");
        }
    }
}

/// What is granted to the requests of a batch, first come, first served.
#[derive(Default)]
struct Grants {
    tokens: BTreeMap<(Uuid, &'static str), i64>,
    messages: BTreeMap<(Uuid, &'static str), (NaiveDate, i64)>,
}

async fn answer(pool: &PgPool, batch: Vec<Ask>) {
    let granted = tokio::time::timeout(PATIENCE, grant(pool, &batch))
        .await
        .map_err(|_elapsed| "no answer".to_owned())
        .and_then(|granted| granted.map_err(|error| error.to_string()));
    let mut grants = match granted {
        Ok(grants) => grants,
        Err(why) => {
            for ask in batch {
                if let Ask::Enter { reply, .. } = ask {
                    let _ = reply.send(Err(why.clone()));
                }
            }
            return;
        }
    };
    let mut unclaimed = Vec::new();
    for ask in batch {
        let Ask::Enter { bucket, place, reply } = ask else {
            continue;
        };
        let verdict = grants.verdict(bucket, place);
        if let (Err(Ok(Verdict::Good(Some(day)))), Some(place)) = (reply.send(Ok(verdict)), place) {
            // The client went away while it waited.
            unclaimed.push(Ask::Leave(vec![Taken { place, day }]));
        }
    }
    if !unclaimed.is_empty()
        && let Err(error) = grant(pool, &unclaimed).await
    {
        tracing::warn!(%error, "messages that were not accepted stay counted for today");
    }
}

/// Gives back what is left, then takes tokens, then counts messages for those that may get them.
async fn grant(pool: &PgPool, batch: &[Ask]) -> herald_store::Result<Grants> {
    let mut left = BTreeMap::<(Uuid, &'static str, NaiveDate), i64>::new();
    let mut buckets = BTreeMap::<(Uuid, &'static str), TokensWanted>::new();
    for ask in batch {
        match ask {
            Ask::Leave(taken) => {
                for Taken { place, day } in taken {
                    *left.entry((place.service_id, place.counted.name(), *day)).or_default() += 1;
                }
            }
            Ask::Enter {
                bucket: Some(bucket), ..
            } => {
                let wanted = TokensWanted {
                    service_id: bucket.service_id,
                    key_type: bucket.key_type,
                    wanted: 0,
                    per_second: bucket.per_second(),
                    size: bucket.size() as f64,
                };
                let key = (bucket.service_id, bucket.key_type.as_str());
                buckets.entry(key).or_insert(wanted).wanted += 1;
            }
            Ask::Enter { bucket: None, .. } => {}
        }
    }
    let conn = &mut *pool.acquire().await?;
    let mut grants = Grants::default();
    if !left.is_empty() {
        let left: Vec<_> = left
            .into_iter()
            .map(|((id, name, day), n)| (id, name, day, n))
            .collect();
        limits::give_back(conn, &left).await?;
    }
    if !buckets.is_empty() {
        let wanted: Vec<_> = buckets.into_values().collect();
        for tokens in limits::take_tokens(conn, &wanted).await? {
            grants
                .tokens
                .insert((tokens.service_id, tokens.key_type.as_str()), tokens.granted);
        }
    }
    let mut tokens = grants.tokens.clone();
    let mut places = BTreeMap::<(Uuid, &'static str), MessagesWanted>::new();
    for ask in batch {
        let Ask::Enter {
            bucket,
            place: Some(place),
            ..
        } = ask
        else {
            continue;
        };
        if !take_token(&mut tokens, *bucket) {
            continue;
        }
        let wanted = MessagesWanted {
            service_id: place.service_id,
            name: place.counted.name(),
            wanted: 0,
            limit: place.limit,
        };
        let key = (place.service_id, place.counted.name());
        let known = places.entry(key).or_insert(wanted);
        known.wanted += 1;
        // A limit that was just changed may be known in two forms: the smaller one counts.
        known.limit = known.limit.min(place.limit);
    }
    if !places.is_empty() {
        let wanted: Vec<_> = places.into_values().collect();
        for messages in limits::reserve(conn, &wanted).await? {
            let name = wanted.iter().find(|wanted| wanted.name == messages.name);
            if let Some(wanted) = name {
                grants
                    .messages
                    .insert((messages.service_id, wanted.name), (messages.day, messages.granted));
            }
        }
    }
    Ok(grants)
}

fn take_token(tokens: &mut BTreeMap<(Uuid, &'static str), i64>, bucket: Option<Bucket>) -> bool {
    let Some(bucket) = bucket else { return true };
    match tokens.get_mut(&(bucket.service_id, bucket.key_type.as_str())) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

impl Grants {
    fn verdict(&mut self, bucket: Option<Bucket>, place: Option<Place>) -> Verdict {
        if !take_token(&mut self.tokens, bucket) {
            return Verdict::TooFast;
        }
        let Some(place) = place else { return Verdict::Good(None) };
        match self.messages.get_mut(&(place.service_id, place.counted.name())) {
            Some((day, left)) if *left > 0 => {
                *left -= 1;
                Verdict::Good(Some(*day))
            }
            _ => Verdict::TooMany,
        }
    }
}

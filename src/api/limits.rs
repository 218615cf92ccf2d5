//! How fast and how much a service may send: a token bucket for each sort of key, and messages a day of each type, in
//! the order and the words of GOV.UK Notify.
//!
//! Where Redis is configured both are kept there, under Notify's keys, so that they are shared with its own programs;
//! Redis may be down or hold rubbish, and then nothing is limited ([`shared`]). Where it is not they are kept in
//! Postgres, exactly: a message is counted before it is accepted, and taken back if it is not ([`exact`]).

mod exact;
mod shared;

use std::future::Future;

use chrono::{NaiveDate, Utc};
use herald_engine::Error as EngineError;
use herald_message::phone::PhoneNumber;
use herald_store::{KeyType, NotificationType, services::Service};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{Error, auth::Caller};

/// Of whom a test key of a service in trial mode takes the limits: a new live service.
const LIVE_EMAIL: i64 = 250_000;
const LIVE_SMS: i64 = 250_000;
const LIVE_LETTER: i64 = 20_000;
const LIVE_INTERNATIONAL_SMS: i64 = 100;

/// What is limited by the day. The names are data in Redis and in Postgres, and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Counted {
    Sms,
    Email,
    Letter,
    InternationalSms,
}

impl Counted {
    const fn name(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Email => "email",
            Self::Letter => "letter",
            Self::InternationalSms => "international_sms",
        }
    }

    fn limit(self, caller: &Caller) -> i64 {
        let service: &Service = caller.service();
        let as_live = caller.key_type == KeyType::Test && service.restricted;
        match self {
            Self::Sms if as_live => LIVE_SMS,
            Self::Email if as_live => LIVE_EMAIL,
            Self::Letter if as_live => LIVE_LETTER,
            Self::InternationalSms if as_live => LIVE_INTERNATIONAL_SMS,
            Self::Sms => service.sms_message_limit,
            Self::Email => service.email_message_limit,
            Self::Letter => service.letter_message_limit,
            Self::InternationalSms => service.international_sms_message_limit,
        }
    }
}

/// A bucket of tokens, one a request.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    service_id: Uuid,
    key_type: KeyType,
    /// Requests a minute.
    rate: i32,
}

impl Bucket {
    fn per_second(&self) -> f64 {
        f64::from(self.rate) / 60.0
    }

    /// A third of a minute's requests, and one that always stays.
    fn size(&self) -> i64 {
        let third = (i64::from(self.rate.max(0)) + 2) / 3;
        (third + 1).min(1000)
    }
}

/// One message towards a limit.
#[derive(Debug, Clone, Copy)]
struct Place {
    service_id: Uuid,
    counted: Counted,
    limit: i64,
}

/// A place that was taken.
#[derive(Debug, Clone, Copy)]
struct Taken {
    place: Place,
    /// UTC.
    day: NaiveDate,
}

pub struct Limits {
    /// Whether requests are limited by the minute.
    rate: bool,
    kept: Kept,
}

enum Kept {
    Shared(shared::Shared),
    Exact(exact::Exact),
}

impl Limits {
    /// # Errors
    /// When the address of Redis is none.
    pub fn new(pool: PgPool, redis_url: Option<&str>, rate: bool) -> Result<Self, redis::RedisError> {
        let kept = match redis_url {
            Some(url) => Kept::Shared(shared::Shared::new(url)?),
            None => Kept::Exact(exact::Exact::new(pool)),
        };
        Ok(Self { rate, kept })
    }

    /// Lets a request in that may make a message of this type.
    ///
    /// # Errors
    /// [`Error::RateLimit`], [`Error::DailyLimit`].
    pub async fn admit(&self, caller: &Caller, kind: NotificationType) -> Result<Admission<'_>, Error> {
        let bucket = self.rate.then(|| Bucket {
            service_id: caller.service().id,
            key_type: caller.key_type,
            rate: caller.service().rate_limit,
        });
        let counted = match kind {
            NotificationType::Sms => Counted::Sms,
            NotificationType::Email => Counted::Email,
            NotificationType::Letter => Counted::Letter,
        };
        let mut admission = Admission {
            limits: self,
            taken: Vec::new(),
        };
        admission.take(caller, bucket, counted).await?;
        Ok(admission)
    }
}

/// A request that was let in. What it took is given back unless it is kept.
pub struct Admission<'a> {
    limits: &'a Limits,
    taken: Vec<Taken>,
}

impl Admission<'_> {
    /// Counts a text abroad as such.
    ///
    /// # Errors
    /// [`Error::DailyLimit`].
    pub async fn count_international(&mut self, caller: &Caller, number: &PhoneNumber) -> Result<(), Error> {
        if number.country_prefix == "44" {
            return Ok(());
        }
        self.take(caller, None, Counted::InternationalSms).await
    }

    /// Keeps what was taken if the message is accepted, or may have been: when the client hangs up meanwhile, or the
    /// database's answer is lost.
    ///
    /// # Errors
    /// Those of accepting it.
    pub async fn spend(mut self, accepting: impl Future<Output = Result<bool, EngineError>>) -> Result<(), Error> {
        let taken = std::mem::take(&mut self.taken);
        let accepted = accepting.await;
        match (&accepted, &self.limits.kept) {
            (Ok(true) | Err(EngineError::Unavailable), Kept::Shared(shared)) => shared.count(taken),
            (Ok(true) | Err(EngineError::Unavailable), Kept::Exact(_)) => {}
            (Ok(false) | Err(_), _) => self.taken = taken,
        }
        accepted?;
        Ok(())
    }

    async fn take(&mut self, caller: &Caller, bucket: Option<Bucket>, counted: Counted) -> Result<(), Error> {
        let limit = counted.limit(caller);
        let place = Place {
            service_id: caller.service().id,
            counted,
            limit,
        };
        // A test key's count never moves, as in Notify.
        let counts = caller.key_type != KeyType::Test;
        let verdict = match &self.limits.kept {
            Kept::Shared(shared) => shared.ask(bucket, place, caller.key_type).await,
            Kept::Exact(exact) => exact.ask(bucket, counts.then_some(place)).await?,
        };
        match verdict {
            Verdict::TooFast => Err(Error::RateLimit {
                key_type: caller.key_type,
                rate: caller.service().rate_limit,
            }),
            Verdict::TooMany => Err(Error::DailyLimit {
                name: counted.name(),
                limit,
            }),
            Verdict::Good(_) if limit < 1 => Err(Error::DailyLimit {
                name: counted.name(),
                limit,
            }),
            Verdict::Good(day) => {
                let day = day.unwrap_or_else(|| Utc::now().date_naive());
                self.taken.extend(counts.then_some(Taken { place, day }));
                Ok(())
            }
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Kept::Exact(exact) = &self.limits.kept {
            exact.give_back(std::mem::take(&mut self.taken));
        }
    }
}

/// What is said to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    /// With the day for which it was counted, if it was.
    Good(Option<NaiveDate>),
    TooFast,
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_third_of_a_minute_and_one_more() {
        let size = |rate| {
            Bucket {
                service_id: Uuid::nil(),
                key_type: KeyType::Normal,
                rate,
            }
            .size()
        };
        assert_eq!([0, 1, 3, 4, 60, 3000].map(size), [1, 2, 2, 3, 21, 1000]);
    }
}

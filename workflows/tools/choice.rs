//! Who sends a text: drawn by weight among the active providers, and after a failure somebody else if there is one.

use std::time::Duration;

use herald_engine::AttemptError;
use herald_message::receipt::Provider;
use herald_store::{NotificationType, providers};
use moka::future::Cache;
use rand::{Rng, distr::weighted::WeightedIndex, prelude::Distribution};
use sqlx::PgPool;

/// The active providers of texts and their weights, never older than two seconds.
pub(super) struct Weights {
    pool: PgPool,
    cache: Cache<(), std::sync::Arc<Vec<providers::Provider>>>,
}

impl Weights {
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            cache: Cache::builder().time_to_live(Duration::from_secs(2)).build(),
        }
    }

    /// `tried` are the providers of earlier attempts, the newest last.
    #[expect(clippy::disallowed_methods, reason = "drawn in an attempt, whose plan is recorded")]
    pub async fn choose_sms(&self, international: bool, tried: &[String]) -> Result<Provider, AttemptError> {
        let active = self.cache.try_get_with((), self.read()).await;
        let active = active.map_err(super::database)?;
        let fit: Vec<(Provider, i32)> = active
            .iter()
            .filter(|provider| !international || provider.supports_international)
            .filter_map(|provider| Some((Provider::from_name(&provider.identifier)?, provider.priority)))
            .collect();
        choose(&fit, tried.last().map(String::as_str), &mut rand::rng())
            .ok_or_else(|| AttemptError::again("No active sms providers"))
    }

    async fn read(&self) -> herald_store::Result<std::sync::Arc<Vec<providers::Provider>>> {
        let mut conn = self.pool.acquire().await?;
        Ok(std::sync::Arc::new(
            providers::active(&mut conn, NotificationType::Sms).await?,
        ))
    }
}

/// One of `fit` by weight. The provider that failed last is drawn only when there is no other, and weights that are
/// all zero count as equal.
fn choose(fit: &[(Provider, i32)], failed_last: Option<&str>, random: &mut impl Rng) -> Option<Provider> {
    let others: Vec<_> = fit
        .iter()
        .filter(|(provider, _)| failed_last != Some(provider.name()))
        .copied()
        .collect();
    let fit = if others.is_empty() { fit } else { &others };
    let drawn =
        WeightedIndex::new(fit.iter().map(|(_, weight)| (*weight).max(0))).map(|weights| weights.sample(random));
    fit.get(drawn.unwrap_or(0)).map(|(provider, _)| *provider)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const BOTH: [(Provider, i32); 2] = [(Provider::Firetext, 30), (Provider::Mmg, 70)];

    #[test]
    fn weights_decide_and_a_failure_moves_the_next_attempt_elsewhere() {
        let random = &mut StdRng::seed_from_u64(7);
        let firetext = (0..10_000)
            .filter(|_| choose(&BOTH, None, random) == Some(Provider::Firetext))
            .count();
        assert!((2_500..3_500).contains(&firetext), "{firetext}");
        assert!((0..100).all(|_| choose(&BOTH, Some("mmg"), random) == Some(Provider::Firetext)));
    }

    #[test]
    fn one_provider_is_always_it_and_none_is_none() {
        let random = &mut StdRng::seed_from_u64(7);
        assert_eq!(choose(&BOTH[..1], Some("firetext"), random), Some(Provider::Firetext));
        assert_eq!(choose(&[(Provider::Mmg, 0)], None, random), Some(Provider::Mmg));
        assert_eq!(choose(&[], None, random), None);
    }
}

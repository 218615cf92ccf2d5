//! Who sends a text: drawn by weight among the active providers, and after a failure somebody else if there is one.

use std::time::Duration;

use herald_engine::AttemptError;
use herald_message::receipt::Provider;
use herald_store::{NotificationType, providers};
use moka::future::Cache;
use rand::{Rng, distr::weighted::WeightedIndex, prelude::Distribution};
use sqlx::PgPool;

/// The active providers of texts and their weights, never older than a second: a move reaches every process within that.
pub(super) struct Weights {
    pool: PgPool,
    cache: Cache<(), std::sync::Arc<Vec<providers::Provider>>>,
}

pub(super) struct Choice {
    pub provider: Provider,
    /// Should it refuse, somebody else is to be asked at once: the first one asked has not spoken for others, and one that
    /// has no weight, and is asked once, has not for those that have.
    pub leaves_others: bool,
}

impl Weights {
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            cache: Cache::builder().time_to_live(Duration::from_secs(1)).build(),
        }
    }

    /// Who sends; `tried` are the providers of earlier attempts, the newest last.
    #[expect(clippy::disallowed_methods, reason = "drawn in an attempt, whose plan is recorded")]
    pub async fn choose_sms(&self, international: bool, tried: &[String]) -> Result<Choice, AttemptError> {
        let active = self.cache.try_get_with((), super::in_time(self.read())).await;
        let active = active.map_err(super::database)?;
        let fit: Vec<(Provider, i32)> = active
            .iter()
            .filter(|provider| !international || provider.supports_international)
            .filter_map(|provider| Some((Provider::from_name(&provider.identifier)?, provider.priority)))
            .collect();
        let provider = choose(&fit, tried, &mut rand::rng());
        let provider = provider.ok_or_else(|| AttemptError::again("No active sms providers"))?;
        let (own, others): (Vec<_>, Vec<_>) = fit.iter().partition(|(fit, _)| *fit == provider);
        let has_weight = |fit: &[(Provider, i32)]| fit.iter().any(|(_, weight)| *weight > 0);
        Ok(Choice {
            provider,
            leaves_others: tried.is_empty() && !others.is_empty() || !has_weight(&own) && has_weight(&others),
        })
    }

    /// Reads them anew at the next draw.
    pub async fn forget(&self) {
        self.cache.invalidate(&()).await;
    }

    async fn read(&self) -> herald_store::Result<std::sync::Arc<Vec<providers::Provider>>> {
        let mut conn = self.pool.acquire().await?;
        Ok(std::sync::Arc::new(
            providers::active(&mut conn, NotificationType::Sms).await?,
        ))
    }
}

/// One of `fit` by weight, where weights that are all zero count as equal. The provider that failed last is left out where
/// there is another one that has any weight, or that this message was not tried at yet: from one without weight that has
/// failed as well nothing can be expected, such as from one that is down since long before.
fn choose(fit: &[(Provider, i32)], tried: &[String], random: &mut impl Rng) -> Option<Provider> {
    let failed_last = tried.last().map(String::as_str);
    let others: Vec<_> = fit
        .iter()
        .filter(|(provider, weight)| {
            let name = provider.name();
            failed_last != Some(name) && (*weight > 0 || !tried.iter().any(|tried| tried == name))
        })
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

    fn tried(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn weights_decide_and_a_failure_moves_the_next_attempt_elsewhere() {
        let random = &mut StdRng::seed_from_u64(7);
        let firetext = (0..10_000)
            .filter(|_| choose(&BOTH, &[], random) == Some(Provider::Firetext))
            .count();
        assert!((2_500..3_500).contains(&firetext), "{firetext}");
        for past in [tried(&["mmg"]), tried(&["firetext", "mmg"])] {
            assert!((0..100).all(|_| choose(&BOTH, &past, random) == Some(Provider::Firetext)));
        }
    }

    #[test]
    fn one_without_weight_is_tried_once_and_not_again() {
        let random = &mut StdRng::seed_from_u64(7);
        let left = [(Provider::Firetext, 0), (Provider::Mmg, 100)];
        for (past, next) in [
            (tried(&[]), Provider::Mmg),
            (tried(&["mmg"]), Provider::Firetext),
            (tried(&["firetext"]), Provider::Mmg),
            (tried(&["mmg", "firetext"]), Provider::Mmg),
            (tried(&["firetext", "mmg"]), Provider::Mmg),
        ] {
            assert!((0..100).all(|_| choose(&left, &past, random) == Some(next)), "{past:?}");
        }
    }

    #[test]
    fn one_provider_is_always_it_and_none_is_none() {
        let random = &mut StdRng::seed_from_u64(7);
        let firetext = tried(&["firetext"]);
        assert_eq!(choose(&BOTH[..1], &firetext, random), Some(Provider::Firetext));
        assert_eq!(choose(&[(Provider::Mmg, 0)], &[], random), Some(Provider::Mmg));
        assert_eq!(choose(&[], &[], random), None);
    }
}

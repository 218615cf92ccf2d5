//! Effects: typed changes to our own database, applied in batches in the transaction that records their step.

use std::{
    any::{Any, TypeId},
    error::Error as StdError,
    future::Future,
};

use futures::{FutureExt, future::BoxFuture};
use sqlx::PgConnection;

pub type EffectError = Box<dyn StdError + Send + Sync>;
pub type EffectResult = Result<(), EffectError>;

/// One kind of change. It happens exactly once for a run's step. Submitted without a run it may be applied twice
/// when a commit's acknowledgement is lost, so it must then be harmless to repeat (`on conflict do nothing`).
pub trait Effect: Send + Sync + 'static {
    /// Whether effects of this kind come after all others of the batch, and are applied in one go. For a kind that locks
    /// what many runs share: a transaction then locks it once, in an order, so that two of them cannot deadlock.
    const LAST: bool = false;

    /// Applies all effects of this kind in a batch, with a number of statements that does not grow with it.
    fn apply(batch: &[&Self], conn: &mut PgConnection) -> impl Future<Output = EffectResult> + Send
    where
        Self: Sized;
}

/// An [`Effect`] whose type is forgotten, so that a submission can hold any.
pub(crate) struct AnyEffect {
    pub kind: TypeId,
    is_last: bool,
    effect: Box<dyn Any + Send + Sync>,
    apply: ApplyBatch,
}

type ApplyBatch = for<'a> fn(&'a [&'a AnyEffect], &'a mut PgConnection) -> BoxFuture<'a, EffectResult>;

impl AnyEffect {
    pub fn new<E: Effect>(effect: E) -> Self {
        Self {
            kind: TypeId::of::<E>(),
            is_last: E::LAST,
            effect: Box::new(effect),
            apply: apply_batch::<E>,
        }
    }
}

impl std::fmt::Debug for AnyEffect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Effect")
    }
}

fn apply_batch<'a, E: Effect>(batch: &'a [&'a AnyEffect], conn: &'a mut PgConnection) -> BoxFuture<'a, EffectResult> {
    let typed: Vec<&E> = batch.iter().filter_map(|any| any.effect.downcast_ref()).collect();
    async move { E::apply(&typed, conn).await }.boxed()
}

/// Applies the effects of many submissions. Those of one submission happen in their order, so they go in waves: the
/// first effects of all, then the second ones; within a wave, kind by kind. Those of a last kind are kept until the end.
pub(crate) async fn apply_all(submissions: &[&[AnyEffect]], conn: &mut PgConnection) -> EffectResult {
    let waves = submissions.iter().map(|effects| effects.len()).max().unwrap_or(0);
    let mut last = Vec::new();
    for wave in 0..waves {
        let effects = submissions.iter().filter_map(|effects| effects.get(wave));
        let (kept, now): (Vec<&AnyEffect>, Vec<&AnyEffect>) = effects.partition(|effect| effect.is_last);
        last.extend(kept);
        apply_by_kind(&now, conn).await?;
    }
    apply_by_kind(&last, conn).await
}

async fn apply_by_kind(effects: &[&AnyEffect], conn: &mut PgConnection) -> EffectResult {
    let mut kinds: Vec<Vec<&AnyEffect>> = Vec::new();
    for effect in effects {
        match kinds.iter_mut().find(|kind| kind[0].kind == effect.kind) {
            Some(kind) => kind.push(effect),
            None => kinds.push(vec![effect]),
        }
    }
    for batch in kinds {
        (batch[0].apply)(&batch, conn).await?;
    }
    Ok(())
}

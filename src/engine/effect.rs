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
    /// Applies all effects of this kind in a batch, with a number of statements that does not grow with it.
    fn apply(batch: &[&Self], conn: &mut PgConnection) -> impl Future<Output = EffectResult> + Send
    where
        Self: Sized;
}

/// An [`Effect`] whose type is forgotten, so that a submission can hold any.
pub(crate) struct AnyEffect {
    pub kind: TypeId,
    effect: Box<dyn Any + Send + Sync>,
    apply: ApplyBatch,
}

type ApplyBatch = for<'a> fn(&'a [&'a AnyEffect], &'a mut PgConnection) -> BoxFuture<'a, EffectResult>;

impl AnyEffect {
    pub fn new<E: Effect>(effect: E) -> Self {
        Self {
            kind: TypeId::of::<E>(),
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
/// first effects of all, then the second ones; within a wave, kind by kind.
pub(crate) async fn apply_all(submissions: &[&[AnyEffect]], conn: &mut PgConnection) -> EffectResult {
    let waves = submissions.iter().map(|effects| effects.len()).max().unwrap_or(0);
    for wave in 0..waves {
        let mut kinds: Vec<Vec<&AnyEffect>> = Vec::new();
        for effect in submissions.iter().filter_map(|effects| effects.get(wave)) {
            match kinds.iter_mut().find(|kind| kind[0].kind == effect.kind) {
                Some(kind) => kind.push(effect),
                None => kinds.push(vec![effect]),
            }
        }
        for batch in kinds {
            (batch[0].apply)(&batch, conn).await?;
        }
    }
    Ok(())
}

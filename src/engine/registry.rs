//! The workflows that a worker knows, by their frozen names.

use std::{collections::HashMap, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;

use crate::{
    run::Run,
    workflow::{Failure, Workflow},
};

/// A list of workflows that share the same tools.
pub struct Registry<T> {
    stories: HashMap<&'static str, Story<T>>,
    tools: Arc<T>,
}

type Story<T> =
    for<'a> fn(&RawValue, &'a mut Run, &'a T) -> Result<BoxFuture<'a, Result<(), Failure>>, serde_json::Error>;

impl<T: Send + Sync + 'static> Registry<T> {
    pub fn new(tools: T) -> Self {
        Self {
            stories: HashMap::new(),
            tools: Arc::new(tools),
        }
    }

    #[must_use]
    pub fn add<W: Workflow<Tools = T>>(mut self) -> Self {
        self.stories.insert(W::NAME, tell::<W>);
        self
    }
}

/// Why a run cannot be told here. It is kept, not lost: another version of the program may know it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untellable {
    #[error("no workflow of this name is known here")]
    UnknownWorkflow,
    #[error("the input does not fit the workflow: {0}")]
    Input(#[from] serde_json::Error),
}

/// [`Registry`] without its tools' type.
pub(crate) trait Stories: Send + Sync {
    fn tell<'a>(
        &'a self,
        workflow: &str,
        input: &RawValue,
        run: &'a mut Run,
    ) -> Result<BoxFuture<'a, Result<(), Failure>>, Untellable>;
}

impl<T: Send + Sync + 'static> Stories for Registry<T> {
    fn tell<'a>(
        &'a self,
        workflow: &str,
        input: &RawValue,
        run: &'a mut Run,
    ) -> Result<BoxFuture<'a, Result<(), Failure>>, Untellable> {
        let story = self.stories.get(workflow).ok_or(Untellable::UnknownWorkflow)?;
        Ok(story(input, run, &self.tools)?)
    }
}

fn tell<'a, W: Workflow>(
    input: &RawValue,
    run: &'a mut Run,
    tools: &'a W::Tools,
) -> Result<BoxFuture<'a, Result<(), Failure>>, serde_json::Error> {
    let workflow: W = serde_json::from_str(input.get())?;
    Ok(async move { workflow.run(run, tools).await }.boxed())
}

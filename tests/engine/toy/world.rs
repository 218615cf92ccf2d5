//! The world that toy workflows call: every call is counted, and a test decides how each one ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use herald_engine::{AttemptError, Prepared};
use tokio::sync::Notify;
use uuid::Uuid;

/// How a call ends.
#[derive(Debug, Clone)]
pub enum Ending {
    Yes,
    Again,
    /// Again, in an hour.
    Later,
    Never,
    Unknown,
    Panic,
    /// It waits for [`World::let_go`]; the world has counted it by then.
    Hang,
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct World(Arc<Inside>);

#[derive(Default)]
struct Inside {
    calls: Mutex<Vec<(Uuid, &'static str)>>,
    endings: Mutex<HashMap<(&'static str, usize), Ending>>,
    called: Notify,
    go: Notify,
    /// Calls under way, and the most there were at once.
    together: Mutex<(usize, usize)>,
}

impl World {
    /// The `n`th call (from 0) of this step ends so; calls that nothing is said of end well. Of the step "prepare":
    /// an attempt after `n` others hangs before its call, or gets no further.
    pub fn when(&self, step: &'static str, n: usize, ending: Ending) {
        self.0.endings.lock().unwrap().insert((step, n), ending);
    }

    pub fn calls(&self, run: Uuid, step: &str) -> usize {
        self.0
            .calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| call.0 == run && call.1 == step)
            .count()
    }

    /// Resolves when another call has come in.
    pub async fn called(&self) {
        self.0.called.notified().await;
    }

    /// The runs that were called for, in order.
    pub fn order(&self) -> Vec<Uuid> {
        self.0.calls.lock().unwrap().iter().map(|call| call.0).collect()
    }

    /// The most calls that were under way at once.
    pub fn most_together(&self) -> usize {
        self.0.together.lock().unwrap().1
    }

    pub fn let_go(&self) {
        self.0.go.notify_waiters();
    }

    pub async fn prepare(
        &self,
        step: &'static str,
        run: Uuid,
        past: usize,
    ) -> Result<Prepared<'_, String, String>, AttemptError> {
        let ending = self.0.endings.lock().unwrap().get(&("prepare", past)).cloned();
        match ending {
            Some(Ending::Hang) => {
                let go = self.0.go.notified();
                self.0.called.notify_one();
                go.await;
            }
            Some(_) => return Err(AttemptError::again("not ready")),
            None => {}
        }
        Ok(Prepared::Call {
            plan: format!("plan {past}"),
            call: self.call(step, run).boxed(),
        })
    }

    fn call(&self, step: &'static str, run: Uuid) -> BoxFuture<'_, Result<String, AttemptError>> {
        async move {
            let n = self.calls(run, step);
            self.0.calls.lock().unwrap().push((run, step));
            let go = self.0.go.notified();
            let _under_way = UnderWay::begin(self);
            self.0.called.notify_one();
            let ending = self
                .0
                .endings
                .lock()
                .unwrap()
                .get(&(step, n))
                .cloned()
                .unwrap_or(Ending::Yes);
            match ending {
                Ending::Yes => Ok(format!("yes {n}")),
                Ending::Again => Err(AttemptError::again("busy")),
                Ending::Later => Err(AttemptError::Again {
                    why: "busy for long".to_owned(),
                    after: Some(Duration::from_secs(3600)),
                }),
                Ending::Never => Err(AttemptError::never("refused for ever")),
                Ending::Unknown => Err(AttemptError::unknown("no answer")),
                Ending::Panic => panic!("the toy broke"),
                Ending::Hang => {
                    go.await;
                    Ok(format!("late {n}"))
                }
            }
        }
        .boxed()
    }
}

/// A call that has begun and not ended; one whose worker dies has ended.
struct UnderWay(World);

impl UnderWay {
    fn begin(world: &World) -> Self {
        let (now, most) = &mut *world.0.together.lock().unwrap();
        *now += 1;
        *most = (*now).max(*most);
        Self(world.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.together.lock().unwrap().0 -= 1;
    }
}

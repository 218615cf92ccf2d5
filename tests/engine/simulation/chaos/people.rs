//! People cancel, pause and resume runs.

use herald_engine::{Action, Actor, Selection, control};
use rand::{Rng, seq::IndexedRandom};
use uuid::Uuid;

use super::Chaos;

/// What somebody did to a run that it changed something about.
pub struct Deed {
    pub run: Uuid,
    pub action: Action,
    pub op: i64,
}

impl Chaos {
    pub(super) async fn control(&mut self) {
        let run = self.started.choose(&mut self.rng).unwrap().run;
        let action = match self.rng.random_range(0..5) {
            0 => Action::Cancel,
            1 | 2 => Action::Pause,
            _ => Action::Resume,
        };
        self.act(action, run).await;
    }

    /// Whoever is paused goes on.
    pub(super) async fn resume_all(&mut self) {
        for run in self.started.iter().map(|started| started.run).collect::<Vec<_>>() {
            self.act(Action::Resume, run).await;
        }
    }

    async fn act(&mut self, action: Action, run: Uuid) {
        self.tick().await;
        let actor = Actor {
            name: "somebody".to_owned(),
            reason: "a whim".to_owned(),
        };
        let changed = control(&self.pool, action, &Selection::one(run), &actor, |_| ())
            .await
            .unwrap();
        let name = self.name(run);
        self.tell(format!("somebody wants to {} {name}: {changed}", action.name()));
        if changed > 0 {
            let op = self.op;
            self.deeds.push(Deed { run, action, op });
        }
    }
}

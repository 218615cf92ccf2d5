//! The end of a seed: what a healthy process makes of what chaos has left.

use herald_engine::simulation::Fate;

use super::{Chaos, LEASE};
use crate::engine::simulation::story::{Ending, QUEUES};

impl Chaos {
    /// Everybody wakes, finishes what they were at and dies; then one healthy process goes on until nothing is due.
    pub(super) async fn calm(&mut self) -> bool {
        self.tell("calm".to_owned());
        self.outside.lock().whims = false;
        for which in 0..self.processes.len() {
            self.processes[which].process.give_up(self.passed);
            self.settle(which).await;
        }
        self.processes.clear();
        self.open_process(1_000);
        self.door.form_batch(usize::MAX);
        while self.door.batches() > 0 {
            self.tick().await;
            self.door.write(0, Fate::Answered).await;
            self.see_what_is_started().await;
        }
        self.read_replies();
        self.look().await;
        self.resume_all().await;
        for _ in 0..200 {
            let before = self.claimed.len();
            for queue in QUEUES {
                self.tick().await;
                let process = &mut self.processes[0].process;
                let claimed = process
                    .claim(queue, self.passed, true, usize::MAX, |_| true)
                    .await
                    .unwrap();
                for (run, epoch, _) in claimed {
                    self.note_claim(run, epoch);
                }
            }
            self.settle(0).await;
            self.look_for_crowds().await;
            let Some(length) = self.until_due().await else {
                return true;
            };
            // What is due and is not given out waits until the lease of a suspect ends.
            let is_held_up = length.is_zero() && self.claimed.len() == before;
            self.pass(if is_held_up { LEASE } else { length });
        }
        false
    }

    /// Goes on with all runs of a process, with a good world, until it holds none or is at a loss.
    async fn settle(&mut self, which: usize) {
        for _ in 0..100 {
            self.note_moment();
            let process = &mut self.processes[which].process;
            for run in (0..process.held().len()).rev() {
                process.poll(run);
            }
            let open = std::mem::take(&mut self.outside.lock().open);
            let answered = open.len();
            for (_, call) in open {
                let _ = call.send(Ending::Yes);
            }
            let process = &mut self.processes[which].process;
            process.form_batch(usize::MAX);
            if process.batches() == 0 && answered == 0 {
                return;
            }
            while self.processes[which].process.batches() > 0 {
                self.tick().await;
                self.processes[which].process.write(0, Fate::Answered).await;
            }
        }
    }
}

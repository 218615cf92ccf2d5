//! The journal of a run: its events as they are kept, and as a replay reads them.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that happened. Frozen: these forms are data in the database and are read for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Written before a call to the outside world: from here on the attempt may have had its effect.
    Intent {
        step: String,
        attempt: u32,
        plan: Value,
    },
    /// The step's answer. The plan is here only where no call, and so no intent, was needed.
    Done {
        step: String,
        attempt: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<Value>,
        answer: Value,
        /// How long the call took, in milliseconds; absent where there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        took_ms: Option<u64>,
    },
    /// `last` says that the policy allowed no further attempt then, whatever it allows by now.
    Failed {
        step: String,
        attempt: u32,
        outcome: Outcome,
        why: String,
        last: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        took_ms: Option<u64>,
    },
    /// The intent before this was not carried out: the run was paused, cancelled or expired meanwhile.
    Withdrawn {
        step: String,
        attempt: u32,
    },
    /// The outcome of the attempt was not learnt, and the policy allows no other.
    Abandoned {
        step: String,
        attempt: u32,
    },
    /// The step's time was over before it was done.
    Expired {
        step: String,
    },
    /// The step had not ended when the run learnt that it was cancelled. Its story may go on, and then finds that here again.
    CalledOff {
        step: String,
    },
    /// An attempt of unknown outcome was waited for long enough: it is made again, on record.
    Resent {
        step: String,
        attempt: u32,
    },
    /// A signal proved that an attempt was done after all.
    Confirmed {
        step: String,
        attempt: u32,
    },
    /// The attempt may have been done, nothing has proved it, and it may not be made again: the story goes on as if it was.
    Presumed {
        step: String,
        attempt: u32,
    },
    /// An effect on our own database, committed together with this event.
    Committed {
        step: String,
    },
    Started {
        step: String,
        run: uuid::Uuid,
    },
    Signalled {
        step: String,
        run: uuid::Uuid,
    },
    /// The run began to wait, when this was written, for so long at most: the deadline is the database's time.
    Waiting {
        step: String,
        patience_ms: i64,
    },
    /// The wait's end: the signal's payload, or null when patience ended.
    Received {
        step: String,
        n: i64,
        payload: Value,
    },
    TimedOut {
        step: String,
    },
    Finished {
        #[serde(default)]
        workflow: String,
    },
    GaveUp {
        why: String,
    },
    /// People wanted it to end, and the story learnt it here.
    Cancelled {
        why: String,
    },
    /// People wanted a failed run to be tried again: its steps that had failed are open again.
    Redriven {
        why: String,
    },
}

impl Event {
    /// Whether a step is behind the run that was not before.
    pub fn is_progress(&self) -> bool {
        matches!(
            self,
            Self::Done { .. }
                | Self::Confirmed { .. }
                | Self::Presumed { .. }
                | Self::Committed { .. }
                | Self::Received { .. }
        )
    }

    fn step(&self) -> Option<&str> {
        match self {
            Self::Intent { step, .. }
            | Self::Done { step, .. }
            | Self::Failed { step, .. }
            | Self::Resent { step, .. }
            | Self::Confirmed { step, .. }
            | Self::Presumed { step, .. }
            | Self::Committed { step }
            | Self::Started { step, .. }
            | Self::Signalled { step, .. }
            | Self::Waiting { step, .. }
            | Self::Received { step, .. }
            | Self::TimedOut { step }
            | Self::Withdrawn { step, .. }
            | Self::Abandoned { step, .. }
            | Self::Expired { step }
            | Self::CalledOff { step } => Some(step),
            Self::Finished { .. } | Self::GaveUp { .. } | Self::Cancelled { .. } | Self::Redriven { .. } => None,
        }
    }
}

/// What is known of an attempt that brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It surely had no effect.
    Refused,
    /// No repetition will help.
    Never,
    Unknown,
}

/// An earlier attempt of the same step, for choosing how to make the next.
#[derive(Debug, Clone, PartialEq)]
pub struct PastAttempt {
    pub attempt: u32,
    pub plan: Value,
    pub outcome: Outcome,
}

/// The end of a step that called the outside world: what was planned, and the answer, which is missing when only
/// a signal proved that the call was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempted<P, T> {
    pub plan: P,
    pub answer: Option<T>,
}

/// The recorded events, step by step, consumed in order as the story is played again.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    steps: HashMap<String, VecDeque<Recorded>>,
    /// Arrival number of the last signal received, by name.
    received: HashMap<String, i64>,
    pub last_seq: i32,
    /// Recorded events that belong to a step, and those that the story has not come to yet.
    recorded: usize,
    left: usize,
    /// The earliest failure that was opened again: what is recorded after it may be left out by the story.
    reopened: Option<usize>,
}

/// An event and when it was written, by the database's clock.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// Its place among all events.
    n: usize,
    pub at: DateTime<Utc>,
    pub event: Event,
}

impl Replay {
    pub fn add(&mut self, seq: i32, at: DateTime<Utc>, events: Vec<Event>) {
        self.last_seq = seq;
        for event in events {
            if let Event::Received { step, n, .. } = &event {
                self.receive(step, *n);
            }
            if let Event::Redriven { why } = &event {
                self.reopen(at, why);
            }
            if let Some(step) = event.step() {
                self.left += 1;
                self.recorded += 1;
                let n = self.recorded;
                let events = self.steps.entry(step.to_owned()).or_default();
                events.push_back(Recorded { n, at, event });
            }
        }
    }

    /// Takes the next recorded event of a step.
    pub fn next(&mut self, step: &str) -> Option<Recorded> {
        let next = self.steps.get_mut(step)?.pop_front();
        self.left -= usize::from(next.is_some());
        next
    }

    /// A recorded step that the story has not come to. Where the story does something new while there is one, it is
    /// not the story that was recorded.
    pub fn skipped(&self) -> Option<&str> {
        if self.left == 0 {
            return None;
        }
        let left = self
            .steps
            .iter()
            .filter_map(|(step, events)| Some((events.front()?.n, step)));
        let excused = |n: usize| self.reopened.is_some_and(|reopened| n > reopened);
        left.min().filter(|(n, _)| !excused(*n)).map(|(_, step)| step.as_str())
    }

    /// Whether nothing has happened yet.
    pub fn is_fresh(&self) -> bool {
        self.last_seq == 0
    }

    /// What had failed for good is to be tried again. What the story then did about the failure stays recorded, and is
    /// not done twice should it fail again; should it not fail, the story may leave that out.
    fn reopen(&mut self, at: DateTime<Utc>, why: &str) {
        for events in self.steps.values_mut() {
            let n = events.back().map_or(0, |recorded| recorded.n);
            let has_failed = match events.back_mut().map(|recorded| &mut recorded.event) {
                Some(Event::Failed { last, .. }) => {
                    *last = false;
                    true
                }
                Some(Event::Expired { .. } | Event::Abandoned { .. }) => {
                    events.pop_back();
                    self.left -= 1;
                    true
                }
                _ => false,
            };
            if has_failed {
                self.reopened = Some(self.reopened.map_or(n, |reopened| reopened.min(n)));
                let event = Event::Redriven { why: why.to_owned() };
                self.recorded += 1;
                self.left += 1;
                events.push_back(Recorded {
                    n: self.recorded,
                    at,
                    event,
                });
            }
        }
    }

    pub fn last_received(&self, signal: &str) -> i64 {
        self.received.get(signal).copied().unwrap_or(0)
    }

    pub fn receive(&mut self, signal: &str, n: i64) {
        let last = self.received.entry(signal.to_owned()).or_default();
        *last = n.max(*last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of event, as it stands in databases. Lines are added here and never changed.
    const WRITTEN: [&str; 24] = [
        r#"{"event":"intent","step":"s","attempt":1,"plan":{"a":1}}"#,
        r#"{"event":"done","step":"s","attempt":1,"answer":null}"#,
        r#"{"event":"done","step":"s","attempt":1,"plan":{},"answer":"yes"}"#,
        r#"{"event":"done","step":"s","attempt":1,"answer":"yes","took_ms":12}"#,
        r#"{"event":"failed","step":"s","attempt":1,"outcome":"refused","why":"w","last":false}"#,
        r#"{"event":"failed","step":"s","attempt":2,"outcome":"never","why":"w","last":true,"took_ms":3}"#,
        r#"{"event":"failed","step":"s","attempt":2,"outcome":"unknown","why":"w","last":false}"#,
        r#"{"event":"withdrawn","step":"s","attempt":1}"#,
        r#"{"event":"abandoned","step":"s","attempt":1}"#,
        r#"{"event":"expired","step":"s"}"#,
        r#"{"event":"called_off","step":"s"}"#,
        r#"{"event":"resent","step":"s","attempt":1}"#,
        r#"{"event":"confirmed","step":"s","attempt":1}"#,
        r#"{"event":"presumed","step":"s","attempt":1}"#,
        r#"{"event":"committed","step":"s"}"#,
        r#"{"event":"started","step":"s","run":"00000000-0000-7000-8000-000000000001"}"#,
        r#"{"event":"signalled","step":"s","run":"00000000-0000-7000-8000-000000000001"}"#,
        r#"{"event":"waiting","step":"s","patience_ms":1000}"#,
        r#"{"event":"received","step":"s","n":7,"payload":{"a":1}}"#,
        r#"{"event":"timed_out","step":"s"}"#,
        r#"{"event":"finished","workflow":"w"}"#,
        r#"{"event":"gave_up","why":"w"}"#,
        r#"{"event":"cancelled","why":"w"}"#,
        r#"{"event":"redriven","why":"w"}"#,
    ];

    #[test]
    fn every_event_ever_written_is_read_and_written_the_same() {
        for written in WRITTEN {
            let event: Event = serde_json::from_str(written).unwrap();
            assert_eq!(serde_json::to_string(&event).unwrap(), written);
        }
        // The end of a run did not always name its workflow.
        let old: Event = serde_json::from_str(r#"{"event":"finished"}"#).unwrap();
        assert_eq!(
            old,
            Event::Finished {
                workflow: String::new()
            }
        );
    }
}

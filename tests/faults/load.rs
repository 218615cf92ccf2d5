//! Texts sent through the API at a steady pace, whatever happens to it.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval};

use crate::harness::Client;

/// A number that every text of these tests goes to, and that the stub always delivers to.
const NUMBER: &str = "07700900123";

/// What became of the texts of a load.
#[derive(Debug, Default)]
pub struct Load {
    /// The ids of those that were accepted, and when they were sent and answered.
    pub accepted: Vec<(String, Instant, Instant)>,
    /// Those that were not answered with 201: whether they are there is not known.
    pub unanswered: usize,
}

impl Load {
    pub fn ids(&self) -> Vec<String> {
        self.accepted.iter().map(|(id, ..)| id.clone()).collect()
    }

    /// The answer time that 99 of 100 stay below, of those sent between two instants.
    pub fn p99(&self, from: Instant, until: Instant) -> Duration {
        let within = self.accepted.iter().filter(|(_, sent, _)| (from..until).contains(sent));
        let mut times: Vec<Duration> = within.map(|(_, sent, at)| *at - *sent).collect();
        times.sort();
        times.get(times.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// Sends so many texts, some at a time; each is accepted.
pub async fn send(client: &Client<'_>, texts: usize) -> Vec<String> {
    let sending = futures::stream::iter(0..texts).map(|_| client.send_text(NUMBER));
    sending.buffer_unordered(50).collect().await
}

/// Sends this many texts a second for as long as `during` plays, and waits for the last answers.
pub async fn load_while<T>(client: &Client<'_>, a_second: u32, during: impl Future<Output = T>) -> (Load, T) {
    let mut load = Load::default();
    let mut under_way = FuturesUnordered::new();
    let mut ticks = interval(Duration::from_secs(1) / a_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut during = std::pin::pin!(during);
    let ended = loop {
        tokio::select! {
            ended = &mut during => break ended,
            _ = ticks.tick() => {
                let sent = Instant::now();
                under_way.push(client.try_send_text(NUMBER).map(move |id| (id, sent, Instant::now())));
            }
            Some(answer) = under_way.next() => load.add(answer),
        }
    };
    while let Some(answer) = under_way.next().await {
        load.add(answer);
    }
    (load, ended)
}

impl Load {
    fn add(&mut self, (id, sent, at): (Option<String>, Instant, Instant)) {
        match id {
            Some(id) => self.accepted.push((id, sent, at)),
            None => self.unanswered += 1,
        }
    }
}

/// How long a fault lasts: the only sleep that there is in these tests.
pub async fn outage(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

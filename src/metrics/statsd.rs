//! Statsd over UDP. Whoever measures puts a note into a bounded queue; one thread sums counts up and sends all that has
//! come, in a few datagrams a second.

use std::{
    collections::HashMap,
    sync::{
        OnceLock,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use statsd::client::{Client, Pipeline};

/// Notes between two datagrams; what comes on top is lost.
const NOTES: usize = 65_536;

const BETWEEN: Duration = Duration::from_secs(1);

/// Until a server whose name was not found is looked up again.
const LOOK_UP: Duration = Duration::from_secs(15);

/// Bytes of a datagram that no usual network takes apart.
const DATAGRAM: usize = 1_400;

#[derive(Debug, Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    /// What all names begin with, without the last full stop.
    pub prefix: String,
}

enum Note {
    Count(String),
    Time(String, Duration),
    Gauge(String, f64),
}

static NOTED: OnceLock<SyncSender<Note>> = OnceLock::new();

pub fn start(settings: Settings) {
    let (sender, notes) = mpsc::sync_channel(NOTES);
    if NOTED.set(sender).is_err() {
        return;
    }
    let sending = thread::Builder::new().name("statsd".to_owned());
    if let Err(error) = sending.spawn(move || send(&settings, &notes)) {
        tracing::warn!(%error, "nothing is sent to statsd");
    }
}

pub fn count(name: impl FnOnce() -> String) {
    note(|| Note::Count(name()));
}

pub fn time(took: Duration, name: impl FnOnce() -> String) {
    note(|| Note::Time(name(), took));
}

pub fn gauge(value: f64, name: impl FnOnce() -> String) {
    note(|| Note::Gauge(name(), value));
}

fn note(note: impl FnOnce() -> Note) {
    if let Some(sender) = NOTED.get() {
        let _ = sender.try_send(note());
    }
}

fn send(settings: &Settings, notes: &Receiver<Note>) {
    let mut client = Server::new(settings);
    loop {
        thread::sleep(BETWEEN);
        let mut pipeline = Pipeline::new();
        pipeline.set_max_udp_size(DATAGRAM);
        write(notes.try_iter().take(NOTES), &mut pipeline);
        if let Some(client) = client.found() {
            pipeline.send(client);
        }
    }
}

fn write(notes: impl Iterator<Item = Note>, pipeline: &mut Pipeline) {
    let mut counts = HashMap::<String, u64>::new();
    let mut gauges = HashMap::new();
    for note in notes {
        match note {
            Note::Count(name) => *counts.entry(name).or_default() += 1,
            Note::Time(name, took) => pipeline.timer(&name, took.as_secs_f64() * 1000.0),
            Note::Gauge(name, value) => {
                gauges.insert(name, value);
            }
        }
    }
    for (name, n) in counts {
        pipeline.count(&name, n as f64);
    }
    for (name, value) in gauges {
        pipeline.gauge(&name, value);
    }
}

/// The server, found by its name once: when that fails, it is looked up again.
struct Server<'a> {
    settings: &'a Settings,
    client: Option<Client>,
    looked_up: Option<Instant>,
}

impl<'a> Server<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            client: None,
            looked_up: None,
        }
    }

    fn found(&mut self) -> Option<&Client> {
        let is_due = self.looked_up.is_none_or(|last| last.elapsed() >= LOOK_UP);
        if self.client.is_none() && is_due {
            let Settings { host, port, prefix } = self.settings;
            if self.looked_up.replace(Instant::now()).is_none() {
                tracing::info!(host, port, "what is measured goes to statsd");
            }
            self.client = Client::new((host.as_str(), *port), prefix)
                .inspect_err(|error| tracing::warn!(%error, "statsd is not found"))
                .ok();
        }
        self.client.as_ref()
    }
}

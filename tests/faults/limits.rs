//! A Redis that is not well: limits go, messages do not.

use std::{fs, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use serde_json::{Value, json};
use sqlx::Executor;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    load::{load_while, outage},
    oracle,
    report::{Verdict, fault},
};
use crate::harness::{Client, Herald, Redis, SERVICE, SMS_TEMPLATE, database};

/// Requests a minute, and how many may come at once.
const RATE: u16 = 600;
const BURST: u16 = 200;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Each answer takes longer than anybody waits.
    Slow,
    /// Whoever asks gets bytes that are no number, or nothing that Redis would say.
    Babbling,
    /// Connections end, and new ones at once.
    Away,
}

const BABBLE: [&[u8]; 5] = [
    b"*2\r\n$5\r\nseven\r\n$4\r\nmany\r\n",
    b"+OK\r\n",
    b":twelve\r\n",
    b"\xff\xfe this is no Redis\r\n",
    b"$-1\r\n",
];

/// Stands between the API and Redis.
struct Between {
    url: String,
    mood: watch::Sender<Mood>,
}

impl Between {
    async fn before(redis: &Redis) -> Self {
        let address = redis
            .url
            .trim_start_matches("redis://")
            .trim_end_matches("/0")
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/0", listener.local_addr().unwrap());
        let (mood, seen) = watch::channel(Mood::Well);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&address).await {
                    tokio::spawn(pass(client, server, seen.clone()));
                }
            }
        });
        Self { url, mood }
    }

    fn turns(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn pass(client: TcpStream, server: TcpStream, mood: watch::Receiver<Mood>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut away = mood.clone();
    tokio::select! {
        () = talk((from_client, to_client), (from_server, to_server), mood) => {}
        _ = away.wait_for(|mood| *mood == Mood::Away) => {}
    }
}

async fn talk(
    (mut from_client, mut to_client): (OwnedReadHalf, OwnedWriteHalf),
    (mut from_server, mut to_server): (OwnedReadHalf, OwnedWriteHalf),
    mood: watch::Receiver<Mood>,
) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    for nth in 0.. {
        tokio::select! {
            asked_now = read(&mut from_client, &mut asked) => {
                let Some(bytes) = asked_now else { return };
                let passed = if *mood.borrow() == Mood::Babbling {
                    to_client.write_all(BABBLE[nth % BABBLE.len()]).await
                } else {
                    to_server.write_all(bytes).await
                };
                if passed.is_err() {
                    return;
                }
            }
            answer = read(&mut from_server, &mut answered) => {
                let Some(bytes) = answer else { return };
                if *mood.borrow() == Mood::Slow {
                    sleep(Duration::from_millis(300)).await;
                }
                if to_client.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn read<'a>(from: &mut (impl AsyncRead + Unpin), buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    match from.read(buffer).await {
        Ok(read @ 1..) => Some(&buffer[..read]),
        _ => None,
    }
}

/// Twice as many requests at once as are allowed, to a Redis that knows of none: says which were accepted. The rest
/// hears why not, and is never more than the rate is about. Where Redis was too slow for one of them, nothing is
/// limited for a second, and all of it is done again.
async fn allowed(client: &Client<'_>, redis: &mut MultiplexedConnection) -> Vec<String> {
    let text = json!({"phone_number": "07700900123", "template_id": SMS_TEMPLATE, "personalisation": {"name": "Ada"}});
    let mut ids = Vec::new();
    for _ in 0..10 {
        forget_everything(redis).await;
        let since = Instant::now();
        let requests = futures::stream::iter(0..2 * BURST).map(|_| client.post("/v2/notifications/sms", &[], &text));
        let answers: Vec<(u16, Value)> = requests.buffer_unordered(10).collect().await;
        let more = since.elapsed().as_secs_f64() * f64::from(RATE) / 60.0 + 1.0;
        let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 201);
        for (status, answer) in refused {
            let words = format!("Exceeded rate limit for key type LIVE of {RATE} requests per 60 seconds");
            let expected = json!([{"error": "RateLimitError", "message": words}]);
            assert_eq!(
                (status, &answer["errors"]),
                (429, &expected),
                "neither 201 nor a correct 429"
            );
        }
        let got = f64::from(u16::try_from(accepted.len()).unwrap());
        assert!(got >= f64::from(BURST), "only {got} were accepted");
        let accepted = accepted
            .into_iter()
            .map(|(_, answer)| answer["id"].as_str().unwrap().to_owned());
        ids.extend(accepted);
        if got <= f64::from(BURST) + more {
            return ids;
        }
        outage(1.5).await;
    }
    panic!("a Redis that is well does not limit");
}

async fn forget_everything(redis: &mut MultiplexedConnection) {
    let () = redis::cmd("FLUSHALL").query_async(redis).await.unwrap();
}

/// Keeps putting what is no number under both keys.
async fn spoil(redis: &mut MultiplexedConnection) {
    let day = Utc::now().date_naive();
    let keys = [format!("{SERVICE}-tokens-normal"), format!("{SERVICE}-sms-{day}-count")];
    for rubbish in ["", "not a number", "-5", "12x", "twelve bytes", "\u{0}\u{1}"] {
        for key in &keys {
            let () = redis.set(key, rubbish).await.unwrap();
        }
        outage(0.4).await;
    }
    for key in &keys {
        let mut list = redis::pipe();
        let () = list.atomic().del(key).lpush(key, 1).query_async(redis).await.unwrap();
        outage(0.4).await;
    }
    forget_everything(redis).await;
}

/// When Redis was complained of; there is nothing else in the log.
fn complaints(log: &str) -> Vec<DateTime<Utc>> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|line| {
            let words = line["fields"]["message"].as_str().unwrap();
            assert!(words.starts_with("Redis is not well"), "{line}");
            line["timestamp"].as_str().unwrap().parse().unwrap()
        })
        .collect()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn whatever_becomes_of_redis_sending_goes_on() {
    let done = "Redis is slow, answers what is no number, is emptied five times a second, holds rubbish, cuts connections, and is killed: 5 s of each at 40 texts a second";
    fault("52", done, async |report| {
        let herald = Herald::start_without_api(database().await).await;
        oracle::watch(&herald.database).await;
        let limits = "update services set rate_limit = 600, sms_message_limit = 1000000";
        herald.database.execute(limits).await.unwrap();
        let redis = Redis::start().await;
        let between = Between::before(&redis).await;
        let mut direct = redis.connect().await;
        let file = std::env::temp_dir().join(format!("herald-log-{}", uuid::Uuid::new_v4().simple()));
        let _api = herald.api_logging(&file, &[("REDIS_URL", &between.url)]).await;
        let _worker = herald.worker();
        let client = Client::live(&herald);

        let mut ids = allowed(&client, &mut direct).await;
        let mut slowest = Vec::new();
        for mood in [Mood::Slow, Mood::Babbling, Mood::Well, Mood::Away] {
            forget_everything(&mut direct).await;
            between.turns(mood);
            let trouble = async {
                if mood != Mood::Well {
                    return outage(5.0).await;
                }
                for _ in 0..25 {
                    forget_everything(&mut direct).await;
                    outage(0.2).await;
                }
                spoil(&mut direct).await;
            };
            let from = std::time::Instant::now();
            let (load, ()) = load_while(&client, 40, trouble).await;
            between.turns(Mood::Well);
            assert_eq!(load.unanswered, 0, "texts were refused while Redis was {mood:?}");
            slowest.push(load.p99(from, std::time::Instant::now()).as_millis());
            ids.extend(load.ids());
            // For a second after an error Redis is left alone.
            outage(1.5).await;
        }
        ids.extend(allowed(&client, &mut direct).await);
        redis.signal("-KILL");
        let (load, ()) = load_while(&client, 40, outage(5.0)).await;
        assert_eq!(load.unanswered, 0, "texts were refused after Redis was killed");
        ids.extend(load.ids());
        oracle::check(report, &herald, &ids).await;

        let complaints = complaints(&fs::read_to_string(&file).unwrap());
        fs::remove_file(file).unwrap();
        report.note(format!(
            "p99 of the answer while slow, babbling, emptied or rubbish, and cutting: {slowest:?} ms; {} lines in the log",
            complaints.len()
        ));
        assert!(!complaints.is_empty(), "nobody was told");
        let often = complaints.windows(2).any(|pair| pair[1] - pair[0] < TimeDelta::seconds(60));
        assert!(!often, "more than one line a minute: {complaints:?}");
        Verdict::Passed
    })
    .await;
}

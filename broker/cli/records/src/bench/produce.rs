//! `esker bench produce`.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use esker_client::admin::NewTopic;
use esker_client::{
    Admin, Client, Delivered, Delivery, ErrorCode, ProduceError, Producer, ProducerConfig, ProducerRecord,
};
use esker_protocol::primitives::Str;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::arguments::{parse_acks, parse_compression};
use super::super::connect::Connect;
use super::super::error::CliError;
use super::super::interrupt::interrupted;
use super::flags::{CONCURRENCY, parse_flag_span};
use super::measure::{Measurement, Window, cpu_time};
use super::progress::TimeBar;
use super::report::Report;

/// What `--help` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  esker bench produce load --partitions 12                      as fast as it goes
  esker bench produce load --rate 10000 --size 1000 --duration 1m
  esker bench produce load --compression zstd --linger 20ms --concurrency 4 --json

The latency of a record runs from the moment it is due to its acknowledgment: with --rate, a stall counts for all records
that were due meanwhile. Values are letters at random, which a codec shrinks to about three quarters.";

/// Records of one producer that are not acknowledged yet.
const IN_FLIGHT: usize = 100_000;
/// A record counts as sent when it was due if it goes out later than this; the timers are not finer.
const LATE: Duration = Duration::from_millis(2);
/// Random letters, of which each value is a part.
const LETTERS: usize = 1 << 20;
/// The largest value.
const LARGEST: usize = 64 << 20;

/// Flags of `bench produce`.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic. The records stay in it.
    topic: String,
    /// Create the topic with so many partitions if it does not exist.
    #[arg(short, long, value_name = "N")]
    partitions: Option<i32>,
    /// Copies of each partition of a topic that is created [default: the broker's default.replication.factor].
    #[arg(short, long, value_name = "N")]
    replication_factor: Option<i16>,
    /// Bytes of a value.
    #[arg(short, long, value_name = "BYTES", default_value_t = 1000)]
    size: usize,
    /// Records a second, of all producers together [default: as fast as it goes].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// How long to measure.
    #[arg(short, long, value_name = "SPAN", default_value = "10s")]
    duration: String,
    /// How long to produce before that.
    #[arg(long, value_name = "SPAN", default_value = "2s")]
    warm_up: String,
    /// Acknowledgments: all, 1 or 0.
    #[arg(short, long, default_value = "all")]
    acks: String,
    /// How long a batch waits for more records.
    #[arg(long, value_name = "SPAN", default_value = "5ms")]
    linger: String,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    compression: String,
    /// Producers, each with connections of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=CONCURRENCY))]
    concurrency: i64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What one producer does.
#[derive(Clone)]
struct Load {
    topic: Str,
    letters: Bytes,
    size: usize,
    /// Between two records of this producer.
    interval: Option<Duration>,
    window: Window,
}

/// Runs it.
pub(super) async fn run(args: ProduceArgs) -> Result<(), CliError> {
    let config = ProducerConfig {
        acks: parse_acks(&args.acks)?,
        compression: parse_compression(&args.compression)?,
        linger: parse_flag_span("--linger", &args.linger, true)?,
        ..ProducerConfig::default()
    };
    let (warm_up, duration) =
        (parse_flag_span("--warm-up", &args.warm_up, true)?, parse_flag_span("--duration", &args.duration, false)?);
    if args.size > LARGEST {
        return Err(CliError::Usage(format!("--size is at most {LARGEST} bytes")));
    }
    let client = args.connect.client().await?;
    create_topic(&client, &args).await?;
    let producers = args.concurrency;
    let interval = args.rate.map(|rate| Duration::from_secs_f64(producers as f64 / rate as f64));
    let window = Window::after(warm_up, duration);
    let letters = random_letters(LETTERS.max(args.size));
    let load = Load { topic: Str::copy(&args.topic), letters, size: args.size, interval, window };
    let one = |_| tokio::spawn(produce(client.clone(), config.clone(), load.clone()));
    let tasks: Vec<_> = (0..producers).map(one).collect();
    let bar = TimeBar::start(window);
    sleep_until(window.start).await;
    let cpu_before = cpu_time();
    tokio::select! {
        () = sleep_until(window.end) => {}
        () = interrupted() => {
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
            return Err(CliError::Refused("interrupted: nothing was measured".to_owned()));
        }
    }
    let cpu = cpu_time().saturating_sub(cpu_before);
    let mut measured = Measurement::new();
    for task in tasks {
        measured.add(&task.await.map_err(std::io::Error::other)?);
    }
    drop(bar);
    let report = Report {
        topic: &args.topic,
        settings: settings(&args),
        measured: &measured,
        elapsed: duration,
        cpu,
        latency_of: "a record, from due to acknowledged",
    };
    report.print(args.json)
}

fn settings(args: &ProduceArgs) -> Map<String, Value> {
    let settings = json!({
        "size": args.size, "rate": args.rate.map_or_else(|| Value::from("max"), Value::from), "acks": args.acks,
        "linger": args.linger, "compression": args.compression, "concurrency": args.concurrency,
    });
    match settings {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

async fn create_topic(client: &Client, args: &ProduceArgs) -> Result<(), CliError> {
    let admin = Admin::new(client);
    match (admin.topic(&args.topic).await, args.partitions) {
        (Err(error), Some(partitions)) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
            let topic = NewTopic {
                name: Str::copy(&args.topic),
                partitions,
                replication: args.replication_factor.unwrap_or(-1),
                configs: Vec::new(),
            };
            for created in admin.create_topics(&[topic], false).await? {
                created?;
            }
            // The partitions may not have leaders yet.
            client.topic(&args.topic, true).await?;
            Ok(())
        }
        (Err(error), None) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
            let text = format!("there is no topic '{}': --partitions N creates it", args.topic);
            Err(CliError::Refused(text))
        }
        (found, _) => Ok(found.map(drop)?),
    }
}

/// One producer: sends until the window ends, and measures what comes back.
async fn produce(client: Client, config: ProducerConfig, load: Load) -> Measurement {
    let producer = Producer::new(&client, config);
    let (deliveries, sent) = mpsc::channel(IN_FLIGHT);
    let watching = tokio::spawn(watch(sent, load.size, load.window));
    let start = Instant::now();
    let (mut count, mut failures) = (0_u32, Measurement::new());
    loop {
        let due = load.interval.map(|interval| start + interval * count);
        if let Some(due) = due.filter(|due| *due > Instant::now()) {
            sleep_until(due).await;
        }
        let now = Instant::now();
        if now >= load.window.end {
            break;
        }
        let at = due.filter(|due| now.saturating_duration_since(*due) > LATE).unwrap_or(now);
        let from = (count as usize).wrapping_mul(61) % (load.letters.len() - load.size + 1);
        let value = load.letters.slice(from..from + load.size);
        match producer.send(ProducerRecord::new(load.topic.clone()).value(value)).await {
            Ok(delivery) => {
                if deliveries.send((at, delivery)).await.is_err() {
                    break;
                }
            }
            Err(error) => failures.record_failure(&error),
        }
        count = count.wrapping_add(1);
    }
    drop(deliveries);
    // Each failure comes through its delivery, too.
    let _ = producer.close().await;
    if let Ok(measured) = watching.await {
        failures.add(&measured);
    }
    failures
}

/// Waits for the acknowledgments in the order in which they come.
async fn watch(mut sent: mpsc::Receiver<(Instant, Delivery)>, size: usize, window: Window) -> Measurement {
    let mut measured = Measurement::new();
    let mut waiting = FuturesUnordered::new();
    let mut is_open = true;
    let wait = |(at, delivery): (Instant, Delivery)| async move { (at, delivery.wait().await) };
    while is_open || !waiting.is_empty() {
        tokio::select! {
            next = sent.recv(), if is_open && waiting.len() < IN_FLIGHT => match next {
                Some(next) => waiting.push(wait(next)),
                None => is_open = false,
            },
            Some((at, delivered)) = waiting.next(), if !waiting.is_empty() => count(&mut measured, at, delivered, size, window),
        }
    }
    measured
}

fn count(
    measured: &mut Measurement,
    at: Instant,
    delivered: Result<Delivered, ProduceError>,
    size: usize,
    window: Window,
) {
    match delivered {
        Ok(_) if window.contains(at) => {
            measured.records += 1;
            measured.bytes += size as u64;
            measured.record_latency(at.elapsed());
        }
        Ok(_) => {}
        Err(error) => measured.record_failure(&error),
    }
}

/// Letters at random (xorshift): a codec finds six bits in each.
fn random_letters(count: usize) -> Bytes {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let index = usize::try_from(state >> 58).unwrap_or_default();
        ALPHABET.get(index).copied().unwrap_or(b'A')
    };
    std::iter::repeat_with(&mut letter).take(count).collect()
}

//! `esker bench consume`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use esker_client::{Client, Consumer, ConsumerConfig, ConsumerRecord, StartAt};
use esker_protocol::primitives::Str;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::super::connect::Connect;
use super::super::error::CliError;
use super::super::interrupt::interrupted;
use super::super::times::now;
use super::flags::{CONCURRENCY, parse_flag_span};
use super::measure::{Measurement, Window, cpu_time};
use super::progress::TimeBar;
use super::report::Report;

/// What `--help` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  esker bench consume load                                  all records, as fast as it goes
  esker bench consume load --concurrency 4 --duration 30s
  esker bench consume load --from latest                    how old records are when they arrive

With --from latest the latency of a record is its age by this host's clock: its timestamp must come from the same clock.
With --from earliest it is the time of one poll; the run ends early at the end of the topic.";

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(100);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    Earliest,
    Latest,
}

/// Flags of `bench consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic.
    topic: String,
    /// Where to begin.
    #[arg(long, value_enum, default_value_t = From::Earliest)]
    from: From,
    /// How long to measure, at most.
    #[arg(short, long, value_name = "SPAN", default_value = "10s")]
    duration: String,
    /// How long to consume before that.
    #[arg(long, value_name = "SPAN", default_value = "0s")]
    warm_up: String,
    /// Consumers, each with connections of its own and a share of the partitions.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=CONCURRENCY))]
    concurrency: i64,
    /// Bytes worth an answer to a fetch.
    #[arg(long, value_name = "BYTES", default_value_t = 1, value_parser = clap::value_parser!(i32).range(0..))]
    min_bytes: i32,
    /// How long a broker may hold a fetch back while there are fewer.
    #[arg(long, value_name = "SPAN", default_value = "500ms")]
    max_wait: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: ConsumeArgs) -> Result<(), CliError> {
    let (warm_up, duration) =
        (parse_flag_span("--warm-up", &args.warm_up, true)?, parse_flag_span("--duration", &args.duration, false)?);
    let config = ConsumerConfig {
        min_bytes: args.min_bytes,
        max_wait: parse_flag_span("--max-wait", &args.max_wait, true)?,
        ..ConsumerConfig::default()
    };
    let client = args.connect.client().await?;
    let topic = client.topic(&args.topic, false).await?;
    let ids: Vec<i32> = topic.partitions.iter().map(|partition| partition.id).collect();
    let consumers = usize::try_from(args.concurrency).unwrap_or(1).min(ids.len().max(1));
    let shares = (0..consumers).map(|at| ids.iter().copied().skip(at).step_by(consumers).collect::<Vec<_>>());
    let window = Window::after(warm_up, duration);
    let one = |share: Vec<i32>| {
        let consumer = Consumer::new(&client, config.clone());
        tokio::spawn(consume(client.clone(), consumer, topic.name.clone(), share, args.from, window))
    };
    let tasks: Vec<_> = shares.map(one).collect();
    let bar = TimeBar::start(window);
    tokio::time::sleep_until(window.start).await;
    let cpu_before = cpu_time();
    let (mut measured, mut last) = (Measurement::new(), window.start);
    for task in tasks {
        let (of_task, until) = tokio::select! {
            ended = task => ended.map_err(std::io::Error::other)??,
            () = interrupted() => return Err(CliError::Refused("interrupted: nothing was measured".to_owned())),
        };
        measured.add(&of_task);
        last = last.max(until);
    }
    let cpu = cpu_time().saturating_sub(cpu_before);
    drop(bar);
    let report = Report {
        topic: &args.topic,
        settings: settings(&args, consumers),
        measured: &measured,
        elapsed: last - window.start,
        cpu,
        latency_of: match args.from {
            From::Earliest => "a poll",
            From::Latest => "a record, from its timestamp to its arrival",
        },
    };
    report.print(args.json)
}

fn settings(args: &ConsumeArgs, consumers: usize) -> Map<String, Value> {
    let from = if args.from == From::Latest { "latest" } else { "earliest" };
    let settings = json!({
        "from": from, "min_bytes": args.min_bytes, "max_wait": args.max_wait, "concurrency": consumers,
    });
    match settings {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// One consumer, until the window ends or all records are read; returns when its last records came.
async fn consume(
    client: Client,
    mut consumer: Consumer,
    topic: Str,
    partitions: Vec<i32>,
    from: From,
    window: Window,
) -> Result<(Measurement, Instant), CliError> {
    let start = if from == From::Latest { StartAt::Latest } else { StartAt::Earliest };
    consumer.assign(partitions.iter().map(|id| (topic.clone(), *id, start)));
    let (mut measured, mut last) = (Measurement::new(), window.start);
    while Instant::now() < window.end {
        let asked = Instant::now();
        let records = consumer.poll(POLL).await?;
        let came = Instant::now();
        if records.is_empty() {
            if from == From::Earliest && consumer.is_at_end() {
                break;
            }
            continue;
        }
        if window.contains(came) {
            count(&mut measured, &records, from, came - asked);
            last = came;
        }
    }
    drop(client);
    Ok((measured, if from == From::Latest { window.end } else { last }))
}

fn count(measured: &mut Measurement, records: &[ConsumerRecord], from: From, poll: Duration) {
    measured.records += records.len() as u64;
    let size = |record: &ConsumerRecord| {
        record.key.as_ref().map_or(0, bytes::Bytes::len) + record.value.as_ref().map_or(0, bytes::Bytes::len)
    };
    measured.bytes += records.iter().map(size).sum::<usize>() as u64;
    match from {
        From::Earliest => measured.record_latency(poll),
        From::Latest => {
            let now = now();
            for record in records {
                let age = u64::try_from(now.saturating_sub(record.timestamp)).unwrap_or_default();
                measured.record_latency(Duration::from_millis(age));
            }
        }
    }
}

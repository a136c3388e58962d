//! `esker produce`: a record a line.

mod delivery;

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use async_recursion::async_recursion as boxed;
use bytes::Bytes;
use clap::Args;
use esker_client::{Producer, ProducerConfig, ProducerRecord};
use esker_protocol::primitives::Str;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{Semaphore, mpsc};

use super::arguments::{parse_acks, parse_compression, unescape};
use super::connect::Connect;
use super::error::CliError;
use super::interrupt::interrupted;
use super::output::{print_line, print_to_stderr};
use delivery::{Deliveries, SentLine, Summary, is_of_one_record};

/// Flags of `produce`.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic.
    topic: String,
    /// What stands between key and value in a line; without it a line is a value. Escapes: \t, \n, \r, \0, \\, \xNN.
    #[arg(short, long, value_name = "SEPARATOR")]
    key_separator: Option<String>,
    /// A header for every record; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// The partition [default: by key, else any].
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// Codec: none, gzip, snappy, lz4, zstd.
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    compression: String,
    /// Who must have a record before it counts: all, 1 (the leader) or 0 (nobody: records may be lost).
    #[arg(short, long, default_value = "all", allow_hyphen_values = true)]
    acks: String,
    /// An empty value becomes null, a tombstone.
    #[arg(short = 'Z', long)]
    null_values: bool,
    /// Print what was produced as JSON, to stdout.
    #[arg(long)]
    json: bool,
}

/// Deliveries that may be awaited at once.
const IN_FLIGHT: usize = 20_000;
/// Bytes of lines whose deliveries are awaited.
const IN_FLIGHT_BYTES: usize = 64 << 20;
/// Runs of lines read ahead.
const RUNS: usize = 16;
/// Lines handed over together.
const RUN: usize = 512;

/// Runs it.
#[boxed]
pub async fn run(args: ProduceArgs) -> Result<(), CliError> {
    let headers = headers(&args.headers)?;
    let config = ProducerConfig {
        acks: parse_acks(&args.acks)?,
        compression: parse_compression(&args.compression)?,
        ..ProducerConfig::default()
    };
    let separator = args.key_separator.as_deref().map(unescape).transpose()?;
    if separator.as_ref().is_some_and(Vec::is_empty) {
        return Err(CliError::Usage("--key-separator cannot be empty".to_owned()));
    }
    let client = args.connect.client().await?;
    // A missing topic is reported before any line is read; the broker may create it.
    client.topic(&args.topic, true).await?;
    let producer = Producer::new(&client, config.clone());
    let progress = progress();
    let (deliveries, delivered) = mpsc::channel(IN_FLIGHT);
    let watching = tokio::spawn(Deliveries::new(&client, config, progress.clone()).watch(delivered));
    let room = Arc::new(Semaphore::new(IN_FLIGHT_BYTES));
    let mut lines = lines();
    let topic = Str::copy(&args.topic);
    let sending = async {
        let mut line = 0;
        while let Some(run) = lines.recv().await {
            for text in run? {
                line += 1;
                let room = room.clone().acquire_many_owned(permits(text.len())).await.map_err(std::io::Error::other)?;
                let mut record = record(&args, separator.as_deref(), &topic, text);
                for (name, value) in &headers {
                    record = record.header(name.clone(), Some(value.clone()));
                }
                let delivery = producer.send(record.clone()).await;
                if deliveries.send(SentLine { line, record, delivery, room }).await.is_err() {
                    // A delivery failed; the task that watches them reports why.
                    return Ok(());
                }
            }
        }
        Ok::<_, CliError>(())
    };
    let sent = tokio::select! {
        sent = sending => sent,
        () = interrupted() => Ok(()),
    };
    // Each failure comes through its delivery, too.
    let flushed = producer.close().await;
    drop(deliveries);
    let summary = watching.await.map_err(std::io::Error::other)?;
    progress.finish_and_clear();
    let summary = summary?;
    print_summary(&summary, &args)?;
    sent?;
    if summary.failed > 0 {
        let all = summary.failed + summary.records;
        return Err(CliError::Refused(format!("{} of {all} records were not produced", summary.failed)));
    }
    // Records that were refused with a neighbor have gone through alone.
    flushed.or_else(|error| if is_of_one_record(&error) { Ok(()) } else { Err(error.into()) })
}

/// Permits of a line: its bytes, at most all that there are.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.min(IN_FLIGHT_BYTES)).unwrap_or(u32::MAX)
}

fn print_summary(summary: &Summary, args: &ProduceArgs) -> Result<(), CliError> {
    if args.json {
        return Ok(print_line(&serde_json::to_string_pretty(&summary.to_json(&args.topic))?)?);
    }
    print_to_stderr(&summary.to_text(&args.topic));
    Ok(())
}

fn headers(pairs: &[String]) -> Result<Vec<(Str, Bytes)>, CliError> {
    let header = |pair: &String| {
        let invalid = || CliError::Usage(format!("'{pair}' is not NAME=VALUE"));
        let (name, value) = pair.split_once('=').ok_or_else(invalid)?;
        Ok((Str::copy(name), Bytes::copy_from_slice(value.as_bytes())))
    };
    pairs.iter().map(header).collect()
}

/// A line may hold any bytes; they go as they are.
fn record(args: &ProduceArgs, separator: Option<&[u8]>, topic: &Str, line: Bytes) -> ProducerRecord {
    let mut record = ProducerRecord::new(topic.clone());
    if let Some(partition) = args.partition {
        record = record.partition(partition);
    }
    let mut value = line;
    if let Some(separator) = separator
        && let Some(at) = value.windows(separator.len()).position(|window| window == separator)
    {
        record = record.key(value.slice(..at));
        value = value.slice(at + separator.len()..);
    }
    if args.null_values && value.is_empty() { record } else { record.value(value) }
}

/// Stdin's lines, read on a thread of its own and handed over in runs: as many as are there, without waiting for more.
fn lines() -> mpsc::Receiver<std::io::Result<Vec<Bytes>>> {
    let (sender, receiver) = mpsc::channel(RUNS);
    std::thread::spawn(move || {
        let mut stdin = std::io::BufReader::with_capacity(256 << 10, std::io::stdin().lock());
        let mut run = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = stdin.read_until(b'\n', &mut line);
            let ended = !matches!(read, Ok(count) if count > 0);
            if !ended {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                run.push(Bytes::from(line));
            }
            let more = stdin.buffer().contains(&b'\n') && run.len() < RUN && !ended;
            if !more && !run.is_empty() && sender.blocking_send(Ok(std::mem::take(&mut run))).is_err() {
                return;
            }
            if let Err(error) = read {
                // The receiver is gone: no report is needed.
                let _ = sender.blocking_send(Err(error));
            }
            if ended {
                return;
            }
        }
    });
    receiver
}

/// Shown on a terminal when the lines come from elsewhere.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() || std::io::stdin().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} records  {per_sec}") {
        bar.set_style(style);
    }
    bar
}

//! `esker produce`: a record a line.

use std::io::{BufRead, IsTerminal};

use clap::Args;
use esker_client::{Delivery, Producer, ProducerConfig, Record};
use esker_protocol::compression::Compression;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::{CliError, Connect};

/// Flags of `produce`.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic.
    topic: String,
    /// What stands between key and value in a line; without it a line is a value.
    #[arg(short, long, value_name = "SEPARATOR")]
    key_separator: Option<String>,
    /// A header for every record; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// The partition [default: by key, else in turns].
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// Codec: none, gzip, snappy, lz4, zstd.
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    compression: String,
    /// Who must have a record before it counts: all or 1.
    #[arg(short, long, default_value = "all")]
    acks: String,
    /// An empty value becomes null, a tombstone.
    #[arg(short = 'Z', long)]
    null_values: bool,
}

/// Deliveries that may be awaited at once.
const IN_FLIGHT: usize = 20_000;
/// Lines read ahead.
const LINES: usize = 4096;

/// Runs it.
pub async fn run(args: ProduceArgs) -> Result<(), CliError> {
    let headers: Vec<(&str, &str)> = args
        .headers
        .iter()
        .map(|h| h.split_once('=').ok_or_else(|| CliError::Usage(format!("'{h}' is not NAME=VALUE"))))
        .collect::<Result<_, _>>()?;
    let config = ProducerConfig {
        acks: match args.acks.as_str() {
            "all" | "-1" => -1,
            "1" => 1,
            other => return Err(CliError::Usage(format!("--acks is all or 1, not {other}"))),
        },
        compression: Compression::from_name(&args.compression).ok_or_else(|| {
            CliError::Usage(format!("unknown codec {}: none, gzip, snappy, lz4, zstd", args.compression))
        })?,
        ..ProducerConfig::default()
    };
    let client = args.connect.client().await?;
    client.topic(&args.topic).await?;
    let producer = Producer::new(client, config).await?;
    let progress = progress();
    let (deliveries, delivered) = mpsc::channel(IN_FLIGHT);
    let watching = tokio::spawn(watch(delivered, progress.clone()));
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let mut record = record(&args, line?);
        for (name, value) in &headers {
            record = record.header(*name, value.as_bytes().to_vec());
        }
        let delivery = producer.send(record).await?;
        if deliveries.send(delivery).await.is_err() {
            break;
        }
    }
    producer.flush().await;
    drop(deliveries);
    let count = watching.await.map_err(std::io::Error::other)??;
    progress.finish_and_clear();
    if std::io::stderr().is_terminal() {
        tracing::info!(count, topic = args.topic, "produced");
    }
    Ok(())
}

fn record(args: &ProduceArgs, line: String) -> Record {
    let mut record = Record::to(&args.topic);
    record.partition = args.partition;
    let value = match args.key_separator.as_deref().and_then(|s| line.split_once(s)) {
        Some((key, value)) => {
            record = record.key(key.as_bytes().to_vec());
            value.to_owned()
        }
        None => line,
    };
    if args.null_values && value.is_empty() { record } else { record.value(value.into_bytes()) }
}

/// Counts deliveries; the first failure ends everything.
async fn watch(mut delivered: mpsc::Receiver<Delivery>, progress: ProgressBar) -> Result<u64, CliError> {
    let mut count = 0;
    while let Some(delivery) = delivered.recv().await {
        delivery.wait().await?;
        count += 1;
        progress.inc(1);
    }
    Ok(count)
}

/// Stdin's lines, read on a thread of its own.
fn lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (sender, receiver) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
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

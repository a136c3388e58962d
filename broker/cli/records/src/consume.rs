//! `esker consume`: prints records.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::time::Duration;

use async_recursion::async_recursion as boxed;
use clap::Args;
use esker_client::admin::{ListedOffset, OffsetSpec};
use esker_client::{
    Admin, AutoOffsetReset, Client, Consumer, ConsumerConfig, ConsumerRecord, ErrorCode, GroupConfig, Isolation,
    StartAt, TopicPartition,
};
use esker_protocol::primitives::Str;

use super::connect::Connect;
use super::error::CliError;
use super::format::{Format, to_json};
use super::interrupt::interrupted;
use super::times;

/// Flags of `consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic.
    topic: String,
    /// Where to begin: start, end, OFFSET, -N (N before the end), or a time: 2026-11-29T10:00:00Z, -1h, -30m, @MS (since
    /// 1970) [default: end; with --exit start]. In a group: start or end, for partitions where the group has committed nothing.
    #[arg(short, long, value_name = "WHERE", allow_hyphen_values = true)]
    offset: Option<String>,
    /// Stop after so many records.
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Only this partition.
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// As a member of this group; its offsets are committed.
    #[arg(short, long, value_name = "GROUP")]
    group: Option<String>,
    /// How a record is printed: %t topic, %p partition, %o offset, %T time, %k key, %s value, %h headers, \n, \t.
    #[arg(short, long, value_name = "FORMAT", default_value = "%s\\n")]
    format: String,
    /// One JSON object a record. Bytes that are not UTF-8 are base64, and key_encoding or value_encoding says so.
    #[arg(short = 'J', long)]
    json: bool,
    /// Stop at the end of what is there now.
    #[arg(short, long)]
    exit: bool,
    /// Only records of committed transactions.
    #[arg(long)]
    read_committed: bool,
}

/// How long one look for records may take; the end of what is there, or of the program, is looked for in between.
const LOOK: Duration = Duration::from_millis(250);

/// Runs it.
#[boxed]
pub async fn run(args: ConsumeArgs) -> Result<(), CliError> {
    let now = times::now();
    let start = args.offset.as_deref().map(|text| parse_start(text, now)).transpose()?;
    // At the end there is nothing to print before the exit.
    let start = start.unwrap_or(if args.exit { StartAt::Earliest } else { StartAt::Latest });
    if args.group.is_some() && args.partition.is_some() {
        return Err(CliError::Usage(
            "a group chooses the partitions: --group and --partition do not go together".to_owned(),
        ));
    }
    let mut printer = Printer {
        out: BufWriter::with_capacity(64 << 10, std::io::stdout()),
        format: Format::parse(&args.format)?,
        json: args.json,
        left: args.count.unwrap_or(u64::MAX),
    };
    if printer.left == 0 {
        return Ok(());
    }
    match &args.group {
        Some(group) => in_group(&args, group, start, &mut printer).await,
        None => alone(&args, start, &mut printer).await,
    }
}

async fn alone(args: &ConsumeArgs, start: StartAt, printer: &mut Printer) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let topic = client.topic(&args.topic, false).await?;
    let partitions: Vec<_> =
        topic.partitions.iter().map(|p| p.id).filter(|id| args.partition.is_none_or(|only| only == *id)).collect();
    if partitions.is_empty() {
        let (name, count) = (&args.topic, topic.partitions.len());
        let partition = args.partition.unwrap_or(-1);
        return Err(CliError::Usage(format!("{name} has no partition {partition}; it has {count}, counted from 0")));
    }
    let mut consumer = Consumer::new(&client, settings(args));
    consumer.assign(partitions.iter().map(|id| (topic.name.clone(), *id, start)));
    let at = |id: &i32| TopicPartition { topic: topic.name.clone(), partition: *id };
    let committed = args.read_committed;
    let ends =
        if args.exit { ends(&client, partitions.iter().map(at).collect(), committed).await? } else { HashMap::new() };
    let mut stop = std::pin::pin!(interrupted());
    loop {
        let done = |(tp, end): (&TopicPartition, &ListedOffset)| {
            consumer.position(&tp.topic, tp.partition).is_some_and(|position| position >= end.offset)
        };
        if args.exit && ends.iter().all(done) {
            return printer.flush();
        }
        let records = tokio::select! {
            records = consumer.poll(LOOK) => records?,
            () = &mut stop => return printer.flush(),
        };
        if printer.print(&records)? {
            return printer.flush();
        }
    }
}

/// Where what may be read ends now: with `committed` that is the last stable offset, before the first open transaction.
async fn ends(
    client: &Client,
    of: Vec<TopicPartition>,
    committed: bool,
) -> Result<HashMap<TopicPartition, ListedOffset>, CliError> {
    let asked: Vec<_> = of.into_iter().map(|tp| (tp, OffsetSpec::Latest)).collect();
    Ok(Admin::new(client).list_offsets_with(&asked, committed).await?)
}

async fn in_group(args: &ConsumeArgs, group: &str, start: StartAt, printer: &mut Printer) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    client.topic(&args.topic, false).await?;
    let mut config = settings(args);
    config.reset = match start {
        StartAt::Latest => AutoOffsetReset::Latest,
        StartAt::Earliest => AutoOffsetReset::Earliest,
        _ => {
            let text = "in a group, --offset is start or end: where to begin when the group has committed nothing";
            return Err(CliError::Usage(text.to_owned()));
        }
    };
    config.group = Some(GroupConfig { auto_commit: None, ..GroupConfig::new(Str::copy(group)) });
    let mut member = Consumer::new(&client, config);
    member.subscribe([Str::copy(&args.topic)])?;
    let outcome = as_member(args, &mut member, printer).await;
    let left = member.close().await;
    outcome?;
    Ok(left?)
}

/// Prints until there is enough. What was printed is committed, and nothing else: `count` may end in the middle of what came.
async fn as_member(args: &ConsumeArgs, member: &mut Consumer, printer: &mut Printer) -> Result<(), CliError> {
    let mut stop = std::pin::pin!(interrupted());
    loop {
        let records = tokio::select! {
            records = member.poll(LOOK) => records?,
            () = &mut stop => return printer.flush(),
        };
        let printed = usize::try_from(printer.left).map_or(records.len(), |left| left.min(records.len()));
        let enough = printer.print(&records)?;
        if printed > 0 {
            let mut next = HashMap::new();
            for record in records.iter().take(printed) {
                next.insert(
                    TopicPartition { topic: record.topic.clone(), partition: record.partition },
                    record.offset + 1,
                );
            }
            match member.commit_offsets(next).await {
                // The group shares its partitions anew; another member prints these records again.
                Err(error)
                    if error.code().is_some_and(|code| {
                        code == ErrorCode::REBALANCE_IN_PROGRESS || code == ErrorCode::ILLEGAL_GENERATION
                    }) =>
                {
                    tracing::warn!("the group is rebalancing; the last records may come again");
                }
                outcome => outcome?,
            }
        }
        if enough || args.exit && records.is_empty() && !member.assignment().is_empty() && member.is_at_end() {
            return printer.flush();
        }
    }
}

fn settings(args: &ConsumeArgs) -> ConsumerConfig {
    let isolation = if args.read_committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    ConsumerConfig { isolation, reset: AutoOffsetReset::Earliest, ..ConsumerConfig::default() }
}

struct Printer {
    out: BufWriter<std::io::Stdout>,
    format: Format,
    json: bool,
    left: u64,
}

impl Printer {
    /// Prints records; true when there have been enough.
    fn print(&mut self, records: &[ConsumerRecord]) -> Result<bool, CliError> {
        for record in records {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            if self.json {
                serde_json::to_writer(&mut self.out, &to_json(record))?;
                self.out.write_all(b"\n")?;
            } else {
                self.format.write(record, &mut self.out)?;
            }
        }
        self.flush()?;
        Ok(self.left == 0)
    }

    fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.out.flush()?)
    }
}

fn parse_start(text: &str, now: i64) -> Result<StartAt, CliError> {
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0 && !text.starts_with('+'));
    let start = match text {
        "start" | "beginning" | "earliest" => Some(StartAt::Earliest),
        "end" | "latest" => Some(StartAt::Latest),
        text => match text.strip_prefix('-') {
            Some(count) => number(count).map(StartAt::BeforeEnd),
            None => number(text).map(StartAt::Offset),
        },
    };
    start.or_else(|| times::parse_time(text, now).map(StartAt::Timestamp)).ok_or_else(|| {
        CliError::Usage(format!("'{text}' is none of start, end, OFFSET, -N, and no time ({})", times::TIMES))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin() {
        for (text, start) in [
            ("start", StartAt::Earliest),
            ("end", StartAt::Latest),
            ("5", StartAt::Offset(5)),
            ("-3", StartAt::BeforeEnd(3)),
            ("@1700000000000", StartAt::Timestamp(1_700_000_000_000)),
            ("-1h", StartAt::Timestamp(6_400_000)),
            ("2026-11-29T10:00:00Z", StartAt::Timestamp(1_795_946_400_000)),
            ("beginning", StartAt::Earliest),
        ] {
            assert_eq!(parse_start(text, 10_000_000).unwrap(), start, "{text}");
        }
        for bad in ["", "middle", "--1", "@", "1.5", "+1", "-1y"] {
            assert!(parse_start(bad, 0).is_err(), "{bad}");
        }
    }
}

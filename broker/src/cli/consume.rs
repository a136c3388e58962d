//! `esker consume`: prints records.

use std::io::{BufWriter, Write};

use clap::Args;
use esker_client::{ConsumedRecord, Consumer, ConsumerConfig, GroupConfig, GroupConsumer, StartAt};

use super::format::{Format, to_json};
use super::{CliError, Connect};

/// Flags of `consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic.
    topic: String,
    /// Where to begin: start, end, OFFSET, -N (N before the end), @TIME (ms since 1970).
    #[arg(short, long, value_name = "WHERE", default_value = "end", allow_hyphen_values = true)]
    offset: String,
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
    /// One JSON object a record.
    #[arg(long)]
    json: bool,
    /// Stop at the end of what is there now.
    #[arg(short, long)]
    exit: bool,
}

/// Runs it.
pub async fn run(args: ConsumeArgs) -> Result<(), CliError> {
    let start = parse_start(&args.offset)?;
    let mut printer = Printer {
        out: BufWriter::with_capacity(64 << 10, std::io::stdout()),
        format: Format::parse(&args.format),
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
    let topic = client.topic(&args.topic).await?;
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    let mut ends = Vec::new();
    for p in topic.partitions.iter().filter(|p| args.partition.is_none_or(|only| only == p.partition)) {
        consumer.assign(&args.topic, p.partition, start).await?;
        ends.push((p.partition, consumer.resolve(&args.topic, p.partition, StartAt::End).await?));
    }
    if ends.is_empty() {
        return Err(CliError::Usage(format!("{} has no partition {}", args.topic, args.partition.unwrap_or(-1))));
    }
    loop {
        let at_end = |(p, end): &(i32, i64)| {
            consumer.positions().get(&(args.topic.clone(), *p)).is_none_or(|position| position >= end)
        };
        if args.exit && ends.iter().all(at_end) {
            return printer.flush();
        }
        if printer.print(&consumer.poll().await?)? {
            return printer.flush();
        }
    }
}

async fn in_group(args: &ConsumeArgs, group: &str, start: StartAt, printer: &mut Printer) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    client.topic(&args.topic).await?;
    let mut config = GroupConfig::new(group, vec![args.topic.clone()]);
    config.reset = start;
    let mut member = GroupConsumer::new(client, config);
    loop {
        let records = member.poll().await?;
        let had = !records.is_empty();
        let enough = printer.print(&records)?;
        if had {
            member.commit().await?;
        }
        if enough || (args.exit && !had && !member.assignment().is_empty()) {
            printer.flush()?;
            member.leave().await?;
            return Ok(());
        }
    }
}

struct Printer {
    out: BufWriter<std::io::Stdout>,
    format: Format,
    json: bool,
    left: u64,
}

impl Printer {
    /// Prints records; true when there have been enough.
    fn print(&mut self, records: &[ConsumedRecord]) -> Result<bool, CliError> {
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

fn parse_start(text: &str) -> Result<StartAt, CliError> {
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0);
    let start = match text {
        "start" | "beginning" => Some(StartAt::Start),
        "end" => Some(StartAt::End),
        text => match (text.strip_prefix('@'), text.strip_prefix('-')) {
            (Some(time), _) => number(time).map(StartAt::Time),
            (_, Some(count)) => number(count).map(StartAt::Last),
            _ => number(text).map(StartAt::Offset),
        },
    };
    start.ok_or_else(|| CliError::Usage(format!("'{text}' is none of start, end, OFFSET, -N, @TIME")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin() {
        for (text, start) in [
            ("start", StartAt::Start),
            ("end", StartAt::End),
            ("5", StartAt::Offset(5)),
            ("-3", StartAt::Last(3)),
            ("@1700000000000", StartAt::Time(1_700_000_000_000)),
        ] {
            assert_eq!(parse_start(text).unwrap(), start, "{text}");
        }
        for bad in ["", "middle", "--1", "@", "1.5"] {
            assert!(parse_start(bad).is_err(), "{bad}");
        }
    }
}

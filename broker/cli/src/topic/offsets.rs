//! `esker topic offsets`.

use std::collections::HashMap;

use clap::Args;
use esker_client::admin::{ListedOffset, OffsetSpec};
use esker_client::{Admin, TopicPartition};
use serde_json::json;

use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{or_dash, print_line, table};
use esker_records::times::{TIMES, now, parse_time};

/// Flags of `offsets`.
#[derive(Debug, Args)]
pub struct OffsetsArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic's name.
    name: String,
    /// Also the first record of this time or later: 2026-11-29T10:00:00Z, -1h, @MS (since 1970).
    #[arg(short, long, value_name = "TIME", allow_hyphen_values = true)]
    time: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: OffsetsArgs) -> Result<(), CliError> {
    let invalid = |text: &str| CliError::Usage(format!("'{text}' is no time ({TIMES})"));
    let time = args.time.as_deref().map(|text| parse_time(text, now()).ok_or_else(|| invalid(text))).transpose()?;
    let admin = Admin::new(&args.connect.client().await?);
    let topic = admin.topic(&args.name).await?;
    let partitions = topic.partitions.iter().map(|p| TopicPartition { topic: topic.name.clone(), partition: p.id });
    let partitions: Vec<_> = partitions.collect();
    let all = |spec| partitions.iter().map(|tp| (tp.clone(), spec)).collect::<Vec<_>>();
    let starts = admin.list_led_offsets(&all(OffsetSpec::Earliest)).await?;
    let ends = admin.list_led_offsets(&all(OffsetSpec::Latest)).await?;
    let at_time = match time {
        Some(time) => admin.list_led_offsets(&all(OffsetSpec::Timestamp(time))).await?,
        None => HashMap::new(),
    };
    let offset = |listed: &HashMap<_, ListedOffset>, tp: &TopicPartition| listed.get(tp).map(|listed| listed.offset);
    let found = |tp: &TopicPartition| at_time.get(tp).filter(|listed| listed.offset >= 0);
    if args.json {
        let row = |tp: &TopicPartition| {
            let mut row = json!({
                "topic": tp.topic.as_str(), "partition": tp.partition, "start_offset": offset(&starts, tp),
                "end_offset": offset(&ends, tp),
            });
            if let (Some(_), Some(fields)) = (time, row.as_object_mut()) {
                fields.insert("offset".to_owned(), found(tp).map(|listed| listed.offset).into());
                fields.insert("timestamp".to_owned(), found(tp).map(|listed| listed.timestamp).into());
            }
            row
        };
        return Ok(print_line(&serde_json::to_string_pretty(&partitions.iter().map(row).collect::<Vec<_>>())?)?);
    }
    let row = |tp: &TopicPartition| {
        let mut row = vec![tp.partition.to_string(), or_dash(offset(&starts, tp)), or_dash(offset(&ends, tp))];
        if time.is_some() {
            row.push(or_dash(found(tp).map(|listed| listed.offset)));
            row.push(or_dash(found(tp).map(|listed| listed.timestamp)));
        }
        row
    };
    let heading = ["PARTITION", "START", "END", "OFFSET", "TIMESTAMP"];
    let columns = if time.is_some() { 5 } else { 3 };
    let heading: Vec<_> = heading.into_iter().take(columns).collect();
    Ok(table(&heading, &partitions.iter().map(row).collect::<Vec<_>>())?)
}

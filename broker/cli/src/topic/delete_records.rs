//! `esker topic delete-records`.

use clap::Args;
use esker_client::admin::OffsetSpec;
use esker_client::{Admin, Topic, TopicPartition};
use serde_json::json;

use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{print_line, table};

/// Flags of `delete-records`.
#[derive(Debug, Args)]
pub struct DeleteRecordsArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic's name.
    name: String,
    /// The first offset that stays, or latest: all records are deleted.
    #[arg(long, value_name = "OFFSET|latest")]
    to: String,
    /// Only this partition.
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// Delete them. Without it nothing is deleted.
    #[arg(long)]
    yes: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What is deleted from a partition: the offsets from `start` up to `to`.
struct Deletion {
    partition: TopicPartition,
    start: i64,
    to: i64,
}

impl Deletion {
    fn count(&self) -> i64 {
        self.to.saturating_sub(self.start).max(0)
    }
}

/// Runs it.
pub(super) async fn run(args: DeleteRecordsArgs) -> Result<(), CliError> {
    let to = parse_to(&args.to)?;
    let admin = Admin::new(&args.connect.client().await?);
    let topic = admin.topic(&args.name).await?;
    let partitions = choose_partitions(&topic, args.partition, to)?;
    let deletions = plan(&admin, &partitions, to).await?;
    if args.yes {
        // The offsets that are printed, not the end at this moment: records that came in between stay.
        let before: Vec<_> = deletions.iter().map(|deletion| (deletion.partition.clone(), deletion.to)).collect();
        admin.delete_records(&before).await?;
    }
    print(&deletions, &args)
}

/// The first offset that stays; none for the end.
fn parse_to(text: &str) -> Result<Option<i64>, CliError> {
    if matches!(text, "latest" | "end") {
        return Ok(None);
    }
    let offset = text.parse::<i64>().ok().filter(|offset| *offset >= 0);
    offset.map(Some).ok_or_else(|| CliError::Usage(format!("--to is an offset or latest, not '{text}'")))
}

fn choose_partitions(topic: &Topic, only: Option<i32>, to: Option<i64>) -> Result<Vec<TopicPartition>, CliError> {
    let count = topic.partitions.len();
    if only.is_none() && to.is_some() && count > 1 {
        let text = format!("{} has {count} partitions: an offset in --to needs --partition", topic.name);
        return Err(CliError::Usage(text));
    }
    let ids = topic.partitions.iter().map(|p| p.id).filter(|id| only.is_none_or(|only| only == *id));
    let chosen: Vec<_> = ids.map(|partition| TopicPartition { topic: topic.name.clone(), partition }).collect();
    match only {
        Some(only) if chosen.is_empty() => {
            let text = format!("{} has no partition {only}; it has {count}, counted from 0", topic.name);
            Err(CliError::Usage(text))
        }
        _ => Ok(chosen),
    }
}

async fn plan(admin: &Admin, partitions: &[TopicPartition], to: Option<i64>) -> Result<Vec<Deletion>, CliError> {
    let all = |spec| partitions.iter().map(|tp| (tp.clone(), spec)).collect::<Vec<_>>();
    let starts = admin.list_offsets(&all(OffsetSpec::Earliest)).await?;
    let ends = admin.list_offsets(&all(OffsetSpec::Latest)).await?;
    let mut deletions = Vec::new();
    for partition in partitions {
        let (Some(start), Some(end)) = (starts.get(partition), ends.get(partition)) else {
            return Err(CliError::Refused(format!("the broker left {partition} out of its answer")));
        };
        let (start, end) = (start.offset, end.offset);
        let to = to.unwrap_or(end);
        if to > end {
            return Err(CliError::Usage(format!("{partition} ends at offset {end}, before {to}")));
        }
        // Deleted records do not come back.
        deletions.push(Deletion { partition: partition.clone(), start, to: to.max(start) });
    }
    Ok(deletions)
}

fn print(deletions: &[Deletion], args: &DeleteRecordsArgs) -> Result<(), CliError> {
    if args.json {
        let row = |deletion: &Deletion| {
            json!({
                "partition": deletion.partition.partition, "start_offset": deletion.start,
                "new_start_offset": deletion.to, "deleted_offsets": deletion.count(),
            })
        };
        let rows: Vec<_> = deletions.iter().map(row).collect();
        let deleted = json!({"topic": args.name, "dry_run": !args.yes, "partitions": rows});
        print_line(&serde_json::to_string_pretty(&deleted)?)?;
    } else {
        let row = |deletion: &Deletion| {
            [i64::from(deletion.partition.partition), deletion.start, deletion.to, deletion.count()]
                .iter()
                .map(i64::to_string)
                .collect()
        };
        table(&["PARTITION", "START", "NEW START", "DELETED"], &deletions.iter().map(row).collect::<Vec<_>>())?;
    }
    if !args.yes {
        tracing::warn!("nothing is deleted yet: repeat the command with --yes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_where() {
        assert_eq!(parse_to("latest").unwrap(), None);
        assert_eq!(parse_to("7").unwrap(), Some(7));
        for bad in ["", "-1", "x", "1.5"] {
            assert!(parse_to(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn offsets_that_are_gone_count_nothing() {
        let partition = TopicPartition { topic: "t".into(), partition: 0 };
        assert_eq!(Deletion { partition: partition.clone(), start: 5, to: 3 }.count(), 0);
        assert_eq!(Deletion { partition, start: 5, to: 8 }.count(), 3);
    }
}

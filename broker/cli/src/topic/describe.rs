//! `esker topic list` and `esker topic describe`.

use clap::Args;
use esker_admin::{PartitionReport, TopicReport, TopicSummary, list_topics, read_topic};
use esker_client::Admin;

use esker_records::arguments::distinct;
use esker_records::connect::Connect;
use esker_records::error::{CliError, fail_with};
use esker_records::output::{or_dash, print_json, print_line, table};

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    connect: Connect,
    /// Internal topics too.
    #[arg(long)]
    internal: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topics' names [default: all topics].
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// As JSON: an object for one name, else an array.
    #[arg(long)]
    json: bool,
}

/// Lists topics.
pub(super) async fn list(args: ListArgs) -> Result<(), CliError> {
    let admin = Admin::new(&args.connect.client().await?);
    let topics = list_topics(&admin, args.internal).await?;
    if args.json {
        return print_json(&topics);
    }
    let row = |t: &TopicSummary| vec![t.name.clone(), t.partitions.to_string(), t.replication_factor.to_string()];
    let rows: Vec<_> = topics.iter().map(row).collect();
    Ok(table(&["TOPIC", "PARTITIONS", "REPLICAS"], &rows)?)
}

/// Describes topics by name, or all.
pub(super) async fn run(args: DescribeArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let admin = Admin::new(&client);
    let (mut topics, mut failures) = (Vec::new(), Vec::new());
    if args.names.is_empty() {
        topics = admin.topics().await?;
    }
    for name in distinct(&args.names) {
        match admin.topic(&name).await {
            Ok(topic) => topics.push(topic),
            Err(error) if error.code().is_some() => failures.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    let mut described = Vec::new();
    for (at, topic) in topics.iter().enumerate() {
        let report = read_topic(&client, topic).await?;
        if args.json {
            described.push(report);
        } else {
            if at > 0 {
                print_line("")?;
            }
            print(&report)?;
        }
    }
    if args.json {
        match described.as_slice() {
            // One name: one object.
            [only] if args.names.len() == 1 => print_json(only)?,
            [] if args.names.len() == 1 => {}
            all => print_json(&all)?,
        }
    }
    fail_with(failures)
}

/// A list of replicas of a partition.
type Pick = fn(&PartitionReport) -> &[i32];

fn print(topic: &TopicReport) -> Result<(), CliError> {
    print_line(&format!("{}  id={}", topic.name, topic.id))?;
    for (name, value) in &topic.configs {
        print_line(&format!("  {name}={value}"))?;
    }
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let row = |p: &PartitionReport| {
        vec![
            p.partition.to_string(),
            or_dash(p.leader),
            p.leader_epoch.to_string(),
            ids(&p.replicas),
            ids(&p.isr),
            or_dash(p.start_offset),
            or_dash(p.end_offset),
        ]
    };
    let mut rows: Vec<_> = topic.partitions.iter().map(row).collect();
    let mut heading = vec!["PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END"];
    // These are rare, and matter then.
    let rare: [(&str, Pick); 3] =
        [("ELR", |p| &p.elr), ("LAST ELR", |p| &p.last_known_elr), ("OFFLINE", |p| &p.offline_replicas)];
    for (name, pick) in rare {
        if topic.partitions.iter().any(|p| !pick(p).is_empty()) {
            heading.push(name);
            let cell = |p| or_dash(Some(ids(pick(p))).filter(|ids| !ids.is_empty()));
            rows.iter_mut().zip(&topic.partitions).for_each(|(row, p)| row.push(cell(p)));
        }
    }
    Ok(table(&heading, &rows)?)
}

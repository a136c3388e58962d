//! `esker cluster reassignments`: the reassignments in progress, how far they are, and what they wait for.

use std::collections::BTreeMap;

use clap::Args;
use esker_client::admin::Reassignment;
use esker_client::{Admin, TopicPartition};
use esker_core::plan::find_blocker;
use serde_json::json;

use super::super::super::connect::Connect;
use super::super::super::error::CliError;
use super::super::super::output::{print_line, table};
use super::observe::{assignments, sizes};
use super::progress::{describe_blocker, name_blocker};
use super::report::ids;
use super::steps::cancel_all;
use super::throttle;
use super::units::show_bytes;

/// Arguments of `reassignments`.
#[derive(Debug, Args)]
pub struct ReassignmentsArgs {
    #[command(flatten)]
    connect: Connect,
    /// Cancel all of them, and remove the limits of copies.
    #[arg(long)]
    cancel: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: ReassignmentsArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let admin = Admin::new(&client);
    let ongoing = admin.list_reassignments().await?;
    let partitions: Vec<TopicPartition> = ongoing.iter().map(|found| found.partition.clone()).collect();
    if args.cancel {
        let count = cancel_all(&admin, &partitions).await?;
        // Limits that an earlier command has left, too.
        let topics = admin.topics().await?.iter().map(|topic| topic.name.clone()).collect();
        throttle::clear(&admin, &topics, false).await?;
        return Ok(print_line(&format!("{count} reassignments are cancelled"))?);
    }
    let now = assignments(&client, &partitions).await?;
    let mut replicas: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
    for found in &ongoing {
        for broker in &found.replicas {
            replicas.entry(*broker).or_default().push(found.partition.clone());
        }
    }
    let sizes = sizes(&client, &replicas).await;
    let cluster = client.cluster();
    let blocker =
        |found: &Reassignment| find_blocker(now.get(&found.partition)?, |id| cluster.brokers.contains_key(&id));
    let size =
        |found: &Reassignment, broker: i32| sizes.get(&(broker, found.partition.clone())).copied().unwrap_or_default();
    let copied = |found: &Reassignment| found.adding.iter().map(|broker| size(found, *broker)).sum::<u64>();
    let bytes = |found: &Reassignment| {
        let largest = found.replicas.iter().map(|broker| size(found, *broker)).max().unwrap_or_default();
        largest.saturating_mul(found.adding.len() as u64)
    };
    if args.json {
        let rows = ongoing.iter().map(|found| {
            json!({
                "topic": found.partition.topic.as_str(), "partition": found.partition.partition,
                "replicas": found.replicas, "adding": found.adding, "removing": found.removing,
                "copied_bytes": copied(found), "bytes": bytes(found), "waits_for": blocker(found).map(name_blocker),
            })
        });
        return Ok(print_line(&serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?)?);
    }
    if ongoing.is_empty() {
        return Ok(print_line("no reassignment is in progress")?);
    }
    let row = |found: &Reassignment| {
        vec![
            found.partition.to_string(),
            ids(&found.replicas),
            ids(&found.adding),
            ids(&found.removing),
            format!("{} of {}", show_bytes(copied(found)), show_bytes(bytes(found))),
            blocker(found).map_or_else(|| "-".to_owned(), describe_blocker),
        ]
    };
    let rows: Vec<_> = ongoing.iter().map(row).collect();
    Ok(table(&["PARTITION", "REPLICAS", "ADDING", "REMOVING", "COPIED", "STATE"], &rows)?)
}

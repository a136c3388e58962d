//! `esker cluster reassignments`: the reassignments in progress, how far they are, and what they wait for.

use clap::Args;
use esker_admin::{ReassignmentReport, cancel_reassignments, clear_limits, list_reassignments};
use esker_client::{Admin, TopicPartition};
use esker_core::plan::Blocker;

use super::progress::describe_blocker;
use super::report::ids;
use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{print_json, print_line, table};
use esker_records::units::show_bytes;

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
    if args.cancel {
        let partitions: Vec<TopicPartition> = ongoing.into_iter().map(|found| found.partition).collect();
        let count = cancel_reassignments(&admin, &partitions).await?;
        // Limits that an earlier command has left, too.
        let topics: Vec<_> = admin.topics().await?.iter().map(|topic| topic.name.clone()).collect();
        clear_limits(&admin, &topics).await?;
        return Ok(print_line(&format!("{count} reassignments are cancelled"))?);
    }
    let reports = list_reassignments(&client, ongoing).await?;
    if args.json {
        return print_json(&reports.iter().map(|(report, _)| report).collect::<Vec<_>>());
    }
    if reports.is_empty() {
        return Ok(print_line("no reassignment is in progress")?);
    }
    let row = |(report, blocker): &(ReassignmentReport, Option<Blocker>)| {
        vec![
            format!("{}-{}", report.topic, report.partition),
            ids(&report.replicas),
            ids(&report.adding),
            ids(&report.removing),
            format!("{} of {}", show_bytes(report.copied_bytes), show_bytes(report.bytes)),
            blocker.map_or_else(|| "-".to_owned(), describe_blocker),
        ]
    };
    let rows: Vec<_> = reports.iter().map(row).collect();
    Ok(table(&["PARTITION", "REPLICAS", "ADDING", "REMOVING", "COPIED", "STATE"], &rows)?)
}

//! `esker txn`.

use std::time::Duration;

use clap::{Args, Subcommand};
use esker_admin::{TransactionReport, abort_transaction, describe_transaction, list_transactions};

use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{or_dash, print_json, print_line, table};
use esker_records::times::now;
use esker_records::units::show_duration;

/// What can be done with transactions.
#[derive(Debug, Subcommand)]
pub enum TxnCommand {
    /// List transactional ids and their states.
    List(ListArgs),
    /// Describe the transaction of an id: state, producer, partitions.
    Describe(IdArgs),
    /// Abort the open transaction of an id and fence its producer. Without --yes it only prints what would be aborted.
    Abort(AbortArgs),
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    connect: Connect,
    /// Only those in this state, such as Ongoing; may be given several times.
    #[arg(short, long = "state", value_name = "STATE")]
    states: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A transactional id.
#[derive(Debug, Args)]
pub struct IdArgs {
    #[command(flatten)]
    connect: Connect,
    /// The transactional id.
    id: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `abort`.
#[derive(Debug, Args)]
pub struct AbortArgs {
    #[command(flatten)]
    transaction: IdArgs,
    /// Abort it. Without it nothing is changed.
    #[arg(long)]
    yes: bool,
}

/// Runs one.
pub async fn run(command: TxnCommand) -> Result<(), CliError> {
    match command {
        TxnCommand::List(args) => list(args).await,
        TxnCommand::Describe(args) => {
            let client = args.connect.client().await?;
            let (coordinator, transaction) = describe_transaction(&client, &args.id).await?;
            print_transaction(&TransactionReport::new(coordinator, &transaction, None), args.json)
        }
        TxnCommand::Abort(args) => abort(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let found = list_transactions(&args.connect.client().await?, &args.states).await?;
    if args.json {
        return print_json(&found);
    }
    let rows = found.into_iter().map(|t| {
        let (producer, coordinator) = (t.producer_id.to_string(), t.coordinator.to_string());
        vec![t.transactional_id, t.state, producer, coordinator]
    });
    Ok(table(&["TRANSACTIONAL ID", "STATE", "PRODUCER", "COORDINATOR"], &rows.collect::<Vec<_>>())?)
}

async fn abort(args: AbortArgs) -> Result<(), CliError> {
    let AbortArgs { transaction: IdArgs { connect, id, json }, yes } = args;
    let transaction = abort_transaction(&connect.client().await?, &id, !yes).await?;
    print_transaction(&transaction, json)?;
    if !yes {
        tracing::warn!("nothing is aborted yet: repeat the command with --yes");
    }
    Ok(())
}

/// The time of a start, as `-o @MS` takes it, and how long ago that was.
fn show_start(start: i64, now: i64) -> String {
    let ago = u64::try_from(now.saturating_sub(start)).unwrap_or_default();
    format!("@{start} ({} ago)", show_duration(Duration::from_millis(ago)))
}

fn print_transaction(t: &TransactionReport, as_json: bool) -> Result<(), CliError> {
    if as_json {
        return print_json(t);
    }
    print_line(&format!(
        "{}  state={}  producer={}  epoch={}  coordinator={}  timeout_ms={}  start={}",
        t.transactional_id,
        t.state,
        t.producer_id,
        t.producer_epoch,
        t.coordinator,
        t.timeout_ms,
        or_dash(t.start_timestamp.map(|start| show_start(start, now())))
    ))?;
    let rows: Vec<_> =
        t.partitions.iter().map(|found| vec![found.topic.clone(), found.partition.to_string()]).collect();
    Ok(table(&["TOPIC", "PARTITION"], &rows)?)
}

//! `esker txn`.

mod coordinator;

use clap::{Args, Subcommand};
use esker_client::{Admin, Target};
use esker_protocol::messages::describe_transactions::TransactionState;
use esker_protocol::messages::list_transactions::ListTransactionsRequest;
use esker_protocol::primitives::Str;
use serde_json::{Value, json};

use super::connect::Connect;
use super::error::CliError;
use super::output::{or_dash, print_line, table};
use coordinator::{abort_transaction, check_code, describe_transaction};

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
            print_transaction(coordinator, &transaction, args.json, None)
        }
        TxnCommand::Abort(args) => abort(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let mut found = Vec::new();
    // Each coordinator knows its own.
    for broker in Admin::new(&client).describe_cluster().await?.brokers {
        let request = ListTransactionsRequest {
            state_filters: args.states.iter().map(|state| Str::copy(state)).collect(),
            ..ListTransactionsRequest::default()
        };
        let answer = client.request(Target::Node(broker.id), request).await?;
        check_code("the transactions", answer.error_code)?;
        if let Some(unknown) = answer.unknown_state_filters.first() {
            return Err(CliError::Usage(format!(
                "'{unknown}' is no state of a transaction: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, \
                 CompleteAbort, Dead, PrepareEpochFence"
            )));
        }
        found.extend(answer.transaction_states.into_iter().map(|transaction| (broker.id, transaction)));
    }
    found.sort_by(|a, b| a.1.transactional_id.cmp(&b.1.transactional_id));
    if args.json {
        let rows = found.iter().map(|(coordinator, t)| {
            json!({
                "transactional_id": t.transactional_id.as_str(), "state": t.transaction_state.as_str(),
                "producer_id": t.producer_id, "coordinator": coordinator,
            })
        });
        return Ok(print_line(&serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?)?);
    }
    let rows = found.iter().map(|(coordinator, t)| {
        let (id, state) = (t.transactional_id.to_string(), t.transaction_state.to_string());
        vec![id, state, t.producer_id.to_string(), coordinator.to_string()]
    });
    Ok(table(&["TRANSACTIONAL ID", "STATE", "PRODUCER", "COORDINATOR"], &rows.collect::<Vec<_>>())?)
}

async fn abort(args: AbortArgs) -> Result<(), CliError> {
    let AbortArgs { transaction: IdArgs { connect, id, json }, yes } = args;
    let client = connect.client().await?;
    let (coordinator, transaction) = describe_transaction(&client, &id).await?;
    if transaction.transaction_state.as_str() != "Ongoing" {
        let state = &transaction.transaction_state;
        return Err(CliError::Refused(format!("'{id}' has no open transaction; its state is {state}")));
    }
    if !yes {
        print_transaction(coordinator, &transaction, json, Some(true))?;
        tracing::warn!("nothing is aborted yet: repeat the command with --yes");
        return Ok(());
    }
    abort_transaction(&client, coordinator, &transaction).await?;
    let (coordinator, transaction) = describe_transaction(&client, &id).await?;
    print_transaction(coordinator, &transaction, json, Some(false))
}

fn print_transaction(
    coordinator: i32,
    t: &TransactionState,
    as_json: bool,
    dry_run: Option<bool>,
) -> Result<(), CliError> {
    let started = Some(t.transaction_start_time_ms).filter(|at| *at >= 0);
    let partitions = t.topics.iter().flat_map(|topic| topic.partitions.iter().map(|id| (topic.topic.as_str(), *id)));
    if as_json {
        let partitions: Vec<_> =
            partitions.map(|(topic, partition)| json!({"topic": topic, "partition": partition})).collect();
        let mut described = json!({
            "transactional_id": t.transactional_id.as_str(), "state": t.transaction_state.as_str(),
            "producer_id": t.producer_id, "producer_epoch": t.producer_epoch, "coordinator": coordinator,
            "timeout_ms": t.transaction_timeout_ms, "start_timestamp": started, "partitions": partitions,
        });
        if let (Some(dry_run), Some(fields)) = (dry_run, described.as_object_mut()) {
            fields.insert("dry_run".to_owned(), Value::Bool(dry_run));
        }
        return Ok(print_line(&serde_json::to_string_pretty(&described)?)?);
    }
    print_line(&format!(
        "{}  state={}  producer={}  epoch={}  coordinator={coordinator}  timeout_ms={}  start={}",
        t.transactional_id,
        t.transaction_state,
        t.producer_id,
        t.producer_epoch,
        t.transaction_timeout_ms,
        or_dash(started)
    ))?;
    let rows: Vec<_> = partitions.map(|(topic, id)| vec![topic.to_owned(), id.to_string()]).collect();
    Ok(table(&["TOPIC", "PARTITION"], &rows)?)
}

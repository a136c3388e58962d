//! `esker topic`.

mod delete_records;
mod describe;
mod offsets;

use clap::{Args, Subcommand};
use esker_client::admin::{ConfigOp, NewTopic, Resource};
use esker_client::{Admin, Error, ErrorCode};
use esker_protocol::primitives::Str;
use serde_json::json;

use esker_records::arguments::{distinct, pairs};
use esker_records::connect::Connect;
use esker_records::error::{CliError, fail_with};
use esker_records::output::print_line;

/// What can be done with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create topics.
    Create(CreateArgs),
    /// List topics.
    List(describe::ListArgs),
    /// Describe topics: partitions, offsets, configs.
    Describe(describe::DescribeArgs),
    /// Delete topics and their records.
    Delete(DeleteArgs),
    /// Change a topic's configs or grow it.
    Alter(AlterArgs),
    /// Print the first and last offsets of a topic's partitions, and the offsets of a time.
    Offsets(offsets::OffsetsArgs),
    /// Delete the records before an offset. Without --yes it only prints what would be deleted.
    DeleteRecords(delete_records::DeleteRecordsArgs),
}

/// Flags of `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topics' names.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Number of partitions [default: the broker's num.partitions].
    #[arg(short, long, value_name = "N")]
    partitions: Option<i32>,
    /// Copies of each partition [default: the broker's default.replication.factor].
    #[arg(short, long, value_name = "N")]
    replication_factor: Option<i16>,
    /// A config; may be given several times.
    #[arg(short, long = "config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// A topic that exists already is no error; it stays as it is.
    #[arg(long)]
    if_not_exists: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topics' names.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// A topic that does not exist is no error.
    #[arg(long)]
    if_exists: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `alter`.
#[derive(Debug, Args)]
pub struct AlterArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic's name.
    name: String,
    /// Grow it to so many partitions.
    #[arg(short, long, value_name = "N")]
    partitions: Option<i32>,
    /// Set a config; may be given several times.
    #[arg(short, long = "config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// Remove a config; may be given several times.
    #[arg(short, long = "delete-config", value_name = "KEY")]
    delete_configs: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one.
pub async fn run(command: TopicCommand) -> Result<(), CliError> {
    match command {
        TopicCommand::Create(args) => create(args).await,
        TopicCommand::List(args) => describe::list(args).await,
        TopicCommand::Describe(args) => describe::run(args).await,
        TopicCommand::Delete(args) => delete(args).await,
        TopicCommand::Alter(args) => alter(args).await,
        TopicCommand::Offsets(args) => offsets::run(args).await,
        TopicCommand::DeleteRecords(args) => delete_records::run(args).await,
    }
}

async fn create(args: CreateArgs) -> Result<(), CliError> {
    let configs = pairs(&args.configs)?;
    let names = distinct(&args.names);
    let topic = |name: &Str| NewTopic {
        name: name.clone(),
        partitions: args.partitions.unwrap_or(-1),
        replication: args.replication_factor.unwrap_or(-1),
        configs: configs.clone(),
    };
    let admin = Admin::new(&args.connect.client().await?);
    let created = admin.create_topics(&names.iter().map(topic).collect::<Vec<_>>(), false).await?;
    let created = created.into_iter().map(|created| created.map(drop));
    let allowed = args.if_not_exists.then_some((ErrorCode::TOPIC_ALREADY_EXISTS, "exists"));
    print_outcomes(names.into_iter().zip(created), "created", allowed, args.json)
}

async fn delete(args: DeleteArgs) -> Result<(), CliError> {
    let names = distinct(&args.names);
    let admin = Admin::new(&args.connect.client().await?);
    let deleted = admin.delete_topics(&names).await?;
    let allowed = args.if_exists.then_some((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "missing"));
    print_outcomes(names.into_iter().zip(deleted), "deleted", allowed, args.json)
}

/// Prints a line for each topic that went well. The failures of the others are the command's failure.
fn print_outcomes(
    results: impl Iterator<Item = (Str, Result<(), Error>)>,
    done: &str,
    allowed: Option<(ErrorCode, &'static str)>,
    json: bool,
) -> Result<(), CliError> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for (name, result) in results {
        let outcome = match (result, allowed) {
            (Ok(()), _) => done,
            (Err(error), Some((code, outcome))) if error.code() == Some(code) => outcome,
            (Err(error), _) => {
                rows.push(json!({"name": name.as_str(), "outcome": "failed", "error": error.to_string()}));
                failures.push(error);
                continue;
            }
        };
        rows.push(json!({"name": name.as_str(), "outcome": outcome}));
        if !json {
            print_line(&format!("{outcome} {name}"))?;
        }
    }
    if json {
        print_line(&serde_json::to_string_pretty(&rows)?)?;
    }
    fail_with(failures)
}

async fn alter(args: AlterArgs) -> Result<(), CliError> {
    if args.partitions.is_none() && args.configs.is_empty() && args.delete_configs.is_empty() {
        return Err(CliError::Usage("nothing to change: give --partitions, --config or --delete-config".to_owned()));
    }
    let sets = pairs(&args.configs)?.into_iter().map(|(key, value)| (key, ConfigOp::Set(value)));
    let deletes = args.delete_configs.into_iter().map(|key| (key.into(), ConfigOp::Delete));
    let changes: Vec<_> = sets.chain(deletes).collect();
    let admin = Admin::new(&args.connect.client().await?);
    if !changes.is_empty() {
        admin.alter_configs(&Resource::Topic(Str::copy(&args.name)), &changes).await?;
    }
    if let Some(count) = args.partitions {
        admin.create_partitions(&args.name, count).await?;
    }
    print_outcomes([(Str::copy(&args.name), Ok(()))].into_iter(), "changed", None, args.json)
}

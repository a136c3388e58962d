//! `esker group`.

mod delete;
mod describe;
mod seek;
mod target;

use clap::{Args, Subcommand};
use esker_admin::{GroupSummary, list_groups};
use esker_client::Admin;

use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{print_json, table};

/// What can be done with groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups.
    List(ListArgs),
    /// Describe groups: protocol, members, committed offsets, lag.
    Describe(describe::DescribeArgs),
    /// Delete groups that have no members, and their committed offsets.
    Delete(delete::DeleteArgs),
    /// Set the committed offsets of a group that has no members. Without --yes it only prints the plan.
    #[command(after_help = seek::EXAMPLES)]
    Seek(seek::SeekArgs),
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    connect: Connect,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one.
pub async fn run(command: GroupCommand) -> Result<(), CliError> {
    match command {
        GroupCommand::List(args) => list(args).await,
        GroupCommand::Describe(args) => describe::run(args).await,
        GroupCommand::Delete(args) => delete::run(args).await,
        GroupCommand::Seek(args) => seek::run(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let groups = list_groups(&Admin::new(&args.connect.client().await?)).await?;
    if args.json {
        return print_json(&groups);
    }
    let row = |g: &GroupSummary| vec![g.group.clone(), g.state.clone(), g.kind.clone(), g.protocol_type.clone()];
    let rows: Vec<_> = groups.iter().map(row).collect();
    Ok(table(&["GROUP", "STATE", "TYPE", "PROTOCOL"], &rows)?)
}

//! `esker group`.

use clap::{Args, Subcommand};
use esker_client::Admin;
use esker_protocol::primitives::Str;
use serde_json::json;

use super::connect::Connect;
use super::error::CliError;
use super::output::{or_dash, print_json, print_line, table};
use crate::admin::{GroupOffset, GroupSummary, Page, list_groups, read_group};

/// What can be done with groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups.
    List(ListArgs),
    /// Describe a group: members, offsets, lag.
    Describe(NameArgs),
    /// Delete a group that has no members.
    Delete(NameArgs),
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

/// A group by name.
#[derive(Debug, Args)]
pub struct NameArgs {
    #[command(flatten)]
    connect: Connect,
    /// The group.
    name: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one.
pub async fn run(command: GroupCommand) -> Result<(), CliError> {
    match command {
        GroupCommand::List(args) => list(args).await,
        GroupCommand::Describe(args) => describe(args).await,
        GroupCommand::Delete(args) => {
            let admin = Admin::new(&args.connect.client().await?);
            for deleted in admin.delete_groups(&[Str::copy(&args.name)]).await? {
                deleted?;
            }
            if args.json {
                let deleted = json!([{"group": args.name, "outcome": "deleted"}]);
                return print_json(&deleted);
            }
            Ok(print_line(&format!("deleted {}", args.name))?)
        }
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

async fn describe(args: NameArgs) -> Result<(), CliError> {
    let admin = Admin::new(&args.connect.client().await?);
    let (group, _) = read_group(&admin, &args.name, &Page::all()).await?;
    if args.json {
        return print_json(&group);
    }
    print_line(&format!(
        "{}  state={}  protocol={}",
        args.name,
        group.state,
        or_dash(Some(group.protocol.as_str()).filter(|p| !p.is_empty()))
    ))?;
    for m in &group.members {
        print_line(&format!("  member {}  client={}  host={}", m.id, m.client_id, m.host))?;
    }
    let row = |o: &GroupOffset| {
        vec![
            o.topic.clone(),
            o.partition.to_string(),
            o.committed.to_string(),
            or_dash(o.end),
            or_dash(o.lag),
            or_dash(o.member.as_deref()),
        ]
    };
    let rows: Vec<_> = group.offsets.iter().map(row).collect();
    Ok(table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"], &rows)?)
}

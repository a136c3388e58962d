//! `esker group`.

use clap::{Args, Subcommand};
use std::collections::HashMap;

use esker_client::Admin;
use esker_client::admin::{CommittedOffset, OffsetSpec};
use esker_protocol::primitives::Str;
use serde_json::json;

use super::connect::Connect;
use super::error::CliError;
use super::output::{or_dash, print_line, table};

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
                return Ok(print_line(&serde_json::to_string_pretty(&deleted)?)?);
            }
            Ok(print_line(&format!("deleted {}", args.name))?)
        }
    }
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let groups = Admin::new(&args.connect.client().await?).list_groups().await?;
    if args.json {
        let rows: Vec<_> = groups
            .iter()
            .map(|g| json!({"group": &*g.id, "state": &*g.state, "protocol_type": &*g.protocol_type, "type": &*g.kind}))
            .collect();
        return Ok(print_line(&serde_json::to_string_pretty(&rows)?)?);
    }
    let rows: Vec<_> = groups
        .iter()
        .map(|g| vec![g.id.to_string(), g.state.to_string(), g.kind.to_string(), g.protocol_type.to_string()])
        .collect();
    Ok(table(&["GROUP", "STATE", "TYPE", "PROTOCOL"], &rows)?)
}

async fn describe(args: NameArgs) -> Result<(), CliError> {
    let admin = Admin::new(&args.connect.client().await?);
    let group = admin.describe_group(&args.name).await?;
    let offsets = admin.committed_offsets(&args.name).await?;
    let mut ends = HashMap::new();
    for topic in offsets.chunk_by(|a, b| a.partition.topic == b.partition.topic) {
        let asked: Vec<_> = topic.iter().map(|o| (o.partition.clone(), OffsetSpec::Latest)).collect();
        // A topic that is gone has no end.
        ends.extend(admin.list_offsets(&asked).await.unwrap_or_default());
    }
    let owner =
        |o: &CommittedOffset| group.members.iter().find(|m| m.assignment.contains(&o.partition)).map(|m| &*m.id);
    let (mut rows, mut partitions) = (Vec::new(), Vec::new());
    for o in &offsets {
        let end = ends.get(&o.partition).map(|listed| listed.offset);
        let lag = end.map(|end| (end - o.offset).max(0));
        rows.push(vec![
            o.partition.topic.to_string(),
            o.partition.partition.to_string(),
            o.offset.to_string(),
            or_dash(end),
            or_dash(lag),
            or_dash(owner(o)),
        ]);
        partitions.push(json!({
            "topic": o.partition.topic.as_str(), "partition": o.partition.partition, "committed": o.offset, "end": end, "lag": lag,
            "member": owner(o),
        }));
    }
    let members: Vec<_> = group
        .members
        .iter()
        .map(|m| json!({"id": &*m.id, "client_id": &*m.client_id, "host": &*m.host, "partitions": m.assignment.len()}))
        .collect();
    if args.json {
        let group = json!({
            "group": args.name, "state": &*group.state, "protocol": &*group.protocol, "coordinator": group.coordinator, "members": members,
            "offsets": partitions,
        });
        return Ok(print_line(&serde_json::to_string_pretty(&group)?)?);
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
    Ok(table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"], &rows)?)
}

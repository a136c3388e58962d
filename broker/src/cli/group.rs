//! `esker group`.

use clap::{Args, Subcommand};
use esker_client::{Consumer, ConsumerConfig, StartAt};
use serde_json::json;

use super::output::{say, table};
use super::{CliError, Connect};

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
            args.connect.client().await?.delete_group(&args.name).await?;
            Ok(say(&format!("deleted {}", args.name))?)
        }
    }
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let groups = args.connect.client().await?.list_groups().await?;
    if args.json {
        let rows: Vec<_> = groups
            .iter()
            .map(|g| json!({"group": &*g.group_id, "state": &*g.group_state, "protocol_type": &*g.protocol_type}))
            .collect();
        return Ok(say(&serde_json::to_string_pretty(&rows)?)?);
    }
    let rows: Vec<_> = groups
        .iter()
        .map(|g| vec![g.group_id.to_string(), g.group_state.to_string(), g.protocol_type.to_string()])
        .collect();
    Ok(table(&["GROUP", "STATE", "PROTOCOL"], &rows)?)
}

async fn describe(args: NameArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let group = client.describe_group(&args.name).await?;
    let offsets = client.group_offsets(&args.name).await?;
    let consumer = Consumer::new(client, ConsumerConfig::default());
    let (mut rows, mut partitions) = (Vec::new(), Vec::new());
    for o in &offsets {
        // A topic that is gone has no end.
        let end = consumer.resolve(&o.topic, o.partition, StartAt::End).await.ok();
        let lag = end.map(|end| (end - o.offset).max(0));
        let shown = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        rows.push(vec![o.topic.clone(), o.partition.to_string(), o.offset.to_string(), shown(end), shown(lag)]);
        partitions.push(json!({
            "topic": o.topic, "partition": o.partition, "committed": o.offset, "end": end, "lag": lag,
        }));
    }
    let members: Vec<_> = group
        .members
        .iter()
        .map(|m| json!({"id": &*m.member_id, "client_id": &*m.client_id, "host": &*m.client_host}))
        .collect();
    if args.json {
        let group = json!({
            "group": args.name, "state": &*group.group_state, "protocol": &*group.protocol_data, "members": members,
            "offsets": partitions,
        });
        return Ok(say(&serde_json::to_string_pretty(&group)?)?);
    }
    say(&format!("{}  state={}  protocol={}", args.name, group.group_state, group.protocol_data))?;
    for m in &group.members {
        say(&format!("  member {}  client={}  host={}", m.member_id, m.client_id, m.client_host))?;
    }
    Ok(table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG"], &rows)?)
}

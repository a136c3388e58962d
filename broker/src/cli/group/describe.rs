//! `esker group describe`.

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use esker_client::admin::{GroupDescription, GroupMember, OffsetSpec};
use esker_client::{Admin, TopicPartition};
use serde_json::{Value, json};

use super::super::committed::{committed_offsets, existing_offsets};
use super::super::connect::Connect;
use super::super::error::CliError;
use super::super::output::{or_dash, print_line, table};

/// Flags of `describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    connect: Connect,
    /// The group.
    name: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A partition that the group has committed an offset of, or that a member reads.
struct Row<'a> {
    partition: TopicPartition,
    committed: Option<i64>,
    end: Option<i64>,
    member: Option<&'a str>,
}

impl Row<'_> {
    /// Records after the committed offset.
    fn lag(&self) -> Option<i64> {
        Some(self.end?.saturating_sub(self.committed?).max(0))
    }
}

/// Describes a group.
pub(super) async fn run(args: DescribeArgs) -> Result<(), CliError> {
    let admin = Admin::new(&args.connect.client().await?);
    let group = admin.describe_group(&args.name).await?;
    let committed: HashMap<_, _> = committed_offsets(&admin, &args.name).await?.into_iter().collect();
    let owners: BTreeMap<_, _> =
        group.members.iter().flat_map(|m| m.assignment.iter().map(move |tp| (tp.clone(), &*m.id))).collect();
    let mut partitions: Vec<_> = committed.keys().chain(owners.keys()).cloned().collect();
    partitions.sort();
    partitions.dedup();
    let ends = existing_offsets(&admin, &partitions, OffsetSpec::Latest).await;
    let row = |partition: TopicPartition| Row {
        committed: committed.get(&partition).copied(),
        end: ends.get(&partition).copied(),
        member: owners.get(&partition).copied(),
        partition,
    };
    let rows: Vec<_> = partitions.into_iter().map(row).collect();
    if args.json {
        return Ok(print_line(&serde_json::to_string_pretty(&to_json(&group, &rows))?)?);
    }
    print(&group, &rows)
}

fn to_json(group: &GroupDescription, rows: &[Row<'_>]) -> Value {
    let member = |m: &GroupMember| {
        json!({
            "id": &*m.id, "instance_id": m.instance_id.as_deref(), "client_id": &*m.client_id, "host": &*m.host,
            "partitions": m.assignment.len(),
        })
    };
    let row = |row: &Row<'_>| {
        json!({
            "topic": row.partition.topic.as_str(), "partition": row.partition.partition, "committed": row.committed,
            "end": row.end, "lag": row.lag(), "member": row.member,
        })
    };
    json!({
        "group": &*group.id, "state": &*group.state, "type": &*group.kind, "protocol": &*group.protocol,
        "protocol_type": &*group.protocol_type, "coordinator": group.coordinator,
        "lag": rows.iter().filter_map(Row::lag).sum::<i64>(),
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
        "offsets": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn print(group: &GroupDescription, rows: &[Row<'_>]) -> Result<(), CliError> {
    print_line(&format!(
        "{}  state={}  type={}  protocol={}  coordinator={}  members={}  lag={}",
        group.id,
        group.state,
        group.kind,
        or_dash(Some(group.protocol.as_str()).filter(|p| !p.is_empty())),
        group.coordinator,
        group.members.len(),
        rows.iter().filter_map(Row::lag).sum::<i64>(),
    ))?;
    for m in &group.members {
        let instance = m.instance_id.as_ref().map(|id| format!("  instance={id}")).unwrap_or_default();
        let partitions = m.assignment.len();
        print_line(&format!(
            "  member {}  client={}  host={}{instance}  partitions={partitions}",
            m.id, m.client_id, m.host
        ))?;
    }
    let row = |row: &Row<'_>| {
        vec![
            row.partition.topic.to_string(),
            row.partition.partition.to_string(),
            or_dash(row.committed),
            or_dash(row.end),
            or_dash(row.lag()),
            or_dash(row.member),
        ]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    Ok(table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"], &rows)?)
}

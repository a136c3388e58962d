//! `esker group describe`.

use clap::Args;
use esker_client::Admin;

use super::super::connect::Connect;
use super::super::error::CliError;
use super::super::output::{or_dash, print_json, print_line, table};
use crate::admin::{GroupOffset, GroupReport, Page, read_group};

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

/// Describes a group.
pub(super) async fn run(args: DescribeArgs) -> Result<(), CliError> {
    let admin = Admin::new(&args.connect.client().await?);
    let (group, _) = read_group(&admin, &args.name, &Page::all()).await?;
    if args.json {
        return print_json(&group);
    }
    print(&group)
}

fn print(group: &GroupReport) -> Result<(), CliError> {
    print_line(&format!(
        "{}  state={}  type={}  protocol={}  coordinator={}  members={}  lag={}",
        group.group,
        group.state,
        group.kind,
        or_dash(Some(group.protocol.as_str()).filter(|p| !p.is_empty())),
        group.coordinator,
        group.members.len(),
        group.lag,
    ))?;
    for m in &group.members {
        let instance = m.instance_id.as_ref().map(|id| format!("  instance={id}")).unwrap_or_default();
        let partitions = m.partitions;
        print_line(&format!(
            "  member {}  client={}  host={}{instance}  partitions={partitions}",
            m.id, m.client_id, m.host
        ))?;
    }
    let row = |row: &GroupOffset| {
        vec![
            row.topic.clone(),
            row.partition.to_string(),
            or_dash(row.committed),
            or_dash(row.end),
            or_dash(row.lag),
            or_dash(row.member.as_deref()),
        ]
    };
    let rows: Vec<_> = group.offsets.iter().map(row).collect();
    Ok(table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"], &rows)?)
}

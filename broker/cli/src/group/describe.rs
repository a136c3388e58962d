//! `esker group describe`.

use clap::Args;
use esker_admin::{GroupOffset, GroupReport, Page, list_groups, read_group};
use esker_client::Admin;
use esker_protocol::primitives::Str;

use esker_records::arguments::distinct;
use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{or_dash, print_json, print_line, table};

/// Flags of `describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    connect: Connect,
    /// The groups [default: all groups].
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// As JSON: an object for one name, else an array.
    #[arg(long)]
    json: bool,
}

/// Describes groups by name, or all.
pub(super) async fn run(args: DescribeArgs) -> Result<(), CliError> {
    let admin = Admin::new(&args.connect.client().await?);
    if let [name] = args.names.as_slice() {
        let (group, _) = read_group(&admin, name, &Page::all()).await?;
        return if args.json { print_json(&group) } else { print(&group) };
    }
    let mut names = distinct(&args.names);
    if names.is_empty() {
        names = list_groups(&admin).await?.iter().map(|group| Str::copy(&group.group)).collect();
    }
    let mut described = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let (group, _) = read_group(&admin, &name, &Page::all()).await?;
        if args.json {
            described.push(group);
            continue;
        }
        if number > 0 {
            print_line("")?;
        }
        print(&group)?;
    }
    if args.json { print_json(&described) } else { Ok(()) }
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
        or_dash(group.lag),
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

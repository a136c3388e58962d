//! `esker group seek`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clap::Args;
use esker_admin::{OutOfRange, SeekReport, SeekTarget, committed_offsets, plan_seek};
use esker_client::admin::GroupDescription;
use esker_client::{Admin, ErrorCode, TopicPartition};
use serde_json::json;

use super::target::{Destination, TargetFlags, parse_target, parse_topics};
use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{or_dash, print_json, table};
use esker_records::times::now;

/// What `--help` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  esker group seek billing --to earliest                        print the plan: nothing changes
  esker group seek billing --to earliest --yes                  read all records again
  esker group seek billing --topic orders:0,3 --by -100 --yes   go back 100 records in two partitions
  esker group seek billing --to-time -1h --yes                  read the last hour again
  esker group seek billing-v2 --to-group billing --yes          begin where another group is

Exit codes: 0 done, 1 it failed (stderr says why), 2 wrong usage.";

/// Flags of `seek`.
#[derive(Debug, Args)]
pub struct SeekArgs {
    #[command(flatten)]
    connect: Connect,
    /// The group.
    name: String,
    /// The offset to commit.
    #[arg(long, value_name = "earliest|latest|OFFSET")]
    to: Option<String>,
    /// Records after the committed offset, or before it (-100).
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    by: Option<i64>,
    /// The first record of this time or later: 2026-11-29T10:00:00Z, -1h, @MS (since 1970).
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to_time: Option<String>,
    /// The offsets that another group has committed.
    #[arg(long, value_name = "GROUP")]
    to_group: Option<String>,
    /// Only this topic, or these partitions of it; may be given several times [default: what the group has committed].
    #[arg(short, long = "topic", value_name = "TOPIC[:P,P]")]
    topics: Vec<String>,
    /// Commit the offsets. Without it nothing is changed.
    #[arg(long, visible_alias = "execute")]
    yes: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: SeekArgs) -> Result<(), CliError> {
    let flags = TargetFlags {
        to: args.to.as_deref(),
        by: args.by,
        to_time: args.to_time.as_deref(),
        to_group: args.to_group.as_deref(),
    };
    let destination = parse_target(&flags, now())?;
    let topics = parse_topics(&args.topics)?;
    let admin = Admin::new(&args.connect.client().await?);
    let group = find_group(&admin, &args.name).await?;
    let members = group.as_ref().and_then(describe_members);
    if let (true, Some(members)) = (args.yes, &members) {
        return Err(CliError::Refused(refusal(&args.name, members)));
    }
    let targets = choose_targets(&admin, &args.name, &destination, &topics).await?;
    let planned = plan_seek(&admin, &args.name, &targets, OutOfRange::Clamp).await?;
    if args.yes {
        let commits: Vec<_> =
            targets.into_iter().zip(&planned).map(|((tp, _), seek)| (tp, seek.new_committed)).collect();
        admin.alter_offsets(&args.name, &commits).await.map_err(|error| match error.code() {
            // A member joined after the check.
            Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION | ErrorCode::REBALANCE_IN_PROGRESS) => {
                CliError::Refused(refusal(&args.name, "members that joined just now"))
            }
            _ => error.into(),
        })?;
    }
    print(&planned, &args)?;
    if let Some(members) = members {
        tracing::warn!("{}", refusal(&args.name, &members));
    }
    if group.is_none() && !args.yes {
        tracing::warn!("there is no group '{}' yet: --yes creates it with these offsets", args.name);
    }
    Ok(())
}

/// The group; `None` where it does not exist.
async fn find_group(admin: &Admin, name: &str) -> Result<Option<GroupDescription>, CliError> {
    match admin.describe_group(name).await {
        Ok(group) => Ok(Some(group)),
        Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The members of a group in words; `None` where it has none.
fn describe_members(group: &GroupDescription) -> Option<String> {
    const NAMED: usize = 3;
    let first = group.members.first()?;
    let count = group.members.len();
    let named: Vec<_> = group.members.iter().take(NAMED).map(|m| format!("{} on {}", m.client_id, m.host)).collect();
    Some(match count {
        1 => format!("a member: {} on {}", first.client_id, first.host),
        _ if count > NAMED => format!("{count} members: {} and {} more", named.join(", "), count - NAMED),
        _ => format!("{count} members: {}", named.join(", ")),
    })
}

fn refusal(group: &str, members: &str) -> String {
    format!(
        "group '{group}' has {members}. Its offsets can be set only while it has none: stop the consumers, wait until \
         `esker group describe {group}` shows no member, and repeat the command"
    )
}

/// The partitions that the flags choose, each with its target.
async fn choose_targets(
    admin: &Admin,
    group: &str,
    destination: &Destination,
    topics: &BTreeMap<String, Option<Vec<i32>>>,
) -> Result<Vec<(TopicPartition, SeekTarget)>, CliError> {
    let other: HashMap<_, _> = match destination {
        Destination::Group(other) => {
            let offsets = committed_offsets(admin, other).await?;
            if offsets.is_empty() {
                let text = format!("group '{other}' has committed no offset: `esker group list` shows all groups");
                return Err(CliError::Refused(text));
            }
            offsets.into_iter().collect()
        }
        Destination::Each(_) => HashMap::new(),
    };
    let committed = committed_offsets(admin, group).await?;
    let partitions = choose_partitions(admin, topics, committed.iter().map(|(tp, _)| tp).chain(other.keys())).await?;
    if partitions.is_empty() {
        let text = format!("group '{group}' has committed no offset: name the topics to seek in with --topic");
        return Err(CliError::Usage(text));
    }
    let target = |tp: &TopicPartition| match destination {
        Destination::Each(target) => Some(*target),
        Destination::Group(_) => other.get(tp).map(|offset| SeekTarget::Offset(*offset)),
    };
    let targets: Vec<_> = partitions.into_iter().filter_map(|tp| Some((tp.clone(), target(&tp)?))).collect();
    if targets.is_empty() {
        let text = "no partition would change: the other group has committed no offset of the chosen partitions";
        return Err(CliError::Refused(text.to_owned()));
    }
    Ok(targets)
}

/// The partitions of `--topic`, else those that are committed and exist, in order.
async fn choose_partitions(
    admin: &Admin,
    topics: &BTreeMap<String, Option<Vec<i32>>>,
    committed: impl Iterator<Item = &TopicPartition>,
) -> Result<Vec<TopicPartition>, CliError> {
    if topics.is_empty() {
        let committed: BTreeSet<_> = committed.cloned().collect();
        let existing = admin.topics().await?;
        let exists = |tp: &TopicPartition| {
            existing.iter().any(|topic| topic.name == tp.topic && topic.partition(tp.partition).is_some())
        };
        return Ok(committed.into_iter().filter(exists).collect());
    }
    let mut chosen = Vec::new();
    for (name, only) in topics {
        let topic = admin.topic(name).await?;
        let ids = only.clone().unwrap_or_else(|| topic.partitions.iter().map(|p| p.id).collect());
        for id in ids {
            if topic.partition(id).is_none() {
                let count = topic.partitions.len();
                let text = format!("{name} has no partition {id}; it has {count}, counted from 0");
                return Err(CliError::Usage(text));
            }
            chosen.push(TopicPartition { topic: topic.name.clone(), partition: id });
        }
    }
    Ok(chosen)
}

fn print(planned: &[SeekReport], args: &SeekArgs) -> Result<(), CliError> {
    if args.json {
        print_json(&json!({"group": args.name, "dry_run": !args.yes, "offsets": planned}))?;
    } else {
        let row = |seek: &SeekReport| {
            vec![
                seek.topic.clone(),
                seek.partition.to_string(),
                or_dash(seek.committed),
                seek.new_committed.to_string(),
                seek.end.to_string(),
                seek.lag.to_string(),
            ]
        };
        let rows: Vec<_> = planned.iter().map(row).collect();
        table(&["TOPIC", "PARTITION", "CURRENT", "NEW", "END", "LAG AFTER"], &rows)?;
    }
    if let Some(clamped) = planned.iter().find(|seek| seek.clamped) {
        let others = planned.iter().filter(|seek| seek.clamped).count() - 1;
        let more = if others > 0 { format!(" (and {others} more)") } else { String::new() };
        let SeekReport { topic, partition, new_committed, .. } = clamped;
        tracing::warn!("{topic}-{partition}{more} has no such offset: the nearest one, {new_committed}, is used");
    }
    if !args.yes {
        tracing::warn!("nothing is committed yet: repeat the command with --yes");
    }
    Ok(())
}

//! `esker topic`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use esker_client::admin::{ConfigOp, ConfigSource, NewTopic, OffsetSpec, Resource};
use esker_client::{Admin, Topic, TopicPartition};
use esker_protocol::primitives::Str;
use serde_json::json;

use super::connect::Connect;
use super::error::CliError;
use super::output::{or_dash, print_line, table};

/// What can be done with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic.
    Create(CreateArgs),
    /// List topics.
    List(ListArgs),
    /// Describe a topic: partitions, offsets, configs.
    Describe(NameArgs),
    /// Delete a topic and its records.
    Delete(NameArgs),
    /// Change a topic's configs or grow it.
    Alter(AlterArgs),
}

/// Flags of `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic's name.
    name: String,
    /// Number of partitions [default: the broker's num.partitions].
    #[arg(short, long, value_name = "N")]
    partitions: Option<i32>,
    /// Copies of each partition [default: the broker's default.replication.factor].
    #[arg(short, long, value_name = "N")]
    replication_factor: Option<i16>,
    /// A config; may be given several times.
    #[arg(short, long = "config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    connect: Connect,
    /// Internal topics too.
    #[arg(long)]
    internal: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A topic by name.
#[derive(Debug, Args)]
pub struct NameArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topic's name.
    name: String,
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
}

/// Runs one.
pub async fn run(command: TopicCommand) -> Result<(), CliError> {
    match command {
        TopicCommand::Create(args) => {
            let topic = NewTopic {
                name: args.name.into(),
                partitions: args.partitions.unwrap_or(-1),
                replication: args.replication_factor.unwrap_or(-1),
                configs: pairs(&args.configs)?,
            };
            let admin = Admin::new(&args.connect.client().await?);
            for created in admin.create_topics(std::slice::from_ref(&topic), false).await? {
                created?;
            }
            Ok(print_line(&format!("created {}", topic.name))?)
        }
        TopicCommand::List(args) => list(args).await,
        TopicCommand::Describe(args) => describe(args).await,
        TopicCommand::Delete(args) => {
            let admin = Admin::new(&args.connect.client().await?);
            for deleted in admin.delete_topics(&[Str::copy(&args.name)]).await? {
                deleted?;
            }
            Ok(print_line(&format!("deleted {}", args.name))?)
        }
        TopicCommand::Alter(args) => alter(args).await,
    }
}

fn pairs(configs: &[String]) -> Result<Vec<(Str, Str)>, CliError> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').ok_or_else(|| CliError::Usage(format!("'{text}' is not KEY=VALUE")))?;
        Ok((Str::copy(key.trim()), Str::copy(value.trim())))
    };
    configs.iter().map(pair).collect()
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let mut topics = Admin::new(&args.connect.client().await?).topics().await?;
    topics.retain(|t| args.internal || !t.internal);
    if args.json {
        let rows: Vec<_> = topics
            .iter()
            .map(|t| json!({"name": t.name.as_str(), "id": t.id.to_string(), "partitions": t.partitions.len(), "internal": t.internal}))
            .collect();
        return Ok(print_line(&serde_json::to_string_pretty(&rows)?)?);
    }
    let replicas = |t: &Topic| t.partitions.first().map_or(0, |p| p.replicas.len());
    let rows: Vec<_> = topics
        .iter()
        .map(|t| vec![t.name.to_string(), t.partitions.len().to_string(), replicas(t).to_string()])
        .collect();
    Ok(table(&["TOPIC", "PARTITIONS", "REPLICAS"], &rows)?)
}

async fn describe(args: NameArgs) -> Result<(), CliError> {
    let admin = Admin::new(&args.connect.client().await?);
    let topic = admin.topic(&args.name).await?;
    let mut configs = admin.describe_configs(&Resource::Topic(topic.name.clone())).await?;
    configs.retain(|config| config.source == ConfigSource::Topic);
    // A partition without a leader has no offsets.
    let led = topic.partitions.iter().filter(|p| p.leader.is_some());
    let led: Vec<_> = led.map(|p| TopicPartition { topic: topic.name.clone(), partition: p.id }).collect();
    let all = |spec| led.iter().map(move |tp| (tp.clone(), spec)).collect::<Vec<_>>();
    let starts = admin.list_offsets(&all(OffsetSpec::Earliest)).await?;
    let ends = admin.list_offsets(&all(OffsetSpec::Latest)).await?;
    let mut rows = Vec::new();
    let mut partitions = Vec::new();
    for p in &topic.partitions {
        let tp = TopicPartition { topic: topic.name.clone(), partition: p.id };
        let start = starts.get(&tp).map(|listed| listed.offset);
        let end = ends.get(&tp).map(|listed| listed.offset);
        let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        rows.push(vec![
            p.id.to_string(),
            or_dash(p.leader),
            p.leader_epoch.to_string(),
            ids(&p.replicas),
            ids(&p.isr),
            or_dash(start),
            or_dash(end),
        ]);
        partitions.push(json!({
            "partition": p.id, "leader": p.leader, "leader_epoch": p.leader_epoch, "replicas": p.replicas,
            "isr": p.isr, "start_offset": start, "end_offset": end,
        }));
    }
    let own: BTreeMap<_, _> =
        configs.iter().map(|c| (c.name.as_str(), c.value.as_deref().unwrap_or_default())).collect();
    if args.json {
        let topic = json!({
            "name": topic.name.as_str(), "id": topic.id.to_string(), "internal": topic.internal, "configs": own,
            "partitions": partitions,
        });
        return Ok(print_line(&serde_json::to_string_pretty(&topic)?)?);
    }
    print_line(&format!("{}  id={}", topic.name, topic.id))?;
    for (name, value) in &own {
        print_line(&format!("  {name}={value}"))?;
    }
    Ok(table(&["PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END"], &rows)?)
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
    Ok(print_line(&format!("changed {}", args.name))?)
}

//! `esker topic`.

use clap::{Args, Subcommand};
use esker_client::{Client, Consumer, ConsumerConfig, NewTopic, StartAt, TopicView};
use serde_json::json;

use super::output::{say, table};
use super::{CliError, Connect};

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
                name: args.name,
                partitions: args.partitions,
                replication_factor: args.replication_factor,
                configs: pairs(&args.configs)?,
            };
            args.connect.client().await?.create_topic(&topic).await?;
            Ok(say(&format!("created {}", topic.name))?)
        }
        TopicCommand::List(args) => list(args).await,
        TopicCommand::Describe(args) => describe(args).await,
        TopicCommand::Delete(args) => {
            args.connect.client().await?.delete_topic(&args.name).await?;
            Ok(say(&format!("deleted {}", args.name))?)
        }
        TopicCommand::Alter(args) => alter(args).await,
    }
}

fn pairs(configs: &[String]) -> Result<Vec<(String, String)>, CliError> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').ok_or_else(|| CliError::Usage(format!("'{text}' is not KEY=VALUE")))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    configs.iter().map(pair).collect()
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let view = args.connect.client().await?.refresh(None).await?;
    let topics: Vec<&TopicView> = view.topics.values().filter(|t| args.internal || !t.internal).collect();
    if args.json {
        let rows: Vec<_> = topics
            .iter()
            .map(|t| json!({"name": t.name, "id": t.id.to_string(), "partitions": t.partitions.len(), "internal": t.internal}))
            .collect();
        return Ok(say(&serde_json::to_string_pretty(&rows)?)?);
    }
    let replicas = |t: &TopicView| t.partitions.first().map_or(0, |p| p.replicas.len());
    let rows: Vec<_> =
        topics.iter().map(|t| vec![t.name.clone(), t.partitions.len().to_string(), replicas(t).to_string()]).collect();
    Ok(table(&["TOPIC", "PARTITIONS", "REPLICAS"], &rows)?)
}

async fn describe(args: NameArgs) -> Result<(), CliError> {
    let client: Client = args.connect.client().await?;
    let topic = client.topic(&args.name).await?;
    let detail = client.topic_detail(&args.name).await?;
    let consumer = Consumer::new(client, ConsumerConfig::default());
    let mut rows = Vec::new();
    let mut partitions = Vec::new();
    for p in &topic.partitions {
        let start = consumer.resolve(&topic.name, p.partition, StartAt::Start).await?;
        let end = consumer.resolve(&topic.name, p.partition, StartAt::End).await?;
        let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        rows.push(vec![
            p.partition.to_string(),
            p.leader.to_string(),
            p.leader_epoch.to_string(),
            ids(&p.replicas),
            ids(&p.isr),
            start.to_string(),
            end.to_string(),
        ]);
        partitions.push(json!({
            "partition": p.partition, "leader": p.leader, "leader_epoch": p.leader_epoch, "replicas": p.replicas,
            "isr": p.isr, "start_offset": start, "end_offset": end,
        }));
    }
    if args.json {
        let topic = json!({
            "name": topic.name, "id": topic.id.to_string(), "internal": topic.internal, "configs": detail.configs,
            "partitions": partitions,
        });
        return Ok(say(&serde_json::to_string_pretty(&topic)?)?);
    }
    say(&format!("{}  id={}", topic.name, topic.id))?;
    for (name, value) in &detail.configs {
        say(&format!("  {name}={value}"))?;
    }
    Ok(table(&["PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END"], &rows)?)
}

async fn alter(args: AlterArgs) -> Result<(), CliError> {
    if args.partitions.is_none() && args.configs.is_empty() && args.delete_configs.is_empty() {
        return Err(CliError::Usage("nothing to change: give --partitions, --config or --delete-config".to_owned()));
    }
    let client = args.connect.client().await?;
    let mut changes: Vec<_> = pairs(&args.configs)?.into_iter().map(|(key, value)| (key, Some(value))).collect();
    changes.extend(args.delete_configs.into_iter().map(|key| (key, None)));
    if !changes.is_empty() {
        client.alter_topic(&args.name, &changes).await?;
    }
    if let Some(count) = args.partitions {
        client.create_partitions(&args.name, count).await?;
    }
    Ok(say(&format!("changed {}", args.name))?)
}

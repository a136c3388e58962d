//! `esker topic list` and `esker topic describe`.

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use esker_client::admin::{ConfigSource, ListedOffset, OffsetSpec, Resource};
use esker_client::{Admin, Partition, Topic, TopicPartition};
use serde_json::{Value, json};

use super::super::arguments::distinct;
use super::super::connect::Connect;
use super::super::error::{CliError, fail_with};
use super::super::output::{or_dash, print_line, table};

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

/// Flags of `describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    connect: Connect,
    /// The topics' names [default: all topics].
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// As JSON: an object for one name, else an array.
    #[arg(long)]
    json: bool,
}

/// Lists topics.
pub(super) async fn list(args: ListArgs) -> Result<(), CliError> {
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

/// Describes topics by name, or all.
pub(super) async fn run(args: DescribeArgs) -> Result<(), CliError> {
    let admin = Admin::new(&args.connect.client().await?);
    let (mut topics, mut failures) = (Vec::new(), Vec::new());
    if args.names.is_empty() {
        topics = admin.topics().await?;
    }
    for name in distinct(&args.names) {
        match admin.topic(&name).await {
            Ok(topic) => topics.push(topic),
            Err(error) if error.code().is_some() => failures.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    let mut described = Vec::new();
    for (at, topic) in topics.iter().enumerate() {
        let description = describe(&admin, topic).await?;
        if args.json {
            described.push(description.to_json(topic));
        } else {
            if at > 0 {
                print_line("")?;
            }
            description.print(topic)?;
        }
    }
    if args.json {
        let text = match described.as_slice() {
            // One name: one object.
            [only] if args.names.len() == 1 => serde_json::to_string_pretty(only)?,
            [] if args.names.len() == 1 => return fail_with(failures),
            all => serde_json::to_string_pretty(all)?,
        };
        print_line(&text)?;
    }
    fail_with(failures)
}

/// What a topic's metadata leaves out.
struct Description {
    configs: BTreeMap<String, String>,
    starts: HashMap<TopicPartition, ListedOffset>,
    ends: HashMap<TopicPartition, ListedOffset>,
}

async fn describe(admin: &Admin, topic: &Topic) -> Result<Description, CliError> {
    let mut configs = admin.describe_configs(&Resource::Topic(topic.name.clone())).await?;
    configs.retain(|config| config.source == ConfigSource::Topic);
    // A partition without a leader has no offsets.
    let led = topic.partitions.iter().filter(|p| p.leader.is_some());
    let led: Vec<_> = led.map(|p| TopicPartition { topic: topic.name.clone(), partition: p.id }).collect();
    let all = |spec| led.iter().map(move |tp| (tp.clone(), spec)).collect::<Vec<_>>();
    let starts = admin.list_offsets(&all(OffsetSpec::Earliest)).await?;
    let ends = admin.list_offsets(&all(OffsetSpec::Latest)).await?;
    let own = configs.iter().map(|c| (c.name.to_string(), c.value.as_deref().unwrap_or_default().to_owned()));
    Ok(Description { configs: own.collect(), starts, ends })
}

impl Description {
    /// The first and the last offset of a partition.
    fn offsets(&self, topic: &Topic, partition: i32) -> (Option<i64>, Option<i64>) {
        let tp = TopicPartition { topic: topic.name.clone(), partition };
        let of = |listed: &HashMap<TopicPartition, ListedOffset>| listed.get(&tp).map(|listed| listed.offset);
        (of(&self.starts), of(&self.ends))
    }

    fn to_json(&self, topic: &Topic) -> Value {
        let partition = |p: &Partition| {
            let (start, end) = self.offsets(topic, p.id);
            json!({
                "partition": p.id, "leader": p.leader, "leader_epoch": p.leader_epoch, "replicas": p.replicas,
                "isr": p.isr, "start_offset": start, "end_offset": end,
            })
        };
        json!({
            "name": topic.name.as_str(), "id": topic.id.to_string(), "internal": topic.internal,
            "configs": self.configs, "partitions": topic.partitions.iter().map(partition).collect::<Vec<_>>(),
        })
    }

    fn print(&self, topic: &Topic) -> Result<(), CliError> {
        print_line(&format!("{}  id={}", topic.name, topic.id))?;
        for (name, value) in &self.configs {
            print_line(&format!("  {name}={value}"))?;
        }
        let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let row = |p: &Partition| {
            let (start, end) = self.offsets(topic, p.id);
            vec![
                p.id.to_string(),
                or_dash(p.leader),
                p.leader_epoch.to_string(),
                ids(&p.replicas),
                ids(&p.isr),
                or_dash(start),
                or_dash(end),
            ]
        };
        let rows: Vec<_> = topic.partitions.iter().map(row).collect();
        Ok(table(&["PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END"], &rows)?)
    }
}

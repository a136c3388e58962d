//! Topics and their partitions.

use std::collections::{BTreeMap, HashMap};

use async_recursion::async_recursion as boxed;
use esker_client::admin::{ConfigSource, ListedOffset, OffsetSpec, Resource};
use esker_client::{Admin, Client, ConnectionError, Error, ErrorCode, Partition, Target, Topic, TopicPartition};
use esker_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponsePartition, TopicRequest,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::AdminError;
use super::observe::sizes;
use super::page::Page;

/// A topic, in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TopicSummary {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Number of partitions.
    pub partitions: usize,
    /// Replicas of its first partition.
    pub replication_factor: usize,
    /// Whether brokers keep their own data in it.
    pub internal: bool,
}

/// A topic without its partitions.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TopicDetail {
    /// As in the list of topics.
    #[serde(flatten)]
    pub summary: TopicSummary,
    /// Configs that are set on it.
    pub configs: BTreeMap<String, String>,
}

/// A topic with its partitions.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TopicReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Whether brokers keep their own data in it.
    pub internal: bool,
    /// Configs that are set on it.
    pub configs: BTreeMap<String, String>,
    /// Its partitions.
    pub partitions: Vec<PartitionReport>,
}

/// A partition.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartitionReport {
    /// Its number, from 0.
    pub partition: i32,
    /// The leader; null while there is none.
    pub leader: Option<i32>,
    /// The epoch of the leader.
    pub leader_epoch: i32,
    /// The brokers with a replica, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those that are in sync.
    pub isr: Vec<i32>,
    /// Eligible leader replicas (KIP-966); none where the broker does not tell.
    pub elr: Vec<i32>,
    /// The last known eligible leader replicas.
    pub last_known_elr: Vec<i32>,
    /// Replicas on brokers or log dirs that do not work.
    pub offline_replicas: Vec<i32>,
    /// The offset of the first record; null while there is no leader.
    pub start_offset: Option<i64>,
    /// The offset after the last record; null while there is no leader.
    pub end_offset: Option<i64>,
}

/// A partition, with its size.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartitionDetail {
    /// As in a topic.
    #[serde(flatten)]
    pub report: PartitionReport,
    /// Bytes on disk of each replica whose broker answers.
    pub sizes: Vec<ReplicaSize>,
}

/// Bytes on disk of a replica.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReplicaSize {
    /// The broker.
    pub broker: i32,
    /// The bytes.
    pub bytes: u64,
}

impl TopicSummary {
    fn new(topic: &Topic) -> Self {
        Self {
            name: topic.name.to_string(),
            id: topic.id.to_string(),
            partitions: topic.partitions.len(),
            replication_factor: topic.partitions.first().map_or(0, |partition| partition.replicas.len()),
            internal: topic.internal,
        }
    }
}

/// All topics by name, or those that are not internal.
#[boxed]
pub async fn list_topics(admin: &Admin, internal: bool) -> Result<Vec<TopicSummary>, AdminError> {
    let topics = admin.topics().await?;
    Ok(topics.iter().filter(|topic| internal || !topic.internal).map(|topic| TopicSummary::new(topic)).collect())
}

/// A topic without its partitions.
#[boxed]
pub async fn read_topic_detail(admin: &Admin, name: &str) -> Result<TopicDetail, AdminError> {
    let topic = admin.topic(name).await?;
    Ok(TopicDetail { summary: TopicSummary::new(&topic), configs: own_configs(admin, &topic).await? })
}

/// A topic with its partitions.
#[boxed]
pub async fn read_topic(client: &Client, topic: &Topic) -> Result<TopicReport, AdminError> {
    let admin = &Admin::new(client);
    let partitions: Vec<&Partition> = topic.partitions.iter().collect();
    Ok(TopicReport {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        internal: topic.internal,
        configs: own_configs(admin, topic).await?,
        partitions: report_partitions(client, topic, &partitions).await?,
    })
}

async fn own_configs(admin: &Admin, topic: &Topic) -> Result<BTreeMap<String, String>, AdminError> {
    let configs = admin.describe_configs(&Resource::Topic(topic.name.clone())).await?;
    let own = configs.iter().filter(|config| config.source == ConfigSource::Topic);
    Ok(own.map(|config| (config.name.to_string(), config.value.as_deref().unwrap_or_default().to_owned())).collect())
}

async fn report_partitions(
    client: &Client,
    topic: &Topic,
    partitions: &[&Partition],
) -> Result<Vec<PartitionReport>, AdminError> {
    let admin = Admin::new(client);
    let key = |partition: &Partition| TopicPartition::new(topic.name.clone(), partition.id);
    let all = |spec| partitions.iter().map(|found| (key(found), spec)).collect::<Vec<_>>();
    let starts = admin.list_led_offsets(&all(OffsetSpec::Earliest)).await?;
    let ends = admin.list_led_offsets(&all(OffsetSpec::Latest)).await?;
    let offset = |listed: &HashMap<TopicPartition, ListedOffset>, found: &Partition| {
        listed.get(&key(found)).map(|listed| listed.offset)
    };
    let mut eligible = match (partitions.first(), partitions.last()) {
        (Some(first), Some(last)) => read_eligible(client, topic, first.id, last.id).await?,
        _ => HashMap::new(),
    };
    let report = |found: &&Partition| {
        let more = eligible.remove(&found.id);
        let offline_replicas = more.as_ref().map(|more| more.offline_replicas.clone()).unwrap_or_default();
        let (elr, last_known_elr) =
            more.map(|more| (more.eligible_leader_replicas, more.last_known_elr)).unwrap_or_default();
        PartitionReport {
            partition: found.id,
            leader: found.leader,
            leader_epoch: found.leader_epoch,
            replicas: found.replicas.clone(),
            isr: found.isr.clone(),
            elr: elr.unwrap_or_default(),
            last_known_elr: last_known_elr.unwrap_or_default(),
            offline_replicas,
            start_offset: offset(&starts, found),
            end_offset: offset(&ends, found),
        }
    };
    Ok(partitions.iter().map(report).collect())
}

/// Partitions of a topic, and the one to go on after.
#[boxed]
pub async fn read_partitions(
    client: &Client,
    name: &str,
    page: &Page<i32>,
) -> Result<(Vec<PartitionDetail>, Option<i32>), AdminError> {
    let admin = Admin::new(client);
    let topic = admin.topic(name).await?;
    let (partitions, next) = page.cut(topic.partitions.iter().collect(), |partition| partition.id);
    let reports = report_partitions(client, &topic, &partitions).await?;
    let mut replicas: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
    for found in &partitions {
        for broker in &found.replicas {
            replicas.entry(*broker).or_default().push(TopicPartition::new(topic.name.clone(), found.id));
        }
    }
    let sizes = sizes(client, &replicas).await;
    let detail = |report: PartitionReport| {
        let tp = TopicPartition::new(topic.name.clone(), report.partition);
        let size = |broker: &i32| Some(ReplicaSize { broker: *broker, bytes: *sizes.get(&(*broker, tp.clone()))? });
        let sizes = report.replicas.iter().filter_map(size).collect();
        PartitionDetail { sizes, report }
    };
    Ok((reports.into_iter().map(detail).collect(), next))
}

/// What DescribeTopicPartitions says of the partitions from `first` to `last`, by partition.
async fn read_eligible(
    client: &Client,
    topic: &Topic,
    first: i32,
    last: i32,
) -> Result<HashMap<i32, DescribeTopicPartitionsResponsePartition>, AdminError> {
    let mut found = HashMap::new();
    let mut from = Some(first);
    while let Some(partition_index) = from.filter(|from| *from <= last) {
        let request = DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: topic.name.clone() }],
            response_partition_limit: last.saturating_sub(partition_index).saturating_add(1),
            cursor: Some(Cursor { topic_name: topic.name.clone(), partition_index }),
        };
        let answer = match client.request(Target::Any, request).await {
            Ok(answer) => answer,
            // A broker before Kafka 3.7.
            Err(Error::Connection(ConnectionError::Unsupported { .. })) => return Ok(found),
            Err(error) => return Err(error.into()),
        };
        for topic in answer.topics.into_iter().filter(|topic| topic.error_code == ErrorCode::NONE) {
            found.extend(topic.partitions.into_iter().map(|partition| (partition.partition_index, partition)));
        }
        // A cursor that does not move would never end.
        from = answer.next_cursor.map(|next| next.partition_index).filter(|next| *next > partition_index);
    }
    Ok(found)
}

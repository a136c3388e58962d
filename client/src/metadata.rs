//! What is known of the cluster: brokers, topics, leaders.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::metadata::{MetadataResponse, MetadataResponseTopic};
use esker_protocol::primitives::{Str, Uuid};
use tokio::time::Instant;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic.
    pub topic: Str,
    /// Partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of a topic.
    #[must_use]
    pub fn new(topic: impl Into<Str>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A broker, as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Node id.
    pub id: i32,
    /// Host that it advertises.
    pub host: Str,
    /// Port that it advertises.
    pub port: i32,
    /// Rack, if it has one.
    pub rack: Option<Str>,
}

impl Broker {
    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number, from 0.
    pub id: i32,
    /// Leader; `None` while there is none.
    pub leader: Option<i32>,
    /// Epoch of the leader; -1 where the broker does not return it.
    pub leader_epoch: i32,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub isr: Vec<i32>,
    /// Those on brokers or disks that are down.
    pub offline: Vec<i32>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: Str,
    /// Id; all zero where the broker does not return it.
    pub id: Uuid,
    /// Whether brokers keep their own data in it.
    pub internal: bool,
    /// Partitions, by number.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// A partition by number.
    #[must_use]
    pub fn partition(&self, id: i32) -> Option<&Partition> {
        // Numbers are dense but for a broker that errs.
        usize::try_from(id)
            .ok()
            .and_then(|at| self.partitions.get(at))
            .filter(|p| p.id == id)
            .or_else(|| self.partitions.iter().find(|p| p.id == id))
    }
}

/// A snapshot of what is known.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// The cluster's id.
    pub id: Option<Str>,
    /// Node id of the broker to send admin requests to.
    pub controller: Option<i32>,
    /// Brokers by node id.
    pub brokers: BTreeMap<i32, Broker>,
    /// Topics that were requested, by name.
    pub topics: HashMap<Str, Arc<Topic>>,
    pub(crate) fetched: HashMap<Str, Instant>,
}

impl Cluster {
    /// The broker that leads a partition.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.topics.get(topic)?.partition(partition)?.leader
    }

    /// Takes over an answer. Topics that it does not name stay; a leader epoch never goes back for the same topic id.
    pub(crate) fn merge(&mut self, answer: &MetadataResponse, now: Instant) {
        if !answer.brokers.is_empty() {
            let broker = |b: &esker_protocol::messages::metadata::MetadataResponseBroker| Broker {
                id: b.node_id,
                host: b.host.detached(),
                port: b.port,
                rack: b.rack.as_ref().map(Str::detached),
            };
            self.brokers = answer.brokers.iter().map(|b| (b.node_id, broker(b))).collect();
        }
        self.id = answer.cluster_id.as_ref().map(Str::detached).or(self.id.take());
        self.controller = (answer.controller_id >= 0).then_some(answer.controller_id);
        for topic in &answer.topics {
            let Some(name) = &topic.name else { continue };
            if topic.error_code == ErrorCode::NONE {
                let known = self.topics.get(name.as_str()).cloned();
                let name = name.detached();
                self.topics.insert(name.clone(), Arc::new(convert(topic, &name, known.as_deref())));
                self.fetched.insert(name, now);
            } else if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                self.topics.remove(name.as_str());
                self.fetched.remove(name.as_str());
            }
        }
    }
}

fn convert(topic: &MetadataResponseTopic, name: &Str, known: Option<&Topic>) -> Topic {
    let known = known.filter(|known| known.id == topic.topic_id);
    let mut partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|p| {
            let old = known.and_then(|known| known.partition(p.partition_index));
            match old {
                Some(old) if p.leader_epoch >= 0 && p.leader_epoch < old.leader_epoch => old.clone(),
                _ => Partition {
                    id: p.partition_index,
                    leader: (p.leader_id >= 0).then_some(p.leader_id),
                    leader_epoch: p.leader_epoch,
                    replicas: p.replica_nodes.clone(),
                    isr: p.isr_nodes.clone(),
                    offline: p.offline_replicas.clone(),
                },
            }
        })
        .collect();
    partitions.sort_by_key(|p| p.id);
    Topic { name: name.clone(), id: topic.topic_id, internal: topic.is_internal, partitions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_protocol::messages::metadata::MetadataResponsePartition;

    fn answer(id: u8, leader: i32, epoch: i32, error: ErrorCode) -> MetadataResponse {
        let partition = MetadataResponsePartition { leader_id: leader, leader_epoch: epoch, ..Default::default() };
        let topic = MetadataResponseTopic {
            error_code: error,
            name: Some("t".into()),
            topic_id: Uuid([id; 16]),
            partitions: vec![partition],
            ..Default::default()
        };
        MetadataResponse { topics: vec![topic], ..Default::default() }
    }

    #[test]
    fn leader_epochs_never_go_back() {
        let now = Instant::now();
        let mut cluster = Cluster::default();
        cluster.merge(&answer(1, 1, 5, ErrorCode::NONE), now);
        cluster.merge(&answer(1, 2, 4, ErrorCode::NONE), now);
        assert_eq!(cluster.leader("t", 0), Some(1));
        cluster.merge(&answer(1, 2, 6, ErrorCode::NONE), now);
        assert_eq!(cluster.leader("t", 0), Some(2));
        // A topic created anew counts from the start.
        cluster.merge(&answer(2, 3, 0, ErrorCode::NONE), now);
        assert_eq!(cluster.leader("t", 0), Some(3));
        cluster.merge(&answer(2, -1, 1, ErrorCode::NONE), now);
        assert_eq!(cluster.leader("t", 0), None);
        cluster.merge(&answer(2, 3, 1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), now);
        assert!(cluster.topics.is_empty());
    }
}

//! Brokers, those that are fenced among them, and their log dirs.

use std::collections::BTreeMap;

use async_recursion::async_recursion as boxed;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_cluster::DescribeClusterRequest;
use esker_protocol::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use esker_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use esker_protocol::primitives::Str;

use super::{Admin, each};
use crate::client::Target;
use crate::error::Error;
use crate::metadata::{Broker, TopicPartition};

/// The first version of DescribeCluster that returns fenced brokers (KIP-1073).
const FENCED: i16 = 2;

/// A broker that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredBroker {
    /// As clients reach it.
    pub broker: Broker,
    /// It has no session: it does not run, or cannot reach the active controller.
    pub fenced: bool,
}

/// A log dir of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    /// Its path.
    pub path: Str,
    /// It has failed.
    pub offline: bool,
    /// It takes no new replicas (KIP-1066).
    pub cordoned: bool,
    /// Bytes of its disk; `None` where the broker does not return them (before KIP-827).
    pub total_bytes: Option<u64>,
    /// Bytes of its disk that are free, likewise.
    pub usable_bytes: Option<u64>,
    /// Bytes of the replicas in it.
    pub replicas: Vec<(TopicPartition, u64)>,
}

impl Admin {
    /// All registered brokers. A broker before Kafka 4.0 returns only those that are not fenced.
    ///
    /// # Errors
    /// No broker answers.
    #[boxed]
    pub async fn registered_brokers(&self) -> Result<Vec<RegisteredBroker>, Error> {
        let request = |version| DescribeClusterRequest {
            include_fenced_brokers: version >= FENCED,
            ..DescribeClusterRequest::default()
        };
        let attempt = || self.client.request_with(Target::Any, request);
        let answer = self.client.retry("the cluster", attempt).await?;
        each(|| "the cluster".to_owned(), answer.error_code, answer.error_message.as_ref())?;
        let broker = |b: esker_protocol::messages::describe_cluster::DescribeClusterBroker| RegisteredBroker {
            broker: Broker { id: b.broker_id, host: b.host, port: b.port, rack: b.rack },
            fenced: b.is_fenced,
        };
        Ok(answer.brokers.into_iter().map(broker).collect())
    }

    /// The log dirs of a broker with their replicas, or with some of them.
    ///
    /// # Errors
    /// The broker does not answer.
    #[boxed]
    pub async fn describe_log_dirs(
        &self,
        broker: i32,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<LogDir>, Error> {
        let topics = partitions.map(|partitions| {
            let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
            for tp in partitions {
                topics.entry(tp.topic.clone()).or_default().push(tp.partition);
            }
            topics.into_iter().map(|(topic, partitions)| DescribableLogDirTopic { topic, partitions }).collect()
        });
        let answer = self.client.request(Target::Node(broker), DescribeLogDirsRequest { topics }).await?;
        each(|| format!("log dirs of broker {broker}"), answer.error_code, None)?;
        let dirs = answer.results.into_iter().map(|dir| {
            let replicas = dir.topics.into_iter().flat_map(|topic| {
                topic.partitions.into_iter().map(move |found| {
                    let tp = TopicPartition { topic: topic.name.clone(), partition: found.partition_index };
                    (tp, u64::try_from(found.partition_size).unwrap_or_default())
                })
            });
            LogDir {
                path: dir.log_dir,
                offline: dir.error_code != ErrorCode::NONE,
                cordoned: dir.is_cordoned,
                total_bytes: u64::try_from(dir.total_bytes).ok(),
                usable_bytes: u64::try_from(dir.usable_bytes).ok(),
                replicas: replicas.collect(),
            }
        });
        Ok(dirs.collect())
    }

    /// Unregisters a broker that is gone for good.
    ///
    /// # Errors
    /// The broker is alive or not known, or the cluster has no active controller.
    #[boxed]
    pub async fn unregister_broker(&self, broker: i32) -> Result<(), Error> {
        let answer = self.client.request(Target::Any, UnregisterBrokerRequest { broker_id: broker }).await?;
        each(|| format!("broker {broker}"), answer.error_code, answer.error_message.as_ref())
    }
}

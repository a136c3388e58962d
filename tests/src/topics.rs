//! Topics are created, while nodes stand still, die, or lose their controller.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};

use crate::cluster::{Cluster, find};

/// How long a broker may take to create a topic.
const TIMEOUT_MS: i32 = 10_000;

/// A topic whose replicas the cluster places.
pub fn new_topic(name: &str, partitions: i32, replication: i16, configs: &[(&str, &str)]) -> CreatableTopic {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).to_owned().into(),
        value: Some((*value).to_owned().into()),
    };
    CreatableTopic {
        name: name.to_owned().into(),
        num_partitions: partitions,
        replication_factor: replication,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    }
}

/// Repeats a CreateTopics until an answer cannot change by a retry; returns its code. `ask` sends the request to one node; its argument is the
/// number of earlier attempts.
///
/// One that timed out, or whose answer was lost, may have been carried out: when it is sent again, the topic may be there.
pub fn create_by(
    topic: CreatableTopic,
    mut ask: impl FnMut(usize, &CreateTopicsRequest) -> Option<CreateTopicsResponse>,
) -> ErrorCode {
    let what = format!("a final answer about the topic {}", topic.name);
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..CreateTopicsRequest::default() };
    let mut sent = 0;
    find(&what, || {
        let answer = ask(sent, &request);
        sent += 1;
        let result = answer?.topics.into_iter().next()?;
        // A broker that stands still may be fenced for a moment.
        let are_fenced = result.error_message.is_some_and(|message| message.contains("fenced"));
        match result.error_code {
            ErrorCode::TOPIC_ALREADY_EXISTS if sent > 1 => Some(ErrorCode::NONE),
            code if code.is_retriable() || are_fenced => None,
            code => Some(code),
        }
    })
}

impl Cluster {
    /// Creates a topic; returns the code.
    pub fn create(&self, topic: CreatableTopic) -> ErrorCode {
        create_by(topic, |sent, request| self.ask_one(sent, 7, request))
    }

    /// Creates a topic, and waits until all its replicas are in sync.
    pub fn create_in_sync(&self, topic: CreatableTopic) {
        let name = topic.name.to_string();
        assert_eq!(self.create(topic), ErrorCode::NONE, "{name}");
        self.wait_in_sync(&name);
    }

    /// Creates a topic with a replica on each of three nodes and `min.insync.replicas=2`, and waits until all are in sync.
    pub fn create_topic(&self, name: &str, partitions: i32, durability: &str) {
        let configs = [("min.insync.replicas", "2"), ("durability", durability)];
        self.create_in_sync(new_topic(name, partitions, 3, &configs));
    }

    /// Creates a topic whose partitions have these replicas, and waits until all are in sync.
    pub fn create_assigned(&self, name: &str, replicas: &[&[i32]], configs: &[(&str, &str)]) {
        let assignment = |(partition, replicas): (usize, &&[i32])| CreatableReplicaAssignment {
            partition_index: i32::try_from(partition).expect("a partition"),
            broker_ids: replicas.to_vec(),
        };
        let assignments = replicas.iter().enumerate().map(assignment).collect();
        self.create_in_sync(CreatableTopic { assignments, ..new_topic(name, -1, -1, configs) });
    }
}

//! The request of a follower to a leader: a private API between brokers.
//!
//! It is Kafka's Fetch with what Kafka's lacks: the offset up to which the follower has flushed each partition. The answer is Kafka's
//! Fetch answer, version 17. In an answer OFFSET_OUT_OF_RANGE the log start offset is the leader's, and the end offset of the diverging epoch
//! is the leader's log end offset.
//!
//! The version of the request is 17 so that request and answer have one number: an answer is encoded in the version of its request.

use esker_protocol::Message;
use esker_protocol::messages::fetch::FetchResponse;
use esker_protocol::primitives::Uuid;

/// The request of ReplicaFetch.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32010, kind = "request", versions = "17", flexible = "17+", response = FetchResponse)]
pub struct ReplicaFetchRequest {
    /// The follower.
    #[field(default = -1)]
    pub replica_id: i32,
    /// Its broker epoch (KIP-903).
    #[field(default = -1)]
    pub broker_epoch: i64,
    /// The fetch session (KIP-227); 0 for none.
    pub session_id: i32,
    /// 0 begins a session, -1 fetches without one.
    #[field(default = -1)]
    pub session_epoch: i32,
    /// How long the leader may wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// The answer waits for so many bytes.
    pub min_bytes: i32,
    /// Most bytes of the answer; the first batch is returned whole.
    pub max_bytes: i32,
    /// Partitions that are new to the session or changed.
    pub topics: Vec<ReplicaFetchTopic>,
    /// Partitions that leave the session.
    pub forgotten: Vec<ForgottenPartitions>,
}

/// The partitions of a topic in a [`ReplicaFetchRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReplicaFetchTopic {
    /// The topic.
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<ReplicaFetchPartition>,
}

/// One partition of a [`ReplicaFetchRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReplicaFetchPartition {
    /// Its number.
    pub partition: i32,
    /// The leader epoch that the follower knows.
    #[field(default = -1)]
    pub current_leader_epoch: i32,
    /// The follower's log end offset.
    pub fetch_offset: i64,
    /// The follower has flushed everything below; -1 where only the log end counts.
    #[field(default = -1)]
    pub flushed_offset: i64,
    /// The epoch of the follower's last record; -1 if it has none.
    #[field(default = -1)]
    pub last_fetched_epoch: i32,
    /// The follower's log start offset.
    #[field(default = -1)]
    pub log_start_offset: i64,
    /// Most bytes of this partition.
    pub partition_max_bytes: i32,
}

/// Partitions of a topic that leave the session.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ForgottenPartitions {
    /// The topic.
    pub topic_id: Uuid,
    /// Their numbers.
    pub partitions: Vec<i32>,
}

#[cfg(test)]
mod tests {
    use esker_protocol::Request;
    use esker_protocol::primitives::{Reader, Writer};

    use super::*;

    #[test]
    fn a_request_and_its_answer_have_one_version() {
        let partition = ReplicaFetchPartition {
            partition: 3,
            current_leader_epoch: 4,
            fetch_offset: 50,
            flushed_offset: 40,
            last_fetched_epoch: 2,
            log_start_offset: 5,
            partition_max_bytes: 100,
        };
        let topic_id = Uuid([7; 16]);
        let request = ReplicaFetchRequest {
            replica_id: 2,
            broker_epoch: 9,
            session_id: 11,
            session_epoch: 12,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1000,
            topics: vec![ReplicaFetchTopic { topic_id, partitions: vec![partition] }],
            forgotten: vec![ForgottenPartitions { topic_id, partitions: vec![1, 2] }],
        };
        assert_eq!(ReplicaFetchRequest::VERSIONS, 17..=17);
        let mut writer = Writer::new();
        request.encode(&mut writer, 17).unwrap();
        let mut reader = Reader::new(writer.finish().into_bytes());
        assert_eq!(ReplicaFetchRequest::decode(&mut reader, 17).unwrap(), request);
        assert_eq!(ReplicaFetchRequest::KEY.0, 32010);
    }
}

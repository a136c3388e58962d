//! The errors of partitions, with the facts an answer needs. `crate::error` maps them to Kafka's error codes.

use esker_protocol::error::ErrorCode;
use esker_storage::validate::Rejected;
use esker_storage::{AppendError, LogError, ReadError};
use thiserror::Error;

/// The current leader of a partition, for answers to clients that asked the wrong broker (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderHint {
    /// Node id of the leader; -1 when there is none.
    pub leader: i32,
    /// Its leader epoch.
    pub leader_epoch: i32,
}

/// Why a partition cannot serve a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessError {
    /// No such topic, or no such partition of it.
    #[error("topic or partition does not exist")]
    UnknownPartition,
    /// No topic has that id.
    #[error("topic id does not exist")]
    UnknownTopicId,
    /// The name and the id of the request belong to different topics.
    #[error("topic id and name do not match")]
    InconsistentTopicId,
    /// Another broker leads it, or no broker does.
    #[error("this broker does not lead the partition (leader {}, epoch {})", .0.leader, .0.leader_epoch)]
    NotLeader(LeaderHint),
    /// The client's leader epoch is older than ours (KIP-320).
    #[error("leader epoch {requested} is older than {}", current.leader_epoch)]
    FencedLeaderEpoch {
        /// What the client thinks.
        requested: i32,
        /// What is so.
        current: LeaderHint,
    },
    /// The client's leader epoch is newer than ours: its metadata is newer than this broker's.
    #[error("leader epoch {requested} is not known here yet, the latest is {}", current.leader_epoch)]
    UnknownLeaderEpoch {
        /// What the client thinks.
        requested: i32,
        /// What is so here.
        current: LeaderHint,
    },
}

/// Why a produce to one partition failed.
#[derive(Debug, Error)]
pub enum ProduceError {
    /// The partition cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The topic belongs to the broker itself.
    #[error("topic {0} is written by the broker alone")]
    InternalTopic(String),
    /// `acks` is none of -1, 0, 1.
    #[error("acks must be -1, 0 or 1, not {0}")]
    InvalidAcks(i16),
    /// The transaction's coordinator does not verify the batch.
    #[error("the partition is not in the transaction, says its coordinator: {underlying}")]
    NotInTransaction {
        /// The error code for the producer.
        code: ErrorCode,
        /// The coordinator's error code.
        underlying: ErrorCode,
    },
    /// Fewer in-sync replicas than `min.insync.replicas`: nothing was written.
    #[error("{in_sync} replicas are in sync, min.insync.replicas is {required}")]
    NotEnoughReplicas {
        /// Replicas in sync.
        in_sync: usize,
        /// Replicas required.
        required: usize,
    },
    /// The record set breaks a rule.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The log refused it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Written, but not committed before the request's time-out.
    #[error("the records are written, but not yet on all in-sync replicas")]
    TimedOut,
    /// Written, but not flushed, as the topic's `durability` requires: the disk failed.
    #[error("the records are written, but could not be flushed")]
    NotFlushed,
    /// Written, but the in-sync set shrank below `min.insync.replicas` before they were committed.
    #[error("the records are written, but too few replicas stayed in sync")]
    NotEnoughReplicasAfterAppend,
}

/// Why a fetch from one partition failed.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The partition cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The log could not be read there.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stored records use a codec that this request's version cannot carry.
    #[error("the records are compressed with zstd, which Fetch below version 10 does not know")]
    UnsupportedCompression,
    /// The stored records could not be converted for an old client.
    #[error("the records cannot be converted for this version of Fetch: {0}")]
    Conversion(String),
    /// The epoch that the client fetched last is unknown here, and so is where it ends.
    #[error("last fetched epoch {0} cannot be compared with this log")]
    UndefinedEpoch(i32),
}

/// Why a follower's log was left as it is.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The role changed since the request to the leader.
    #[error("this broker does not follow in leader epoch {0}")]
    NotFollowing(i32),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log refused what was fetched.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why DeleteRecords failed for one partition.
#[derive(Debug, Error)]
pub enum DeleteRecordsError {
    /// The partition cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The topic's `cleanup.policy` has no `delete` in it.
    #[error("records of a compacted topic are not deleted by offset")]
    Policy,
    /// The topic belongs to the broker itself.
    #[error("records of an internal topic are not deleted")]
    InternalTopic,
    /// Above the high watermark or below -1.
    #[error("offset {offset} is above the high watermark {high_watermark} or below -1")]
    OffsetOutOfRange {
        /// The requested offset.
        offset: i64,
        /// The highest allowed offset.
        high_watermark: i64,
    },
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
}

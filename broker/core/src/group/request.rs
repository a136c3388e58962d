//! Requests to a group and their answers: JoinGroup, SyncGroup, LeaveGroup, OffsetCommit, OffsetFetch.

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};

use super::committed_offset::Committed;
use super::member::Protocol;

/// A join.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinRequest {
    /// The group.
    pub group: Str,
    /// The member's id; empty for a newcomer.
    pub member_id: Str,
    /// `group.instance.id`.
    pub instance_id: Option<Str>,
    /// The client's name for itself.
    pub client_id: Str,
    /// Where it connects from.
    pub client_host: Str,
    /// Session time-out in ms.
    pub session_timeout_ms: i32,
    /// Rebalance time-out in ms.
    pub rebalance_timeout_ms: i32,
    /// E.g. `consumer`.
    pub protocol_type: Str,
    /// What it offers.
    pub protocols: Vec<Protocol>,
    /// v4+: the coordinator first returns a member id to a new member (KIP-394).
    pub require_known_member_id: bool,
    /// v9+: the coordinator can tell a returning static leader to keep the assignment (KIP-814).
    pub can_skip_assignment: bool,
    /// Something unique, for the id of a newcomer.
    pub fresh: Str,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinReply {
    /// Kafka's code.
    pub error: ErrorCode,
    /// The generation, -1 if none.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Str>,
    /// The chosen protocol.
    pub protocol: Option<Str>,
    /// Member id of the leader.
    pub leader: Str,
    /// v9: the leader need not assign.
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: Str,
    /// For the leader: id, instance id and metadata of all members.
    pub members: Vec<(Str, Option<Str>, Bytes)>,
}

impl JoinReply {
    /// A refusal.
    pub fn failed(error: ErrorCode, member_id: &Str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: Str::default(),
            skip_assignment: false,
            member_id: member_id.clone(),
            members: Vec::new(),
        }
    }
}

/// The member that sends the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Member id.
    pub member_id: Str,
    /// `group.instance.id`.
    pub instance_id: Option<Str>,
    /// The generation it believes in.
    pub generation: i32,
}

/// A sync.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncRequest {
    /// The group.
    pub group: Str,
    /// The member that sends the request.
    pub identity: Identity,
    /// v5+: the protocol type it believes in.
    pub protocol_type: Option<Str>,
    /// v5+: the protocol it believes in.
    pub protocol: Option<Str>,
    /// From the leader: the assignments of all members.
    pub assignments: Vec<(Str, Bytes)>,
}

/// The answer to a sync.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncReply {
    /// Kafka's code.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<Str>,
    /// The chosen protocol.
    pub protocol: Option<Str>,
    /// The member's assignment.
    pub assignment: Bytes,
}

impl SyncReply {
    /// A refusal.
    pub fn failed(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// What became of one member that was to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveReply {
    /// Member id of the request.
    pub member_id: Str,
    /// Instance id of the request.
    pub instance_id: Option<Str>,
    /// Kafka's code.
    pub error: ErrorCode,
}

/// One partition's offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The topic.
    pub topic: Str,
    /// Its id, zero if unknown.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Leader epoch of the last record consumed, -1 if unknown.
    pub leader_epoch: i32,
    /// What the client stores beside it.
    pub metadata: Option<Str>,
    /// v1: when it counts as committed, -1 for now.
    pub committed_at: i64,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitRequest {
    /// The group.
    pub group: Str,
    /// The committing member; generation -1 and an empty id for a client without membership.
    pub identity: Identity,
    /// v2-4: how long the offsets are kept.
    pub retention_ms: Option<i64>,
    /// v9+: a group that is not there is answered with its own code, and members of consumer groups may commit.
    pub not_found_code: bool,
    /// The offsets.
    pub offsets: Vec<OffsetCommit>,
}

/// A topic's committed offsets by partition, `None` where there is none.
pub type TopicOffsets = (Str, Vec<(i32, Option<Committed>)>);

/// Which offsets a request selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OffsetSelection {
    /// All that the group has.
    All,
    /// These partitions.
    Of(Vec<(Str, Vec<i32>)>),
}

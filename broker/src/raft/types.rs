//! What openraft's types are for us.

use std::fmt;

use bytes::Bytes;
use esker_storage::Uuid;
use esker_storage::metalog::SnapshotFile;

/// A controller's identity: its node id and the id of the folder that holds its log. A node that lost its disk is a new
/// member, never an old one with an empty log.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RaftId {
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id`.
    pub directory: [u8; 16],
}

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node_id, Uuid(self.directory))
    }
}

impl fmt::Debug for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Metadata records that are committed together: the payload of an entry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The term in which they were decided.
    pub term: u64,
    /// The offset of the image that they were decided on: the index that the entry must have.
    pub decided_on: u64,
    /// Encoded [`esker_core::metadata::MetadataRecord`]s.
    pub records: Bytes,
}

impl Proposal {
    /// Copies the records, so that an entry in memory holds nothing else.
    pub(super) fn new(term: u64, decided_on: u64, records: &[u8]) -> Self {
        Self { term, decided_on, records: Bytes::copy_from_slice(records) }
    }

    /// Whether it was decided on the state right before the entry at `id`. Every node that applies the entry finds the same.
    pub(super) fn is_current_at(&self, id: &LogId) -> bool {
        self.term == id.leader_id.term && self.decided_on == id.index
    }
}

/// The outcome of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Its records are in the image.
    Changed,
    /// It was decided on another state, and changed nothing.
    Stale,
    /// It has no records.
    Nothing,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of records", self.records.len())
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// openraft's types.
    pub TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = RaftId,
);

pub(super) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(super) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(super) type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;
pub(super) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(super) type Membership = openraft::Membership<RaftId, openraft::BasicNode>;
pub(super) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(super) type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>;
pub(super) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;

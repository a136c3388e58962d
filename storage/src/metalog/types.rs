//! The content of the metadata log, in Esker's own types.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use esker_protocol::primitives::Uuid;

/// The identity of a member of the metadata quorum: its node id and the id of the folder that holds its log. A node that lost
/// its disk is a new member, never an old one with an empty log.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterId {
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id`.
    pub directory: [u8; 16],
}

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node_id, Uuid(self.directory))
    }
}

impl fmt::Debug for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The place of an entry, and the leader that wrote it. Ordered as raft orders logs: term, leader, index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The leader's term.
    pub term: u64,
    /// The leader.
    pub leader: VoterId,
    /// Position in the log, from 0.
    pub index: u64,
}

/// A vote: for whom, in which term, and whether a quorum granted it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// The candidate or leader.
    pub candidate: VoterId,
    /// A quorum granted it: the candidate leads.
    pub committed: bool,
}

/// The members of the quorum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// The voters; while they change, the old and the new ones.
    pub voters: Vec<BTreeSet<VoterId>>,
    /// All members and their addresses; those that do not vote are learners. Brokers that pull the log are no members.
    pub addresses: BTreeMap<VoterId, String>,
}

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader begins its term with it.
    Blank,
    /// Encoded metadata records.
    Records(Bytes),
    /// The members from here on.
    Members(Members),
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub id: LogId,
    /// Its content.
    pub payload: Payload,
}

/// One change of the log, as encoded in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Vote(Vote),
    Entry(Entry),
    /// The log is committed up to here, as far as this node knows.
    Committed(Option<LogId>),
    /// All entries behind this one are removed (all entries, if there is none).
    TruncateAfter(Option<LogId>),
    /// All entries up to this one are in a snapshot and removed.
    Purge(LogId),
}

/// The log position of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that is in it.
    pub last: Option<LogId>,
    /// The entry that made `members` the members.
    pub members_at: Option<LogId>,
    /// The members as of `last`.
    pub members: Members,
}

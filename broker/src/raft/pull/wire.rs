//! The messages of observers.

use std::time::Duration;

use bytes::Bytes;
use esker_protocol::Message;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::super::wire::{WireLogId, WireVote, WireVoter};

/// The longest wait of another node's pull. It bounds the time until an observer notices that the leader is gone while its connection stands.
pub const MAX_PULL_WAIT: Duration = Duration::from_millis(500);

/// An observer asks for the entries behind its position.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32024, kind = "request", versions = "0", flexible = "0+", response = RaftPullResponse)]
pub struct RaftPullRequest {
    /// The last vote that the sender has seen.
    pub vote: WireVote,
    /// Up to where the log of the sender is committed.
    pub committed: WireLogId,
    /// The term of a leader that the sender cannot reach, -1: none. A receiver that knows no later one waits for it.
    #[field(default = -1)]
    pub unreachable_term: i64,
    /// How long the receiver may wait for entries.
    pub max_wait_ms: i32,
    /// The sender may not become a voter (`process.roles=broker`). Earlier builds do not say it of themselves.
    #[field(tag = 0, tagged = "0+")]
    pub broker_only: bool,
}

impl RaftPullRequest {
    /// The request of another node, which waits no longer than [`MAX_PULL_WAIT`] whatever it asks for.
    #[must_use]
    pub fn bounded(self) -> Self {
        let most = i32::try_from(MAX_PULL_WAIT.as_millis()).unwrap_or(i32::MAX);
        Self { max_wait_ms: self.max_wait_ms.min(most), ..self }
    }
}

/// The entries.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct RaftPullResponse {
    /// NOT_CONTROLLER; INCONSISTENT_VOTER_SET: the log of the sender is of another cluster history; or the receiver could not answer.
    pub error_code: ErrorCode,
    /// The leader as the receiver knows it; a node id of -1: none.
    pub leader: WireVoter,
    /// Where the leader is.
    pub leader_address: Str,
    /// The receiver's term.
    #[field(default = -1)]
    pub term: i64,
    /// The entries behind the position are in the snapshot of the receiver only.
    pub needs_snapshot: bool,
    /// The vote of the receiver, which leads.
    pub vote: WireVote,
    /// An encoded [`super::super::wire::RaftAppendRequest`] (version 0): committed entries, or none.
    pub append: Bytes,
}

/// An observer asks for a piece of the snapshot's file.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32025, kind = "request", versions = "0", flexible = "0+", response = RaftPullSnapshotResponse)]
pub struct RaftPullSnapshotRequest {
    /// The last entry of the snapshot; an index of -1: the newest one.
    pub id: WireLogId,
    /// Where the piece begins.
    pub offset: i64,
}

/// The piece.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct RaftPullSnapshotResponse {
    /// POSITION_OUT_OF_RANGE: the receiver does not have this snapshot any more, begin again.
    pub error_code: ErrorCode,
    /// The last entry of the snapshot.
    pub id: WireLogId,
    /// Bytes of the whole file.
    pub size: i64,
    /// The piece; empty behind the end.
    pub bytes: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_node_does_not_say_how_long_this_one_waits() {
        for (asked, granted) in [(-1, -1), (0, 0), (500, 500), (501, 500), (i32::MAX, 500)] {
            let request = RaftPullRequest { max_wait_ms: asked, ..RaftPullRequest::default() };
            assert_eq!(request.bounded().max_wait_ms, granted, "{asked}");
        }
    }
}

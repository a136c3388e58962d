//! The largest requests between nodes. Anything that can connect can send what comes before the hello, so that has to be small; after it each API has
//! what it needs. A follower's fetch grows with the partitions, a submitted request with what its client sent.

use esker_core::replication::wire::ReplicaFetchRequest;
use esker_core::transaction::wire::{AddPartitionsRequest, WriteMarkersRequest};
use esker_protocol::Request;
use esker_protocol::api::ApiKey;

use crate::peer::messages::{FIRST_KEY, SubmitRequest};
use crate::raft::APPEND_LIMIT;
use crate::raft::wire::{RaftAppendRequest, RaftSnapshotRequest};
use crate::server::PeerLimits;

/// A hello, a heartbeat, a vote: less than 1 KiB, with room for long names.
const SMALL: usize = 64 << 10;
/// A piece of a snapshot has 1 MiB.
const SNAPSHOT: usize = 2 << 20;
/// 50 bytes a partition in the first fetch of a session: a million of them.
const FETCH: usize = 64 << 20;
/// Made of a client's request, of which `socket.request.max.bytes` allows 100 MiB.
const SUBMITTED: usize = 128 << 20;

/// What the server asks.
pub const PEER_LIMITS: PeerLimits = PeerLimits { first_key: FIRST_KEY, unproven: SMALL, proven };

fn proven(key: ApiKey) -> usize {
    match key {
        RaftAppendRequest::KEY => APPEND_LIMIT,
        RaftSnapshotRequest::KEY => SNAPSHOT,
        ReplicaFetchRequest::KEY => FETCH,
        SubmitRequest::KEY | WriteMarkersRequest::KEY | AddPartitionsRequest::KEY => SUBMITTED,
        _ => SMALL,
    }
}

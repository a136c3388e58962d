//! Who this node is, as far as it is known: a node that joins learns its id and its cluster on the way.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use esker_protocol::primitives::{Str, Uuid};
use parking_lot::Mutex;

use crate::telemetry::PeersMetrics;

/// A node as the other side of a connection has proved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerId {
    /// `node.id`.
    pub node_id: i32,
    /// Its metadata folder.
    pub directory: Uuid,
    /// Changes with each start.
    pub incarnation: Uuid,
}

/// The cluster that a node is in, and its place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The cluster.
    pub cluster_id: Str,
    /// `node.id`.
    pub node_id: i32,
    /// The id of the folder that holds the metadata log.
    pub directory: Uuid,
}

/// This node.
#[derive(Debug)]
pub struct LocalNode {
    incarnation: Uuid,
    join: Vec<Str>,
    /// The folder of a node that is in no cluster yet.
    directory: Uuid,
    membership: OnceLock<Membership>,
    peers: Arc<PeersMetrics>,
    moved: Mutex<BTreeMap<(i32, Uuid), MovedNode>>,
}

/// A node that listens elsewhere than the metadata log says.
#[derive(Debug)]
struct MovedNode {
    from: String,
    to: Str,
}

impl LocalNode {
    /// A node that is in no cluster yet: it was told to `join`, and its metadata folder is to have the id `directory`.
    pub fn new(incarnation: Uuid, join: Vec<Str>, directory: Uuid) -> Self {
        let (membership, peers, moved) = (OnceLock::new(), Arc::default(), Mutex::default());
        Self { incarnation, join, directory, membership, peers, moved }
    }

    /// From here on the node is in a cluster.
    pub fn enter(&self, cluster_id: Str, node_id: i32, directory: Uuid) {
        // It enters one in its life.
        let _ = self.membership.set(Membership { cluster_id, node_id, directory });
    }

    /// Counters of its requests to other nodes.
    pub fn peers(&self) -> &Arc<PeersMetrics> {
        &self.peers
    }

    /// Its place in the cluster, once it has one.
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.get()
    }

    /// The id that its metadata folder has or will have.
    pub fn directory(&self) -> Uuid {
        self.membership.get().map_or(self.directory, |membership| membership.directory)
    }

    /// Changes with each start.
    pub fn incarnation(&self) -> Uuid {
        self.incarnation
    }

    /// A node answered at `to`, and the metadata log says `from`. After a move of all voters at once nobody else can say so: the log
    /// changes only once one of them leads.
    pub fn note_moved(&self, node_id: i32, directory: Uuid, from: &str, to: &Str) {
        let moved = MovedNode { from: from.to_owned(), to: to.clone() };
        self.moved.lock().insert((node_id, directory), moved);
    }

    /// Where a node is reached that the metadata log has at `address`.
    pub fn reach(&self, node_id: i32, directory: Uuid, address: &str) -> Str {
        let moved = self.moved.lock();
        let moved = moved.get(&(node_id, directory)).filter(|moved| moved.from == address);
        moved.map_or_else(|| Str::copy(address), |moved| moved.to.clone())
    }

    /// The addresses that it was told to join.
    pub fn join(&self) -> &[Str] {
        &self.join
    }
}

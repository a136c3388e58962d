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
    /// Where nodes are that listen elsewhere than the metadata log says.
    moved: Mutex<BTreeMap<(i32, Uuid), MovedNode>>,
}

/// Where the metadata log has a node, and where it answered.
#[derive(Debug, PartialEq, Eq)]
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

    /// A node answered at `to`, and the metadata log says `from`. While too many voters are at other addresses nobody else can say so: the log
    /// changes only once one of them leads.
    pub fn note_moved(&self, node_id: i32, directory: Uuid, from: &str, to: &Str) {
        let moved = MovedNode { from: from.to_owned(), to: to.clone() };
        if self.moved.lock().insert((node_id, directory), moved).is_none_or(|before| before.to != *to) {
            tracing::info!(node = node_id, from, %to, "a node is not where the metadata log has it: it is called where it answered");
        }
    }

    /// Where a node is reached that the metadata log has at `address`.
    pub fn reach(&self, node_id: i32, directory: Uuid, address: &str) -> Str {
        let moved = self.moved.lock();
        let moved = moved.get(&(node_id, directory)).filter(|moved| moved.from == address);
        moved.map_or_else(|| Str::copy(address), |moved| moved.to.clone())
    }

    /// A node was not found at `address`: what was noted of it holds no more. It may be back where the log has it.
    pub fn forget_moved(&self, node_id: i32, directory: Uuid, address: &str) {
        let mut moved = self.moved.lock();
        if moved.get(&(node_id, directory)).is_some_and(|moved| moved.to.as_str() == address) {
            moved.remove(&(node_id, directory));
        }
    }

    /// The addresses that it was told to join.
    pub fn join(&self) -> &[Str] {
        &self.join
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_moved_is_looked_for_where_it_answered_until_it_is_not_there() {
        let node = LocalNode::new(Uuid([1; 16]), Vec::new(), Uuid([2; 16]));
        let (id, directory) = (7, Uuid([3; 16]));
        let reach = || node.reach(id, directory, "log:1").to_string();
        assert_eq!(reach(), "log:1");
        node.note_moved(id, directory, "log:1", &"new:1".into());
        assert_eq!(reach(), "new:1");
        assert_eq!(node.reach(id, directory, "later:1").as_str(), "later:1", "the log says something newer");
        assert_eq!(node.reach(id, Uuid([4; 16]), "log:1").as_str(), "log:1", "another folder is another node");
        node.forget_moved(id, directory, "old:1");
        assert_eq!(reach(), "new:1", "a late failure at another address");
        node.forget_moved(id, directory, "new:1");
        assert_eq!(reach(), "log:1");
    }
}

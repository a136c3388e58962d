//! In one leader epoch of a partition one broker acts as its leader.
//!
//! Source: KIP-101 (the leader epoch is raised by the controller with each change of leader), and Raft's election safety for the metadata quorum:
//! at most one leader a term.

use std::collections::BTreeMap;

use esker_broker::broker::Broker;
use esker_core::metadata::PartitionId;

/// All leaders so far.
#[derive(Debug, Default)]
pub struct Leaders {
    partitions: BTreeMap<(PartitionId, i32), i32>,
    quorum: BTreeMap<u64, i32>,
}

impl Leaders {
    /// Adds the leaderships that `broker` believes to have now.
    pub fn check(&mut self, broker: &Broker) -> Result<(), String> {
        let own = broker.node_id;
        for partition in broker.replicas.partitions() {
            let Some(epoch) = partition.role().leading_epoch() else { continue };
            let leader = *self.partitions.entry((partition.id(), epoch)).or_insert(own);
            if leader != own {
                let (topic, index) = (partition.topic(), partition.index());
                return Err(format!("nodes {leader} and {own} lead {topic}-{index} in leader epoch {epoch}"));
            }
        }
        let quorum = broker.metadata.quorum();
        let view = quorum.borrow();
        if view.is_leading() {
            let leader = *self.quorum.entry(view.term).or_insert(own);
            if leader != own {
                return Err(format!("nodes {leader} and {own} lead the metadata quorum in term {}", view.term));
            }
        }
        Ok(())
    }

    /// Leader epochs that were seen.
    pub fn count(&self) -> usize {
        self.partitions.len()
    }
}

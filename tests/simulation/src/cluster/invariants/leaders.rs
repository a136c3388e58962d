//! In one leader epoch of a partition one broker acts as its leader.
//!
//! Source: KIP-101 (the leader epoch is raised by the controller with each change of leader). Of the metadata quorum, what openraft counts as Raft's
//! term is a number and the candidate: a candidate with a larger id may follow one with a smaller id under the same number, and not the other way.

use std::collections::BTreeMap;

use esker_broker::broker::Broker;
use esker_broker::raft::RaftId;
use esker_core::metadata::PartitionId;

/// All leaders so far.
#[derive(Debug, Default)]
pub struct Leaders {
    partitions: BTreeMap<(PartitionId, i32), i32>,
    quorum: BTreeMap<u64, Vec<RaftId>>,
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
        let Some(leader) = view.own.filter(|_| view.is_leading()) else { return Ok(()) };
        let led = self.quorum.entry(view.term).or_default();
        // An earlier leader may believe that it leads until it hears of the later one.
        if !led.contains(&leader) {
            if let Some(later) = led.iter().find(|known| **known > leader) {
                return Err(format!("{leader} leads the metadata quorum in term {} after {later}", view.term));
            }
            led.push(leader);
        }
        Ok(())
    }

    /// Leader epochs that were seen.
    pub fn count(&self) -> usize {
        self.partitions.len()
    }
}

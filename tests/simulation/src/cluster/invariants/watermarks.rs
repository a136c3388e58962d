//! The high watermark of a leader never goes back while it leads, and never past what each in-sync replica has: on its disk, where a topic is
//! flushed before an acknowledgement, in its log elsewhere.
//!
//! Source: Kafka's design, "Replication": a message is committed when all in-sync replicas have it. A replica is looked at only where its broker
//! runs and has the same state of the partition in force as the leader: one with an emptied disk is in the ISR until the controller knows.
//!
//! After a crash a broker knows only of what the journal and the checkpoint of recovery points name that it is on disk. Where that is less than the
//! high watermark, the disk itself decides: what it has after a power cut.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_broker::broker::Broker;
use esker_broker::replica::Partition;
use esker_core::metadata::PartitionId;

/// The last high watermark of each leadership.
#[derive(Debug, Default)]
pub struct Watermarks {
    last: BTreeMap<(PartitionId, i32, i64), i64>,
    /// Replicas that were compared.
    pub compared: usize,
}

impl Watermarks {
    /// Looks at all leaders among `brokers` and at their followers. `synced_end` is the end of the log in a folder, as the disk of a node has it after a
    /// power cut.
    pub fn check(&mut self, brokers: &[Arc<Broker>], synced_end: impl Fn(i32, &str) -> i64) -> Result<(), String> {
        let replicas: Vec<BTreeMap<PartitionId, Arc<Partition>>> = brokers
            .iter()
            .map(|broker| {
                broker.replicas.partitions().into_iter().map(|partition| (partition.id(), partition)).collect()
            })
            .collect();
        for (leader, led) in brokers.iter().zip(&replicas) {
            for (id, partition) in led {
                let role = partition.role();
                let (Some(epoch), Some(assignment)) = (role.leading_epoch(), role.assignment()) else { continue };
                let high_watermark = partition.log().high_watermark();
                let place = format!("{}-{}", partition.topic(), partition.index());
                let last = self.last.entry((*id, epoch, leader.session.epoch())).or_insert(high_watermark);
                if high_watermark < *last {
                    return Err(format!(
                        "{place}: the high watermark went back from {last} to {high_watermark} in epoch {epoch}"
                    ));
                }
                *last = high_watermark;
                let flushed = role.settings().is_some_and(|settings| settings.flush_before_ack);
                for (broker, here) in brokers.iter().zip(&replicas) {
                    let Some(replica) = here.get(id).filter(|_| assignment.isr.contains(&broker.node_id)) else {
                        continue;
                    };
                    let same = |other: &_| (assignment.leader_epoch, assignment.partition_epoch) == *other;
                    let in_force = replica.role().assignment().map(|a| (a.leader_epoch, a.partition_epoch));
                    if !in_force.as_ref().is_some_and(same) {
                        continue;
                    }
                    self.compared += 1;
                    let log = replica.log();
                    let has = if flushed { log.durable_offset() } else { log.log_end_offset() };
                    if has < high_watermark && !(flushed && synced_end(broker.node_id, &place) >= high_watermark) {
                        return Err(format!(
                            "{place}: the high watermark is {high_watermark}, and node {} of the ISR {:?} has {has}",
                            broker.node_id, assignment.isr
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

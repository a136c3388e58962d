//! All replicas of a partition have the same bytes up to the high watermark.
//!
//! Source: Kafka's design, "Replication": logs of in-sync replicas are identical up to it; KIP-101 and KIP-279 for truncation after a change of
//! leader.

use std::sync::Arc;

use esker_broker::broker::Broker;

/// Compares the logs of all partitions that every broker has. They are at rest.
pub fn check(brokers: &[Arc<Broker>]) -> Result<(), String> {
    let Some((first, others)) = brokers.split_first() else { return Ok(()) };
    for partition in first.replicas.partitions() {
        let (topic, index) = (partition.topic(), partition.index());
        let log = partition.log();
        let up_to = log.high_watermark();
        let expected = content(&log, up_to)?;
        for other in others {
            let here = other.replicas.partitions().into_iter().find(|other| other.id() == partition.id());
            let here = here.ok_or_else(|| format!("node {} has no {topic}-{index}", other.node_id))?;
            let found = content(&here.log(), up_to)?;
            if found != expected {
                let (a, b) = (first.node_id, other.node_id);
                return Err(format!("{topic}-{index} differs on nodes {a} and {b} below {up_to}"));
            }
        }
    }
    Ok(())
}

fn content(log: &esker_storage::Log, up_to: i64) -> Result<Vec<u8>, String> {
    let (mut bytes, mut at) = (Vec::new(), log.log_start_offset());
    while at < up_to {
        let read = log.read(at, 1 << 20, up_to, true).map_err(|error| error.to_string())?;
        if read.next_offset <= at {
            return Err(format!("{}-{} ends at {at} below {up_to}", log.topic(), log.partition()));
        }
        bytes.extend_from_slice(&read.records);
        at = read.next_offset;
    }
    Ok(bytes)
}

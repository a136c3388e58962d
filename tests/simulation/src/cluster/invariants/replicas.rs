//! All replicas of a partition have the same bytes up to the high watermark.
//!
//! Source: Kafka's design, "Replication": logs of in-sync replicas are identical up to it; KIP-101 and KIP-279 for truncation after a change of
//! leader.

use std::sync::Arc;

use esker_broker::broker::Broker;
use esker_core::metadata::PartitionId;

/// Compares the logs of all partitions on the brokers that the metadata assigns them to. They are at rest.
pub fn check(brokers: &[Arc<Broker>]) -> Result<(), String> {
    let Some(image) = brokers.first().map(|broker| broker.metadata.image()) else { return Ok(()) };
    for assigned in image.topics().flat_map(|topic| topic.partitions.iter()) {
        let id = PartitionId { topic: assigned.topic_id, partition: assigned.partition };
        let mut expected: Option<(i32, i64, Vec<u8>)> = None;
        for broker in brokers.iter().filter(|broker| assigned.replicas.contains(&broker.node_id)) {
            let here = broker.replicas.partitions().into_iter().find(|partition| partition.id() == id);
            let here = here.ok_or_else(|| format!("node {} has no {id:?}", broker.node_id))?;
            let log = here.log();
            let Some((first, up_to, bytes)) = &expected else {
                let up_to = log.high_watermark();
                expected = Some((broker.node_id, up_to, content(&log, up_to)?));
                continue;
            };
            if content(&log, *up_to)? != *bytes {
                let (topic, index) = (here.topic(), here.index());
                return Err(format!("{topic}-{index} differs on nodes {first} and {} below {up_to}", broker.node_id));
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

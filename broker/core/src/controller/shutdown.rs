//! Controlled shutdown: a broker hands its leaderships over before it stops, so that no client waits for a session to end.

use super::decision::{Decision, Refusal};
use super::elections::{ElectionRules, Event, apply_event, check_epoch};
use crate::metadata::{BrokerChangeRecord, MetadataImage, MetadataRecord, NO_LEADER};

/// Begins the controlled shutdown of a broker, or continues it: the broker leaves the in-sync sets and its leaderships move. The answer
/// is the number of partitions that are left without a leader by that.
pub fn shut_down_broker(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    node_id: i32,
    epoch: i64,
) -> Result<Decision<usize>, Refusal> {
    let broker = check_epoch(image, node_id, epoch)?;
    let mut records = Vec::new();
    if !broker.in_controlled_shutdown {
        let begun =
            BrokerChangeRecord { node_id, epoch, in_controlled_shutdown: true, ..BrokerChangeRecord::default() };
        records.push(MetadataRecord::BrokerChange(begun));
    }
    let moved = apply_event(image, rules, image.replicated_by(node_id), Event::Leaves(node_id));
    let none = |record: &&MetadataRecord| matches!(record, MetadataRecord::PartitionChange(change) if change.leader == NO_LEADER);
    let leaderless = moved.iter().filter(none).count();
    records.extend(moved);
    Ok(Decision { records, reply: leaderless })
}

//! Fencing: a broker whose session ended leads nothing and is in sync with nothing, until it has caught up with the metadata log.

use super::decision::{Decision, Refusal};
use super::elections::{ElectionRules, Event, apply_event, check_epoch};
use crate::metadata::{BrokerChangeRecord, MetadataImage, MetadataRecord};

/// Fences a broker: its leaderships move first. Returns whether that changes anything.
pub fn fence_broker(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    node_id: i32,
    epoch: i64,
) -> Result<Decision<bool>, Refusal> {
    if check_epoch(image, node_id, epoch)?.fenced {
        return Ok(Decision { records: Vec::new(), reply: false });
    }
    let mut records = apply_event(image, rules, image.replicated_by(node_id), Event::Leaves(node_id));
    let fenced = BrokerChangeRecord { node_id, epoch, fenced: 1, ..BrokerChangeRecord::default() };
    records.push(MetadataRecord::BrokerChange(fenced));
    Ok(Decision { records, reply: true })
}

/// Unfences a broker that has applied the metadata log up to `applied`. It then leads partitions that have no leader and that
/// it holds whole. Returns whether the broker is unfenced: not before it has caught up with its own registration (and so knows what
/// became of its partitions), and not while it shuts down.
pub fn unfence_broker(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    node_id: i32,
    epoch: i64,
    applied: u64,
) -> Result<Decision<bool>, Refusal> {
    let broker = check_epoch(image, node_id, epoch)?;
    let mut records = Vec::new();
    if !broker.fenced {
        return Ok(Decision { records, reply: true });
    }
    let registered_at = u64::try_from(epoch).unwrap_or_default();
    let caught_up = applied > registered_at || applied >= image.offset();
    if !caught_up || broker.in_controlled_shutdown {
        return Ok(Decision { records, reply: false });
    }
    let unfenced = BrokerChangeRecord { node_id, epoch, fenced: -1, ..BrokerChangeRecord::default() };
    records.push(MetadataRecord::BrokerChange(unfenced));
    let leaderless = image.leaderless().filter(|partition| partition.replicas.contains(&node_id));
    records.extend(apply_event(image, rules, leaderless, Event::Returns(node_id)));
    Ok(Decision { records, reply: true })
}

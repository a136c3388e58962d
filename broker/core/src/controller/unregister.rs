//! UnregisterBroker (KIP-500): a broker leaves the cluster for good. What it holds counts for nothing any more: should it register again,
//! its replicas are new ones. The assignments stay; partitions are moved off a broker by a reassignment before.

use esker_protocol::error::ErrorCode;

use super::decision::{Decision, Refusal};
use super::elections::{ElectionRules, Event, apply_event};
use super::identity::release;
use crate::metadata::{MetadataImage, MetadataRecord, UnregisterBrokerRecord};

/// Decides an UnregisterBroker request.
pub fn unregister_broker(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    node_id: i32,
) -> Result<Decision<()>, Refusal> {
    let released = release(image, node_id);
    let Some(broker) = image.broker(node_id) else {
        // A node that got an id and never registered.
        if let Some(released) = released {
            return Ok(Decision { records: vec![released], reply: () });
        }
        let message = format!("Broker ID {node_id} is not currently registered");
        return Err(Refusal::new(ErrorCode::BROKER_ID_NOT_REGISTERED, message));
    };
    let mut records = apply_event(image, rules, image.replicated_by(node_id), Event::Lost(node_id));
    records.push(MetadataRecord::UnregisterBroker(UnregisterBrokerRecord { node_id, epoch: broker.epoch }));
    records.extend(released);
    Ok(Decision { records, reply: () })
}

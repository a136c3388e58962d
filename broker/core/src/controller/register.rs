//! A broker joins the cluster, or comes back.

use esker_protocol::primitives::{Str, Uuid};

use super::decision::Decision;
use crate::metadata::{BrokerRecord, ListenerRecord, MetadataImage, MetadataRecord};

/// What a broker tells of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// `node.id`.
    pub node_id: i32,
    /// Changes with each start.
    pub incarnation: Uuid,
    /// Where clients reach it.
    pub listeners: Vec<ListenerRecord>,
    /// `broker.rack`.
    pub rack: Option<Str>,
    /// Ids of its log dirs.
    pub log_dirs: Vec<Uuid>,
}

/// Registers a broker: the answer is its broker epoch.
pub fn register_broker(image: &MetadataImage, registration: Registration) -> Decision<i64> {
    let epoch = image.broker(registration.node_id).map_or(0, |known| known.epoch.saturating_add(1));
    let record = BrokerRecord {
        node_id: registration.node_id,
        epoch,
        incarnation: registration.incarnation,
        listeners: registration.listeners,
        rack: registration.rack,
        log_dirs: registration.log_dirs,
        fenced: false,
    };
    Decision { records: vec![MetadataRecord::Broker(record)], reply: epoch }
}

//! Where the leader of a partition is, as the metadata image says: here, on another broker, or nowhere.

use esker_core::metadata::MetadataImage;

/// Where the leader of a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    /// The topic, or its partition, does not exist.
    Deleted,
    /// No replica may lead.
    Leaderless,
    /// This broker leads.
    Here {
        /// The leader epoch.
        leader_epoch: i32,
    },
    /// Another broker leads.
    Broker {
        /// Its node id.
        node_id: i32,
        /// The leader epoch.
        leader_epoch: i32,
    },
}

impl Location {
    /// Of a partition, seen from broker `own_id`.
    pub(super) fn of(image: &MetadataImage, own_id: i32, topic: &str, partition: i32) -> Self {
        let partitions = image.topic(topic).map(|topic| &topic.partitions);
        let index = usize::try_from(partition).ok();
        let found = partitions.zip(index).and_then(|(partitions, index)| partitions.get(index));
        match found {
            None => Self::Deleted,
            Some(found) if found.leader < 0 => Self::Leaderless,
            Some(found) if found.leader == own_id => Self::Here { leader_epoch: found.leader_epoch },
            Some(found) => Self::Broker { node_id: found.leader, leader_epoch: found.leader_epoch },
        }
    }
}

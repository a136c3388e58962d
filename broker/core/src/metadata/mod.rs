//! The cluster's metadata: records that change it, and the image that follows from them.
//!
//! One log of records, replicated by the controllers, is the only truth. Every node applies the same records in the same
//! order and so holds the same [`MetadataImage`]; ids, times and chosen brokers ride inside the records. An image is cheap to
//! clone and never changes once it is published.

mod apply;
mod codec;
mod delta;
mod image;
mod index;
mod names;
mod partitions;
mod record;
mod snapshot;

pub use codec::{MetadataRecord, RecordEncodeError, RecordError, RecordLevel, SOFTWARE};
pub use delta::Delta;
pub use image::{BrokerImage, ConfigResource, ListenerImage, MetadataImage, ResourceKind, TopicImage};
pub use names::{InvalidTopicName, check_topic_name, collides};
pub use partitions::{NO_CHANGE, NO_LEADER, PartitionId, PartitionImage, Partitions, directory};
pub use record::{
    BrokerChangeRecord, BrokerRecord, ConfigRecord, FeatureRangeRecord, FeatureRecord, LevelRecord, ListenerRecord,
    NewLeaderEpochsRecord, NodeReservationRecord, PartitionChangeRecord, PartitionRecord, ProducerIdsRecord,
    RemoveTopicRecord, RemovedVoterRecord, TopicRecord, UnregisterBrokerRecord,
};
pub use snapshot::snapshot_records;

/// A feature that the cluster may be raised to (KIP-584).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Its name.
    pub name: &'static str,
    /// The lowest level that works.
    pub min_level: i16,
    /// The highest level that works.
    pub max_level: i16,
    /// The level of a new cluster.
    pub default_level: i16,
}

/// Features that this version of Esker knows. The levels of `metadata.version` are Kafka's, as tools expect
/// them, and mean the same here. The [`RecordLevel`] says which records the log may hold; an upgrade of `metadata.version` raises it.
pub const SUPPORTED_FEATURES: &[SupportedFeature] = &[
    SupportedFeature { name: METADATA_VERSION, min_level: 7, max_level: 33, default_level: 33 },
    SupportedFeature { name: GROUP_VERSION, min_level: 0, max_level: 1, default_level: 1 },
    SupportedFeature { name: TRANSACTION_VERSION, min_level: 0, max_level: 2, default_level: 2 },
];

/// These features, as a broker of this version registers them.
pub fn supported_features() -> Vec<FeatureRangeRecord> {
    let range = |feature: &SupportedFeature| FeatureRangeRecord {
        name: feature.name.into(),
        min_level: feature.min_level,
        max_level: feature.max_level,
    };
    SUPPORTED_FEATURES.iter().map(range).collect()
}

/// Kafka's version of its metadata. An upgrade of it also raises the cluster's [`RecordLevel`].
pub const METADATA_VERSION: &str = "metadata.version";
/// At level 1 there are consumer groups (KIP-848).
pub const GROUP_VERSION: &str = "group.version";
/// The feature that says how producers, brokers and coordinators deal with transactions (KIP-890): 1 writes records with more fields,
/// 2 bumps the epoch with each transaction and adds partitions as they are written to.
pub const TRANSACTION_VERSION: &str = "transaction.version";

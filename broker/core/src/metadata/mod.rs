//! The cluster's metadata: records that change it, and the image that follows from them.
//!
//! One log of records, replicated by the controllers, is the only truth. Every node applies the same records in the same
//! order and so holds the same [`MetadataImage`]; ids, times and chosen brokers ride inside the records. An image is cheap to
//! clone and never changes once it is published.

mod delta;
mod image;
mod names;
mod record;
mod snapshot;

pub use delta::Delta;
pub use image::{BrokerImage, ConfigResource, ListenerImage, MetadataImage, PartitionImage, ResourceKind, TopicImage};
pub use names::{InvalidTopicName, check_topic_name, collides};
pub use record::{
    BrokerRecord, ConfigRecord, FeatureRecord, ListenerRecord, MetadataRecord, NewLeaderEpochsRecord, PartitionRecord,
    ProducerIdsRecord, RecordError, RemoveTopicRecord, TopicRecord,
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

/// Features that this version of Esker knows. `metadata.version` is there because tools expect it: Esker's metadata log is
/// its own, and every level means the same.
pub const SUPPORTED_FEATURES: &[SupportedFeature] = &[
    SupportedFeature { name: "metadata.version", min_level: 7, max_level: 33, default_level: 33 },
    SupportedFeature { name: GROUP_VERSION, min_level: 0, max_level: 1, default_level: 1 },
    SupportedFeature { name: TRANSACTION_VERSION, min_level: 0, max_level: 2, default_level: 2 },
];

/// At level 1 there are consumer groups (KIP-848).
pub const GROUP_VERSION: &str = "group.version";
/// The feature that says how producers, brokers and coordinators deal with transactions (KIP-890): 1 writes records that say more,
/// 2 bumps the epoch with each transaction and adds partitions as they are written to.
pub const TRANSACTION_VERSION: &str = "transaction.version";

//! The hash over the topics that a group subscribes to: a group that finds another than it has in its record makes a new
//! assignment. It is Kafka's (XXH3 over the same bytes), so that groups of a data folder that was Kafka's see no change.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use esker_protocol::primitives::Str;
use twox_hash::XxHash3_64;

use super::group::ConsumerGroup;
use crate::metadata::{MetadataImage, TopicImage};

/// Hashes of topics as they were last seen. Kept from one decision to the next, and no part of the state: each follows from its
/// topic.
#[derive(Debug, Clone, Default)]
pub(in crate::group) struct TopicHashes {
    known: RefCell<HashMap<Str, (Arc<TopicImage>, i64)>>,
    /// The racks that they were made with.
    racks: Vec<(i32, Option<Str>)>,
}

impl TopicHashes {
    /// The cluster may have changed.
    pub fn refresh(&mut self, image: &MetadataImage) {
        let racks: Vec<_> = image.brokers().map(|b| (b.node_id, b.rack.clone())).collect();
        if racks != self.racks {
            self.known.get_mut().clear();
            self.racks = racks;
        }
        self.known.get_mut().retain(|name, (topic, _)| image.topic(name).is_some_and(|now| Arc::ptr_eq(now, topic)));
    }

    fn of(&self, image: &MetadataImage, name: &str) -> Option<i64> {
        let topic = image.topic(name)?;
        let mut hashes = self.known.borrow_mut();
        if let Some((known, hash)) = hashes.get(name)
            && Arc::ptr_eq(known, topic)
        {
            return Some(*hash);
        }
        let hash = topic_hash(image, topic);
        hashes.insert(topic.name.clone(), (Arc::clone(topic), hash));
        Some(hash)
    }

    /// The hash of a group's topics; 0 if it subscribes to none that there is.
    pub fn of_group(&self, image: &MetadataImage, group: &ConsumerGroup) -> i64 {
        let mut bytes = Vec::new();
        for name in group.topics.keys() {
            if let Some(hash) = self.of(image, name) {
                bytes.extend_from_slice(&hash.to_le_bytes());
            }
        }
        if bytes.is_empty() { 0 } else { hash(&bytes) }
    }
}

fn topic_hash(image: &MetadataImage, topic: &TopicImage) -> i64 {
    // A byte for the form of what follows.
    let mut bytes = vec![0];
    let (most, least) = topic.id.0.split_at(8);
    // Kafka takes an id as two numbers.
    bytes.extend(most.iter().rev());
    bytes.extend(least.iter().rev());
    put_string(&mut bytes, &topic.name);
    put_int(&mut bytes, topic.partitions.len());
    for (at, partition) in topic.partitions.iter().enumerate() {
        put_int(&mut bytes, at);
        let mut racks: Vec<&Str> =
            partition.replicas.iter().filter_map(|id| image.broker(*id)).filter_map(|b| b.rack.as_ref()).collect();
        racks.sort_unstable();
        for rack in racks {
            put_int(&mut bytes, rack.encode_utf16().count());
            put_string(&mut bytes, rack);
        }
    }
    hash(&bytes)
}

fn hash(bytes: &[u8]) -> i64 {
    i64::from_ne_bytes(XxHash3_64::oneshot(bytes).to_ne_bytes())
}

/// UTF-16 units, then how many.
fn put_string(bytes: &mut Vec<u8>, text: &str) {
    text.encode_utf16().for_each(|unit| bytes.extend_from_slice(&unit.to_le_bytes()));
    put_int(bytes, text.encode_utf16().count());
}

fn put_int(bytes: &mut Vec<u8>, number: usize) {
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    bytes.extend_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use esker_protocol::messages::internal::consumer_groups::{
        ClassicMember, ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupRecord,
    };
    use esker_protocol::primitives::Uuid;

    use super::*;
    use crate::metadata::{BrokerRecord, MetadataRecord, PartitionRecord, TopicRecord};

    fn image(id: Uuid, name: &'static str, partitions: i32, racks: &[(i32, &'static str)]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (node_id, rack) in racks {
            let rack = Some(Str::from(*rack));
            image.apply(&MetadataRecord::Broker(BrokerRecord { node_id: *node_id, rack, ..Default::default() }));
        }
        image.apply(&MetadataRecord::Topic(TopicRecord { name: name.into(), id }));
        for partition in 0..partitions {
            let replicas = racks.iter().map(|(id, _)| *id).collect();
            let record = PartitionRecord { topic_id: id, partition, replicas, ..PartitionRecord::default() };
            image.apply(&MetadataRecord::Partition(record));
        }
        image
    }

    fn hash_of(image: &MetadataImage, topics: &[&'static str]) -> i64 {
        let mut group = ConsumerGroup::new("g".into());
        let key = ConsumerGroupMemberMetadataKey { group_id: "g".into(), member_id: "m".into() };
        let value = ConsumerGroupMemberMetadataValue {
            subscribed_topic_names: topics.iter().map(|topic| Str::from(*topic)).collect(),
            classic_member_metadata: ClassicMember(None),
            ..ConsumerGroupMemberMetadataValue::default()
        };
        group.apply(&ConsumerGroupRecord::Member(key, Some(value)));
        let mut hashes = TopicHashes::default();
        hashes.refresh(image);
        hashes.of_group(image, &group)
    }

    /// What Kafka 4.4 makes of the same topics.
    #[test]
    fn hashes_are_kafkas() {
        let plain = image("jJ77SZx6QnSQv0G06zFZ7Q".parse().unwrap(), "k", 3, &[]);
        assert_eq!(hash_of(&plain, &["k"]), 6_726_384_246_939_900_115);
        assert_eq!(hash_of(&plain, &["k", "none"]), 6_726_384_246_939_900_115);
        assert_eq!(hash_of(&plain, &["none"]), 0);
        let racks = image(Uuid([1; 16]), "a", 2, &[(2, "r2"), (1, "r1")]);
        assert_eq!(hash_of(&racks, &["a"]), -7_340_600_000_360_592_757);
    }
}

//! A new cluster takes over the partitions that its first broker finds in its log dirs: left there by Apache Kafka, or by an
//! Esker whose metadata log is gone.
//!
//! Only what is whole becomes a topic: partitions 0 to n under one topic id. The rest is named with the reason and stays
//! where it is. The configs that these topics had are not known, so an adopted topic keeps its records until
//! an operator sets its retention: a guess could delete records. Producers get ids that no log here has seen: a new producer
//! with the id of an old one would have its first batches taken for duplicates.

use std::collections::BTreeMap;

use esker_protocol::primitives::{Str, Uuid};

use super::decision::Decision;
use super::producer_ids::PRODUCER_ID_BLOCK;
use super::register::{Registration, register_broker};
use crate::metadata::{
    ConfigRecord, MetadataImage, MetadataRecord, PartitionRecord, ProducerIdsRecord, ResourceKind, TopicRecord,
    check_topic_name,
};

/// A partition that was found in a log dir.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundPartition {
    /// Its topic.
    pub topic: Str,
    /// Its number.
    pub partition: i32,
    /// Its topic's id, if the folder has `partition.metadata`.
    pub topic_id: Option<Uuid>,
    /// The last leader epoch in it, -1 for none.
    pub leader_epoch: i32,
    /// The largest producer id in it, -1 for none.
    pub producer_id: i64,
}

/// What became of the partitions that were found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adopted {
    /// Topics that are the cluster's now.
    pub topics: Vec<Str>,
    /// Topics that are not, and why.
    pub left: Vec<(Str, String)>,
}

/// Registers a broker; if it is the first of a new cluster, what it found becomes topics of its own. `fresh_id` makes ids for
/// topics whose folders hold none.
pub fn register_and_adopt(
    image: &MetadataImage,
    registration: Registration,
    found: &[FoundPartition],
    mut fresh_id: impl FnMut() -> Uuid,
) -> Decision<Adopted> {
    let new = image.brokers().next().is_none() && image.topic_count() == 0;
    let node_id = registration.node_id;
    let mut records = register_broker(image, registration).records;
    let mut adopted = Adopted::default();
    if !new {
        return Decision { records, reply: adopted };
    }
    let mut topics: BTreeMap<&Str, Vec<&FoundPartition>> = BTreeMap::new();
    found.iter().for_each(|one| topics.entry(&one.topic).or_default().push(one));
    let mut taken: Vec<Uuid> = Vec::new();
    for (name, mut partitions) in topics {
        partitions.sort_unstable_by_key(|one| one.partition);
        let id = match whole(name, &partitions).map(|id| id.unwrap_or_else(&mut fresh_id)) {
            Ok(id) if !taken.contains(&id) => id,
            Ok(_) => {
                adopted.left.push((name.clone(), "another topic has the same id".to_owned()));
                continue;
            }
            Err(why) => {
                adopted.left.push((name.clone(), why));
                continue;
            }
        };
        taken.push(id);
        records.push(MetadataRecord::Topic(TopicRecord { name: name.clone(), id }));
        records.extend(partitions.iter().map(|one| {
            MetadataRecord::Partition(PartitionRecord {
                topic_id: id,
                partition: one.partition,
                replicas: vec![node_id],
                isr: vec![node_id],
                leader: node_id,
                leader_epoch: one.leader_epoch.saturating_add(1).max(0),
                ..PartitionRecord::default()
            })
        }));
        records.extend(configs(name).iter().map(|(config, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: ResourceKind::Topic.id(),
                resource_name: name.clone(),
                name: (*config).into(),
                value: Some((*value).into()),
            })
        }));
        adopted.topics.push(name.clone());
    }
    // Also those of partitions that are not adopted: an operator may move them into place later.
    if let Some(last) = found.iter().map(|one| one.producer_id).max().filter(|id| *id >= 0) {
        let next = (last / PRODUCER_ID_BLOCK).saturating_add(1).saturating_mul(PRODUCER_ID_BLOCK);
        records.push(MetadataRecord::ProducerIds(ProducerIdsRecord { node_id, next }));
    }
    Decision { records, reply: adopted }
}

/// The id of the topic that these partitions, in order, make up.
fn whole(name: &str, partitions: &[&FoundPartition]) -> Result<Option<Uuid>, String> {
    check_topic_name(name).map_err(|invalid| invalid.to_string())?;
    let numbers = partitions.iter().map(|one| one.partition);
    if !numbers.clone().eq((0..).take(partitions.len())) {
        let found: Vec<String> = numbers.map(|number| number.to_string()).collect();
        return Err(format!("only partitions {} are here", found.join(", ")));
    }
    let mut ids = partitions.iter().filter_map(|one| one.topic_id);
    let id = ids.next();
    match ids.find(|other| Some(*other) != id) {
        Some(other) => Err(format!("its partitions have different topic ids, one of them {other}")),
        None => Ok(id),
    }
}

fn configs(topic: &str) -> &'static [(&'static str, &'static str)] {
    match topic {
        "__consumer_offsets" => {
            &[("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")]
        }
        "__transaction_state" => &[("cleanup.policy", "compact"), ("segment.bytes", "104857600")],
        _ => &[("retention.ms", "-1"), ("retention.bytes", "-1")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::ConfigResource;

    const A: Uuid = Uuid([1; 16]);
    const B: Uuid = Uuid([2; 16]);
    const FRESH: Uuid = Uuid([9; 16]);

    fn found(topic: &'static str, partition: i32, topic_id: Option<Uuid>) -> FoundPartition {
        FoundPartition { topic: topic.into(), partition, topic_id, leader_epoch: 4, producer_id: -1 }
    }

    fn start(image: &mut MetadataImage, found: &[FoundPartition]) -> Adopted {
        let registration = Registration {
            node_id: 1,
            incarnation: Uuid::ZERO,
            listeners: vec![],
            rack: None,
            log_dirs: vec![],
            cordoned_log_dirs: vec![],
        };
        let decision = register_and_adopt(image, registration, found, || FRESH);
        decision.records.iter().for_each(|record| image.apply(record));
        decision.reply
    }

    #[test]
    fn whole_topics_are_adopted_and_keep_everything() {
        let mut image = MetadataImage::default();
        let last = FoundPartition { producer_id: 2999, ..found("old", 0, None) };
        let adopted = start(
            &mut image,
            &[found("t", 1, Some(A)), last, found("t", 0, None), found("__consumer_offsets", 0, Some(B))],
        );
        assert_eq!(adopted.topics, ["__consumer_offsets", "old", "t"].map(Str::from));
        assert!(adopted.left.is_empty());
        let topic = image.topic("t").unwrap();
        assert_eq!((topic.id, topic.partitions.len()), (A, 2));
        let partition = &topic.partitions[1];
        assert_eq!((partition.leader, partition.leader_epoch, &*partition.isr), (1, 5, &[1][..]));
        assert_eq!(image.topic("old").unwrap().id, FRESH);
        let config =
            |topic: &str, name: &str| image.config(&ConfigResource::topic(topic), name).map(ToString::to_string);
        assert_eq!(config("t", "retention.ms").as_deref(), Some("-1"));
        assert_eq!(config("__consumer_offsets", "cleanup.policy").as_deref(), Some("compact"));
        assert_eq!(image.next_producer_id(), 3000);
    }

    #[test]
    fn what_is_not_whole_is_left_with_a_reason() {
        let mut image = MetadataImage::default();
        let adopted = start(
            &mut image,
            &[
                found("bad name", 0, Some(A)),
                found("holes", 0, Some(A)),
                found("holes", 2, Some(A)),
                found("mixed", 0, Some(A)),
                found("mixed", 1, Some(B)),
                found("one", 0, Some(B)),
                found("two", 0, Some(B)),
            ],
        );
        assert_eq!(adopted.topics, ["one"].map(Str::from));
        let left: Vec<&str> = adopted.left.iter().map(|(name, _)| &**name).collect();
        assert_eq!(left, ["bad name", "holes", "mixed", "two"]);
        assert_eq!(adopted.left[1].1, "only partitions 0, 2 are here");
        assert_eq!(image.topic_count(), 1);
    }

    #[test]
    fn a_cluster_that_knows_a_broker_adopts_nothing() {
        let mut image = MetadataImage::default();
        start(&mut image, &[]);
        assert_eq!(start(&mut image, &[found("t", 0, Some(A))]), Adopted::default());
        assert_eq!(image.topic_count(), 0);
    }
}

//! A whole image as records: what a snapshot holds, so that reading one is applying records like any others.

use esker_protocol::primitives::Str;

use super::image::MetadataImage;
use super::record::{ConfigRecord, FeatureRecord, MetadataRecord, ProducerIdsRecord, TopicRecord};

/// The records that make `image` out of nothing.
pub fn snapshot_records(image: &MetadataImage) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for (name, level) in image.features() {
        records.push(MetadataRecord::Feature(FeatureRecord { name: Str::clone(name), level }));
    }
    for broker in image.brokers() {
        records.push(MetadataRecord::Broker(broker.clone()));
    }
    for topic in image.topics() {
        records.push(MetadataRecord::Topic(TopicRecord { name: topic.name.clone(), id: topic.id }));
        records.extend(topic.partitions.iter().cloned().map(MetadataRecord::Partition));
    }
    for (resource, configs) in &image.configs {
        for (name, value) in configs {
            records.push(MetadataRecord::Config(ConfigRecord {
                resource_type: resource.kind.id(),
                resource_name: resource.name.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            }));
        }
    }
    records.push(MetadataRecord::ProducerIds(ProducerIdsRecord { node_id: -1, next: image.next_producer_id() }));
    records
}

#[cfg(test)]
mod tests {
    use super::super::record::{BrokerRecord, PartitionRecord};
    use super::*;
    use esker_protocol::primitives::Uuid;

    #[test]
    fn an_image_comes_back_from_its_snapshot() {
        let mut image = MetadataImage::default();
        let id = Uuid([4; 16]);
        for record in [
            MetadataRecord::Broker(BrokerRecord { node_id: 3, rack: Some("r".into()), ..BrokerRecord::default() }),
            MetadataRecord::Topic(TopicRecord { name: "t".into(), id }),
            MetadataRecord::Partition(PartitionRecord { topic_id: id, leader: 3, ..PartitionRecord::default() }),
            MetadataRecord::Partition(PartitionRecord { topic_id: id, partition: 1, ..PartitionRecord::default() }),
            MetadataRecord::Config(ConfigRecord {
                resource_type: 2,
                resource_name: "t".into(),
                name: "retention.ms".into(),
                value: Some("5".into()),
            }),
            MetadataRecord::Feature(FeatureRecord { name: "metadata.version".into(), level: 33 }),
            MetadataRecord::ProducerIds(ProducerIdsRecord { node_id: 3, next: 7000 }),
        ] {
            image.apply(&record);
        }
        let bytes = MetadataRecord::encode_all(&snapshot_records(&image)).unwrap();
        let mut back = MetadataImage::default();
        MetadataRecord::decode_all(bytes).unwrap().iter().for_each(|record| back.apply(record));
        assert_eq!(back, image);
    }
}

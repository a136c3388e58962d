//! What changed between two images, as far as the partitions of a broker must follow.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::primitives::{Str, Uuid};
use imbl::ordmap::DiffItem;

use super::image::{ConfigResource, MetadataImage, ResourceKind, TopicImage};

/// Topics that a replica manager must look at again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// Name and id of topics that are gone; one that was deleted and made again is here and in `changed_topics`.
    pub deleted_topics: Vec<(Str, Uuid)>,
    /// Topics that are new or whose partitions or effective configs may be others now.
    pub changed_topics: Vec<Arc<TopicImage>>,
}

impl MetadataImage {
    /// What changed since `before`. Costs what changed, not what there is.
    pub fn changes_since(&self, before: &Self) -> Delta {
        let mut deleted_topics = Vec::new();
        let mut changed = BTreeMap::new();
        for item in before.topics.diff(&self.topics) {
            match item {
                DiffItem::Add(name, topic) => {
                    changed.insert(name.clone(), Arc::clone(topic));
                }
                DiffItem::Update { old: (name, old), new: (_, new) } => {
                    if old.id != new.id {
                        deleted_topics.push((name.clone(), old.id));
                    }
                    changed.insert(name.clone(), Arc::clone(new));
                }
                DiffItem::Remove(name, topic) => deleted_topics.push((name.clone(), topic.id)),
            }
        }
        for item in before.configs.diff(&self.configs) {
            let resource: &ConfigResource = match &item {
                DiffItem::Add(resource, _) | DiffItem::Remove(resource, _) => resource,
                DiffItem::Update { new: (resource, _), .. } => resource,
            };
            match resource.kind {
                ResourceKind::Topic => {
                    changed.extend(self.topics.get(&resource.name).map(|t| (resource.name.clone(), Arc::clone(t))));
                }
                // A broker's value is the default of every topic.
                ResourceKind::Broker => changed.extend(self.topics.iter().map(|(n, t)| (n.clone(), Arc::clone(t)))),
                ResourceKind::ClientMetrics | ResourceKind::Group => {}
            }
        }
        Delta { deleted_topics, changed_topics: changed.into_values().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::MetadataRecord;
    use super::super::record::{ConfigRecord, RemoveTopicRecord, TopicRecord};
    use super::*;

    fn topic(name: &'static str, id: u8) -> MetadataRecord {
        MetadataRecord::Topic(TopicRecord { name: name.into(), id: Uuid([id; 16]) })
    }

    fn config(kind: ResourceKind, resource: &'static str, value: &'static str) -> MetadataRecord {
        MetadataRecord::Config(ConfigRecord {
            resource_type: kind.id(),
            resource_name: resource.into(),
            name: "x".into(),
            value: Some(value.into()),
        })
    }

    fn changed(delta: &Delta) -> Vec<&str> {
        delta.changed_topics.iter().map(|t| t.name.as_str()).collect()
    }

    #[test]
    fn table() {
        let mut a = MetadataImage::default();
        a.apply(&topic("a", 1));
        a.apply(&topic("b", 2));
        let with = |records: &[MetadataRecord]| {
            let mut b = a.clone();
            records.iter().for_each(|r| b.apply(r));
            b.changes_since(&a)
        };
        assert_eq!(with(&[]), Delta::default());
        assert_eq!(changed(&with(&[topic("c", 3)])), ["c"]);
        assert_eq!(changed(&with(&[config(ResourceKind::Topic, "a", "1")])), ["a"]);
        assert_eq!(changed(&with(&[config(ResourceKind::Broker, "", "1")])), ["a", "b"]);
        assert_eq!(changed(&with(&[config(ResourceKind::Group, "a", "1")])), Vec::<&str>::new());
        let remove = MetadataRecord::RemoveTopic(RemoveTopicRecord { id: Uuid([1; 16]) });
        assert_eq!(with(std::slice::from_ref(&remove)).deleted_topics, [("a".into(), Uuid([1; 16]))]);
        let again = with(&[remove, topic("a", 9)]);
        assert_eq!((again.deleted_topics.len(), changed(&again)), (1, vec!["a"]));
    }
}

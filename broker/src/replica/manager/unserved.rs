//! Partitions that belong to this broker and could not be served when their image came: a full disk refuses a new log, for example. They are tried
//! again until they can; nothing else would before their topic changes, and the replica would be missing in the ISR meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;

use esker_protocol::primitives::Uuid;
use parking_lot::Mutex;

use super::super::settings::TopicSettings;
use super::{ReplicaManager, Slot, TopicReplicas, Topics};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    /// Partition numbers by topic id.
    partitions: Mutex<BTreeMap<Uuid, BTreeSet<i32>>>,
    /// Topics with partitions that came into service without a change of the image.
    late: Mutex<BTreeSet<Uuid>>,
}

impl Unserved {
    pub(super) fn add(&self, topic: Uuid, partition: i32) {
        self.partitions.lock().entry(topic).or_default().insert(partition);
    }

    /// Those of a topic; they are forgotten.
    pub(super) fn take(&self, topic: Uuid) -> BTreeSet<i32> {
        self.partitions.lock().remove(&topic).unwrap_or_default()
    }
}

impl ReplicaManager {
    /// Whether a partition that belongs here is not served.
    pub fn has_unserved(&self) -> bool {
        !self.unserved.partitions.lock().is_empty()
    }

    /// Topics with partitions that came into service after their image had been applied, each once.
    pub fn take_late_topics(&self) -> BTreeSet<Uuid> {
        take(&mut *self.unserved.late.lock())
    }

    /// Tries again to serve the partitions that could not be served. Blocks on the disk: not for async workers.
    pub fn retry_unserved(&self) {
        let image = self.applying.lock();
        let unserved = take(&mut *self.unserved.partitions.lock());
        let mut topics = Topics::clone(&self.topics.load());
        let mut served = BTreeSet::new();
        for (id, partitions) in unserved {
            let (Some(topic), Some(known)) = (image.topic_by_id(id), topics.by_id.get(&id)) else { continue };
            let settings =
                Arc::new(TopicSettings::resolve(&image, &topic.name, self.node.id(), &self.node.config().statics));
            let mut slots = known.partitions.clone();
            for partition in partitions {
                let slot = usize::try_from(partition).ok().and_then(|at| slots.get_mut(at));
                if let Some(slot) = slot {
                    *slot = self.serve_partition(topic, partition, None, &settings, false);
                    if let Slot::Here(_) = slot {
                        served.insert(id);
                    }
                }
            }
            let replicas = Arc::new(TopicReplicas { name: topic.name.clone(), id, partitions: slots });
            topics.by_name.insert(topic.name.clone(), Arc::clone(&replicas));
            topics.by_id.insert(id, replicas);
        }
        if !served.is_empty() {
            self.topics.store(Arc::new(topics));
            self.unserved.late.lock().extend(served);
            self.applied.send_replace(Arc::clone(&image));
        }
    }
}

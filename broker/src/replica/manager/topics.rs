//! The topics of the cluster as this broker has them: immutable, replaced as a whole when an image is applied.

use std::sync::Arc;

use esker_protocol::primitives::{Str, Uuid};
use imbl::HashMap;

use super::super::error::{AccessError, LeaderHint};
use super::super::partition::Partition;

/// How a request names a topic.
#[derive(Debug, Clone)]
pub enum TopicRef {
    /// By name.
    Name(Str),
    /// By id.
    Id(Uuid),
}

impl TopicRef {
    /// By id in the versions of an API that carry ids, else by name.
    pub fn of_request(by_id: bool, name: &Str, id: Uuid) -> Self {
        if by_id { Self::Id(id) } else { Self::Name(name.clone()) }
    }

    /// By name.
    pub fn by_name(name: &Str) -> Self {
        Self::Name(name.clone())
    }
}

/// A topic of the cluster and its partitions on this broker.
#[derive(Debug)]
pub struct TopicReplicas {
    /// Its name.
    pub name: Str,
    /// Its id.
    pub id: Uuid,
    pub(super) partitions: Vec<Slot>,
}

/// A partition of a topic, as far as this broker is concerned.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// It has a replica, and serves it.
    Here(Arc<Partition>),
    /// It has none, or cannot serve it.
    Elsewhere(LeaderHint),
}

impl TopicReplicas {
    /// The partition, if this broker has a replica; else the reason.
    pub fn partition(&self, index: i32) -> Result<Arc<Partition>, AccessError> {
        let slot = usize::try_from(index).ok().and_then(|i| self.partitions.get(i));
        match slot {
            Some(Slot::Here(partition)) => Ok(Arc::clone(partition)),
            Some(Slot::Elsewhere(hint)) => Err(AccessError::NotLeader(*hint)),
            None => Err(AccessError::UnknownPartition),
        }
    }

    /// All of its partitions on this broker.
    pub fn local_partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().filter_map(|slot| match slot {
            Slot::Here(partition) => Some(partition),
            Slot::Elsewhere(_) => None,
        })
    }
}

/// All topics, found both ways.
#[derive(Debug, Clone, Default)]
pub(super) struct Topics {
    pub(super) by_name: HashMap<Str, Arc<TopicReplicas>>,
    pub(super) by_id: HashMap<Uuid, Arc<TopicReplicas>>,
}

//! The bodies of the records of the metadata log.
//!
//! Ids, times and chosen brokers ride inside the records, so that every node that applies them holds the same image. A body that gains a
//! field gains a version with it, and with that a record level (see [`super::codec`]): a reader skips tags that it does not know, and an
//! image that missed a field would be a wrong one.

use esker_protocol::Message;
use esker_protocol::primitives::{Str, Uuid};

/// From here on the log holds records of this level: always its first record. See [`RecordLevel`](super::RecordLevel).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct LevelRecord {
    /// The level.
    pub level: i16,
    /// The version of Esker that raised the log to it.
    pub software: Str,
}

/// A broker joins, or comes back with another incarnation.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct BrokerRecord {
    /// `node.id`.
    pub node_id: i32,
    /// Rises with each incarnation: the offset in the metadata log at which it was registered.
    pub epoch: i64,
    /// Changes with each start.
    pub incarnation: Uuid,
    /// Where it listens. Other nodes call it at the first; clients find theirs by its name.
    pub listeners: Vec<ListenerRecord>,
    /// `broker.rack`.
    #[field(nullable = "0+")]
    pub rack: Option<Str>,
    /// Ids of its log dirs that work.
    pub log_dirs: Vec<Uuid>,
    /// It may not lead.
    pub fenced: bool,
    /// It hands its leaderships over and then stops; it may not lead either.
    pub in_controlled_shutdown: bool,
    /// Features that it supports, by name (KIP-584).
    pub features: Vec<FeatureRangeRecord>,
    /// The newest record level that it can read; see [`RecordLevel`](super::RecordLevel).
    pub record_level: i16,
    /// Ids of the log dirs that its own configuration cordons (`cordoned.log.dirs`, KIP-1066).
    #[field(versions = "1+")]
    pub cordoned_log_dirs: Vec<Uuid>,
}

/// Levels of a feature that a broker supports.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FeatureRangeRecord {
    /// The feature.
    pub name: Str,
    /// The lowest level.
    pub min_level: i16,
    /// The highest level.
    pub max_level: i16,
}

/// One listener, as clients reach it.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListenerRecord {
    /// Its name.
    pub name: Str,
    /// Advertised host.
    pub host: Str,
    /// Advertised port.
    pub port: i32,
}

/// A topic is made.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct TopicRecord {
    /// Its name.
    pub name: Str,
    /// Its id.
    pub id: Uuid,
}

/// A broker's registration changes. Nothing happens when the epoch is not its own any more.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct BrokerChangeRecord {
    /// The broker.
    pub node_id: i32,
    /// The epoch of its registration.
    pub epoch: i64,
    /// 1: it is fenced now, -1: it is not any more, 0: no change.
    #[field(tag = 0, tagged = "0+")]
    pub fenced: i8,
    /// It begins a controlled shutdown.
    #[field(tag = 1, tagged = "0+")]
    pub in_controlled_shutdown: bool,
    /// The log dirs that work now; `None`: no change.
    #[field(nullable = "0+", tag = 2, tagged = "0+")]
    pub log_dirs: Option<Vec<Uuid>>,
}

/// A broker leaves the cluster for good. Nothing happens when the epoch is not its own any more.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct UnregisterBrokerRecord {
    /// The broker.
    pub node_id: i32,
    /// The epoch of its registration.
    pub epoch: i64,
}

/// A partition is made, or all of it is replaced.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct PartitionRecord {
    /// The topic.
    pub topic_id: Uuid,
    /// Its number.
    pub partition: i32,
    /// Replicas, in order of preference.
    pub replicas: Vec<i32>,
    /// Replicas in sync.
    pub isr: Vec<i32>,
    /// The leader, -1 for none.
    #[field(default = -1)]
    pub leader: i32,
    /// Rises with each change of leader.
    pub leader_epoch: i32,
    /// Rises with each change.
    pub partition_epoch: i32,
    /// Replicas that hold all committed records though they are not in sync (KIP-966).
    pub elr: Vec<i32>,
    /// The last leader, while the partition has none and no replica is in sync (KIP-966).
    pub last_known_elr: Vec<i32>,
    /// Replicas that a reassignment adds (KIP-455); they are among `replicas`.
    pub adding: Vec<i32>,
    /// Replicas that a reassignment removes once it is complete; they are among `replicas`.
    pub removing: Vec<i32>,
    /// The log dir of each replica, in the order of `replicas` (KIP-858); empty while no replica has reported one.
    pub directories: Vec<Uuid>,
    /// The leader came from an unclean election and has not recovered yet.
    pub recovering: bool,
}

/// A partition changes. What is `None` stays. The partition epoch rises by one, the leader epoch when `leader` is set, also to the
/// same broker.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct PartitionChangeRecord {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// The in-sync replicas.
    #[field(nullable = "0+", tag = 0, tagged = "0+")]
    pub isr: Option<Vec<i32>>,
    /// The leader, -1 for none, -2 for no change.
    #[field(default = -2, tag = 1, tagged = "0+")]
    pub leader: i32,
    /// The replicas.
    #[field(nullable = "0+", tag = 2, tagged = "0+")]
    pub replicas: Option<Vec<i32>>,
    /// See [`PartitionRecord`].
    #[field(nullable = "0+", tag = 3, tagged = "0+")]
    pub removing: Option<Vec<i32>>,
    /// See [`PartitionRecord`].
    #[field(nullable = "0+", tag = 4, tagged = "0+")]
    pub adding: Option<Vec<i32>>,
    /// 1: the leader has to recover from an unclean election, 0: it has, -1: no change.
    #[field(default = -1, tag = 5, tagged = "0+")]
    pub recovering: i8,
    /// The eligible leader replicas.
    #[field(nullable = "0+", tag = 6, tagged = "0+")]
    pub elr: Option<Vec<i32>>,
    /// See [`PartitionRecord`].
    #[field(nullable = "0+", tag = 7, tagged = "0+")]
    pub last_known_elr: Option<Vec<i32>>,
    /// The log dirs of the replicas; `None`: no change.
    #[field(nullable = "0+", tag = 8, tagged = "0+")]
    pub directories: Option<Vec<Uuid>>,
}

/// A topic is deleted.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct RemoveTopicRecord {
    /// Its id.
    pub id: Uuid,
}

/// A config is set, or removed when there is no value.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ConfigRecord {
    /// Kafka's number of the resource type.
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: Str,
    /// The config's name.
    pub name: Str,
    /// Its value.
    #[field(nullable = "0+")]
    pub value: Option<Str>,
}

/// A feature is raised or lowered.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct FeatureRecord {
    /// Its name.
    pub name: Str,
    /// Its level; 0 removes it.
    pub level: i16,
}

/// Producer ids below `next` are given away.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ProducerIdsRecord {
    /// The broker that got the last block.
    pub node_id: i32,
    /// The first id that is not allocated.
    pub next: i64,
}

/// A broker started: each partition that it leads begins a new leader epoch (KIP-101, KIP-320). One record for all of them: a
/// start with ten thousand partitions stays cheap.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct NewLeaderEpochsRecord {
    /// The leader.
    pub node_id: i32,
}

/// A node id belongs to one metadata folder: to the node that joins with it, from before its first registration until it is unregistered.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct NodeReservationRecord {
    /// The node.
    pub node_id: i32,
    /// `directory.id` of its metadata folder; zero ends the reservation.
    pub directory: Uuid,
}

/// A controller is no voter any more, and never again with this metadata folder.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct RemovedVoterRecord {
    /// The node.
    pub node_id: i32,
    /// `directory.id` of its metadata folder.
    pub directory: Uuid,
    /// The folder may be that of a voter again.
    pub forgotten: bool,
}

//! What the doctor knows of a cluster.

use std::collections::BTreeMap;

use esker_client::{Partition, TopicPartition};

/// A fact, or why it is not known.
pub(super) type Fact<T> = Result<T, String>;

/// All facts.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub cluster_id: String,
    /// Milliseconds since 1970 of this client's clock.
    pub now_ms: i64,
    pub bootstrap: Vec<BootstrapFacts>,
    pub brokers: Vec<BrokerFacts>,
    pub topics: Vec<TopicFacts>,
    pub quorum: Fact<QuorumFacts>,
    pub groups: Fact<Vec<GroupFacts>>,
    pub transactions: Fact<TransactionFacts>,
    /// The nodes of `--http`; empty without the flag.
    pub nodes: Vec<NodeFacts>,
}

/// One address of the bootstrap list.
#[derive(Debug, Clone)]
pub(super) struct BootstrapFacts {
    pub address: String,
    pub is_loopback: bool,
    /// Why no connection could be made.
    pub reached: Fact<()>,
}

/// A registered broker.
#[derive(Debug, Clone)]
pub(super) struct BrokerFacts {
    pub id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
    pub fenced: bool,
    pub way: Way,
    pub log_dirs: Fact<Vec<DirFacts>>,
    /// The value of `log.durability`.
    pub durability: Fact<String>,
}

impl BrokerFacts {
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What a client finds at the address that a broker advertises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// A broker of this cluster.
    Reached { only_loopback: bool },
    /// The name has no address.
    Unresolved(String),
    /// No connection.
    Unreachable(String),
    /// A connection, but no answer to Kafka's requests.
    NoAnswer(String),
    /// A broker of another cluster.
    OtherCluster(String),
    /// The broker is fenced: nothing is expected there.
    NotTried,
}

/// A log dir.
#[derive(Debug, Clone, Default)]
pub(super) struct DirFacts {
    pub path: String,
    pub offline: bool,
    /// Bytes of the disk, and those that are free.
    pub space: Option<(u64, u64)>,
    /// Bytes a second by which the free space shrinks.
    pub fill_rate: Option<f64>,
}

/// A topic.
#[derive(Debug, Clone)]
pub(super) struct TopicFacts {
    pub name: String,
    pub partitions: Vec<Partition>,
    /// `min.insync.replicas`, where it is known.
    pub min_isr: Option<usize>,
    /// `durability`, where the topic has a value of its own.
    pub durability: Option<String>,
}

/// The metadata quorum.
#[derive(Debug, Clone, Default)]
pub(super) struct QuorumFacts {
    pub leader: i32,
    pub log_end: i64,
    pub voters: Vec<VoterFacts>,
}

/// A voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VoterFacts {
    pub id: i32,
    pub log_end: Option<i64>,
    /// When it last fetched from the leader, by the leader's clock.
    pub last_contact_ms: Option<i64>,
}

/// A group.
#[derive(Debug, Clone, Default)]
pub(super) struct GroupFacts {
    pub id: String,
    pub state: String,
    pub members: usize,
    /// Records after its committed offsets.
    pub lag: i64,
    /// It was rebalancing at both looks, so many seconds apart.
    pub rebalancing_seconds: Option<u64>,
}

/// The transactions of all coordinators, and the open ones of partitions.
#[derive(Debug, Clone, Default)]
pub(super) struct TransactionFacts {
    pub transactions: Vec<Transaction>,
    pub open: Vec<OpenTransaction>,
    /// `transaction.max.timeout.ms`.
    pub max_timeout_ms: i64,
    /// Partitions that were not looked at: too many, or without a leader.
    pub partitions_left_out: usize,
}

/// A transaction as its coordinator knows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Transaction {
    pub id: String,
    pub state: String,
    pub producer_id: i64,
    pub started_ms: Option<i64>,
    pub timeout_ms: i64,
    pub partitions: Vec<TopicPartition>,
}

/// A transaction that is open in a partition.
#[derive(Debug, Clone)]
pub(super) struct OpenTransaction {
    pub partition: TopicPartition,
    pub producer_id: i64,
    pub start_offset: i64,
    pub last_timestamp_ms: i64,
}

/// What the HTTP port of a node returned.
#[derive(Debug, Clone)]
pub(super) struct NodeFacts {
    pub address: String,
    pub answer: Fact<HttpFacts>,
}

/// The clock and the open files of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct HttpFacts {
    /// Milliseconds by which its clock is ahead of this client's; a range, since the header has whole seconds.
    pub clock_ahead_ms: Option<(i64, i64)>,
    pub open_files: Option<f64>,
    pub max_files: Option<f64>,
}

impl Facts {
    /// Brokers by id.
    pub(super) fn broker(&self, id: i32) -> Option<&BrokerFacts> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    /// The rack of each broker that has one.
    pub(super) fn racks(&self) -> BTreeMap<i32, &str> {
        self.brokers.iter().filter_map(|broker| Some((broker.id, broker.rack.as_deref()?))).collect()
    }
}

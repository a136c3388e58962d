//! Settings of a consumer.

use std::time::Duration;

use esker_protocol::primitives::Str;

use super::assignor::Assignor;

/// Where to begin in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that is there.
    Earliest,
    /// After the last record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// This many records before the end (or at the start, where there are fewer).
    BeforeEnd(i64),
    /// At the first record of this time (ms since 1970) or later; at the end where there is none.
    Timestamp(i64),
    /// At the group's committed offset, else by [`ConsumerConfig::reset`].
    Committed,
}

/// What to do where no offset is known, or the offset is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOffsetReset {
    /// Start at the first record that is there.
    Earliest,
    /// Start after the last record.
    #[default]
    Latest,
    /// Fail with [`Error::NoOffset`](crate::Error::NoOffset).
    None,
}

/// Which records of transactions to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All.
    #[default]
    ReadUncommitted,
    /// Only those of committed transactions, and none past the first open one.
    ReadCommitted,
}

/// Membership of a group (the classic protocol).
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// Name of the group.
    pub id: Str,
    /// Name of this member that stays over restarts (static membership, KIP-345).
    pub instance_id: Option<Str>,
    /// Ways to share partitions that this member can do, the preferred one first.
    pub assignors: Vec<Assignor>,
    /// A member that is not heard of for this long is taken out.
    pub session_timeout: Duration,
    /// How long members have to come back in a rebalance; `poll` must be called at least this often.
    pub rebalance_timeout: Duration,
    /// The interval of heartbeats.
    pub heartbeat_interval: Duration,
    /// Commit the offsets that `poll` returned, this often; `None`: only when `commit` is called.
    pub auto_commit: Option<Duration>,
}

impl GroupConfig {
    /// The defaults for a group.
    #[must_use]
    pub fn new(id: impl Into<Str>) -> Self {
        Self {
            id: id.into(),
            instance_id: None,
            assignors: vec![Assignor::Range, Assignor::RoundRobin],
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(3),
            auto_commit: Some(Duration::from_secs(5)),
        }
    }
}

/// How a consumer reads.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Group to commit to and to subscribe in.
    pub group: Option<GroupConfig>,
    /// Where to begin without an offset.
    pub reset: AutoOffsetReset,
    /// Which records of transactions to return.
    pub isolation: Isolation,
    /// Records of one `poll`, at most.
    pub max_poll_records: usize,
    /// How long a broker may hold a fetch back while there is less than `min_bytes`.
    pub max_wait: Duration,
    /// Bytes worth an answer.
    pub min_bytes: i32,
    /// Bytes of one fetch; a first batch that is larger comes all the same.
    pub max_bytes: i32,
    /// Bytes of one partition in a fetch, likewise.
    pub partition_max_bytes: i32,
    /// Fetch no more of a partition while this many bytes of it wait for `poll`.
    pub buffer_bytes: usize,
    /// Check the checksum of every batch.
    pub check_crcs: bool,
    /// A batch that unpacks to more than this is refused.
    pub max_unpacked_bytes: usize,
    /// Name of the rack or zone this consumer is in, to be served from there (KIP-392).
    pub rack: Str,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group: None,
            reset: AutoOffsetReset::Latest,
            isolation: Isolation::ReadUncommitted,
            max_poll_records: 10_000,
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
            buffer_bytes: 2 << 20,
            check_crcs: true,
            max_unpacked_bytes: 256 << 20,
            rack: Str::default(),
        }
    }
}

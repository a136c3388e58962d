//! One transactional id: its state, and the record that holds the state.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::messages::transaction_log::{TransactionLogPartitions, TransactionLogValue};
use esker_protocol::primitives::Str;

/// A partition that a transaction wrote to.
pub type TransactionPartition = (Str, i32);

/// No producer id.
pub(super) const NO_PRODUCER_ID: i64 = -1;
/// No producer epoch.
pub(super) const NO_EPOCH: i16 = -1;
/// The last epoch that a producer is given: one above it is left to fence it.
pub(super) const LAST_EPOCH: i16 = i16::MAX - 1;

/// How far a transaction is. Kafka's names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
    /// Never in the log: an id that expires goes by a tombstone.
    Dead,
    /// Never in the log: Kafka passes through it while it fences.
    PrepareEpochFence,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// As clients see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// By its name, exactly.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    fn from_id(id: i8) -> Option<Self> {
        usize::try_from(id).ok().and_then(|at| Self::ALL.get(at)).copied()
    }

    fn id(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
            Self::Dead => 6,
            Self::PrepareEpochFence => 7,
        }
    }

    /// Its end is decided, and its markers are being written.
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// What is known of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Producer id in use.
    pub producer_id: i64,
    /// The one before it.
    pub previous_producer_id: i64,
    /// The producer id that the producer uses next, while markers of the old one are still to be written (KIP-890).
    pub next_producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The epoch before the last change: a producer that sends it is retrying. In memory alone, as with Kafka.
    pub last_epoch: i16,
    /// `transaction.timeout.ms` of the producer.
    pub timeout_ms: i32,
    /// How far it is.
    pub state: State,
    /// The partitions of the transaction.
    pub partitions: BTreeSet<TransactionPartition>,
    /// When the transaction began; -1 if none did.
    pub started_ms: i64,
    /// When anything last changed.
    pub updated_ms: i64,
    /// The transaction version that the client used for it.
    pub client_version: i16,
}

impl Transaction {
    /// Whether the producer id has no epoch left to give.
    pub(super) fn is_exhausted(&self) -> bool {
        self.epoch >= LAST_EPOCH
    }

    /// Whether its epoch is the one that is left to fence a producer: none may write with it.
    pub(super) fn is_past_last_epoch(&self) -> bool {
        self.epoch > LAST_EPOCH
    }

    /// When it times out, if it is ongoing.
    pub(super) fn time_out_at(&self) -> i64 {
        self.started_ms.saturating_add(i64::from(self.timeout_ms))
    }

    /// Whether the transaction version of its client bumps the epoch with each transaction.
    pub(super) fn bumps_epoch(&self) -> bool {
        self.client_version >= 2
    }

    /// The state in a record; `None` for a state that no log holds.
    pub(super) fn from_record(value: TransactionLogValue) -> Option<Self> {
        let state = State::from_id(value.transaction_status)?;
        if matches!(state, State::Dead | State::PrepareEpochFence) {
            return None;
        }
        let listed = value.transaction_partitions.unwrap_or_default();
        let partitions = listed.into_iter().flat_map(|listed| {
            let topic = listed.topic.detached();
            listed.partition_ids.into_iter().map(move |partition| (topic.clone(), partition))
        });
        Some(Self {
            producer_id: value.producer_id,
            previous_producer_id: value.previous_producer_id,
            next_producer_id: value.next_producer_id,
            epoch: value.producer_epoch,
            last_epoch: NO_EPOCH,
            timeout_ms: value.transaction_timeout_ms,
            state,
            partitions: partitions.collect(),
            started_ms: value.transaction_start_timestamp_ms,
            updated_ms: value.transaction_last_update_timestamp_ms,
            client_version: value.client_transaction_version,
        })
    }

    pub(super) fn to_record(&self) -> TransactionLogValue {
        let partitions = (self.state != State::Empty).then(|| {
            let by_topic = self.by_topic().into_iter();
            by_topic.map(|(topic, partition_ids)| TransactionLogPartitions { topic, partition_ids }).collect()
        });
        TransactionLogValue {
            producer_id: self.producer_id,
            previous_producer_id: self.previous_producer_id,
            next_producer_id: self.next_producer_id,
            producer_epoch: self.epoch,
            transaction_timeout_ms: self.timeout_ms,
            transaction_status: self.state.id(),
            transaction_partitions: partitions,
            transaction_last_update_timestamp_ms: self.updated_ms,
            transaction_start_timestamp_ms: self.started_ms,
            client_transaction_version: self.client_version,
            next_producer_epoch: NO_EPOCH,
        }
    }

    /// Its partitions by topic.
    pub fn by_topic(&self) -> Vec<(Str, Vec<i32>)> {
        let mut topics: BTreeMap<&Str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in &self.partitions {
            topics.entry(topic).or_default().push(*partition);
        }
        topics.into_iter().map(|(topic, partitions)| (topic.clone(), partitions)).collect()
    }
}

//! Control batches: what brokers write into a partition for readers to act on. Applications never see them.
//!
//! A control record's key is `version i16 | type i16`. Transaction markers (KIP-98) are the only kind in topics; the other types
//! occur in Kafka's own metadata log. A reader skips types that it does not know.

use bytes::{Buf, BufMut, Bytes};

use super::{BatchBuilder, BatchError};
use crate::compression::Compression;

/// The types of control records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// The producer's transaction is aborted.
    Abort,
    /// The producer's transaction is committed.
    Commit,
    /// A new leader of the metadata quorum.
    LeaderChange,
    /// Start of a metadata snapshot.
    SnapshotHeader,
    /// End of a metadata snapshot.
    SnapshotFooter,
    /// Version of the metadata quorum's protocol.
    KRaftVersion,
    /// Voters of the metadata quorum.
    KRaftVoters,
    /// Any other: to be skipped.
    Unknown(i16),
}

impl ControlType {
    /// Reads the type from a control record's key; `None` if the key is too short or of a negative version.
    #[must_use]
    pub fn parse(mut key: &[u8]) -> Option<Self> {
        let version = key.try_get_i16().ok()?;
        let id = key.try_get_i16().ok()?;
        (version >= 0).then_some(match id {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KRaftVersion,
            6 => Self::KRaftVoters,
            other => Self::Unknown(other),
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KRaftVersion => 5,
            Self::KRaftVoters => 6,
            Self::Unknown(id) => id,
        }
    }

    /// The key of a control record of this type.
    #[must_use]
    pub fn key(self) -> [u8; 4] {
        let mut out = [0; 4];
        (&mut out[2..]).put_i16(self.id());
        out
    }
}

/// The end of a transaction, as its coordinator writes it into each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Committed, or aborted.
    pub committed: bool,
    /// Epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads a marker from a control record; `None` if it is another control record, or malformed.
    #[must_use]
    pub fn parse(key: &[u8], mut value: &[u8]) -> Option<Self> {
        let committed = match ControlType::parse(key)? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            _ => return None,
        };
        let version = value.try_get_i16().ok()?;
        let coordinator_epoch = value.try_get_i32().ok()?;
        (version >= 0).then_some(Self { committed, coordinator_epoch })
    }

    /// The type in the record's key.
    #[must_use]
    pub fn control_type(self) -> ControlType {
        if self.committed { ControlType::Commit } else { ControlType::Abort }
    }

    /// The record's value: `version i16 (0) | coordinatorEpoch i32`.
    #[must_use]
    pub fn value(self) -> [u8; 6] {
        let mut out = [0; 6];
        (&mut out[2..]).put_i32(self.coordinator_epoch);
        out
    }
}

/// The control batch that ends the transaction of a producer; `now` in ms.
///
/// # Errors
/// None in practice: the batch is small and not compressed.
pub fn end_txn_batch(
    producer_id: i64,
    producer_epoch: i16,
    marker: EndTxnMarker,
    now: i64,
) -> Result<Bytes, BatchError> {
    let mut builder = BatchBuilder::new(Compression::None)
        .producer(producer_id, producer_epoch, super::NO_SEQUENCE)
        .transactional(true)
        .control(true);
    builder.append(0, now, Some(&marker.control_type().key()), Some(&marker.value()), &[]);
    builder.build()
}

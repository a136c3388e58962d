//! One marker: the control batch that ends a transaction in a partition.

use esker_protocol::error::ErrorCode;
use esker_protocol::records::{BatchHeader, EndTxnMarker, end_txn_batch};
use esker_storage::Origin;

use crate::error::KafkaError;
use crate::replica::Partition;

/// One marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction ends.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// Commit or abort.
    pub commit: bool,
    /// The leader epoch of the coordinator's partition.
    pub coordinator_epoch: i32,
    /// The transaction version: from 2 on the epoch must be a new one.
    pub version: i16,
}

impl Marker {
    /// Appends the marker, if this broker leads in `leader_epoch`; the offset behind it.
    pub(super) fn append_to(&self, partition: &Partition, leader_epoch: i32, now: i64) -> Result<i64, ErrorCode> {
        let marker = EndTxnMarker { committed: self.commit, coordinator_epoch: self.coordinator_epoch };
        let unencodable = |_| ErrorCode::UNKNOWN_SERVER_ERROR;
        let batch = end_txn_batch(self.producer_id, self.producer_epoch, marker, now).map_err(unencodable)?;
        let header = BatchHeader::parse(&batch).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let origin = Origin::Coordinator { transaction_v2: self.version >= 2 };
        let appended = partition.append_in_epoch(leader_epoch, &header, &batch, origin, now);
        let appended = appended.map_err(|error| error.code())?;
        Ok(appended.last_offset.saturating_add(1))
    }
}

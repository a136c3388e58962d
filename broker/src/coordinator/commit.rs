//! Waits for the commit of a coordinator's records.

use std::sync::Arc;
use std::time::Duration;

use crate::replica::{CommitGate, Partition, ProduceError};

/// Pause before a failed sync is waited for once more.
const SYNC_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Waits until all below `end` is committed as `acks=all` promises it, in the leader epoch that it was written in.
pub(super) async fn wait_committed(
    partition: &Arc<Partition>,
    end: i64,
    leader_epoch: i32,
) -> Result<(), ProduceError> {
    let guarantee = partition.full_guarantee();
    loop {
        if partition.meets_guarantee(guarantee, end, leader_epoch)? {
            return Ok(());
        }
        let gate = CommitGate::new(1);
        let pending = partition.park_commit(guarantee, end, leader_epoch, &gate);
        gate.wait().await;
        drop(pending);
        if !matches!(partition.meets_guarantee(guarantee, end, leader_epoch), Ok(true)) {
            // A sync failed that may go well next time (no file handles left): not again at once.
            tokio::time::sleep(SYNC_AGAIN_AFTER).await;
        }
    }
}

/// As [`wait_committed`], for a request, which waits no longer than `limit`. The records stay written, so the client
/// may send the request again.
pub(super) async fn wait_committed_within(
    limit: Duration,
    partition: &Arc<Partition>,
    end: i64,
    leader_epoch: i32,
) -> Result<(), ProduceError> {
    tokio::time::timeout(limit, wait_committed(partition, end, leader_epoch))
        .await
        .unwrap_or(Err(ProduceError::TimedOut))
}

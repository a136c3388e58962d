//! What makes a decision count: its records are committed, or, where it has none, a majority confirms what it was read from.
//!
//! Must never: answer from the image of a node that may have been replaced as leader, or that lacks what an earlier leader committed.

use std::time::Duration;

use arc_swap::ArcSwap;
use esker_core::metadata::MetadataImage;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{Raft, ReadPolicy};
use tokio::time::Instant;

use super::machine::StateMachine;
use super::types::{Applied, Proposal, TypeConfig};
use crate::controller::SubmitError;

/// How long the start, or an election, may take before a write gives up. A write that openraft has accepted is waited for to its end,
/// also when the disk hangs: until its outcome is known no later decision may be made. Callers have deadlines of their own.
pub(super) const RAFT_TIMEOUT: Duration = Duration::from_secs(10);

/// Between a refused write and the next attempt.
const REFUSED: Duration = Duration::from_millis(1);

/// Commits one entry that was decided on the image at `decided_on`: the offset behind it, `None` if it is stale. A leader whose lease is
/// not confirmed yet refuses for a moment; the write waits for a change of the quorum's state then. A node that another one leads
/// refuses at once.
pub(super) async fn commit(
    raft: &Raft<TypeConfig, StateMachine>,
    decided_on: u64,
    records: &[u8],
) -> Result<Option<u64>, SubmitError> {
    let deadline = Instant::now() + RAFT_TIMEOUT;
    loop {
        let mut metrics = raft.metrics();
        let term = metrics.borrow_watched().current_term;
        match raft.client_write(Proposal::new(term, decided_on, records)).await {
            Ok(written) => {
                let applied = matches!(written.data, Applied::Changed);
                return Ok(applied.then_some(written.log_id.index + 1));
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => match forward.leader_id {
                Some(leader) => return Err(SubmitError::NotController(Some(leader.node_id))),
                None => {
                    let changed = tokio::time::timeout_at(deadline, metrics.changed()).await;
                    if !matches!(changed, Ok(Ok(()))) {
                        return Err(SubmitError::NotController(None));
                    }
                    // The refusal itself may change the metrics: without a pause this loop would not end before the lease does.
                    tokio::time::sleep(REFUSED).await;
                }
            },
            Err(error) => return Err(SubmitError::Unavailable(error.to_string())),
        }
    }
}

/// Confirms what was read from the image at `read_at`: its offset; `None` if the image lacked something that was committed before, and is to be
/// read again (it has that by now). Costs a round of heartbeats, none on a node that is alone. Ongaro's ReadIndex (Raft thesis, 6.4).
pub(super) async fn confirm(
    raft: &Raft<TypeConfig, StateMachine>,
    current: &ArcSwap<MetadataImage>,
    read_at: u64,
) -> Result<Option<u64>, SubmitError> {
    let linearizer = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => linearizer,
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            return Err(SubmitError::NotController(forward.leader_id.map(|leader| leader.node_id)));
        }
        // No majority within the leader's lease: another may lead by now.
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            return Err(SubmitError::NotController(None));
        }
        Err(error) => return Err(SubmitError::Unavailable(error.to_string())),
    };
    match linearizer.try_await_ready(raft, Some(RAFT_TIMEOUT)).await {
        Ok(Ok(_)) => Ok((current.load().offset() == read_at).then_some(read_at)),
        Ok(Err(_)) => Err(SubmitError::NotController(None)),
        Err(error) => Err(SubmitError::Unavailable(error.to_string())),
    }
}

//! Other brokers as transactions need them: as leaders of partitions that get markers, and as transaction coordinators.
//!
//! The network implements [`TransactionPeers`]. Must never: know connections or addresses.

use std::fmt;
use std::time::Duration;

use esker_core::trace::TraceContext;
use esker_core::transaction::wire::{AddPartitionsRequest, WriteMarkersRequest};
use esker_protocol::messages::add_partitions_to_txn::AddPartitionsToTxnResponse;
use esker_protocol::messages::write_txn_markers::WriteTxnMarkersResponse;
use futures_util::future::BoxFuture;
use thiserror::Error;

/// Why another broker did not answer. It may have carried out the request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("broker {node_id} did not answer: {reason}")]
pub struct PeerUnavailable {
    /// The broker.
    pub node_id: i32,
    /// Why not.
    pub reason: String,
}

/// The answer of another broker.
pub type PeerAnswer<R> = BoxFuture<'static, Result<R, PeerUnavailable>>;

/// The requests of this broker's transactions to other brokers. Each is part of the traces that caused it.
pub trait TransactionPeers: fmt::Debug + Send + Sync {
    /// Has the leader of partitions write markers.
    fn write_markers(
        &self,
        node_id: i32,
        request: WriteMarkersRequest,
        causes: Vec<TraceContext>,
        timeout: Duration,
    ) -> PeerAnswer<WriteTxnMarkersResponse>;

    /// Has a transaction coordinator add partitions to transactions, or verify that they were added.
    fn add_partitions(
        &self,
        node_id: i32,
        request: AddPartitionsRequest,
        causes: Vec<TraceContext>,
        timeout: Duration,
    ) -> PeerAnswer<AddPartitionsToTxnResponse>;
}

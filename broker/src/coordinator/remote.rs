//! Requests of this broker's transactions to other brokers: built, sent in batches, and their answers taken apart.
//!
//! Kafka's TransactionMarkerChannelManager and AddPartitionsToTxnManager: one request of a kind is in flight to a broker. Markers and
//! verifications have a connection each, because answers come in order and those to markers wait for commits. Must never: report a
//! marker as written that the leader did not confirm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_core::trace::TraceContext;
use esker_core::transaction::wire::{AddPartitionsRequest, WriteMarkersRequest};
use esker_core::transaction::{AddRequest, VerificationResult};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnResponse, AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use esker_protocol::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerResult, WritableTxnMarkerTopic, WriteTxnMarkersResponse,
};
use esker_protocol::primitives::Str;
use futures_util::FutureExt;

use super::batcher::Batcher;
use super::marker::Marker;
use super::peers::TransactionPeers;
use crate::trace::current_context;

/// How long a leader waits for the commit of markers. A marker that is not committed by then is sent again.
const MARKER_COMMIT: Duration = Duration::from_secs(2);
/// How long an answer to markers may take in all.
const MARKER_ANSWER: Duration = Duration::from_secs(5);
/// How long a coordinator may take to add partitions: the change is committed before the answer.
const ADD_ANSWER: Duration = Duration::from_secs(10);

/// Traces of one request; more are left out.
const MAX_CAUSES: usize = 16;

/// A marker for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MarkerWrite {
    pub(super) marker: Marker,
    pub(super) topic: Str,
    pub(super) partition: i32,
    /// The trace that ends the transaction, if there is one.
    pub(super) cause: Option<TraceContext>,
}

/// A transaction of a request to its coordinator, and the trace that caused it.
type Addition = (AddPartitionsToTxnTransaction, Option<TraceContext>);

/// See the module.
#[derive(Debug)]
pub struct RemoteTransactions {
    markers: Batcher<MarkerWrite, ErrorCode>,
    additions: Batcher<Addition, Result<AddPartitionsToTxnResult, ErrorCode>>,
}

impl RemoteTransactions {
    /// Over the connections of `peers`.
    pub fn new(peers: Arc<dyn TransactionPeers>) -> Self {
        let leaders = Arc::clone(&peers);
        let markers = Batcher::new(Arc::new(move |node_id, writes: Vec<MarkerWrite>| {
            let (request, slots) = marker_request(&writes);
            let causes = distinct(writes.iter().map(|write| write.cause));
            let answer = leaders.write_markers(node_id, request, causes, MARKER_ANSWER);
            async move {
                match answer.await {
                    Ok(response) => slots.into_iter().map(|slot| slot.code_in(&response)).collect(),
                    Err(error) => {
                        tracing::debug!(%error, "markers are not written yet");
                        vec![ErrorCode::NETWORK_EXCEPTION; slots.len()]
                    }
                }
            }
            .boxed()
        }));
        let additions = Batcher::new(Arc::new(move |node_id, additions: Vec<Addition>| {
            let causes = distinct(additions.iter().map(|(_, cause)| *cause));
            let transactions: Vec<_> = additions.into_iter().map(|(transaction, _)| transaction).collect();
            let ids = transactions.iter().map(|transaction| transaction.transactional_id.clone()).collect();
            let request = AddPartitionsRequest { transactions, ..AddPartitionsRequest::default() };
            let answer = peers.add_partitions(node_id, request, causes, ADD_ANSWER);
            async move { results_for(ids, answer.await.map_err(|error| error.to_string())) }.boxed()
        }));
        Self { markers, additions }
    }

    /// Has a broker write a marker: the code of its answer.
    pub(super) async fn write_marker(&self, node_id: i32, write: MarkerWrite) -> ErrorCode {
        self.markers.request(node_id, write).await.unwrap_or(ErrorCode::NETWORK_EXCEPTION)
    }

    /// Has the coordinator on a broker add partitions: one code for all.
    pub(super) async fn add(&self, node_id: i32, request: &AddRequest) -> ErrorCode {
        match self.ask(node_id, request, false).await {
            Err(code) => code,
            Ok(codes) => codes.into_iter().find(|code| code.is_error()).unwrap_or(ErrorCode::NONE),
        }
    }

    /// Has the coordinator on a broker verify partitions: a code for each.
    pub(super) async fn verify(&self, node_id: i32, request: &AddRequest) -> VerificationResult {
        self.ask(node_id, request, true).await
    }

    async fn ask(&self, node_id: i32, request: &AddRequest, verify_only: bool) -> VerificationResult {
        let answer = self.additions.request(node_id, (transaction(request, verify_only), current_context()));
        let result = answer.await.unwrap_or(Err(ErrorCode::NETWORK_EXCEPTION))?;
        let mut codes = BTreeMap::new();
        for topic in &result.topic_results {
            for partition in &topic.results_by_partition {
                codes.insert((&*topic.name, partition.partition_index), partition.partition_error_code);
            }
        }
        let of_partition = |(topic, partition): &(Str, i32)| match codes.get(&(&**topic, *partition)) {
            // Another partition of the request is unknown to the coordinator, which may lack the newest metadata.
            Some(&ErrorCode::OPERATION_NOT_ATTEMPTED) | None => ErrorCode::NETWORK_EXCEPTION,
            Some(code) => *code,
        };
        Ok(request.partitions.iter().map(of_partition).collect())
    }
}

fn transaction(request: &AddRequest, verify_only: bool) -> AddPartitionsToTxnTransaction {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for (name, partition) in &request.partitions {
        match topics.last_mut().filter(|topic| topic.name == *name) {
            Some(topic) => topic.partitions.push(*partition),
            None => topics.push(AddPartitionsToTxnTopic { name: name.clone(), partitions: vec![*partition] }),
        }
    }
    AddPartitionsToTxnTransaction {
        transactional_id: request.id.clone(),
        producer_id: request.producer.id,
        producer_epoch: request.producer.epoch,
        verify_only,
        topics,
    }
}

/// The result of each transaction of a request; Kafka's codes where there is none.
fn results_for(
    ids: Vec<Str>,
    answer: Result<AddPartitionsToTxnResponse, String>,
) -> Vec<Result<AddPartitionsToTxnResult, ErrorCode>> {
    let response = match answer {
        Ok(response) if !response.error_code.is_error() => response,
        Ok(response) => return vec![Err(response.error_code); ids.len()],
        Err(error) => {
            tracing::debug!(error, "the transaction coordinator does not answer");
            return vec![Err(ErrorCode::NETWORK_EXCEPTION); ids.len()];
        }
    };
    let mut results = response.results_by_transaction.into_iter();
    ids.iter()
        .map(|id| {
            let result = results.next().filter(|result| result.transactional_id == *id);
            result.ok_or(ErrorCode::NETWORK_EXCEPTION)
        })
        .collect()
}

/// Where the answer to a marker stands in a response.
#[derive(Debug, Clone, Copy)]
struct Slot {
    marker: usize,
    topic: usize,
    at: usize,
    partition: i32,
}

impl Slot {
    /// A response that lacks the partition confirms nothing.
    fn code_in(&self, response: &WriteTxnMarkersResponse) -> ErrorCode {
        let topics = response.markers.get(self.marker).map(|marker: &WritableTxnMarkerResult| &marker.topics);
        let result = topics.and_then(|topics| topics.get(self.topic)?.partitions.get(self.at));
        result
            .filter(|result| result.partition_index == self.partition)
            .map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |result| result.error_code)
    }
}

/// One request for all markers, and where each finds its answer.
fn marker_request(writes: &[MarkerWrite]) -> (WriteMarkersRequest, Vec<Slot>) {
    let mut grouped: Vec<(Marker, Vec<WritableTxnMarkerTopic>)> = Vec::new();
    let mut slots = Vec::with_capacity(writes.len());
    for write in writes {
        if grouped.last().is_none_or(|(marker, _)| *marker != write.marker) {
            grouped.push((write.marker, Vec::new()));
        }
        let marker = grouped.len() - 1;
        let Some((_, topics)) = grouped.last_mut() else { continue };
        if topics.last().is_none_or(|topic| topic.name != write.topic) {
            topics.push(WritableTxnMarkerTopic { name: write.topic.clone(), partition_indexes: Vec::new() });
        }
        let topic = topics.len() - 1;
        let Some(WritableTxnMarkerTopic { partition_indexes, .. }) = topics.last_mut() else { continue };
        slots.push(Slot { marker, topic, at: partition_indexes.len(), partition: write.partition });
        partition_indexes.push(write.partition);
    }
    let markers = grouped.into_iter().map(|(marker, topics)| WritableTxnMarker {
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        transaction_result: marker.commit,
        topics,
        coordinator_epoch: marker.coordinator_epoch,
        transaction_version: i8::try_from(marker.version).unwrap_or(i8::MAX),
    });
    let timeout_ms = i32::try_from(MARKER_COMMIT.as_millis()).unwrap_or(i32::MAX);
    let request = WriteMarkersRequest { timeout_ms, markers: markers.collect(), ..WriteMarkersRequest::default() };
    (request, slots)
}

/// Each trace once, in the order of the items.
fn distinct(causes: impl Iterator<Item = Option<TraceContext>>) -> Vec<TraceContext> {
    let mut distinct = Vec::new();
    for cause in causes.flatten() {
        if distinct.len() < MAX_CAUSES && !distinct.contains(&cause) {
            distinct.push(cause);
        }
    }
    distinct
}

#[cfg(test)]
mod tests;

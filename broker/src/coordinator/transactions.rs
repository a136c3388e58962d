//! The calls of handlers to the transaction coordinator.

use std::collections::BTreeMap;

use esker_core::metadata::MetadataImage;
use esker_core::transaction::{
    AddRequest, EndRequest, InitRequest, ListFilter, Producer, Reply, TransactionDescription, TransactionSummary,
    VerificationResult,
};
use esker_protocol::error::ErrorCode;

use super::transaction_coordinator::TransactionCoordinator;

/// How often a request is decided again with a fresh producer id: once, unless another request changed the state meanwhile.
const MAX_TURNS: usize = 10;

impl TransactionCoordinator {
    /// InitProducerId with a transactional id.
    pub async fn init(&self, image: &MetadataImage, request: InitRequest) -> Result<Producer, ErrorCode> {
        let shard = self.shard(image, &request.id)?;
        let mut fresh = None;
        for _ in 0..MAX_TURNS {
            let parked = shard.park_request(|s, token| s.init(&request, fresh, token, self.node.now_ms()))?;
            match parked.wait_for_reply().await? {
                Reply::Producer(outcome) => return outcome,
                Reply::NeedsProducerId => fresh = Some(self.producer_ids.next().await?),
                Reply::Added(_) | Reply::Verified(_) => break,
            }
        }
        Err(ErrorCode::UNKNOWN_SERVER_ERROR)
    }

    /// EndTxn: returns the producer id and epoch that the producer uses next.
    pub async fn end(&self, image: &MetadataImage, request: EndRequest) -> Result<Producer, ErrorCode> {
        let shard = self.shard(image, &request.id)?;
        // Markers may be on their way before this request is answered.
        self.trace_end(&request.id);
        let mut fresh = None;
        for _ in 0..MAX_TURNS {
            let parked = shard.park_request(|s, token| s.end(&request, fresh, token, self.node.now_ms()))?;
            match parked.wait_for_reply().await? {
                Reply::Producer(outcome) => return outcome,
                Reply::NeedsProducerId => fresh = Some(self.producer_ids.next().await?),
                Reply::Added(_) | Reply::Verified(_) => break,
            }
        }
        Err(ErrorCode::UNKNOWN_SERVER_ERROR)
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn, for one transaction: one code for all partitions.
    pub async fn add(&self, image: &MetadataImage, request: AddRequest) -> ErrorCode {
        let added = async {
            match self
                .shard(image, &request.id)?
                .park_request(|s, token| s.add(&request, token, self.node.now_ms()))?
                .wait_for_reply()
                .await?
            {
                Reply::Added(ErrorCode::NONE) => Ok(()),
                Reply::Added(code) => Err(code),
                _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            }
        };
        added.await.err().unwrap_or(ErrorCode::NONE)
    }

    /// Whether partitions are in a transaction: a code for each.
    pub async fn verify(&self, image: &MetadataImage, request: &AddRequest) -> VerificationResult {
        match self
            .shard(image, &request.id)?
            .park_request(|s, token| s.verify(request, token))?
            .wait_for_reply()
            .await?
        {
            Reply::Verified(verdicts) => verdicts,
            _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        }
    }

    /// DescribeTransactions, for one id: `None` if it is not there.
    pub fn describe(&self, image: &MetadataImage, id: &str) -> Result<Option<TransactionDescription>, ErrorCode> {
        self.shard(image, id)?.read(|s| s.describe(id))
    }

    /// ListTransactions: the rows here, and whether some are still loading.
    pub fn list(&self, filter: &ListFilter, passes: impl Fn(&str) -> bool) -> (Vec<TransactionSummary>, bool) {
        let (mut rows, mut loading) = (Vec::new(), false);
        for shard in self.shards() {
            match shard.read(|s| s.list(filter, &passes, self.node.now_ms())) {
                Ok(list) => rows.extend(list),
                Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => loading = true,
                Err(_) => {}
            }
        }
        (rows, loading)
    }

    /// Transactional ids by state, for metrics.
    pub fn count_by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for shard in self.shards() {
            // A shard that is loading has no data yet.
            for (state, count) in shard.read(|s| s.count_by_state()).unwrap_or_default() {
                *counts.entry(state).or_default() += count;
            }
        }
        counts
    }
}

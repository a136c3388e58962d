//! Verification by the transaction coordinator, wherever it is: on this broker, or on another one (KIP-890).
//!
//! Kafka's AddPartitionsToTxnManager. Must never: answer for a coordinator that the metadata image does not name.

use std::sync::Arc;

use esker_core::internal_topics::TRANSACTION_TOPIC;
use esker_core::metadata::MetadataImage;
use esker_core::transaction::{AddRequest, VerificationResult};
use esker_protocol::error::ErrorCode;
use tokio::sync::watch;

use super::location::Location;
use super::scope::CoordinatorScope;

impl CoordinatorScope {
    /// Has the coordinator add partitions to a transaction: one code for all.
    pub async fn add_to_transaction(&self, request: &AddRequest) -> ErrorCode {
        match self.locate_coordinator(&request.id) {
            Ok((Location::Here { .. }, _)) => self.transactions.add(&self.image(), request.clone()).await,
            Ok((at @ Location::Broker { node_id, .. }, partition)) => {
                let answer = self.remote.add(node_id, request);
                self.unless_moved(at, partition, answer).await.unwrap_or(ErrorCode::NOT_COORDINATOR)
            }
            Ok(_) | Err(_) => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        }
    }

    /// Has the coordinator verify that partitions are in a transaction: a code for each.
    pub async fn verify_transaction(&self, request: &AddRequest) -> VerificationResult {
        match self.locate_coordinator(&request.id)? {
            (Location::Here { .. }, _) => self.transactions.verify(&self.image(), request).await,
            (at @ Location::Broker { node_id, .. }, partition) => {
                let answer = self.remote.verify(node_id, request);
                self.unless_moved(at, partition, answer).await.unwrap_or(Err(ErrorCode::NOT_COORDINATOR))
            }
            _ => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }

    fn locate_coordinator(&self, id: &str) -> Result<(Location, i32), ErrorCode> {
        let image = self.image();
        let partition = self.transactions.partition_for(&image, id).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        Ok((Location::of(&image, self.node.id(), TRANSACTION_TOPIC, partition), partition))
    }

    /// The answer of a coordinator, unless its leadership moves before the answer comes.
    async fn unless_moved<R>(&self, at: Location, partition: i32, answer: impl Future<Output = R>) -> Option<R> {
        let moved = moved(self.images.clone(), self.node.id(), TRANSACTION_TOPIC, partition, at);
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            () = moved => None,
        }
    }
}

/// Resolves when the leader of a partition is not where it was; never if the metadata ends.
pub(super) async fn moved(
    mut images: watch::Receiver<Arc<MetadataImage>>,
    own_id: i32,
    topic: &str,
    partition: i32,
    before: Location,
) {
    let moved = images.wait_for(|image| Location::of(image, own_id, topic, partition) != before);
    if moved.await.is_err() {
        std::future::pending::<()>().await;
    }
}

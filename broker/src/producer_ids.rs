//! Producer ids: handed out from a block that the metadata log gave to this broker.

use std::ops::Range;
use std::time::Duration;

use esker_core::controller::{PRODUCER_ID_BLOCK, allocate_producer_ids};
use esker_protocol::error::ErrorCode;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::raft::Metadata;

/// How long a block may take to be allocated.
const PATIENCE: Duration = Duration::from_secs(30);

/// The block in use. What is left of it is lost at a restart: an id is never given twice.
#[derive(Debug)]
pub struct ProducerIds {
    node_id: i32,
    block: Mutex<Range<i64>>,
    refill: tokio::sync::Mutex<()>,
}

impl ProducerIds {
    /// An empty block.
    pub fn new(node_id: i32) -> Self {
        Self { node_id, block: Mutex::new(0..0), refill: tokio::sync::Mutex::new(()) }
    }

    /// The next id of the block, if there is one.
    pub fn try_next(&self) -> Option<i64> {
        self.block.lock().next()
    }

    /// The next id; asks for a new block when the old one is used up. One asks, others wait for it.
    pub async fn next(&self, metadata: &Metadata) -> Result<i64, ErrorCode> {
        let _one_at_a_time = self.refill.lock().await;
        if let Some(id) = self.try_next() {
            return Ok(id);
        }
        let node_id = self.node_id;
        let committed =
            metadata.submit(Instant::now() + PATIENCE, move |image| allocate_producer_ids(image, node_id)).await;
        let first = committed.map_err(|error| Broker::submit_error(&error))?.reply;
        let mut block = self.block.lock();
        *block = first + 1..first + PRODUCER_ID_BLOCK;
        Ok(first)
    }
}

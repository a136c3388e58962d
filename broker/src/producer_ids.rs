//! Producer ids: handed out from a block that the controller gave to this broker.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{AllocateProducerIds, PRODUCER_ID_BLOCK};
use esker_protocol::error::ErrorCode;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::controller::{ControllerClient, submit};
use crate::error::KafkaError;

/// How long a block may take to be allocated.
const ALLOCATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The block in use. What is left of it is lost at a restart: an id is never given twice.
#[derive(Debug)]
pub struct ProducerIds {
    node_id: i32,
    controller: Arc<dyn ControllerClient>,
    block: Mutex<Range<i64>>,
    refill: tokio::sync::Mutex<()>,
}

impl ProducerIds {
    /// An empty block of `node_id`.
    pub fn new(node_id: i32, controller: Arc<dyn ControllerClient>) -> Self {
        Self { node_id, controller, block: Mutex::new(0..0), refill: tokio::sync::Mutex::new(()) }
    }

    /// The next id of the block, if there is one.
    pub fn try_next(&self) -> Option<i64> {
        self.block.lock().next()
    }

    /// The next id; requests a new block when the old one is used up. One caller requests it, others wait.
    pub async fn next(&self) -> Result<i64, ErrorCode> {
        let _one_at_a_time = self.refill.lock().await;
        if let Some(id) = self.try_next() {
            return Ok(id);
        }
        let request = AllocateProducerIds { node_id: self.node_id };
        let allocated = submit(self.controller.as_ref(), request, Instant::now() + ALLOCATION_TIMEOUT).await;
        let first = allocated.map_err(|error| error.code())?.reply;
        let mut block = self.block.lock();
        *block = first + 1..first + PRODUCER_ID_BLOCK;
        Ok(first)
    }
}

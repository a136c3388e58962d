//! The producer: records are gathered into batches by partition, and one task sends them.
//!
//! `send` picks the partition, encodes the record into that partition's open batch and returns; it waits only while the buffer is
//! full. The sending task closes batches (full, or older than `linger`), gives them sequence numbers and keeps up to five
//! requests in flight to each broker. A batch that has to go again goes before all later ones of its partition, with the
//! sequence number it had, so that nothing is lost, doubled or out of order (KIP-98).

mod accumulator;
mod answers;
mod batch;
mod config;
mod error;
mod partitioner;
mod record;
mod sender;

use std::sync::Arc;

use tokio::task::JoinHandle;

pub use batch::{Delivered, Delivery};
pub use config::{Acks, ProducerConfig};
pub use error::ProduceError;
pub use partitioner::{murmur2, partition_for_key};
pub use record::ProducerRecord;

use crate::client::Client;
use accumulator::Accumulator;

/// Sends records. Share it behind an `Arc`; dropping the last handle without [`Producer::close`] drops what was not sent yet.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    accumulator: Arc<Accumulator>,
    task: JoinHandle<()>,
}

impl Producer {
    /// A producer on a client's connections.
    #[must_use]
    pub fn new(client: &Client, mut config: ProducerConfig) -> Self {
        config.idempotent &= config.acks == Acks::All;
        config.max_in_flight = config.max_in_flight.max(1);
        if config.idempotent {
            config.max_in_flight = config.max_in_flight.min(sender::IDEMPOTENT_IN_FLIGHT);
        }
        let accumulator = Arc::new(Accumulator::new(config));
        let task = tokio::spawn(sender::run(client.clone(), Arc::clone(&accumulator)));
        Self { client: client.clone(), accumulator, task }
    }

    /// Puts a record into its batch. Waits while the buffer is full or the topic's metadata is not known. What it returns becomes the
    /// offset once the broker has acknowledged; it can be dropped where the caller does not need the offset.
    ///
    /// # Errors
    /// The topic or partition is not there, the record is too large, or the buffer stays full.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ProduceError> {
        let topic = match self.client.cached_topic(&record.topic) {
            Some(topic) => topic,
            None => self.client.topic(&record.topic, true).await?,
        };
        self.accumulator.append(&topic, record).await
    }

    /// Sends everything at once and waits until all of it is acknowledged or has failed.
    ///
    /// # Errors
    /// The first failure among the records that were under way; each of them also comes through its own [`Delivery`].
    pub async fn flush(&self) -> Result<(), ProduceError> {
        self.accumulator.flush().await
    }

    /// Flushes, then ends the sending task.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(mut self) -> Result<(), ProduceError> {
        let flushed = self.flush().await;
        self.accumulator.close();
        let _ = (&mut self.task).await;
        flushed
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.accumulator.close();
    }
}

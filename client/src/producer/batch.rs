//! A batch on its way, and the future of each record in it.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::records::{BATCH_OVERHEAD, Batch, BatchBuilder, BatchError, RecordHeader};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::ProduceError;
use super::record::ProducerRecord;

/// What became of a whole batch: base offset and append time, or why not.
pub(super) type Outcome = Result<(i64, i64), ProduceError>;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Partition.
    pub partition: i32,
    /// Offset; -1 with `Acks::None`.
    pub offset: i64,
    /// Time of the record, ms: its own, or the broker's where the topic uses log append time.
    pub timestamp: i64,
}

/// A record under way. Await it for its offset, or drop it.
#[derive(Debug)]
#[must_use = "await it to learn whether the record arrived, or drop it on purpose"]
pub struct Delivery {
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
    pub(super) partition: i32,
    pub(super) index: i32,
    pub(super) timestamp: i64,
}

impl Delivery {
    /// Waits for the acknowledgement.
    ///
    /// # Errors
    /// The record was not written, or it is unknown whether it was.
    pub async fn wait(mut self) -> Result<Delivered, ProduceError> {
        let outcome = wait_for_outcome(&mut self.outcome).await;
        outcome.map(|(base, append_time)| Delivered {
            partition: self.partition,
            offset: if base < 0 { -1 } else { base.saturating_add(i64::from(self.index)) },
            timestamp: if append_time >= 0 { append_time } else { self.timestamp },
        })
    }
}

impl IntoFuture for Delivery {
    type Output = Result<Delivered, ProduceError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

/// Waits for a batch's outcome; a producer that goes away leaves none.
pub(super) async fn wait_for_outcome(outcome: &mut watch::Receiver<Option<Outcome>>) -> Outcome {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(ProduceError::Closed)),
        Err(_) => Err(ProduceError::Closed),
    }
}

/// What a batch was last built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
}

#[derive(Debug)]
enum Content {
    Open(BatchBuilder),
    Built(Bytes),
}

/// A batch: being filled, waiting, or in flight.
#[derive(Debug)]
pub(super) struct PendingBatch {
    pub(super) id: u64,
    pub(super) created: Instant,
    /// Bytes of the buffer that it holds.
    pub(super) reserved: usize,
    pub(super) attempts: u32,
    pub(super) last_failure: String,
    pub(super) sequence: Option<i32>,
    records: i32,
    content: Content,
    outcome: watch::Sender<Option<Outcome>>,
}

impl PendingBatch {
    pub(super) fn new(id: u64, codec: Compression, level: Option<i32>) -> Self {
        Self {
            id,
            created: Instant::now(),
            reserved: 0,
            attempts: 0,
            last_failure: "none".to_owned(),
            sequence: None,
            records: 0,
            content: Content::Open(BatchBuilder::new(codec).level(level)),
            outcome: watch::Sender::new(None),
        }
    }

    /// Whether `size` more bytes fit.
    pub(super) fn fits(&self, size: usize, limit: usize) -> bool {
        match &self.content {
            Content::Open(builder) => builder.is_empty() || builder.size() + size <= limit,
            Content::Built(_) => false,
        }
    }

    pub(super) fn append(&mut self, record: &ProducerRecord, timestamp: i64, size: usize) -> (i32, Watcher) {
        let index = self.records;
        if let Content::Open(builder) = &mut self.content {
            let headers: Vec<_> =
                record.headers.iter().map(|(name, value)| RecordHeader::new(name, value.as_deref())).collect();
            builder.append(index, timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
            self.records = self.records.saturating_add(1);
            self.reserved += size;
        }
        (index, self.outcome.subscribe())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(super) fn records(&self) -> i32 {
        self.records
    }

    pub(super) fn watch(&self) -> Watcher {
        self.outcome.subscribe()
    }

    /// The bytes to send. Built once; a new identity or sequence number is stamped into the header.
    pub(super) fn bytes(&mut self, identity: Option<Identity>) -> Result<Bytes, BatchError> {
        let bytes = match &mut self.content {
            Content::Open(builder) => {
                if let (Some(identity), Some(sequence)) = (identity, self.sequence) {
                    let taken = std::mem::replace(builder, BatchBuilder::new(Compression::None));
                    *builder = taken.producer(identity.producer_id, identity.epoch, sequence);
                }
                builder.build()?
            }
            Content::Built(bytes) => match (identity, self.sequence) {
                (Some(identity), Some(sequence)) => restamp(bytes, identity, sequence)?,
                _ => bytes.clone(),
            },
        };
        self.content = Content::Built(bytes.clone());
        Ok(bytes)
    }

    pub(super) fn complete_batch(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

pub(super) type Watcher = watch::Receiver<Option<Outcome>>;

fn restamp(bytes: &Bytes, identity: Identity, sequence: i32) -> Result<Bytes, BatchError> {
    let (batch, _) = Batch::parse(bytes.clone())?;
    let mut header = batch.header;
    let same = header.producer_id == identity.producer_id && header.producer_epoch == identity.epoch;
    if same && header.base_sequence == sequence {
        return Ok(bytes.clone());
    }
    header.producer_id = identity.producer_id;
    header.producer_epoch = identity.epoch;
    header.base_sequence = sequence;
    Ok(batch.with_header(&header.sealed(bytes.get(BATCH_OVERHEAD..).unwrap_or_default())))
}

/// The sequence number `count` records after `sequence`; it wraps from 2147483647 to 0.
pub(super) fn sequence_after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap() {
        assert_eq!(sequence_after(5, 3), 8);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    }

    #[test]
    fn a_new_identity_is_stamped_and_sealed() {
        let mut batch = PendingBatch::new(1, Compression::Lz4, None);
        let record = ProducerRecord::new("t").key("k").value("v").header("h", None);
        batch.append(&record, 7, record.size());
        batch.sequence = Some(3);
        let first = batch.bytes(Some(Identity { producer_id: 9, epoch: 0 })).unwrap();
        batch.sequence = Some(0);
        let second = batch.bytes(Some(Identity { producer_id: 9, epoch: 1 })).unwrap();
        for (bytes, epoch, sequence) in [(first, 0, 3), (second, 1, 0)] {
            let (batch, rest) = Batch::parse(bytes).unwrap();
            batch.verify_crc().unwrap();
            let h = batch.header;
            assert!(rest.is_empty());
            assert_eq!((h.producer_id, h.producer_epoch, h.base_sequence), (9, epoch, sequence));
            assert_eq!(batch.records(1000).unwrap().next().unwrap().unwrap().key.unwrap(), "k");
        }
    }
}

//! From the bytes of a fetch to records: checks, unpacking, and what transactions hide.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use esker_protocol::messages::fetch::AbortedTransaction;
use esker_protocol::records::{Batches, ControlType, TimestampType};

use super::config::{ConsumerConfig, Isolation};
use super::record::ConsumerRecord;
use crate::error::Error;
use crate::metadata::TopicPartition;

/// The records of one partition's part of an answer.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) records: Vec<ConsumerRecord>,
    /// Offset after the last whole batch.
    pub(super) next: Option<i64>,
}

/// Decodes what a broker sent for `tp` from offset `from` on. A batch may begin before that offset, and the last one may be cut.
pub(super) fn decode(
    tp: &TopicPartition,
    from: i64,
    bytes: Bytes,
    aborted: &[AbortedTransaction],
    config: &ConsumerConfig,
) -> Result<Decoded, Error> {
    let corrupt =
        |source| Error::Corrupt { topic: tp.topic.to_string(), partition: tp.partition, offset: from, source };
    let mut decoded = Decoded::default();
    let mut aborted = Aborted::new(aborted, config.isolation);
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(corrupt)?;
        let header = batch.header;
        if config.check_crcs {
            batch.verify_crc().map_err(corrupt)?;
        }
        decoded.next = Some(header.next_offset());
        if header.next_offset() <= from {
            continue;
        }
        aborted.advance(header.last_offset());
        if header.attributes.is_control() {
            if let Some(record) = batch.records(config.max_unpacked_bytes).map_err(corrupt)?.next() {
                let key = record.map_err(corrupt)?.key.unwrap_or_default();
                if ControlType::parse(&key) == Some(ControlType::Abort) {
                    aborted.end(header.producer_id);
                }
            }
            continue;
        }
        if header.attributes.is_transactional() && aborted.is_aborted(header.producer_id) {
            continue;
        }
        let log_append_time = header.attributes.timestamp_type() == TimestampType::LogAppend;
        for record in batch.records(config.max_unpacked_bytes).map_err(corrupt)? {
            let record = record.map_err(corrupt)?;
            if record.offset < from {
                continue;
            }
            decoded.records.push(ConsumerRecord {
                topic: tp.topic.clone(),
                partition: tp.partition,
                offset: record.offset,
                timestamp: record.timestamp,
                log_append_time,
                leader_epoch: header.partition_leader_epoch,
                key: record.key,
                value: record.value,
                headers: record.headers,
            });
        }
    }
    Ok(decoded)
}

/// The aborted transactions that overlap what was fetched (KIP-98).
struct Aborted {
    /// Not begun yet, by first offset.
    ahead: VecDeque<(i64, i64)>,
    now: HashSet<i64>,
}

impl Aborted {
    fn new(list: &[AbortedTransaction], isolation: Isolation) -> Self {
        let mut ahead: Vec<_> = list.iter().map(|t| (t.first_offset, t.producer_id)).collect();
        ahead.sort_unstable();
        if isolation == Isolation::ReadUncommitted {
            ahead.clear();
        }
        Self { ahead: ahead.into(), now: HashSet::new() }
    }

    fn advance(&mut self, last_offset: i64) {
        while let Some((_, producer)) = self.ahead.pop_front_if(|(first, _)| *first <= last_offset) {
            self.now.insert(producer);
        }
    }

    fn is_aborted(&self, producer: i64) -> bool {
        self.now.contains(&producer)
    }

    fn end(&mut self, producer: i64) {
        self.now.remove(&producer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_protocol::compression::Compression;
    use esker_protocol::records::{BatchBuilder, EndTxnMarker, end_txn_batch};

    fn batch(base: i64, producer: Option<i64>, values: &[&str]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None).base_offset(base);
        if let Some(id) = producer {
            builder = builder.producer(id, 0, 0).transactional(true);
        }
        for (i, value) in values.iter().enumerate() {
            builder.append(i as i32, 5, None, Some(value.as_bytes()), &[]);
        }
        builder.build().unwrap()
    }

    fn marker(offset: i64, producer: i64, committed: bool) -> Bytes {
        let bytes = end_txn_batch(producer, 0, EndTxnMarker { committed, coordinator_epoch: 0 }, 5).unwrap();
        let (batch, _) = esker_protocol::records::Batch::parse(bytes).unwrap();
        let mut header = batch.header;
        header.base_offset = offset;
        batch.with_header(&header)
    }

    #[test]
    fn transactions_and_offsets() {
        let set: Vec<Bytes> = vec![
            batch(0, None, &["a", "b"]),
            batch(2, Some(7), &["gone"]),
            batch(3, Some(8), &["kept"]),
            marker(4, 7, false),
            marker(5, 8, true),
            batch(6, Some(7), &["later"]),
            marker(7, 7, true),
        ];
        let bytes = Bytes::from(set.concat());
        let tp = TopicPartition::new("t", 0);
        let aborted = [AbortedTransaction { producer_id: 7, first_offset: 2 }];
        let read = |isolation, from| {
            let config = ConsumerConfig { isolation, ..ConsumerConfig::default() };
            let decoded = decode(&tp, from, bytes.clone(), &aborted, &config).unwrap();
            assert_eq!(decoded.next, Some(8));
            decoded.records.iter().map(|r| String::from_utf8_lossy(r.value.as_ref().unwrap()).into_owned()).collect()
        };
        let all: Vec<String> = read(Isolation::ReadUncommitted, 0);
        assert_eq!(all, ["a", "b", "gone", "kept", "later"]);
        let committed: Vec<String> = read(Isolation::ReadCommitted, 1);
        assert_eq!(committed, ["b", "kept", "later"]);
    }

    #[test]
    fn damage_is_told_and_a_cut_tail_is_not() {
        let tp = TopicPartition::new("t", 0);
        let bytes = batch(0, None, &["a", "b"]);
        let config = ConsumerConfig::default();
        let cut = [&bytes[..], &bytes[..30]].concat();
        assert_eq!(decode(&tp, 0, cut.into(), &[], &config).unwrap().records.len(), 2);
        let mut bad = bytes.to_vec();
        *bad.last_mut().unwrap() ^= 1;
        assert!(matches!(decode(&tp, 0, bad.into(), &[], &config), Err(Error::Corrupt { .. })));
    }
}

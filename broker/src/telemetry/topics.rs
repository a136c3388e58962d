//! Bytes, records and requests by topic, as Kafka's BrokerTopicMetrics.
//!
//! Each replica has counters of its own, on cache lines that its log's writer has anyway; a scrape adds those of a topic up. What a replica
//! counted stays in its topic's sums when the replica goes, and in those of all topics when the topic goes: no sum ever falls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::page::{Kind, Page, labels_text};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCount {
    /// Batches of a partition in produce requests.
    ProduceRequests,
    /// Records appended for producers.
    MessagesIn,
    /// Bytes of them.
    BytesIn,
    /// Bytes of batches that were refused for their size.
    BytesRejected,
    /// Batches that were refused or failed.
    FailedProduceRequests,
    /// Batches of an old format that were converted.
    ProduceConversions,
    /// Batches of an unknown format.
    InvalidMagic,
    /// Batches whose checksum is wrong.
    InvalidCrc,
    /// Batches whose sequence is out of order.
    InvalidSequence,
    /// Batches without a key for a compacted topic.
    NoKey,
    /// Bytes fetched from the leader.
    ReplicationBytesIn,
    /// Of these, for a replica that a reassignment adds.
    ReassignmentBytesIn,
    /// Reads of a partition for fetch requests of consumers.
    FetchRequests,
    /// Bytes that consumers read.
    BytesOut,
    /// Reads that failed.
    FailedFetchRequests,
    /// Reads whose batches were converted to an old format.
    FetchConversions,
    /// Bytes that followers read.
    ReplicationBytesOut,
    /// Of these, for replicas that a reassignment adds.
    ReassignmentBytesOut,
}

const COUNTS: usize = 18;
/// The first count of reads; those before it are of writes.
const FIRST_READ: usize = TopicCount::FetchRequests as usize;

type Row = (TopicCount, &'static str, &'static str);

/// Kafka's names, and what they count.
const ROWS: [Row; COUNTS] = [
    (TopicCount::MessagesIn, "messagesin", "Records produced"),
    (TopicCount::BytesIn, "bytesin", "Bytes of record batches produced"),
    (TopicCount::BytesOut, "bytesout", "Bytes of record batches that consumers fetched"),
    (TopicCount::BytesRejected, "bytesrejected", "Bytes of record batches refused for their size"),
    (TopicCount::ReplicationBytesIn, "replicationbytesin", "Bytes of record batches fetched from leaders"),
    (TopicCount::ReplicationBytesOut, "replicationbytesout", "Bytes of record batches that followers fetched"),
    (
        TopicCount::ReassignmentBytesIn,
        "reassignmentbytesin",
        "Of the bytes fetched from leaders, those for replicas that a reassignment adds",
    ),
    (
        TopicCount::ReassignmentBytesOut,
        "reassignmentbytesout",
        "Of the bytes that followers fetched, those for replicas that a reassignment adds",
    ),
    (TopicCount::ProduceRequests, "totalproducerequests", "Partitions in produce requests"),
    (TopicCount::FetchRequests, "totalfetchrequests", "Partitions that fetch requests of consumers read"),
    (TopicCount::FailedProduceRequests, "failedproducerequests", "Partitions in produce requests that failed"),
    (TopicCount::FailedFetchRequests, "failedfetchrequests", "Partitions in fetch requests that failed"),
    (
        TopicCount::ProduceConversions,
        "producemessageconversions",
        "Record sets of old message formats converted for the log",
    ),
    (
        TopicCount::FetchConversions,
        "fetchmessageconversions",
        "Record sets converted to an old message format for a fetch",
    ),
    (TopicCount::InvalidMagic, "invalidmagicnumberrecords", "Record sets refused because their format is unknown"),
    (TopicCount::InvalidCrc, "invalidmessagecrcrecords", "Record sets refused because their checksum is wrong"),
    (
        TopicCount::InvalidSequence,
        "invalidoffsetorsequencerecords",
        "Record sets refused because their sequence is out of order",
    ),
    (
        TopicCount::NoKey,
        "nokeycompactedtopicrecords",
        "Record sets refused by a compacted topic because a record has no key",
    ),
];

/// Counts of one side of a replica: producers and consumers are on different workers, and on different cache lines.
#[derive(Debug)]
#[repr(align(64))]
struct Side<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Side<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

#[derive(Debug, Default)]
struct Counts {
    written: Side<FIRST_READ>,
    read: Side<{ COUNTS - FIRST_READ }>,
}

impl Counts {
    fn counter(&self, count: TopicCount) -> Option<&AtomicU64> {
        let at = count as usize;
        self.written.0.get(at).or_else(|| self.read.0.get(at.checked_sub(FIRST_READ)?))
    }

    fn get(&self, count: TopicCount) -> u64 {
        self.counter(count).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

type Sums = [u64; COUNTS];

fn add(sums: &mut Sums, counts: &Counts) {
    for (row, sum) in ROWS.iter().zip(sums) {
        *sum += counts.get(row.0);
    }
}

#[derive(Debug, Default)]
struct Topic {
    /// Of replicas that are gone.
    gone: Sums,
    replicas: Vec<Arc<Counts>>,
}

impl Topic {
    /// Sums of the topic; replicas that are gone are taken in.
    fn sums(&mut self) -> Sums {
        let gone = &mut self.gone;
        self.replicas.retain(|counts| {
            let held = Arc::strong_count(counts) > 1;
            if !held {
                add(gone, counts);
            }
            held
        });
        let mut sums = self.gone;
        self.replicas.iter().for_each(|counts| add(&mut sums, counts));
        sums
    }
}

#[derive(Debug, Default)]
struct Topics {
    topics: BTreeMap<String, Topic>,
    /// Of topics that are gone.
    gone: Sums,
}

/// Counters by topic.
#[derive(Debug, Default)]
pub struct TopicMetrics(Mutex<Topics>);

/// One replica's counters.
#[derive(Debug)]
pub struct TopicRates(Arc<Counts>);

impl TopicMetrics {
    /// Counters of another replica of a topic.
    pub fn of(&self, topic: &str) -> TopicRates {
        let counts = Arc::<Counts>::default();
        let mut topics = self.0.lock();
        match topics.topics.get_mut(topic) {
            Some(known) => known.replicas.push(Arc::clone(&counts)),
            None => {
                let first = Topic { gone: Sums::default(), replicas: vec![Arc::clone(&counts)] };
                topics.topics.insert(topic.to_owned(), first);
            }
        }
        TopicRates(counts)
    }

    /// Forgets a topic that is gone.
    pub fn forget(&self, topic: &str) {
        let mut topics = self.0.lock();
        if let Some(mut topic) = topics.topics.remove(topic) {
            let sums = topic.sums();
            topics.gone.iter_mut().zip(sums).for_each(|(gone, sum)| *gone += sum);
        }
    }

    /// Writes a row for each topic, and one for all: what Kafka's dashboards filter with `topic!=""`.
    pub(super) fn write(&self, page: &mut Page) {
        let mut topics = self.0.lock();
        let mut all = topics.gone;
        let by_topic: Vec<(String, Sums)> = topics
            .topics
            .iter_mut()
            .map(|(name, topic)| (labels_text(std::iter::once(("topic", name.as_str()))), topic.sums()))
            .collect();
        drop(topics);
        for (_, sums) in &by_topic {
            all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
        }
        for (at, (_, name, help)) in ROWS.iter().enumerate() {
            let name = format!("kafka_server_brokertopicmetrics_{name}_total");
            let mut rows = page.family(&name, Kind::Counter, &["topic"], help);
            rows.add_labeled("", all.get(at).copied().unwrap_or_default());
            for (labels, sums) in &by_topic {
                rows.add_labeled(labels, sums.get(at).copied().unwrap_or_default());
            }
        }
    }
}

impl TopicRates {
    /// Counts something.
    pub fn record(&self, count: TopicCount, more: usize) {
        if let Some(counter) = self.0.counter(count) {
            counter.fetch_add(more as u64, Ordering::Relaxed);
        }
    }

    /// A batch was appended for a producer.
    pub fn produced(&self, bytes: usize, records: i32) {
        self.record(TopicCount::BytesIn, bytes);
        self.record(TopicCount::MessagesIn, usize::try_from(records).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &TopicMetrics, row: &str) -> u64 {
        let mut page = Page::new(false);
        metrics.write(&mut page);
        let text = String::from_utf8(page.finish().unwrap()).unwrap();
        let row = format!("kafka_server_brokertopicmetrics_{row} ");
        text.lines().find_map(|line| line.strip_prefix(&row)?.parse().ok()).unwrap_or(u64::MAX)
    }

    #[test]
    fn sums_never_fall() {
        let metrics = TopicMetrics::default();
        let (first, second, other) = (metrics.of("a"), metrics.of("a"), metrics.of("b"));
        first.produced(10, 1);
        second.produced(20, 2);
        second.record(TopicCount::ProduceRequests, 2);
        other.produced(5, 1);
        assert_eq!(value(&metrics, "bytesin_total{topic=\"a\"}"), 30);
        assert_eq!(value(&metrics, "bytesin_total"), 35);
        drop(second);
        assert_eq!(value(&metrics, "bytesin_total{topic=\"a\"}"), 30);
        assert_eq!(value(&metrics, "totalproducerequests_total{topic=\"a\"}"), 2);
        metrics.forget("a");
        assert_eq!(value(&metrics, "bytesin_total{topic=\"a\"}"), u64::MAX);
        assert_eq!(value(&metrics, "bytesin_total"), 35);
        assert_eq!(value(&metrics, "messagesin_total"), 4);
    }

    #[test]
    fn every_count_has_a_row() {
        for count in 0..COUNTS {
            assert_eq!(ROWS.iter().filter(|(row, ..)| *row as usize == count).count(), 1, "{count}");
        }
    }
}

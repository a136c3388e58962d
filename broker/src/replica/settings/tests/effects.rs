//! Tests that logs act on their configs, which are set and removed for all brokers at runtime. The other tests check the values
//! only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::{BatchBuilder, BatchHeader, Batches};
use esker_storage::Log;
use esker_storage::io::OsDisk;

use super::*;
use crate::test_support::now_ms;
use crate::test_support::{broker_in, create_topic_with};

const PATIENCE: Duration = Duration::from_secs(30);
const DAY: i64 = 86_400_000;

struct World {
    running: Running,
    client: Client,
    /// Ages count back from here, so that two records are apart by the difference of their ages.
    now: i64,
    _dir: tempfile::TempDir,
}

/// A record to produce.
#[derive(Clone, Copy)]
struct Sent<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
    /// Age of its timestamp.
    age_ms: i64,
    codec: Compression,
    producer: Option<i64>,
    acks: i16,
}

const PLAIN: Sent<'_> =
    Sent { key: b"k", value: Some(b"v"), age_ms: 0, codec: Compression::None, producer: None, acks: 1 };

impl World {
    async fn new() -> Self {
        let settings = [("log.retention.check.interval.ms", "50"), ("log.cleaner.backoff.ms", "20")];
        let (running, dir) = broker(&settings).await;
        let client = Client::to(&running).await;
        Self { running, client, now: now_ms(), _dir: dir }
    }

    async fn topic(&mut self, name: &'static str, configs: &[(&'static str, &'static str)]) -> Arc<Log> {
        create_topic_with(&mut self.client, name, configs).await;
        self.running.broker.replicas.logs().get(name, 0).unwrap()
    }

    /// Topic configs, given to all brokers under their names for it.
    async fn default(&mut self, configs: &[(&'static str, Option<&str>)]) {
        let broker_name = |name| lookup(Scope::Topic, name).unwrap().broker_name;
        let configs: Vec<_> = configs.iter().map(|(name, value)| (broker_name(name), *value)).collect();
        set(&mut self.client, ON_ALL_BROKERS, &configs).await;
    }

    async fn on(&mut self, topic: &'static str, name: &'static str, value: Option<&str>) {
        set(&mut self.client, (2, topic), &[(name, value)]).await;
    }

    async fn produce(&mut self, topic: &'static str, sent: Sent<'_>) -> ErrorCode {
        let mut builder = BatchBuilder::new(sent.codec);
        if let Some(id) = sent.producer {
            builder = builder.producer(id, 0, 0);
        }
        builder.append(0, self.now - sent.age_ms, Some(sent.key), sent.value, &[]);
        let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
        let topics = vec![TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() }];
        let request = ProduceRequest { acks: sent.acks, timeout_ms: 60_000, topic_data: topics, ..Default::default() };
        self.client.ask(9, &request).await.responses[0].partition_responses[0].error_code
    }

    async fn append(&mut self, topic: &'static str, sent: Sent<'_>) {
        assert_eq!(self.produce(topic, sent).await, ErrorCode::NONE, "{topic}");
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn batches(log: &Log) -> Vec<(BatchHeader, usize)> {
    let (mut found, mut at) = (Vec::new(), log.log_start_offset());
    while at < log.log_end_offset() {
        let records = log.read(at, 1 << 20, i64::MAX, true).unwrap().records;
        for batch in Batches::new(records) {
            let batch = batch.unwrap();
            at = batch.header.next_offset();
            found.push((batch.header, batch.bytes.len()));
        }
    }
    found
}

/// Records with this key.
fn with_key(log: &Log, key: &[u8]) -> usize {
    let (mut found, mut at) = (0, log.log_start_offset());
    while at < log.log_end_offset() {
        for batch in Batches::new(log.read(at, 1 << 20, i64::MAX, true).unwrap().records) {
            let batch = batch.unwrap();
            at = batch.header.next_offset();
            let records = batch.records(1 << 20).unwrap();
            found += records.filter(|record| record.as_ref().unwrap().key.as_deref() == Some(key)).count();
        }
    }
    found
}

fn names(log: &Log, suffix: &str) -> usize {
    let names = std::fs::read_dir(log.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(suffix)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_rolled() {
    let large = [7; 600_000];
    let large = Sent { value: Some(&large), ..PLAIN };
    let mut w = World::new().await;
    let log = w.topic("bytes", &[]).await;
    w.append("bytes", large).await;
    w.append("bytes", large).await;
    assert_eq!(log.segment_count(), 1);
    w.default(&[("segment.bytes", Some("1048576"))]).await;
    for segments in 2..5 {
        w.append("bytes", large).await;
        assert_eq!(log.segment_count(), segments);
    }
    // The active segment keeps its small size; the next one is large again.
    w.default(&[("segment.bytes", None)]).await;
    for _ in 0..3 {
        w.append("bytes", large).await;
        assert_eq!(log.segment_count(), 5);
    }

    let log = w.topic("age", &[]).await;
    let mut age_ms = 100_000;
    for (segment_ms, segments) in [(None, 1), (Some("1000"), 2), (None, 2)] {
        w.default(&[("segment.ms", segment_ms)]).await;
        for _ in 0..2 {
            w.append("age", Sent { age_ms, ..PLAIN }).await;
            age_ms -= 900;
        }
        assert_eq!(log.segment_count(), segments, "{segment_ms:?}");
    }

    // An index with room for three entries is full soon, with an entry for every batch.
    let log = w.topic("index", &[]).await;
    w.default(&[("segment.index.bytes", Some("48"))]).await;
    for _ in 0..10 {
        w.append("index", PLAIN).await;
    }
    assert_eq!(log.segment_count(), 1);
    w.default(&[("index.interval.bytes", Some("0"))]).await;
    for _ in 0..20 {
        w.append("index", PLAIN).await;
    }
    assert!(log.segment_count() > 2, "{}", log.segment_count());
    w.default(&[("index.interval.bytes", None), ("segment.index.bytes", None)]).await;
    w.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_records_and_old_producers_are_removed() {
    let large = [7; 600_000];
    let mut w = World::new().await;
    let old = Sent { value: Some(&large), age_ms: DAY, ..PLAIN };
    for (topic, name, value, left) in [("age", "retention.ms", "3600000", 0), ("size", "retention.bytes", "700000", 2)]
    {
        let log = w.topic(topic, &[("segment.bytes", "1048576")]).await;
        for _ in 0..3 {
            w.append(topic, old).await;
        }
        assert_eq!(log.retention_pass(now_ms()).unwrap().segments, 0);
        w.default(&[(name, Some(value))]).await;
        until(name, || log.log_start_offset() == 3 - left).await;
        until("they lie for file.delete.delay.ms", || names(&log, ".deleted") as i64 == 3 - left).await;
        w.default(&[(name, None)]).await;
    }
    let log = w.topic("soon", &[("segment.bytes", "1048576"), ("retention.ms", "3600000")]).await;
    w.default(&[("file.delete.delay.ms", Some("0"))]).await;
    w.append("soon", old).await;
    until("all goes", || log.log_start_offset() == 1 && names(&log, ".log") == 1).await;
    until("at once", || names(&log, ".deleted") == 0).await;

    let log = w.topic("producer", &[]).await;
    w.append("producer", Sent { age_ms: 100_000, producer: Some(7), ..PLAIN }).await;
    log.retention_pass(now_ms()).unwrap();
    assert_eq!(log.producer_count(), 1);
    set(&mut w.client, ON_ALL_BROKERS, &[("producer.id.expiration.ms", Some("1000"))]).await;
    until("the producer is forgotten", || log.producer_count() == 0).await;
    w.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_compacted() {
    let large = [7; 600_000];
    let mut w = World::new().await;
    // Topic, the config that prevents its compaction, and the change that allows it.
    type Held = (&'static str, &'static [(&'static str, &'static str)], (&'static str, Option<&'static str>));
    let held: [Held; 4] = [
        ("policy", &[], ("cleanup.policy", Some("compact"))),
        (
            "ratio",
            &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "1")],
            ("min.cleanable.dirty.ratio", None),
        ),
        (
            "young",
            &[("cleanup.policy", "compact"), ("min.compaction.lag.ms", "86400000")],
            ("min.compaction.lag.ms", None),
        ),
        (
            "due",
            &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "1")],
            ("max.compaction.lag.ms", Some("1")),
        ),
    ];
    w.default(&[("segment.bytes", Some("1048576")), ("min.cleanable.dirty.ratio", Some("0.01"))]).await;
    let fill = async |w: &mut World, topic: &'static str| {
        for value in [Some(&b"1"[..]), Some(b"2"), None] {
            w.append(topic, Sent { value, key: b"gone", ..PLAIN }).await;
            w.append(topic, Sent { value: Some(b"stays"), key: b"k", ..PLAIN }).await;
        }
        for key in [b"a", b"b"] {
            w.append(topic, Sent { value: Some(&large), key, ..PLAIN }).await;
        }
    };
    let mut logs = Vec::new();
    for (topic, configs, _) in held {
        logs.push(w.topic(topic, configs).await);
        fill(&mut w, topic).await;
    }
    let free = w.topic("free", &[("cleanup.policy", "compact")]).await;
    fill(&mut w, "free").await;
    until("a log is compacted", || with_key(&free, b"k") == 1).await;
    for ((topic, _, (name, value)), log) in held.into_iter().zip(&logs) {
        assert_eq!(with_key(log, b"k"), 3, "{topic} is held back");
        w.on(topic, name, value).await;
        until(topic, || with_key(log, b"k") == 1).await;
    }
    // A tombstone stays for delete.retention.ms, a day by default.
    assert_eq!(with_key(&free, b"gone"), 1);
    let brief = w.topic("brief", &[("cleanup.policy", "compact"), ("delete.retention.ms", "0")]).await;
    fill(&mut w, "brief").await;
    until("compacted", || with_key(&brief, b"k") == 1).await;
    let more = async |w: &mut World, topic: &'static str, log: &Log| {
        // A later pass removes it.
        for key in [b"x", b"x", b"y", b"z"] {
            w.append(topic, Sent { value: Some(&large), key, ..PLAIN }).await;
        }
        until("compacted again", || with_key(log, b"x") == 1).await;
    };
    more(&mut w, "brief", &brief).await;
    more(&mut w, "free", &free).await;
    assert_eq!((with_key(&brief, b"gone"), with_key(&free, b"gone")), (0, 1));
    w.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn produced_batches_are_held_against_them() {
    let text: Vec<u8> = (0..300_000u32).flat_map(|n| (n % 977 * (n % 13)).to_string().into_bytes()).collect();
    let mut w = World::new().await;
    let log = w.topic("p", &[("cleanup.policy", "compact")]).await;
    let small = Sent { value: Some(&[7; 2000]), ..PLAIN };
    let zipped = Sent { codec: Compression::Gzip, ..small };
    let aged = |age_ms| Sent { age_ms, ..PLAIN };
    for (name, value, sent, refused) in [
        ("max.message.bytes", "1000", small, ErrorCode::MESSAGE_TOO_LARGE),
        ("max.decompressed.message.bytes", "1000", zipped, ErrorCode::INVALID_RECORD),
        ("message.timestamp.before.max.ms", "1000", aged(100_000), ErrorCode::INVALID_TIMESTAMP),
        ("message.timestamp.after.max.ms", "1000", aged(-1_000_000), ErrorCode::INVALID_TIMESTAMP),
    ] {
        w.append("p", sent).await;
        w.default(&[(name, Some(value))]).await;
        assert_eq!(w.produce("p", sent).await, refused, "{name}");
        w.default(&[(name, None)]).await;
        w.append("p", sent).await;
    }
    // The stored batch.
    let last = |log: &Log| *batches(log).last().unwrap();
    w.default(&[("message.timestamp.type", Some("LogAppendTime"))]).await;
    w.append("p", aged(100_000)).await;
    assert!((last(&log).0.attributes.timestamp_type() == TimestampType::LogAppend));
    assert!(now_ms() - last(&log).0.max_timestamp < 90_000);
    w.default(&[("message.timestamp.type", None)]).await;
    w.append("p", aged(100_000)).await;
    assert!(!(last(&log).0.attributes.timestamp_type() == TimestampType::LogAppend));
    let long = Sent { value: Some(&text), ..PLAIN };
    w.default(&[("max.message.bytes", Some("10000000"))]).await;
    for (codec, levels) in [
        (Compression::Gzip, Some(("compression.gzip.level", "1", "9"))),
        (Compression::Lz4, None),
        (Compression::Snappy, None),
        (Compression::Zstd, Some(("compression.zstd.level", "-50", "15"))),
    ] {
        w.default(&[("compression.type", Some(codec.name()))]).await;
        w.append("p", long).await;
        assert_eq!(last(&log).0.attributes.compression(), Ok(codec));
        assert!(last(&log).1 < text.len());
        let Some((name, fast, small)) = levels else { continue };
        let mut sizes = Vec::new();
        for level in [fast, small] {
            w.default(&[(name, Some(level))]).await;
            w.append("p", long).await;
            sizes.push(last(&log).1);
        }
        assert!(sizes[0] > sizes[1], "{name}: {sizes:?}");
    }
    w.default(&[("compression.type", None)]).await;
    w.append("p", PLAIN).await;
    assert_eq!(last(&log).0.attributes.compression(), Ok(Compression::None));
    w.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_flushed() {
    use std::os::unix::fs::MetadataExt;
    let mut w = World::new().await;
    let log = w.topic("d", &[]).await;
    let all = Sent { acks: -1, ..PLAIN };
    w.append("d", all).await;
    assert_eq!(log.durable_offset(), 1, "durability is flush");
    w.default(&[("durability", Some("page-cache"))]).await;
    w.append("d", all).await;
    assert_eq!(log.durable_offset(), 1, "no flush was requested");
    w.default(&[("flush.messages", Some("3"))]).await;
    w.append("d", PLAIN).await;
    assert_eq!(log.durable_offset(), 1, "two");
    w.append("d", PLAIN).await;
    until("three", || log.durable_offset() == 4).await;
    w.default(&[("flush.messages", None)]).await;
    w.append("d", PLAIN).await;
    assert_eq!(log.durable_offset(), 4);
    w.default(&[("flush.ms", Some("10"))]).await;
    until("by age", || log.durable_offset() == 5).await;

    let file = |log: &Log| log.dir().join("00000000000000000000.log").metadata().unwrap().blocks() * 512;
    let log = w.topic("few", &[]).await;
    w.append("few", PLAIN).await;
    assert!(file(&log) < 1 << 20);
    w.default(&[("preallocate", Some("true")), ("segment.bytes", Some("8388608"))]).await;
    let log = w.topic("ahead", &[]).await;
    w.append("ahead", PLAIN).await;
    assert!(file(&log) >= 8 << 20, "{}", file(&log));
    w.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn they_hold_after_a_restart() {
    let mut w = World::new().await;
    w.default(&[("segment.bytes", Some("1048576"))]).await;
    w.topic("kept", &[("retention.ms", "-1"), ("cleanup.policy", "compact")]).await;
    w.topic("due", &[("retention.ms", "1000")]).await;
    set(&mut w.client, ON_ALL_BROKERS, &[("producer.id.expiration.ms", Some("2000000000"))]).await;
    for topic in ["kept", "due"] {
        // Older than the built-in default retention.
        w.append(topic, Sent { age_ms: 10 * DAY, producer: Some(7), ..PLAIN }).await;
    }
    let World { running, _dir: dir, .. } = w;
    let logs = |running: &Running| ["kept", "due"].map(|topic| running.broker.replicas.logs().get(topic, 0).unwrap());
    let before = logs(&running).map(|log| log.config());
    running.stop().await.unwrap();
    let settings = [("log.retention.check.interval.ms", "50")];
    let running = broker_in(dir.path(), Arc::new(OsDisk), &settings).await;
    let [kept, due] = logs(&running);
    assert_eq!([kept.config(), due.config()], before);
    until("retention looks at it", || due.log_start_offset() == 1).await;
    kept.retention_pass(now_ms()).unwrap();
    assert_eq!((kept.log_start_offset(), kept.producer_count()), (0, 1));
    running.stop().await.unwrap();
}

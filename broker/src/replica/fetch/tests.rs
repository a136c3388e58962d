//! Each read bound with each reason why a pass cannot find `min_bytes`: the fetch is answered at once or waits without needless
//! passes; and it leaves no registration when it is dropped.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use esker_core::metadata::MetadataImage;
use esker_protocol::compression::Compression;
use esker_protocol::primitives::Uuid;
use esker_protocol::records::{Batch, BatchBuilder, EndTxnMarker, end_txn_batch};
use esker_storage::{LogConfig, LogManager, LogManagerConfig, Origin};
use futures_util::poll;
use tempfile::TempDir;

use super::*;
use crate::replica::flusher::Flusher;
use crate::replica::partition::Guarantee;
use crate::replica::purgatory::CommitGate;
use crate::replica::read::{ReadBound, ReadFrom};
use crate::replica::role::{Assignment, Role};
use crate::replica::settings::TopicSettings;
use crate::replica::test_support::node;
use crate::telemetry::Metrics;

const NOW: i64 = 1_700_000_000_000;
const CLIENT: Origin = Origin::Client { transaction_v2: false };
const BOUNDS: [ReadBound; 3] = [ReadBound::HighWatermark, ReadBound::LastStable, ReadBound::LogEnd];
/// Longer than any test: a fetch that ends before has another reason.
const LONG: Duration = Duration::from_secs(3600);

thread_local! {
    static PASSES: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn count_pass() {
    PASSES.set(PASSES.get() + 1);
}

/// Partitions that this broker leads, in a folder of their own.
struct Lab {
    _dir: TempDir,
    _logs: LogManager,
    partitions: Vec<Arc<Partition>>,
    settings: Arc<TopicSettings>,
    gate: ColdGate,
}

impl Lab {
    fn new(partitions: i32, segment_bytes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = LogManagerConfig {
            dirs: vec![dir.path().to_path_buf()],
            node_id: 1,
            cluster_id: None,
            load_threads: 1,
            journal_bytes: 0,
            journal_dirs: Vec::new(),
            default_config: LogConfig::default(),
            progress: Arc::default(),
        };
        let logs = LogManager::open(config, NOW).unwrap();
        let mut settings = TopicSettings::resolve(&MetadataImage::default(), "t", 1, &node().config().statics);
        settings.log.segment_bytes = segment_bytes;
        settings.flush_before_ack = false;
        let settings = Arc::new(settings);
        let metrics = Metrics::new(std::iter::empty()).unwrap();
        let flusher = Arc::new(Flusher::new(node(), [], metrics.flushes.clone()));
        let partition = |index| {
            let log = logs.create("t", index, Uuid([1; 16]), settings.log.clone(), NOW).unwrap();
            let (rates, role) = (metrics.topics.of("t"), role(&settings, &[1]));
            Arc::new(Partition::new(Uuid([1; 16]), log, rates, Arc::clone(&flusher), role).unwrap())
        };
        let partitions = (0..partitions).map(partition).collect();
        Self { _dir: dir, _logs: logs, partitions, settings, gate: ColdGate::new(&node()) }
    }

    /// Adds a follower that has not fetched to the in-sync replicas, so that the high watermark stops; or removes it.
    fn hold_high_watermark(&self, partition: usize, hold: bool) {
        let isr: &[i32] = if hold { &[1, 2] } else { &[1] };
        self.partitions[partition].set_role(role(&self.settings, isr)).unwrap();
    }

    /// Writes `count` batches that a reader with `bound` may see, and some behind them that it may not see.
    fn fill(&self, partition: usize, bound: ReadBound, count: usize, size: usize) {
        if bound == ReadBound::LogEnd {
            self.hold_high_watermark(partition, true);
        }
        let to = &self.partitions[partition];
        (0..count).for_each(|_| append(to, plain(size), CLIENT));
        self.append_unreadable(partition, bound);
    }

    fn append_unreadable(&self, partition: usize, bound: ReadBound) {
        let to = &self.partitions[partition];
        match bound {
            ReadBound::HighWatermark => {
                self.hold_high_watermark(partition, true);
                append(to, plain(100), CLIENT);
            }
            ReadBound::LastStable => append(to, transactional(0), CLIENT),
            ReadBound::LogEnd => {}
        }
    }

    fn request(&self, partition: usize, bound: ReadBound, offset: i64, max_bytes: usize) -> ReadRequest {
        let at = ReadAt { offset, current_leader_epoch: -1, last_fetched_epoch: -1, bound, from: ReadFrom::Leader };
        ReadRequest {
            partition: Ok(Arc::clone(&self.partitions[partition])),
            at,
            max_bytes,
            instead: None,
            known_start: None,
        }
    }

    fn pending(&self) -> (usize, usize) {
        let sum = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        self.partitions.iter().map(|partition| partition.pending_requests()).fold((0, 0), sum)
    }
}

fn role(settings: &Arc<TopicSettings>, isr: &[i32]) -> Role {
    role_under(1, settings, isr)
}

fn role_under(leader: i32, settings: &Arc<TopicSettings>, isr: &[i32]) -> Role {
    let assignment =
        Assignment { leader, leader_epoch: 0, replicas: vec![1, 2], isr: isr.to_vec(), partition_epoch: 0 };
    Role::of(1, assignment, Arc::clone(settings))
}

fn plain(size: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, NOW, None, Some(&vec![7; size]), &[]);
    builder.build().unwrap()
}

fn transactional(sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).producer(9, 0, sequence).transactional(true);
    builder.append(0, NOW, None, Some(&[7; 100]), &[]);
    builder.build().unwrap()
}

fn append(to: &Partition, bytes: Bytes, origin: Origin) {
    let (batch, _) = Batch::parse(bytes).unwrap();
    to.append(&batch.header, &batch.bytes, origin, false, NOW).unwrap();
}

fn commit(to: &Partition) {
    let marker = EndTxnMarker { committed: true, coordinator_epoch: 0 };
    append(to, end_txn_batch(9, 0, marker, NOW).unwrap(), Origin::Coordinator { transaction_v2: false });
}

fn limits(min_bytes: i64, max_wait: Duration) -> FetchLimits {
    FetchLimits { max_bytes: 1 << 20, min_bytes, max_wait, first_batch_whole: true, has_others: false }
}

/// A pass that also reads closed segments that are not in memory.
fn read_all(requests: &[ReadRequest], limits: &FetchLimits) -> ReadPass {
    read_once(requests, limits, Access::Load).unwrap()
}

type Waiting<'a> = Pin<Box<dyn Future<Output = ReadPass> + Send + 'a>>;

/// Starts the wait of a fetch that is not answered at once, with its first pass.
fn wait<'a>(lab: &'a Lab, requests: &'a [ReadRequest], limits: &'a FetchLimits) -> Waiting<'a> {
    let pass = read_all(requests, limits);
    assert!(!is_enough(&pass, limits));
    Box::pin(wait_for_more(&lab.gate, requests, limits, pass))
}

/// The result of the wait so far, without any further event.
async fn settle(waiting: &mut Waiting<'_>) -> Option<ReadPass> {
    for _ in 0..4 {
        if let Poll::Ready(pass) = poll!(waiting.as_mut()) {
            return Some(pass);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn an_exhausted_budget_never_makes_a_fetch_spin() {
    for bound in BOUNDS {
        let lab = Lab::new(2, 1 << 20);
        lab.fill(0, bound, 20, 800);
        lab.append_unreadable(1, bound);
        // One that waits for longer than this test, and one that is awaited: both are to look once only.
        let [long, short] = [LONG, Duration::from_millis(30)].map(|max_wait| limits(1_000_000, max_wait));
        let full = [lab.request(0, bound, 0, 1000)];
        assert!(is_enough(&read_all(&full, &long), &long), "{bound:?}: no record to come would fit");
        // Beside a partition that may get more records, as in a session.
        let requests = [lab.request(0, bound, 0, 1000), lab.request(1, bound, 0, 1000)];
        let mut waiting = wait(&lab, &requests, &long);
        let passes = PASSES.get();
        assert!(settle(&mut waiting).await.is_none(), "{bound:?}");
        assert_eq!(PASSES.get(), passes, "{bound:?}: nothing moved");
        drop(waiting);
        let waiting = wait(&lab, &requests, &short);
        let passes = PASSES.get();
        let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("a fetch past its time");
        assert!(ended.bytes > 0, "{bound:?}");
        assert_eq!(PASSES.get(), passes, "{bound:?}: nothing moved");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steady_appends_do_not_keep_a_fetch_past_its_time() {
    for bound in BOUNDS {
        let lab = Lab::new(2, 1 << 20);
        lab.fill(0, bound, 20, 800);
        if bound == ReadBound::LogEnd {
            lab.hold_high_watermark(1, true);
        }
        let limits = limits(1_000_000, Duration::from_millis(50));
        let requests = [lab.request(0, bound, 0, 1000), lab.request(1, bound, 0, 100)];
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    append(&lab.partitions[1], plain(10), CLIENT);
                }
            });
            let all = async {
                let pass = read_all(&requests, &limits);
                tokio::time::timeout(Duration::from_secs(20), wait_for_more(&lab.gate, &requests, &limits, pass)).await
            };
            let ended = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(all));
            stop.store(true, Ordering::Relaxed);
            assert!(ended.is_ok(), "{bound:?}");
        });
    }
}

#[tokio::test]
async fn a_fetch_whose_bytes_go_on_in_the_next_segment_is_answered_at_once() {
    for bound in BOUNDS {
        let lab = Lab::new(1, 4000);
        lab.fill(0, bound, 2, 800);
        let limits = limits(1_000_000, LONG);
        let requests = [lab.request(0, bound, 0, 1 << 20)];
        let mut waiting = wait(&lab, &requests, &limits);
        assert!(settle(&mut waiting).await.is_none(), "{bound:?}: all that is readable lies in one segment");
        drop(waiting);

        // Beside a partition that may get more records.
        let lab = Lab::new(2, 4000);
        lab.fill(0, bound, 9, 800);
        for max_bytes in [1, 1000, 1 << 20] {
            let requests = [lab.request(1, bound, 0, max_bytes), lab.request(0, bound, 0, max_bytes)];
            let pass = read_all(&requests, &limits);
            assert!(is_enough(&pass, &limits), "{bound:?} {max_bytes}");
        }
        // The same when the records come while it waits.
        let lab = Lab::new(1, 4000);
        if bound == ReadBound::LogEnd {
            lab.hold_high_watermark(0, true);
        }
        append(&lab.partitions[0], plain(800), CLIENT);
        let little = FetchLimits { min_bytes: 3000, ..limits };
        let requests = [lab.request(0, bound, 0, 1 << 20)];
        let mut waiting = wait(&lab, &requests, &little);
        assert!(settle(&mut waiting).await.is_none());
        (0..8).for_each(|_| append(&lab.partitions[0], plain(800), CLIENT));
        // Closed segments are read on another thread.
        let pass = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("enough came");
        assert!(pass.bytes >= 3000, "{bound:?}");
    }
}

#[tokio::test]
async fn a_fetch_wakes_when_its_own_bound_moves_and_not_before() {
    for bound in BOUNDS {
        let lab = Lab::new(1, 1 << 20);
        lab.fill(0, bound, 3, 100);
        let limits = limits(1, LONG);
        let requests = [lab.request(0, bound, 3, 1 << 20)];
        let mut waiting = wait(&lab, &requests, &limits);
        assert!(settle(&mut waiting).await.is_none());
        let passes = PASSES.get();
        // Nothing of this is readable below the bound.
        match bound {
            ReadBound::HighWatermark => append(&lab.partitions[0], plain(100), CLIENT),
            ReadBound::LastStable => {
                append(&lab.partitions[0], transactional(1), CLIENT);
                append(&lab.partitions[0], plain(100), CLIENT);
            }
            ReadBound::LogEnd => {}
        }
        assert!(settle(&mut waiting).await.is_none(), "{bound:?}");
        assert_eq!(PASSES.get(), passes, "{bound:?}: it did not even look");
        match bound {
            ReadBound::HighWatermark => lab.hold_high_watermark(0, false),
            ReadBound::LastStable => commit(&lab.partitions[0]),
            ReadBound::LogEnd => append(&lab.partitions[0], plain(100), CLIENT),
        }
        let pass = settle(&mut waiting).await.expect("the bound moved");
        assert!(pass.bytes > 0, "{bound:?}");
    }
}

#[tokio::test]
async fn appends_that_catch_up_with_a_lagging_high_watermark_wake_consumers() {
    for bound in [ReadBound::HighWatermark, ReadBound::LastStable] {
        let lab = Lab::new(1, 1 << 20);
        let limits = limits(600, LONG);
        let requests = [lab.request(0, bound, 0, 1 << 20)];
        let mut waiting = wait(&lab, &requests, &limits);
        lab.hold_high_watermark(0, true);
        append(&lab.partitions[0], plain(500), CLIENT);
        assert!(settle(&mut waiting).await.is_none(), "{bound:?}");
        lab.hold_high_watermark(0, false);
        assert!(settle(&mut waiting).await.is_none(), "{bound:?}: 600 bytes are not there");
        append(&lab.partitions[0], plain(100), CLIENT);
        assert!(settle(&mut waiting).await.is_some(), "{bound:?}");
    }
}

#[tokio::test]
async fn records_that_are_deleted_while_a_fetch_waits_are_not_returned() {
    for bound in [ReadBound::HighWatermark, ReadBound::LastStable] {
        let lab = Lab::new(2, 1 << 20);
        (0..3).for_each(|_| append(&lab.partitions[0], plain(100), CLIENT));
        let limits = limits(1_000_000, LONG);
        let requests = [lab.request(1, bound, 0, 1 << 20), lab.request(0, bound, 0, 1 << 20)];
        let mut waiting = wait(&lab, &requests, &limits);
        assert!(settle(&mut waiting).await.is_none());
        // A read that ended before the deletion, as one from a slow disk may.
        let mut late = read_all(&requests, &limits);
        lab.partitions[0].delete_records(3).unwrap();
        let woken = settle(&mut waiting).await.expect("DeleteRecords wakes it");
        late.refuse_deleted(&requests);
        for pass in [woken, late] {
            assert!(pass.reads[0].is_ok());
            let error = pass.reads[1].as_ref().unwrap_err();
            assert!(matches!(error, FetchError::Read(ReadError::OffsetOutOfRange { log_start_offset: 3, .. })));
        }
        // A fetch above the new start continues to wait.
        let requests = [lab.request(0, bound, 3, 1 << 20)];
        let mut waiting = wait(&lab, &requests, &limits);
        append(&lab.partitions[0], plain(100), CLIENT);
        lab.partitions[0].delete_records(3).unwrap();
        assert!(settle(&mut waiting).await.is_none());
    }
}

#[tokio::test]
async fn a_fetch_of_a_deleted_topic_finds_it_gone() {
    for bound in BOUNDS {
        let lab = Lab::new(1, 1 << 20);
        let limits = limits(1, LONG);
        let requests = [lab.request(0, bound, 0, 1 << 20)];
        let mut waiting = wait(&lab, &requests, &limits);
        assert!(settle(&mut waiting).await.is_none());
        lab.partitions[0].close();
        let pass = settle(&mut waiting).await.expect("it is answered at once");
        let gone = |pass: &ReadPass| matches!(pass.reads[0], Err(FetchError::Access(AccessError::UnknownPartition)));
        assert!(gone(&pass));
        // For every epoch of the client.
        for epoch in [-1, 0, 7] {
            assert_eq!(lab.partitions[0].leader_for_epoch(epoch).unwrap_err(), AccessError::UnknownPartition);
        }
        // Deleted, or led by another broker, between the first read and the registration: no wake-up follows.
        let lab = Lab::new(1, 1 << 20);
        let requests = [lab.request(0, bound, 0, 1 << 20)];
        let mut waiting = wait(&lab, &requests, &limits);
        lab.partitions[0].close();
        assert!(gone(&settle(&mut waiting).await.expect("it is answered at once")), "{bound:?}");
        let lab = Lab::new(1, 1 << 20);
        let requests = [lab.request(0, bound, 0, 1 << 20)];
        let mut waiting = wait(&lab, &requests, &limits);
        lab.partitions[0].set_role(role_under(2, &lab.settings, &[1])).unwrap();
        let pass = settle(&mut waiting).await.expect("it is answered at once");
        assert!(matches!(pass.reads[0], Err(FetchError::Access(AccessError::NotLeader(_)))), "{bound:?}");
    }
}

#[tokio::test]
async fn dropped_requests_leave_no_trace() {
    let lab = Lab::new(3, 1 << 20);
    let limits = limits(1, LONG);
    for bound in BOUNDS {
        let requests: Vec<_> = (0..3).map(|partition| lab.request(partition, bound, 0, 1 << 20)).collect();
        let mut abandoned = Vec::new();
        for _ in 0..3000 {
            let mut waiting = wait(&lab, &requests, &limits);
            assert!(poll!(waiting.as_mut()).is_pending());
            abandoned.push(waiting);
        }
        assert_eq!(lab.pending(), (9000, 0));
        // Dropped from the middle, from the front, and by a panic.
        abandoned.drain(1000..2000);
        assert_eq!(lab.pending(), (6000, 0));
        let rest = abandoned.split_off(500);
        drop(abandoned);
        let panicked = std::thread::scope(|scope| {
            let taken = scope.spawn(move || {
                let _rest = rest;
                std::panic::resume_unwind(Box::new("a panic of this test"));
            });
            taken.join()
        });
        assert!(panicked.is_err());
        assert_eq!(lab.pending(), (0, 0));
    }
    lab.hold_high_watermark(0, true);
    append(&lab.partitions[0], plain(100), CLIENT);
    let gate = CommitGate::new(2000);
    let guarantee = Guarantee { committed: true, on_disk: true };
    let mut pending: Vec<_> = (1..=2000).map(|end| lab.partitions[0].park_commit(guarantee, end, 0, &gate)).collect();
    assert_eq!(lab.pending(), (0, 4000));
    pending.drain(500..1500);
    assert_eq!(lab.pending(), (0, 2000));
    drop(pending);
    assert_eq!(lab.pending(), (0, 0));
}

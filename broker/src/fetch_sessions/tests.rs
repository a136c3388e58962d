//! Sessions over real partitions: every kind of move reaches the ready-list, a listing has nothing else, and a partition has no
//! watch of a session that has ended.

use esker_core::metadata::{MetadataImage, MetadataRecord, PartitionRecord};
use esker_protocol::compression::Compression;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::delete_topics::DeleteTopicsRequest;
use esker_protocol::primitives::Uuid;
use esker_protocol::records::{Batch, BatchBuilder, EndTxnMarker, end_txn_batch};
use esker_storage::Origin;
use tempfile::TempDir;

use super::*;
use crate::replica::{Assignment, Role, TopicRef};
use crate::serve::Running;
use crate::test_support::{Client, broker};

const SETTINGS: [(&str, &str); 3] = [
    ("log.durability", "page-cache"),
    ("log.segment.bytes", "1048576"),
    ("log.retention.check.interval.ms", "3600000"),
];
const CONSUMER: ReaderView = ReaderView {
    replica: -1,
    bound: ReadBound::HighWatermark,
    from: ReadFrom::Leader,
    checks_epochs: true,
    offline_dirs: 0,
};
const COMMITTED: ReaderView = ReaderView { bound: ReadBound::LastStable, ..CONSUMER };
const FOLLOWER: ReaderView = ReaderView { replica: 2, bound: ReadBound::LogEnd, ..CONSUMER };
const NOW: i64 = 1_700_000_000_000;

struct Lab {
    running: Running,
    client: Client,
    sessions: FetchSessions,
    _dir: TempDir,
}

impl Lab {
    async fn new(partitions: i32, slots: usize) -> Self {
        let (running, dir) = broker(&SETTINGS).await;
        let client = Client::to(&running).await;
        let mut lab = Self { running, client, sessions: FetchSessions::new(slots), _dir: dir };
        lab.create_topic(partitions).await;
        lab
    }

    async fn create_topic(&mut self, partitions: i32) {
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
        assert_eq!(self.client.ask(4, &request).await.topics[0].error_code, ErrorCode::NONE);
    }

    async fn delete_topic(&mut self) {
        let topic_names = vec!["t".into()];
        let request = DeleteTopicsRequest { topic_names, timeout_ms: 10_000, ..DeleteTopicsRequest::default() };
        assert_eq!(self.client.ask(4, &request).await.responses[0].error_code, ErrorCode::NONE);
    }

    fn find(&self, target: &FetchTarget) -> FoundPartition {
        self.running.broker.replicas.partition(&TopicRef::by_name(&target.topic), target.partition)
    }

    fn partition(&self, index: i32) -> Arc<Partition> {
        self.find(&target(index)).unwrap()
    }

    fn begin(&self, request: SessionRequest, view: ReaderView, now_ms: i64) -> Result<BegunFetch, ErrorCode> {
        self.sessions.begin(request, view, &|target| self.find(target), || 42 << 33, now_ms)
    }

    /// An incremental fetch at the end of each partition: which it read, and which of these it reports.
    fn fetch(&self, id: i32, epoch: i32, view: ReaderView) -> (Vec<i32>, Vec<i32>) {
        let begun = self.begin(request(id, epoch, 0..0), view, NOW).unwrap();
        self.finish(&begun, view)
    }

    fn finish(&self, begun: &BegunFetch, view: ReaderView) -> (Vec<i32>, Vec<i32>) {
        let status = |found: &FoundPartition| match found {
            Ok(partition) if partition.role().is_leader() => {
                let log = partition.log();
                assert!(view.bound == ReadBound::LogEnd || log.high_watermark() <= log.log_end_offset());
                PartitionStatus {
                    must_report: false,
                    is_caught_up: true,
                    high_watermark: log.high_watermark(),
                    log_start_offset: log.log_start_offset(),
                }
            }
            _ => PartitionStatus { must_report: true, is_caught_up: false, high_watermark: -1, log_start_offset: -1 },
        };
        let statuses: Vec<_> = begun.partitions.iter().map(status).collect();
        let told = match &begun.session {
            Some(session) => session.finish(&begun.fetch, &statuses),
            None => vec![true; statuses.len()],
        };
        let read: Vec<_> = begun.fetch.partitions.iter().map(|(target, _)| target.partition).collect();
        let reported = read.iter().zip(told).filter(|(_, told)| *told).map(|(partition, _)| *partition).collect();
        (read, reported)
    }

    fn set_role(&self, index: i32, leads: bool, isr: &[i32]) {
        let partition = self.partition(index);
        let role = partition.role();
        let leader = if leads { 1 } else { 2 };
        let assignment = role.assignment().unwrap().clone();
        let assignment = Assignment { leader, replicas: vec![1, 2], isr: isr.to_vec(), ..assignment };
        partition.set_role(Role::of(1, assignment, Arc::clone(role.settings().unwrap()))).unwrap();
    }
}

fn target(partition: i32) -> FetchTarget {
    FetchTarget { topic: "t".into(), topic_id: Uuid::ZERO, partition }
}

fn request(id: i32, epoch: i32, partitions: std::ops::Range<i32>) -> SessionRequest {
    let (current_leader_epoch, last_fetched_epoch, log_start_offset) = (-1, -1, -1);
    let wanted =
        PartitionRequest { offset: 0, max_bytes: 1 << 20, current_leader_epoch, last_fetched_epoch, log_start_offset };
    let partitions = partitions.map(|partition| (target(partition), wanted)).collect();
    SessionRequest { id, epoch, by_id: false, repeats: false, partitions, forgotten: Vec::new() }
}

fn append(to: &Partition, builder: BatchBuilder) {
    let mut builder = builder;
    builder.append(0, NOW, None, Some(&[7; 100]), &[]);
    let (batch, _) = Batch::parse(builder.build().unwrap()).unwrap();
    to.append(&batch.header, &batch.bytes, Origin::Client { transaction_v2: false }, false, NOW).unwrap();
}

fn plain() -> BatchBuilder {
    BatchBuilder::new(Compression::None)
}

fn commit(to: &Partition) {
    let marker = EndTxnMarker { committed: true, coordinator_epoch: 0 };
    let (batch, _) = Batch::parse(end_txn_batch(9, 0, marker, NOW).unwrap()).unwrap();
    to.append(&batch.header, &batch.bytes, Origin::Coordinator { transaction_v2: false }, false, NOW).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_fetch_reads_the_partitions_that_moved_and_no_other() {
    for view in [CONSUMER, COMMITTED, FOLLOWER] {
        let mut lab = Lab::new(20, 10).await;
        let first = lab.begin(request(0, 0, 0..20), view, NOW).unwrap();
        let id = first.session_id();
        assert_eq!((id, lab.sessions.counts()), (42, (1, 20, 0)));
        assert_eq!(lab.finish(&first, view).1.len(), 20, "a full answer has all");
        assert_eq!(lab.fetch(id, 1, view), (vec![], vec![]));

        append(&lab.partition(3), plain());
        append(&lab.partition(3), plain());
        append(&lab.partition(11), plain());
        assert_eq!(lab.fetch(id, 2, view), (vec![3, 11], vec![3, 11]), "{view:?}");

        lab.partition(3).delete_records(1).unwrap();
        assert_eq!(lab.fetch(id, 3, view).1, [3], "{view:?}: DeleteRecords");

        // A follower of which nothing is known holds the high watermark.
        lab.set_role(5, true, &[1, 2]);
        append(&lab.partition(5), plain());
        lab.fetch(id, 4, view);
        append(&lab.partition(5), plain());
        let expected = if view == FOLLOWER { vec![5] } else { vec![] };
        assert_eq!(lab.fetch(id, 5, view), (expected, vec![]), "{view:?}: the log end alone");
        lab.set_role(5, true, &[1]);
        assert_eq!(lab.fetch(id, 6, view).1, [5], "{view:?}: the high watermark alone");

        append(&lab.partition(7), plain().producer(9, 0, 0).transactional(true));
        assert_eq!(lab.fetch(id, 7, view).1, [7], "{view:?}: the high watermark of an open transaction");
        commit(&lab.partition(7));
        assert_eq!(lab.fetch(id, 8, view).1, [7], "{view:?}: the end of a transaction");

        lab.set_role(9, false, &[1]);
        assert_eq!(lab.fetch(id, 9, view).1, [9], "{view:?}: leadership");
        assert_eq!(lab.fetch(id, 10, view).1, [9], "{view:?}: an error is reported at each fetch");
        lab.set_role(9, true, &[1]);
        lab.fetch(id, 11, view);
        assert_eq!(lab.fetch(id, 12, view), (vec![], vec![]), "{view:?}");

        let otherwise = ReaderView { offline_dirs: 1, ..view };
        assert_eq!(lab.fetch(id, 13, otherwise).0.len(), 20, "{view:?}: a log dir went offline");
        lab.delete_topic().await;
        assert_eq!(lab.fetch(id, 14, otherwise).1.len(), 20, "{view:?}: the topic is gone");
        lab.create_topic(20).await;
        assert_eq!(lab.fetch(id, 15, otherwise).1.len(), 20, "{view:?}: a topic of this name is there again");
        assert_eq!(lab.fetch(id, 16, otherwise), (vec![], vec![]), "{view:?}");
        append(&lab.partition(4), plain());
        assert_eq!(lab.fetch(id, 17, otherwise).1, [4], "{view:?}: the new one is watched");
        lab.running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_and_partitions_that_leave_the_broker_reach_the_ready_list() {
    let lab = Lab::new(3, 10).await;
    for _ in 0..3 {
        append(&lab.partition(1), plain());
    }
    let first = lab.begin(request(0, 0, 0..3), CONSUMER, NOW).unwrap();
    lab.finish(&first, CONSUMER);
    assert_eq!(lab.fetch(42, 1, CONSUMER), (vec![], vec![]));
    // Records of long ago.
    let replicas = Arc::clone(&lab.running.broker.replicas);
    let far = NOW + 400 * 24 * 3_600_000;
    tokio::task::spawn_blocking(move || replicas.retention_pass(far)).await.unwrap();
    assert_eq!(lab.partition(1).log().log_start_offset(), 3);
    assert_eq!(lab.fetch(42, 2, CONSUMER), (vec![1], vec![1]));

    // The image gives one partition to another broker: the old replica here hears nothing of it.
    let mut image = MetadataImage::clone(&lab.running.broker.metadata.image());
    let held =
        image.topics().find(|topic| *topic.name == *"t").and_then(|topic| topic.partitions.get(2).cloned()).unwrap();
    image.apply(&MetadataRecord::Partition(PartitionRecord { replicas: vec![2], isr: vec![2], leader: 2, ..held }));
    let replicas = Arc::clone(&lab.running.broker.replicas);
    tokio::task::spawn_blocking(move || replicas.apply(&Arc::new(image))).await.unwrap();
    assert_eq!(lab.fetch(42, 3, CONSUMER).1, [2]);
    lab.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_watch_outlives_its_session() {
    let lab = Lab::new(3, 1).await;
    let watches = || [0, 1, 2].map(|index| lab.partition(index).watching_sessions());
    assert_eq!(lab.begin(request(0, 0, 0..3), CONSUMER, 0).unwrap().session_id(), 42);
    assert_eq!((watches(), lab.sessions.counts()), ([1, 1, 1], (1, 3, 0)));
    // The same reader again, and one with another bound: no partition is watched twice.
    lab.begin(request(42, 1, 0..3), CONSUMER, 0).unwrap();
    lab.begin(request(42, 2, 0..0), FOLLOWER, 0).unwrap();
    assert_eq!(watches(), [1, 1, 1]);
    let forget = SessionRequest { forgotten: vec![target(1)], ..request(42, 3, 0..0) };
    lab.begin(forget, FOLLOWER, 0).unwrap();
    assert_eq!((watches(), lab.sessions.counts()), ([1, 0, 1], (1, 2, 0)));
    let error = |request, code| assert_eq!(lab.begin(request, CONSUMER, 0).err(), Some(code));
    error(request(42, 3, 0..0), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    error(request(43, 3, 0..0), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    error(SessionRequest { by_id: true, ..request(42, 4, 0..0) }, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);

    // A full cache keeps what is active, and evicts what is idle.
    assert_eq!(lab.begin(request(0, 0, 0..3), CONSUMER, EVICT_AFTER_MS).unwrap().session_id(), 0);
    assert_eq!((watches(), lab.sessions.counts()), ([1, 0, 1], (1, 2, 0)));
    assert_eq!(lab.begin(request(0, 0, 1..2), CONSUMER, EVICT_AFTER_MS + 1).unwrap().session_id(), 42);
    assert_eq!((watches(), lab.sessions.counts()), ([0, 1, 0], (1, 1, 1)));
    // A full fetch ends the session that it names, and takes its place.
    let later = EVICT_AFTER_MS + 2;
    assert_eq!(lab.begin(request(42, 0, 0..2), CONSUMER, later).unwrap().session_id(), 42);
    assert_eq!((watches(), lab.sessions.counts()), ([1, 1, 0], (1, 2, 1)));
    // A session without partitions is no session, as in Kafka.
    let forget = SessionRequest { forgotten: vec![target(0), target(1)], ..request(42, 1, 0..0) };
    assert_eq!(lab.begin(forget, CONSUMER, later).unwrap().session_id(), 0);
    assert_eq!((watches(), lab.sessions.counts()), ([0, 0, 0], (0, 0, 1)));
    assert_eq!(lab.begin(request(0, 0, 0..3), CONSUMER, later).unwrap().session_id(), 42);
    let last = lab.begin(request(42, -1, 0..1), CONSUMER, later).unwrap();
    assert_eq!((last.session_id(), last.partitions.len()), (0, 1));
    assert_eq!((watches(), lab.sessions.counts()), ([0, 0, 0], (0, 0, 1)));
    lab.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_in_use_are_not_given_out_again() {
    let lab = Lab::new(1, 40).await;
    let ids: Vec<_> = (0..40).map(|_| lab.begin(request(0, 0, 0..1), CONSUMER, 0).unwrap().session_id()).collect();
    assert_eq!(ids, (42..82).collect::<Vec<_>>());
    assert_eq!(lab.begin(request(0, 0, 0..1), CONSUMER, 0).unwrap().session_id(), 0, "the cache is full");
    lab.running.stop().await.unwrap();
}

//! A disk whose syncs block until a gate opens: which requests are acknowledged before, and which are not.

use std::io;
use std::path::Path;
use std::sync::Arc;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_storage::hooked::{Doing, HookedDisk, Hooks};
use esker_storage::io::{Disk, OsDisk};
use futures_util::FutureExt;
use parking_lot::{Condvar, Mutex};

use crate::replica::{Assignment, Role};
use crate::test_support::{Client, broker_on, create_topic_with};

mod coordinators;

#[derive(Debug, Default)]
struct State {
    closed: bool,
    broken: bool,
    /// Blocked syncs, and finished syncs.
    waiting: usize,
    done: usize,
}

/// Blocks syncs of data and journal files while it is closed.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    moved: Condvar,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.moved.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.waiting += 1;
        self.moved.notify_all();
        self.moved.wait_while(&mut state, |state| state.closed);
        state.waiting -= 1;
        state.done += 1;
        if state.broken { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    async fn wait_for_blocked_sync(self: &Arc<Self>) {
        let gate = Arc::clone(self);
        let wait = move || gate.moved.wait_while(&mut gate.state.lock(), |state| state.waiting == 0);
        tokio::task::spawn_blocking(wait).await.unwrap();
    }
}

/// Whether a flush syncs this file: data, or the journal. The metadata log has its own syncs.
fn is_flushed(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".log") && name != "metadata.log" || name.starts_with("esker-journal-")
}

impl Hooks for Gate {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        match doing {
            Doing::SyncData(path) if is_flushed(path) => self.pass(),
            _ => Ok(()),
        }
    }
}

/// Lets all syncs through at last, also where a test fails: the broker's threads wait there.
struct Open<'a>(&'a Gate);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.set(|state| state.closed = false);
    }
}

fn gated(gate: &Arc<Gate>) -> Arc<dyn Disk> {
    let hooks: Arc<dyn Hooks> = Arc::<Gate>::clone(gate);
    Arc::new(HookedDisk(hooks))
}

fn produce(topic: &'static str, acks: i16) -> ProduceRequest {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1_700_000_000_000, Some(b"k"), Some(b"v"), &[]);
    let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() }],
        ..ProduceRequest::default()
    }
}

/// Version of Produce spoken here.
const V: i16 = 9;

async fn code(client: &mut Client) -> ErrorCode {
    client.answer::<ProduceRequest>(V).await.1.responses[0].partition_responses[0].error_code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_batch_is_on_disk_and_one_round_of_syncs_serves_many() {
    let gate = Arc::new(Gate::default());
    let (running, _dir) = broker_on(gated(&gate), &[]).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    create_topic_with(&mut client, "cached", &[("durability", "page-cache")]).await;
    create_topic_with(&mut client, "each", &[("durability", "page-cache"), ("flush.messages", "1")]).await;
    gate.set(|state| state.closed = true);
    client.send(V, 1, &produce("t", -1)).await;
    gate.wait_for_blocked_sync().await;
    let mut others = Vec::new();
    for id in 0..20 {
        let mut other = Client::to(&running).await;
        other.send(V, id, &produce("t", -1)).await;
        others.push(other);
    }
    // Requests that need no flush are answered meanwhile.
    let mut quick = Client::to(&running).await;
    assert_eq!(quick.ask(V, &produce("t", 1)).await.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    assert_eq!(quick.ask(V, &produce("cached", -1)).await.responses[0].partition_responses[0].base_offset, 0);
    let mut each = Client::to(&running).await;
    each.send(V, 1, &produce("each", 1)).await;
    // Those with acks=all wait twice: for their commit and for the disk. All wait before the gate opens: one that came later might need
    // a round of its own.
    let partition_of =
        |topic: &str| running.broker.replicas.partitions().into_iter().find(|p| p.topic() == topic).unwrap();
    let (partition, each_partition) = (partition_of("t"), partition_of("each"));
    while partition.pending_requests().1 < 2 * 21 || each_partition.pending_requests().1 < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(partition.log().log_end_offset(), 22);
    assert_eq!(partition.log().durable_offset(), 0, "nothing is on disk");
    assert!(client.frame().now_or_never().is_none(), "acknowledged, and not on disk");
    for other in &mut others {
        assert!(other.frame().now_or_never().is_none(), "acknowledged, and not on disk");
    }
    assert!(each.frame().now_or_never().is_none(), "flush.messages=1 means each is flushed");
    let before = gate.state.lock().done;
    gate.set(|state| state.closed = false);
    for waiting in others.iter_mut().chain([&mut client, &mut each]) {
        assert_eq!(code(waiting).await, ErrorCode::NONE);
    }
    assert_eq!(partition.log().durable_offset(), 22);
    let syncs = gate.state.lock().done - before;
    // Of the two partitions, or of the journal, which is also prepared further.
    assert!((2..=6).contains(&syncs), "{syncs} syncs for 22 requests on two partitions");
}

fn fetch(offset: i64) -> FetchRequest {
    let partition =
        FetchPartition { partition: 0, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 60_000,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() }],
        ..FetchRequest::default()
    }
}

/// Otherwise a group could commit an offset behind a record that a power cut removes, and would never read the next record at that
/// offset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_read_only_what_is_durable() {
    let gate = Arc::new(Gate::default());
    let (running, _dir) = broker_on(gated(&gate), &[]).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    // The first goes to the segment, the others to the journal once it is prepared.
    for round in 0..3 {
        gate.set(|state| state.closed = true);
        let mut consumer = Client::to(&running).await;
        consumer.send(11, 1, &fetch(round)).await;
        let answer = client.ask(V, &produce("t", 1)).await;
        assert_eq!(
            answer.responses[0].partition_responses[0].error_code,
            ErrorCode::NONE,
            "no producer is made to wait"
        );
        gate.wait_for_blocked_sync().await;
        let partition = running.broker.replicas.partitions().into_iter().find(|p| p.topic() == "t").unwrap();
        assert_eq!((partition.log().log_end_offset(), partition.log().high_watermark()), (round + 1, round));
        assert!(consumer.frame().now_or_never().is_none(), "read, and not on disk");
        gate.set(|state| state.closed = false);
        let read = consumer.answer::<FetchRequest>(11).await.1;
        let records = read.responses[0].partitions[0].records.as_ref().unwrap();
        assert!(!records.is_empty() && read.responses[0].partitions[0].high_watermark == round + 1);
    }
    // It is flushed even without a reader.
    client.ask(V, &produce("t", 1)).await;
    let partition = running.broker.replicas.partitions().into_iter().find(|p| p.topic() == "t").unwrap();
    while partition.log().high_watermark() < 4 {
        tokio::task::yield_now().await;
    }
}

async fn offset_of(client: &mut Client, version: i16, replica_id: i32, timestamp: i64) -> (ErrorCode, i64) {
    let partition = ListOffsetsPartition { current_leader_epoch: -1, timestamp, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id, topics: vec![topic], ..Default::default() };
    let answer = client.ask(version, &request).await;
    let listed = &answer.topics[0].partitions[0];
    (listed.error_code, listed.offset)
}

/// KIP-207: a new leader does not say where the log ends before its high watermark has come as far as the leader before may have shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_listed_once_what_a_new_leader_began_with_is_durable() {
    const TIME: i64 = 1_700_000_000_000;
    let gate = Arc::new(Gate::default());
    let (running, _dir) = broker_on(gated(&gate), &[]).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    client.ask(V, &produce("t", -1)).await;
    gate.set(|state| state.closed = true);
    let _open = Open(&gate);
    client.ask(V, &produce("t", 1)).await;
    let partition = running.broker.replicas.partitions().into_iter().find(|p| p.topic() == "t").unwrap();
    assert_eq!(offset_of(&mut client, 5, -1, -1).await, (ErrorCode::NONE, 1), "its own epoch began with an empty log");
    let leader = partition.leader_for_epoch(-1).unwrap();
    let next = Assignment { leader_epoch: leader.assignment.leader_epoch + 1, ..leader.assignment.clone() };
    partition.set_role(Role::of(next.leader, next, Arc::clone(&leader.settings))).unwrap();
    for (version, refused) in [
        (1, ErrorCode::LEADER_NOT_AVAILABLE),
        (4, ErrorCode::LEADER_NOT_AVAILABLE),
        (5, ErrorCode::OFFSET_NOT_AVAILABLE),
    ] {
        assert_eq!(offset_of(&mut client, version, -1, -1).await, (refused, -1), "latest");
        assert_eq!(offset_of(&mut client, version, -1, TIME + 1).await, (refused, -1), "no record, and one may come");
        assert_eq!(offset_of(&mut client, version, -1, TIME).await, (ErrorCode::NONE, 0), "a durable record");
        assert_eq!(offset_of(&mut client, version, -1, -2).await, (ErrorCode::NONE, 0), "earliest");
        assert_eq!(
            offset_of(&mut client, version, -2, -1).await,
            (ErrorCode::NONE, 2),
            "a tool asks for the log's end"
        );
    }
    gate.set(|state| state.closed = false);
    while partition.log().high_watermark() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(offset_of(&mut client, 5, -1, -1).await, (ErrorCode::NONE, 2));
    assert_eq!(offset_of(&mut client, 5, -1, TIME + 1).await, (ErrorCode::NONE, -1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_acknowledges_nothing_and_takes_the_dir_offline_for_good() {
    let gate = Arc::new(Gate::default());
    let (running, _dir) = broker_on(gated(&gate), &[]).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    client.send(V, 1, &produce("t", -1)).await;
    assert_eq!(code(&mut client).await, ErrorCode::NONE);
    gate.set(|state| state.broken = true);
    let patient = ProduceRequest { timeout_ms: 3_600_000, ..produce("t", -1) };
    client.send(V, 2, &patient).await;
    assert_eq!(code(&mut client).await, ErrorCode::KAFKA_STORAGE_ERROR, "at once, however long the producer waits");
    gate.set(|state| state.broken = false);
    client.send(V, 3, &produce("t", -1)).await;
    assert_eq!(code(&mut client).await, ErrorCode::KAFKA_STORAGE_ERROR, "a retry must not pretend");
    client.send(V, 3, &produce("t", 1)).await;
    assert_eq!(code(&mut client).await, ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(running.broker.replicas.logs().dirs()[0].offline);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lay_for_flush_ms_goes_to_disk() {
    let (running, _dir) = broker_on(Arc::new(OsDisk), &[("log.flush.scheduler.interval.ms", "10")]).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[("flush.ms", "20")]).await;
    client.send(V, 1, &produce("t", 1)).await;
    assert_eq!(code(&mut client).await, ErrorCode::NONE);
    let partition = running.broker.replicas.partitions().into_iter().find(|p| p.topic() == "t").unwrap();
    while partition.log().durable_offset() < 1 {
        tokio::task::yield_now().await;
    }
}

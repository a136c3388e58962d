//! Incremental fetches over a connection: they wait on their session, and no move is lost while partitions move at any time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker_protocol::error::ErrorCode;
use esker_protocol::records::Batch;
use esker_storage::Origin;

use super::*;
use crate::replica::Partition;
use crate::serve::Running;

const SETTINGS: [(&str, &str); 1] = [("log.durability", "page-cache")];
const PARTITIONS: i32 = 8;
/// Longer than any test: what ends before it has another reason.
const LONG_MS: i32 = 3_600_000;

async fn create(client: &mut Client) {
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    assert_eq!(client.ask(4, &request).await.topics[0].error_code, ErrorCode::NONE);
}

fn partition(running: &Running, index: i32) -> Arc<Partition> {
    running.broker.replicas.partition(&TopicRef::by_name(&"t".into()), index).unwrap()
}

fn append(to: &Partition) {
    let (batch, _) = Batch::parse(batch()).unwrap();
    to.append(&batch.header, &batch.bytes, Origin::Client { transaction_v2: false }, false, 1).unwrap();
}

fn fetch(id: i32, epoch: i32, max_wait_ms: i32, wanted: &[(i32, i64)]) -> FetchRequest {
    let partition = |(partition, offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic =
        FetchTopic { topic: "t".into(), partitions: wanted.iter().map(partition).collect(), ..Default::default() };
    FetchRequest {
        session_id: id,
        session_epoch: epoch,
        max_wait_ms,
        min_bytes: 1,
        topics: if wanted.is_empty() { Vec::new() } else { vec![topic] },
        ..FetchRequest::default()
    }
}

/// Opens a session of all partitions, from their beginning.
async fn open(client: &mut Client) -> i32 {
    let all: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let answer = client.ask(12, &fetch(0, 0, 0, &all)).await;
    assert_ne!(answer.session_id, 0);
    answer.session_id
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_fetch_waits_on_its_session() {
    let (running, _dir) = broker(&SETTINGS).await;
    let mut client = Client::to(&running).await;
    create(&mut client).await;
    let id = open(&mut client).await;
    let parked = || running.broker.fetch_sessions.parked_fetches();
    client.send(12, 1, &fetch(id, 1, LONG_MS, &[])).await;
    until(|| parked() == 1).await;
    assert!((0..PARTITIONS).all(|index| partition(&running, index).pending_requests() == (0, 0)));
    append(&partition(&running, 6));
    let (_, answer) = client.answer::<FetchRequest>(12).await;
    let found: Vec<_> = answer.responses[0].partitions.iter().map(|data| data.partition_index).collect();
    assert_eq!((found, parked()), (vec![6], 0));

    // The minimum is larger than one append, and the bytes come from several partitions.
    let more = FetchRequest { min_bytes: 200, ..fetch(id, 2, LONG_MS, &[(6, 1)]) };
    client.send(12, 2, &more).await;
    until(|| parked() == 1).await;
    (0..3).for_each(|index| append(&partition(&running, index)));
    let (_, answer) = client.answer::<FetchRequest>(12).await;
    let found: Vec<_> = answer.responses[0].partitions.iter().map(|data| data.partition_index).collect();
    assert_eq!(found, [0, 1, 2]);

    // A client that goes away leaves nothing that waits; its session stays.
    let mut gone = Client::to(&running).await;
    gone.send(12, 3, &fetch(id, 3, LONG_MS, &[(0, 1), (1, 1), (2, 1)])).await;
    until(|| parked() == 1).await;
    drop(gone);
    until(|| parked() == 0).await;
    client.send(12, 4, &fetch(id, 4, LONG_MS, &[])).await;
    until(|| parked() == 1).await;
    // A session that ends does not leave a fetch waiting.
    let mut other = Client::to(&running).await;
    other.ask(12, &fetch(id, -1, 0, &[])).await;
    let (_, answer) = client.answer::<FetchRequest>(12).await;
    let found = answer.responses.iter().flat_map(|topic| &topic.partitions);
    assert!(found.into_iter().all(|data| data.records.as_ref().is_none_or(|records| records.is_empty())));
    let answer = client.ask(12, &fetch(id, 5, 0, &[])).await;
    assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_lost_while_partitions_move_at_any_time() {
    let (running, _dir) = broker(&SETTINGS).await;
    let mut client = Client::to(&running).await;
    create(&mut client).await;
    let partitions: Vec<_> = (0..PARTITIONS).map(|index| partition(&running, index)).collect();
    let id = open(&mut client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = [0, 1]
        .into_iter()
        .map(|half: usize| {
            let (partitions, stop) = (partitions.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                for number in 0..20_000usize {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    append(&partitions[number.wrapping_mul(number + half) % partitions.len()]);
                    if number % 16 == half {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let read = async {
        let (mut offsets, mut named, mut epoch) = (BTreeMap::new(), Vec::new(), 1);
        loop {
            // Each fetch waits: one that misses a move never ends.
            let answer = client.ask(12, &fetch(id, epoch, LONG_MS, &named)).await;
            assert_eq!(answer.error_code, ErrorCode::NONE);
            epoch += 1;
            named.clear();
            for data in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
                let mut records = data.records.unwrap_or_default();
                let next = offsets.entry(data.partition_index).or_insert(0i64);
                while !records.is_empty() {
                    let (batch, rest) = Batch::parse(records).unwrap();
                    assert_eq!(batch.header.base_offset, *next);
                    *next = batch.header.last_offset() + 1;
                    records = rest;
                }
                named.push((data.partition_index, *next));
            }
            if offsets.values().sum::<i64>() == 40_000 {
                return;
            }
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(120), read).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    read.expect("a fetch waits although its partitions moved");
    running.stop().await.unwrap();
}

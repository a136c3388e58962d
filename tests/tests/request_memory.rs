//! `queued.max.request.bytes`: many connections that send large requests at once slow down; the broker does not grow with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use esker_client::admin::NewTopic;
use esker_client::{Admin, Client, ClientConfig};
use esker_protocol::compression::Compression;
use esker_protocol::encode_request;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::api_versions::ApiVersionsRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::{Esker, PATIENCE, ask};

const BOUND: usize = 32 << 20;
const REQUEST: usize = 5 << 20;
const CONNECTIONS: usize = 64;
/// What the allocator keeps of freed buffers, in its arenas.
const SLACK: usize = 48 << 20;

fn produce_of(bytes: usize) -> ProduceRequest {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.append(0, 1_700_000_000_000, None, Some(&vec![7; bytes]), &[]);
    let data = PartitionProduceData { index: 0, records: Some(batch.build().unwrap()) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..TopicProduceData::default() };
    ProduceRequest { acks: -1, timeout_ms: 60_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

async fn start() -> (Esker, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let bound = format!("queued.max.request.bytes={BOUND}");
    let flags = ["--listen", "127.0.0.1:0", "--set", "message.max.bytes=20000000", "--set", &bound];
    let esker = Esker::start_with(dir.path(), &flags);
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    Admin::new(&client).create_topics(&[NewTopic::new("t")], false).await.unwrap().remove(0).unwrap();
    (esker, dir)
}

/// The most memory of its own that the broker has until `done`, in bytes.
fn watch(esker: &Esker, done: &AtomicBool) -> usize {
    let mut most = 0;
    while !done.load(Ordering::Relaxed) {
        most = most.max(esker.memory_kb("RssAnon") as usize * 1024);
        thread::sleep(Duration::from_millis(1));
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_requests_at_once_stay_within_their_bound() {
    let (esker, _dir) = start().await;
    let request = produce_of(REQUEST);
    // The first of all, with what it leaves behind, is no part of the growth.
    assert_eq!(ask(&mut esker.connect(), 9, &request).responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    let before = esker.memory_kb("RssAnon") as usize * 1024;
    let done = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&esker, &done));
        let producers: Vec<_> =
            (0..CONNECTIONS).map(|_| scope.spawn(|| ask(&mut esker.connect(), 9, &request))).collect();
        for producer in producers {
            let answer = producer.join().unwrap();
            assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
        }
        done.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    let grown = most.saturating_sub(before);
    assert!(grown < BOUND + SLACK, "{} MiB for a bound of {} MiB", grown >> 20, BOUND >> 20);
    assert!(esker.metric("esker_request_memory_waits_total") > 0.0, "nobody had to wait");
    let deadline = Instant::now() + PATIENCE;
    while esker.metric("esker_request_bytes_in_flight") > 0.0 {
        assert!(Instant::now() < deadline, "memory stays reserved");
    }
}

/// Clients that claim much and send little keep it from nobody for long, and from small requests not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_requests_pass_while_all_memory_is_taken() {
    let (esker, _dir) = start().await;
    let large = encode_request(9, 1, None, &produce_of(REQUEST)).unwrap().into_bytes();
    let halves: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = esker.connect();
            stream.write_all(&large[..10_000]).unwrap();
            stream
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while esker.metric("esker_request_memory_waiting") == 0.0 {
        assert!(Instant::now() < deadline, "nobody waits");
    }
    assert!(esker.metric("esker_request_bytes_in_flight") <= BOUND as f64);
    assert!(!ask(&mut esker.connect(), 0, &ApiVersionsRequest::default()).error_code.is_error());
    drop(halves);
    let answer = ask(&mut esker.connect(), 9, &produce_of(REQUEST));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

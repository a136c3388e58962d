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
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::{Esker, PATIENCE, ask, read_answer};

const BOUND: usize = 32 << 20;
const REQUEST: usize = 5 << 20;
const CONNECTIONS: usize = 64;
/// What a buffer's growth and the connections themselves take beside it; all requests at once would be ten times the bound.
const SLACK: usize = 48 << 20;
/// Version and correlation id of the requests.
const VERSION: i16 = 9;
const ID: i32 = 7;

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
    let flags = ["--set", "message.max.bytes=20000000", "--set", &bound];
    let esker = Esker::start_with(dir.path(), &flags);
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    Admin::new(&client).create_topics(&[NewTopic::new("t")], false).await.unwrap().remove(0).unwrap();
    (esker, dir)
}

/// Sends a request but for its last byte, which waits for `go`; gives the answer.
fn ask_in_two(esker: &Esker, request: &[u8], go: &AtomicBool) -> ProduceResponse {
    let mut stream = esker.connect();
    let (last, most) = request.split_last().unwrap();
    stream.write_all(most).unwrap();
    let deadline = Instant::now() + 2 * PATIENCE; // one that only a failed test reaches
    while !go.load(Ordering::Acquire) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    stream.write_all(&[*last]).unwrap();
    read_answer::<ProduceRequest>(&mut stream, VERSION, ID)
}

/// Waits until the broker has read what its bound lets it read, and no more comes: the most that it holds at once.
fn wait_until_full(esker: &Esker) {
    let deadline = Instant::now() + PATIENCE;
    let whole = (BOUND / REQUEST * REQUEST) as u64 / 1024;
    let mut before = 0;
    loop {
        let now = esker.memory_kb("RssAnon");
        let waiting = esker.metric("esker_request_memory_waiting");
        if waiting > 0.0 && now == before && now > whole {
            return;
        }
        assert!(Instant::now() < deadline, "{waiting} connections wait, {now} kB");
        before = now;
        thread::sleep(Duration::from_millis(20));
    }
}

/// No request is whole until all connections have sent what the broker takes, so that what it holds does not depend on
/// how fast it works; and nothing was freed yet that its allocator could keep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_requests_at_once_stay_within_their_bound() {
    let (esker, _dir) = start().await;
    let request = encode_request(VERSION, ID, None, &produce_of(REQUEST)).unwrap().into_bytes();
    let before = esker.memory_kb("RssAnon") as usize * 1024;
    let go = AtomicBool::new(false);
    thread::scope(|scope| {
        let producers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| ask_in_two(&esker, &request, &go))).collect();
        wait_until_full(&esker);
        let grown = (esker.memory_kb("RssAnon") as usize * 1024).saturating_sub(before);
        let in_flight = esker.metric("esker_request_bytes_in_flight");
        go.store(true, Ordering::Release);
        for producer in producers {
            let answer = producer.join().unwrap();
            assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
        }
        assert!(in_flight <= BOUND as f64);
        assert!(grown < BOUND + SLACK, "{} MiB for a bound of {} MiB", grown >> 20, BOUND >> 20);
    });
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

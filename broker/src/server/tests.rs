//! A whole broker, and clients that speak to it over real sockets: well, badly, and in pieces.

mod limits;

use std::sync::Arc;

use esker_protocol::api::ApiKey;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Uuid;
use esker_protocol::{Message, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::metrics::scrape;
use crate::peer::messages::{HelloRequest, IdentifyRequest, PEER_VERSION, SubmitRequest};
use crate::serve::Running;
use crate::test_support::{Client, broker, create_topic};

fn named() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1.0".into(),
        ..ApiVersionsRequest::default()
    }
}

fn closed(running: &Running, reason: &str) -> bool {
    let text = scrape(&running.broker);
    text.contains(&format!("esker_connections_closed_total{{reason=\"{reason}\"}}"))
}

/// Bytes that the broker has read.
fn received(running: &Running) -> u64 {
    let text = scrape(&running.broker);
    let line = text.lines().find_map(|line| line.strip_prefix("esker_network_received_bytes_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn api_versions_in_all_versions() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    for version in 0..=5 {
        let answer = client.ask(version, &named()).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "version {version}");
        let own = answer.api_keys.iter().find(|api| api.api_key == 18).unwrap();
        assert_eq!((own.min_version, own.max_version), (0, 5));
        assert!(answer.api_keys.windows(2).all(|pair| pair[0].api_key < pair[1].api_key));
        let finalized = answer.finalized_features.iter().any(|feature| feature.name == "metadata.version");
        assert_eq!(finalized, version >= 3, "version {version}");
    }
    let nameless = client.ask(3, &ApiVersionsRequest::default()).await;
    assert_eq!(nameless.error_code, ErrorCode::INVALID_REQUEST);
    let elsewhere = client.ask(5, &ApiVersionsRequest { node_id: 77, ..named() }).await;
    assert_eq!(elsewhere.error_code, ErrorCode::REBOOTSTRAP_REQUIRED);
    let elsewhere = client.ask(5, &ApiVersionsRequest { cluster_id: Some("other".into()), ..named() }).await;
    assert_eq!(elsewhere.error_code, ErrorCode::REBOOTSTRAP_REQUIRED);
    let here = ApiVersionsRequest { cluster_id: Some(running.broker.cluster_id.clone()), node_id: 1, ..named() };
    assert_eq!(client.ask(5, &here).await.error_code, ErrorCode::NONE);

    // A version of the future: the body is not looked at, the answer is in version 0, and the connection stays open.
    let future =
        [&18i16.to_be_bytes()[..], &99i16.to_be_bytes(), &9i32.to_be_bytes(), &[0xff, 0xff, 0], b"???"].concat();
    client.0.write_all(&[&(future.len() as i32).to_be_bytes()[..], &future].concat()).await.unwrap();
    let mut reader = esker_protocol::primitives::Reader::new(client.frame().await.unwrap());
    assert_eq!(reader.i32().unwrap(), 9);
    let answer = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
    assert_eq!((answer.error_code, answer.api_keys.len()), (ErrorCode::UNSUPPORTED_VERSION, 1));
    assert_eq!(answer.api_keys[0].max_version, 5);
    client.lives().await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_closes_its_connection_and_no_other() {
    let (running, _dir) = broker(&[("socket.request.max.bytes", "1000")]).await;
    let mut bystander = Client::to(&running).await;
    bystander.lives().await;
    let request = |key: i16, version: i16, rest: &[u8]| {
        let body = [&key.to_be_bytes()[..], &version.to_be_bytes(), &1i32.to_be_bytes(), rest].concat();
        [&(body.len() as i32).to_be_bytes()[..], &body].concat()
    };
    let cases = [
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("negative_size", vec![0xff; 16]),
        ("too_large", [&1001i32.to_be_bytes()[..], &[0, 3]].concat()),
        ("unknown_api", request(9999, 0, &[0xff, 0xff])),
        ("unknown_api", request(-1, 0, &[0xff, 0xff])),
        ("unsupported_version", request(ApiKey::METADATA.0, 99, &[0xff, 0xff, 0])),
        ("unsupported_version", request(ApiKey::PRODUCE.0, -1, &[0xff, 0xff])),
        ("malformed", request(ApiKey::METADATA.0, 1, &[0xff, 0xff, 0x7f, 0xff, 0xff, 0xff])),
        ("malformed", request(ApiKey::METADATA.0, 1, &[0x7f, 0xff])),
        ("malformed", vec![0, 0, 0, 3, 0, 18, 0]),
        ("malformed", vec![0, 0, 0, 0]),
    ];
    for (reason, bytes) in cases {
        let mut client = Client::to(&running).await;
        client.0.write_all(&bytes).await.unwrap();
        assert!(client.frame().await.is_none(), "{reason} is answered");
        while !closed(&running, reason) {
            tokio::task::yield_now().await;
        }
        bystander.lives().await;
    }
    let mut half = Client::to(&running).await;
    half.0.write_all(&[0, 0, 0, 50, 0, 18]).await.unwrap();
    half.0.shutdown().await.unwrap();
    assert!(half.frame().await.is_none());
    while !closed(&running, "half_request") {
        tokio::task::yield_now().await;
    }
    bystander.lives().await;
    running.stop().await.unwrap();
}

/// A fetch that finds nothing and waits.
fn waiting_fetch(max_wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition { partition_max_bytes: 1000, ..FetchPartition::default() };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..FetchTopic::default() };
    FetchRequest { max_wait_ms, min_bytes: 1, topics: vec![topic], max_bytes: 1 << 20, ..FetchRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_keep_the_order_of_requests() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    client.send(11, 1, &waiting_fetch(150)).await;
    for id in 2..=400 {
        client.send(0, id, &ApiVersionsRequest::default()).await;
    }
    client.send(11, 401, &waiting_fetch(20)).await;
    client.send(0, 402, &ApiVersionsRequest::default()).await;
    let mut ids = Vec::new();
    for _ in 1..=402 {
        ids.push(i32::from_be_bytes(*client.frame().await.unwrap().first_chunk().unwrap()));
    }
    assert!(ids.iter().copied().eq(1..=402), "{ids:?}");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_without_acks_has_no_answer() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let mut batch = esker_protocol::records::BatchBuilder::new(esker_protocol::compression::Compression::None);
    batch.append(0, 1, None, Some(b"value"), &[]);
    let partition = PartitionProduceData { records: Some(batch.build().unwrap()), ..PartitionProduceData::default() };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![partition], ..TopicProduceData::default() };
    let request = ProduceRequest { acks: 0, timeout_ms: 1000, topic_data: vec![topic], ..ProduceRequest::default() };
    client.send(8, 1, &request).await;
    client.send(8, 2, &request).await;
    client.lives().await;
    let topic = crate::replica::TopicRef::by_name(&"t".into());
    assert_eq!(running.broker.replicas.partition(&topic, 0).unwrap().log().log_end_offset(), 2);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed() {
    let (running, _dir) = broker(&[("connections.max.idle.ms", "100")]).await;
    let mut idle = Client::to(&running).await;
    let mut half = Client::to(&running).await;
    half.0.write_all(&[0, 0, 0, 50, 0, 18]).await.unwrap();
    assert!(idle.frame().await.is_none());
    assert!(half.frame().await.is_none());
    while !closed(&running, "idle") {
        tokio::task::yield_now().await;
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted() {
    let (running, _dir) = broker(&[("max.connections.per.ip", "2")]).await;
    let mut first = Client::to(&running).await;
    first.lives().await;
    let mut second = Client::to(&running).await;
    second.lives().await;
    assert!(Client::to(&running).await.frame().await.is_none());
    drop(first);
    while running.broker.metrics.network.open_connections() > 1 {
        tokio::task::yield_now().await;
    }
    Client::to(&running).await.lives().await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_is_asked_and_waits_for_nobody() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let mut forever = Client::to(&running).await;
    let before = received(&running);
    let mut sent = forever.send(11, 1, &waiting_fetch(600_000)).await;
    sent += client.send(11, 1, &waiting_fetch(300)).await;
    sent += client.send(0, 2, &ApiVersionsRequest::default()).await;
    while received(&running) < before + sent {
        tokio::task::yield_now().await;
    }
    let broker = Arc::clone(&running.broker);
    let stop = tokio::spawn(running.stop());
    assert!(client.frame().await.is_some());
    assert!(client.frame().await.is_some());
    assert!(client.frame().await.is_none());
    assert!(forever.frame().await.is_none());
    stop.await.unwrap().unwrap();
    // A stop waits for the ends of connections only so long.
    while broker.metrics.network.open_connections() > 0 {
        tokio::task::yield_now().await;
    }
}

/// What the HTTP port answers: status line and body.
async fn http(running: &Running, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_port_tells_of_all_that() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    client.ask(3, &ApiVersionsRequest::default()).await;
    for (path, status, part) in [
        ("/health/live", "HTTP/1.1 200 OK", "alive"),
        ("/health/ready", "HTTP/1.1 200 OK", "ready"),
        ("/version", "HTTP/1.1 200 OK", "\"node_id\":1"),
        ("/nothing", "HTTP/1.1 404 Not Found", ""),
    ] {
        let (found, body) = http(&running, path).await;
        assert_eq!(found, status, "{path}");
        assert!(body.contains(part), "{path}: {body}");
    }
    let (_, text) = http(&running, "/metrics").await;
    for line in [
        "kafka_network_requestmetrics_requests_total{request=\"CreateTopics\",version=\"4\"} 1",
        "kafka_network_requestmetrics_errors_total{error=\"INVALID_REQUEST\",request=\"ApiVersions\"} 1",
        "kafka_network_requestmetrics_errors_total{error=\"NONE\",request=\"CreateTopics\"} 1",
        "esker_request_duration_seconds_count{request=\"CreateTopics\"} 1",
        "kafka_log_log_size{partition=\"0\",topic=\"t\"} 0",
        "kafka_server_replicamanager_partitioncount 1",
        "kafka_server_delayedoperationpurgatory_purgatorysize{delayedOperation=\"Fetch\"} 0",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    for route in crate::handlers::ROUTES {
        let line = format!("request=\"{}\"", route.key.name());
        assert!(text.contains(&line), "{line} is missing: every API has its series from the start");
    }
    running.stop().await.unwrap();
}

/// A hello with which this broker would greet itself.
fn hello(running: &Running) -> HelloRequest {
    let quorum = running.broker.metadata.quorum();
    let own = quorum.borrow().own.unwrap();
    HelloRequest {
        min_version: PEER_VERSION,
        max_version: PEER_VERSION,
        cluster_id: running.broker.cluster_id.clone(),
        node_id: own.node_id,
        directory: Uuid(own.directory),
        incarnation: Uuid([1; 16]),
        target_node_id: own.node_id,
        target_directory: Uuid(own.directory),
    }
}

async fn greet(running: &Running) -> Client {
    let mut node = Client::to(running).await;
    assert_eq!(node.ask(0, &hello(running)).await.error_code, ErrorCode::NONE);
    node
}

fn identify() -> IdentifyRequest {
    IdentifyRequest { directory: Uuid::ZERO }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_says_to_be_a_node_is_bounded_and_takes_no_place_from_nodes() {
    let (running, _dir) = broker(&[("max.connections", "1")]).await;
    let mut node = greet(&running).await;
    let mut unproven = Vec::new();
    for _ in 0..64 {
        let mut other = Client::to(&running).await;
        other.ask(0, &identify()).await;
        unproven.push(other);
    }
    let mut late = greet(&running).await;
    // The oldest made room for the last.
    assert!(unproven.remove(0).frame().await.is_none());
    for other in unproven.iter_mut().chain([&mut node, &mut late]) {
        other.ask(0, &identify()).await;
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_no_memory_of_clients() {
    let (running, _dir) = broker(&[("queued.max.request.bytes", "1048576")]).await;
    let memory = Arc::clone(&running.broker.request_memory);
    let mut client = Client::to(&running).await;
    // A produce of 1 MiB that does not come.
    client.0.write_all(&[0, 0x10, 0, 0, 0, 0]).await.unwrap();
    while memory.in_flight() < 1 << 20 {
        tokio::task::yield_now().await;
    }
    let long = HelloRequest { cluster_id: "c".repeat(20_000).into(), ..hello(&running) };
    let mut node = Client::to(&running).await;
    let frame = esker_protocol::encode_request(0, 7, None, &long).unwrap().into_bytes();
    // The first bytes of a node may come one by one, too.
    node.0.write_all(&frame[..5]).await.unwrap();
    let before = received(&running);
    Client::to(&running).await.lives().await;
    assert!(received(&running) > before, "the broker has gone on meanwhile");
    node.0.write_all(&frame[5..]).await.unwrap();
    assert_eq!(node.answer::<HelloRequest>(0).await.1.error_code, ErrorCode::INCONSISTENT_CLUSTER_ID);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_between_nodes_is_small_before_the_hello() {
    let (running, _dir) = broker(&[("socket.request.max.bytes", "1000")]).await;
    let cases = [(IdentifyRequest::KEY.0, 65_537), (HelloRequest::KEY.0, 65_537), (SubmitRequest::KEY.0, 100 << 20)];
    for (key, size) in cases {
        let mut forged = Client::to(&running).await;
        forged.0.write_all(&[&i32::to_be_bytes(size)[..], &key.to_be_bytes()].concat()).await.unwrap();
        assert!(forged.frame().await.is_none(), "{key}");
    }
    while !closed(&running, "too_large") {
        tokio::task::yield_now().await;
    }
    // After it, `socket.request.max.bytes` says nothing about nodes.
    let mut node = greet(&running).await;
    let large = SubmitRequest { timeout_ms: 1000, request: vec![0; 1 << 20].into(), ..Default::default() };
    node.ask(0, &large).await;
    let key = SubmitRequest::KEY.0.to_be_bytes();
    node.0.write_all(&[&i32::to_be_bytes(129 << 20)[..], &key].concat()).await.unwrap();
    assert!(node.frame().await.is_none());
    running.stop().await.unwrap();
}

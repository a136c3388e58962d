//! What is limited in time: the broker behind limits that are as short or as long as a test needs them, so that no clock decides how it ends.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::api_versions::ApiVersionsRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Uuid;
use esker_protocol::records::BatchBuilder;
use esker_protocol::{Request, encode_request};
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{closed, greet, hello, identify, waiting_fetch};
use crate::config::connection_limits;
use crate::handlers::{ClientService, NodeService, PEER_LIMITS, PeerService};
use crate::http::metrics::scrape;
use crate::peer::LocalNode;
use crate::peer::messages::HelloRequest;
use crate::serve::Running;
use crate::server::{
    Admission, CloseReason, ConnectionInfo, ConnectionLimits, Listeners, NodeLanes, Patience, RequestMemory,
    ServerScope, Transport,
};
use crate::test_support::{Client, broker, create_topic};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

/// The limits that the broker has.
fn limits(running: &Running) -> ConnectionLimits {
    let config = &running.broker.config;
    ConnectionLimits {
        clients: usize::MAX,
        request_bytes: config.socket_request_max_bytes,
        peers: PEER_LIMITS,
        max_idle: config.connections_max_idle,
        patience: Patience::default(),
    }
}

/// What serves the broker to clients and nodes, with other limits.
fn scope(running: &Running, limits: ConnectionLimits) -> ServerScope<NodeService> {
    let (broker, own) = (Arc::clone(&running.broker), hello(running));
    let local = LocalNode::new(Uuid([2; 16]), Vec::new(), own.directory);
    local.enter(own.cluster_id, own.node_id, own.directory);
    let service = NodeService::new(PeerService::new(Arc::new(local)), Vec::new());
    service.serve_clients(ClientService::new(Arc::clone(&broker)));
    let metrics = Arc::clone(&broker.metrics);
    let unbounded = || Arc::new(RequestMemory::new(None, metrics.network.memory_waits.clone()));
    let nodes = NodeLanes {
        control_key: HelloRequest::KEY.0,
        node: broker.node.clone(),
        control_memory: unbounded(),
        data_memory: unbounded(),
    };
    let memory = Arc::clone(&broker.request_memory);
    let admission: Admission =
        Arc::new(move || connection_limits(&broker.metadata.image(), broker.node_id, &broker.config.statics));
    ServerScope { service: Arc::new(service), metrics, memory, limits, admission, nodes }
}

/// A broker that clients reach through another listener. The guard ends that.
type Limited = (Running, TempDir, DropGuard);

async fn limited(settings: &[(&str, &str)], patience: Patience) -> Limited {
    let (mut running, dir) = broker(settings).await;
    let config = &running.broker.config;
    let listeners = Listeners::bind(&config.listeners, config.socket_buffers).await.unwrap();
    let (_, address) = listeners.addresses().next().unwrap();
    let stop = CancellationToken::new();
    let scope = scope(&running, ConnectionLimits { patience, ..limits(&running) });
    drop(listeners.serve(&scope, &stop));
    running.kafka = address;
    (running, dir, stop.drop_guard())
}

/// What one end writes is at the other at once.
impl Transport for DuplexStream {
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A connection on which `bytes` have arrived before it is served. The client's end, and what serves the other one.
async fn connection(
    scope: &ServerScope<NodeService>,
    bytes: &[u8],
) -> (DuplexStream, impl Future<Output = CloseReason>) {
    let (mut client, served) = tokio::io::duplex(1 << 16);
    client.write_all(bytes).await.unwrap();
    let info = Arc::new(ConnectionInfo::new(([127, 0, 0, 1], 1).into(), "PLAINTEXT".into()));
    (client, scope.serve_connection(served, info, CancellationToken::new()))
}

/// A Produce of one record of so many bytes, as it goes over the wire.
fn produce(bytes: usize) -> Vec<u8> {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.append(0, 1, None, Some(&vec![7; bytes]), &[]);
    let partition = PartitionProduceData { records: Some(batch.build().unwrap()), ..PartitionProduceData::default() };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![partition], ..TopicProduceData::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 600_000, topic_data: vec![topic], ..ProduceRequest::default() };
    encode_request(9, 1, None, &request).unwrap().into_bytes().to_vec()
}

/// Takes the answer to it.
async fn is_produced(client: &mut Client) {
    let (_, answer) = client.answer::<ProduceRequest>(9).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_an_answer_is_not_idle() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let max_idle = Some(Duration::from_millis(100));
    let scope = scope(&running, ConnectionLimits { max_idle, ..limits(&running) });
    let fetch = encode_request(11, 1, None, &waiting_fetch(600_000)).unwrap().into_bytes();
    let (mut waits, busy) = connection(&scope, &fetch).await;
    let mut busy = pin!(busy);
    // It reads the request before it looks at the clock, and waits from here on.
    assert_eq!(busy.as_mut().now_or_never(), None);
    // The limit is over for those that begin later: so it is for the one that waits.
    let starts: [&[u8]; 2] = [&[], &[0, 0, 0, 50, 0, 18]];
    for start in starts {
        let (_idle, serving) = connection(&scope, start).await;
        assert_eq!(serving.await, CloseReason::Idle);
    }
    assert_eq!(busy.as_mut().now_or_never(), None, "a connection with a pending request is not idle");
    client.0.write_all(&produce(100)).await.unwrap();
    is_produced(&mut client).await;
    assert_eq!(busy.await, CloseReason::Idle, "nothing is left to wait for");
    assert!(waits.read_i32().await.is_ok(), "the answer was sent before");
    running.stop().await.unwrap();
}

/// One connection that has all the memory and is in the middle of its request, and one that waits for some. The rest of the first request.
async fn short_of_memory(slow_request: Duration) -> (Limited, [Client; 2], Vec<u8>) {
    let patience = Patience { slow_request, ..Patience::default() };
    let (running, dir, stop) = limited(&[("queued.max.request.bytes", "1048576")], patience).await;
    let (mut first, mut second) = (Client::to(&running).await, Client::to(&running).await);
    create_topic(&mut first).await;
    let large = produce(900_000);
    let (half, rest) = large.split_at(large.len() / 2);
    first.0.write_all(half).await.unwrap();
    let memory = &running.broker.request_memory;
    while memory.in_flight() < large.len() {
        tokio::task::yield_now().await;
    }
    second.0.write_all(&produce(500_000)).await.unwrap();
    // That it waited once: where the first is closed, the wait may be over before anybody looks.
    while running.broker.metrics.network.memory_waits.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(memory.in_flight() <= 1 << 20);
    // What is small is served meanwhile, on the other connections.
    Client::to(&running).await.lives().await;
    ((running, dir, stop), [first, second], rest.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_all_connections_share_their_memory() {
    let ((running, _dir, _stop), [mut first, mut second], rest) = short_of_memory(LONG).await;
    assert_eq!(running.broker.request_memory.waiting(), 1);
    first.0.write_all(&rest).await.unwrap();
    for client in [&mut first, &mut second] {
        is_produced(client).await;
    }
    // As large as the bound, and its buffer beside it: it goes alone.
    first.0.write_all(&produce(1_040_000)).await.unwrap();
    assert!(first.frame().await.is_some());
    drop((first, second));
    while running.broker.request_memory.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    let text = scrape(&running.broker);
    for line in
        ["esker_request_bytes_in_flight 0", "esker_request_bytes_limit 1048576", "esker_request_memory_waiting 0"]
    {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_does_not_keep_memory_that_others_wait_for() {
    let ((running, _dir, _stop), [mut first, mut second], _) = short_of_memory(Duration::ZERO).await;
    is_produced(&mut second).await;
    assert!(first.frame().await.is_none());
    while !closed(&running, "slow_request") {
        tokio::task::yield_now().await;
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_take_no_connection_from_nodes() {
    let patience = Patience { first_request: LONG, ..Patience::default() };
    for (name, first) in [("max.connections", 1), ("max.connections.per.ip", 1)] {
        let (running, _dir, _stop) = limited(&[(name, "1")], patience).await;
        let mut nodes = vec![greet(&running).await];
        let mut client = Client::to(&running).await;
        client.lives().await;
        assert_eq!(running.broker.metrics.network.open_connections(), first, "a node counts for no client");
        nodes.push(greet(&running).await);
        let mut joins = Client::to(&running).await;
        assert_eq!(joins.ask(0, &identify()).await.cluster_id.as_ref(), Some(&running.broker.cluster_id));
        let mut refused = Client::to(&running).await;
        refused.send(0, 1, &ApiVersionsRequest::default()).await;
        assert!(refused.frame().await.is_none(), "{name}");
        while !closed(&running, "too_many") {
            tokio::task::yield_now().await;
        }
        for node in &mut nodes {
            node.ask(0, &identify()).await;
        }
        client.lives().await;
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_holds_the_place_of_a_node_for_a_moment_only() {
    let patience = Patience { first_request: Duration::from_millis(1), ..Patience::default() };
    for name in ["max.connections", "max.connections.per.ip"] {
        let (running, _dir, _stop) = limited(&[(name, "1")], patience).await;
        let mut client = Client::to(&running).await;
        client.lives().await;
        assert!(Client::to(&running).await.frame().await.is_none(), "{name}");
        while !closed(&running, "too_many") {
            tokio::task::yield_now().await;
        }
        client.lives().await;
        running.stop().await.unwrap();
    }
}

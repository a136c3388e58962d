//! Nodes that are not who they say, and peers of other versions: each is refused by a message that names both sides.

use esker_core::replication::wire::ReplicaFetchRequest;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use socket2::{Domain, Socket, Type};

use crate::peer::messages::{
    HeartbeatRequest, HelloDataRequest, HelloRequest, JoinClusterRequest, JoinClusterResponse, PEER_VERSION,
    SubmitRequest,
};
use crate::raft::wire::{RaftAppendRequest, RaftSnapshotRequest, RaftTransferRequest, RaftVoteRequest};
use crate::serve::Running;
use crate::test_support::{Client, broker};

/// A hello with which this broker would greet itself.
fn own_hello(running: &Running) -> HelloRequest {
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

const OTHER: Uuid = Uuid([0xb; 16]);

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_is_wrong_in_one_thing_is_refused_with_both_sides_named() {
    let (running, _dir) = broker(&[]).await;
    let own = own_hello(&running);
    let (id, directory, cluster) = (own.node_id.to_string(), own.directory.to_string(), own.cluster_id.to_string());
    let (node, other) = (format!("node {id}"), OTHER.to_string());
    let of = |change: fn(&mut HelloRequest)| {
        let mut hello = own.clone();
        hello.node_id = 7;
        change(&mut hello);
        hello
    };
    let cases = [
        (of(|hello| hello.max_version = 0), ErrorCode::UNSUPPORTED_VERSION, ["node 7", &node, "version 1"]),
        (of(|hello| hello.min_version = 2), ErrorCode::UNSUPPORTED_VERSION, ["node 7", &node, "versions 2 to"]),
        (
            of(|hello| hello.cluster_id = "else".into()),
            ErrorCode::INCONSISTENT_CLUSTER_ID,
            ["else", &cluster, "node 7"],
        ),
        (of(|hello| hello.target_node_id = 9), ErrorCode::INVALID_VOTER_KEY, ["node 9", &node, "node 7"]),
        (of(|hello| hello.target_directory = OTHER), ErrorCode::INVALID_VOTER_KEY, [&other, &directory, "node 7"]),
        (of(|hello| hello.directory = OTHER), ErrorCode::INVALID_VOTER_KEY, [&other, &cluster, &node]),
        (
            HelloRequest { directory: OTHER, ..own.clone() },
            ErrorCode::DUPLICATE_BROKER_REGISTRATION,
            [&other, &directory, "two nodes"],
        ),
    ];
    for (hello, code, parts) in cases {
        for data in [false, true] {
            let mut client = Client::to(&running).await;
            let answer = match data {
                true => client.ask(0, &HelloDataRequest { hello: hello.clone() }).await,
                false => client.ask(0, &hello).await,
            };
            let message = answer.error_message.map_or_else(String::new, |message| message.to_string());
            assert_eq!(answer.error_code, code, "{message}");
            assert!(parts.iter().all(|part| message.contains(*part)), "{parts:?}: {message}");
            client.send(0, 1, &SubmitRequest { timeout_ms: 1000, ..SubmitRequest::default() }).await;
            assert!(client.frame().await.is_none(), "it is as if there had been no hello");
        }
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_speaks_for_itself_alone() {
    let (running, _dir) = broker(&[]).await;
    let own = own_hello(&running);
    let mut node = Client::to(&running).await;
    assert_eq!(node.ask(0, &own).await.error_code, ErrorCode::NONE);
    let epoch = running.broker.session.epoch();
    // The epoch is right, and the incarnation of the hello is not the broker's.
    for (node_id, epoch) in [(own.node_id, epoch), (own.node_id + 1, epoch), (own.node_id, epoch + 1)] {
        let beat = HeartbeatRequest { node_id, epoch, ..HeartbeatRequest::default() };
        assert_eq!(node.ask(0, &beat).await.error_code, ErrorCode::STALE_BROKER_EPOCH, "{beat:?}");
        let fetch = ReplicaFetchRequest { replica_id: node_id + 1, broker_epoch: epoch, ..Default::default() };
        assert_eq!(node.ask(17, &fetch).await.error_code, ErrorCode::STALE_BROKER_EPOCH, "{fetch:?}");
    }
    let forged = ErrorCode::INVALID_VOTER_KEY;
    assert_eq!(node.ask(0, &RaftVoteRequest::default()).await.error_code, forged);
    assert_eq!(node.ask(0, &RaftAppendRequest::default()).await.error_code, forged);
    assert_eq!(node.ask(0, &RaftSnapshotRequest::default()).await.error_code, forged);
    assert_eq!(node.ask(0, &RaftTransferRequest::default()).await.error_code, forged);
    running.stop().await.unwrap();
}

/// Joins, once more where a thread of the broker did not run for so long that it did not hear in time what is at the node's address.
async fn join(running: &Running, request: JoinClusterRequest) -> (JoinClusterResponse, String) {
    loop {
        let answer = Client::to(running).await.ask(0, &request).await;
        let message = answer.error_message.as_ref().map_or_else(String::new, Str::to_string);
        if !["did not answer", "no connection within"].iter().any(|late| message.contains(late)) {
            return (answer, message);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_from_where_the_others_reach_it() {
    let (running, _dir) = broker(&[]).await;
    let request = JoinClusterRequest { max_version: PEER_VERSION, directory: OTHER, ..JoinClusterRequest::default() };
    let (old, message) = join(&running, JoinClusterRequest { max_version: 0, ..request.clone() }).await;
    assert_eq!(old.error_code, ErrorCode::UNSUPPORTED_VERSION);
    assert!(message.contains("versions up to 0") && message.contains("version 1"), "{message}");
    let (placed, _) = join(&running, request.clone()).await;
    assert_eq!((placed.error_code, placed.node_id), (ErrorCode::NONE, 2));
    // Nothing listens at the first, which nobody else is given meanwhile; at the second there is another node.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let nothing = bound.local_addr().unwrap().as_socket().unwrap();
    for (address, who) in [(nothing, "refuses connections"), (running.kafka, "node 1 with the metadata folder")] {
        let address = address.to_string();
        let seat = JoinClusterRequest { node_id: 2, address: Str::copy(&address), ..request.clone() };
        let (refused, message) = join(&running, seat).await;
        assert_eq!(refused.error_code, ErrorCode::NETWORK_EXCEPTION, "{message}");
        let parts = ["node 1", "node 2", &address, who, "advertised.listeners"];
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
    }
    assert!(running.broker.metadata.quorum().borrow().is_alone(), "nobody follows the log");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_ids_is_given_few() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    let mut codes = Vec::new();
    for number in 0..70_u8 {
        let directory = Uuid([number + 100; 16]);
        let request = JoinClusterRequest { max_version: PEER_VERSION, directory, ..JoinClusterRequest::default() };
        let answer = client.ask(0, &request).await;
        codes.push((answer.error_code, answer.error_message));
    }
    let given = codes.iter().filter(|(code, _)| *code == ErrorCode::NONE).count();
    assert_eq!(given, esker_core::controller::MAX_UNREGISTERED);
    let (code, message) = codes.pop().unwrap();
    assert_eq!(code, ErrorCode::POLICY_VIOLATION);
    assert!(message.unwrap().contains("unregister"));
    running.stop().await.unwrap();
}

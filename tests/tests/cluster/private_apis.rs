//! Connections that claim to be a node's: private APIs need a hello of the same cluster, and a client is never served as a follower.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::Message;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{FetchRequest, PartitionData, ReplicaState};
use esker_protocol::primitives::{Str, Uuid};
use esker_protocol::records::BatchBuilder;
use esker_tests::cluster::{Cluster, wait_until};
use esker_tests::wire::{FETCH, PRODUCE, Wire, fetch_request, fetched, produce_request, produced};
use esker_tests::{Esker, ask};

/// The hello of the protocol between nodes.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32001, kind = "request", versions = "0", flexible = "0+", response = HelloResponse)]
struct HelloRequest {
    min_version: i16,
    max_version: i16,
    cluster_id: Str,
    node_id: i32,
    directory: Uuid,
    incarnation: Uuid,
    target_node_id: i32,
    target_directory: Uuid,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
struct HelloResponse {
    error_code: ErrorCode,
    #[field(nullable = "0+")]
    error_message: Option<Str>,
    directory: Uuid,
    incarnation: Uuid,
}

fn hello(esker: &Esker, cluster_id: &str) -> HelloRequest {
    HelloRequest {
        min_version: 1,
        max_version: 1,
        cluster_id: Str::copy(cluster_id),
        node_id: 99,
        directory: Uuid([9; 16]),
        incarnation: Uuid([8; 16]),
        target_node_id: esker.ready_field("node").parse().unwrap(),
        target_directory: Uuid::ZERO,
    }
}

/// Sends a request with a body of zeros, and reads to the end of the connection or of the answer.
fn forge(stream: &mut TcpStream, key: i16) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    // The version, the correlation id, no client id, no tags.
    frame.extend([0, 0, 0, 0, 0, 1, 0xff, 0xff, 0]);
    frame.extend([0; 64]);
    stream.write_all(&(frame.len() as i32).to_be_bytes()).unwrap();
    stream.write_all(&frame).unwrap();
    let mut size = [0; 4];
    if stream.read_exact(&mut size).is_err() {
        return Vec::new();
    }
    let mut answer = vec![0; i32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Submit, Heartbeat, ReplicaFetch, the six of raft, the two of transactions, and one that is not there.
const NEED_HELLO: [i16; 12] = [32003, 32004, 32010, 32020, 32021, 32022, 32023, 32024, 32025, 32030, 32031, 32099];

#[test]
fn private_apis_without_a_hello_close_the_connection() {
    let cluster = Cluster::start(1);
    let esker = cluster.node(0);
    for key in NEED_HELLO {
        assert!(forge(&mut esker.connect(), key).is_empty(), "{key} was answered");
    }
    let answer = forge(&mut esker.connect(), 32000);
    let id = esker.ready_field("cluster").as_bytes();
    assert!(answer.windows(id.len()).any(|part| part == id), "a node that looks for its cluster needs no hello");
}

#[test]
fn a_hello_of_another_cluster_is_refused() {
    let cluster = Cluster::start(1);
    let esker = cluster.node(0);
    let own = esker.ready_field("cluster");
    for key in NEED_HELLO {
        let mut stream = esker.connect();
        let answer = ask(&mut stream, 0, &hello(esker, "another"));
        assert_eq!(answer.error_code, ErrorCode::INCONSISTENT_CLUSTER_ID);
        let message = answer.error_message.unwrap();
        assert!(message.contains("another") && message.contains(own), "{message}");
        assert!(forge(&mut stream, key).is_empty(), "{key} was answered after a refused hello");
    }
    let mut another = hello(esker, own);
    another.target_node_id += 1;
    assert_eq!(ask(&mut esker.connect(), 0, &another).error_code, ErrorCode::INVALID_VOTER_KEY);
    // All of it right, but for the sender: no node of that id and folder has joined.
    let answer = ask(&mut esker.connect(), 0, &hello(esker, own));
    assert_eq!(answer.error_code, ErrorCode::INVALID_VOTER_KEY);
    assert!(answer.error_message.unwrap().contains("is no node of cluster"));
}

fn batch(value: u64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1, None, Some(value.to_string().as_bytes()), &[]);
    builder.build().unwrap()
}

/// The only partition of a fetch.
fn fetch(wire: &mut Wire, version: i16, request: &FetchRequest) -> PartitionData {
    let answer = wire.ask(version, request).unwrap();
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer.responses[0].partitions[0].clone()
}

#[test]
fn a_client_that_claims_to_be_a_follower_reads_up_to_the_high_watermark_only() {
    const TOPIC: &str = "t";
    // Longer than the followers stand still: a fenced follower would leave the ISR, and a leader without its controller takes nothing.
    let mut cluster = Cluster::start_steady(3);
    cluster.create_topic(TOPIC, 1, "page-cache");
    let leader = cluster.leader(TOPIC, 0);
    let followers: Vec<usize> = cluster.live().filter(|at| *at != leader).collect();
    let follower_id = cluster.node_id(followers[0]);
    let topic_id = cluster.topic(TOPIC).unwrap().topic_id;
    let mut wire = Wire::new(cluster.address(leader), Duration::from_secs(20));
    let produce = |wire: &mut Wire, acks, value| {
        produced(&wire.ask(PRODUCE, &produce_request(TOPIC, 0, acks, batch(value))).unwrap())
    };
    // A broker answers Metadata from an image a moment before it serves the partitions in it: clients try again.
    wait_until("the leader serves the partition", || match produce(&mut wire, -1, 1).error_code {
        ErrorCode::NONE => true,
        code => {
            assert!(
                matches!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::NOT_LEADER_OR_FOLLOWER),
                "{code}"
            );
            false
        }
    });
    // Nothing moves the high watermark while followers stand still.
    followers.iter().for_each(|at| cluster.pause(*at));
    let appended = (2..8).map(|value| {
        let answer = produce(&mut wire, 1, value);
        assert_eq!(answer.error_code, ErrorCode::NONE, "acks=1 needs no follower");
        answer.base_offset
    });
    let last = appended.last().unwrap();

    let plain = fetch_request(TOPIC, 0, 0);
    let high_watermark = fetch(&mut wire, FETCH, &plain).high_watermark;
    assert!(high_watermark <= last, "nothing is above the high watermark");
    let as_follower = FetchRequest { replica_id: follower_id, ..plain.clone() };
    // From version 15 on the replica is in a tag, and from 13 on topics have ids.
    let replica_state = ReplicaState { replica_id: follower_id, replica_epoch: -1 };
    let mut with_state = FetchRequest { replica_state, ..plain };
    with_state.topics[0].topic_id = topic_id;
    for (version, request) in [(FETCH, &as_follower), (17, &with_state)] {
        // The second fetch would report the end of the log as a follower's.
        for offset in [0, last + 1, 0] {
            let mut request = request.clone();
            request.topics[0].partitions[0].fetch_offset = offset;
            let data = fetch(&mut wire, version, &request);
            let records = fetched(&data);
            assert!(records.iter().all(|(at, _)| *at < high_watermark), "{version}: {records:?} of {high_watermark}");
            assert!(data.high_watermark <= high_watermark, "{version}: the high watermark moved");
        }
    }
    followers.iter().for_each(|at| cluster.resume(*at));
    cluster.wait_in_sync(TOPIC);
}

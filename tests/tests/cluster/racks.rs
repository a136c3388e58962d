//! Consumers read from a follower in their rack (KIP-392).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{FetchRequest, PartitionData};
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_tests::cluster::{Cluster, STEADY, find, wait_until};
use esker_tests::wire::{FETCH, Wire, fetch_request, fetched};
use esker_tests::writer::PartitionWriter;

const TOPIC: &str = "t";
const RECORDS: u64 = 20;
const RACKS: [&str; 3] = ["a", "b", "c"];
/// How long one answer may take: a process may stand still, and a fetch that waits for records must be told from one that is answered at once.
const ANSWER: Duration = Duration::from_secs(20);
/// The last version without racks.
const WITHOUT_RACKS: i16 = 10;
/// A fetch at the end of a log that nothing wakes waits so long.
const POLL: Duration = Duration::from_secs(60);

fn start() -> Cluster {
    let selector = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let racks = RACKS.map(|rack| format!("broker.rack={rack}"));
    let flags: Vec<Vec<&str>> =
        racks.iter().map(|rack| [&["--set", rack.as_str(), "--set", selector][..], &STEADY[..]].concat()).collect();
    Cluster::start_with(&flags.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn request(rack: &'static str, offset: i64) -> FetchRequest {
    FetchRequest { rack_id: rack.into(), ..fetch_request(TOPIC, 0, offset) }
}

fn ask(at: SocketAddr, version: i16, request: &FetchRequest) -> PartitionData {
    Wire::new(at, ANSWER).ask(version, request).unwrap().responses[0].partitions[0].clone()
}

fn latest_offset(at: SocketAddr) -> ErrorCode {
    let partition = ListOffsetsPartition { partition_index: 0, timestamp: -1, ..ListOffsetsPartition::default() };
    let topics = vec![ListOffsetsTopic { name: TOPIC.into(), partitions: vec![partition] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
    Wire::new(at, ANSWER).ask(5, &request).unwrap().topics[0].partitions[0].error_code
}

#[test]
fn a_consumer_reads_from_the_follower_in_its_rack() {
    let mut cluster = start();
    cluster.create_topic(TOPIC, 1, "flush");
    let mut writer = PartitionWriter::new(TOPIC, 0, &cluster.addresses());
    for value in 0..RECORDS {
        writer.write(value);
    }
    let leader = cluster.leader(TOPIC, 0);
    let follower = (leader + 1) % 3;
    let (leader_at, follower_at) = (cluster.address(leader), cluster.address(follower));

    // The leader names the follower, at once and without records.
    let sent = find("the leader names the follower", || {
        let sent = ask(leader_at, FETCH, &request(RACKS[follower], 0));
        (sent.preferred_read_replica == cluster.node_id(follower)).then_some(sent)
    });
    assert_eq!(sent.error_code, ErrorCode::NONE);
    assert!(sent.records.unwrap().is_empty() && sent.high_watermark >= 0);
    let polled = FetchRequest { max_wait_ms: 60_000, min_bytes: 1, ..request(RACKS[follower], 0) };
    assert_eq!(ask(leader_at, FETCH, &polled).preferred_read_replica, cluster.node_id(follower));
    let kept = [
        (RACKS[leader], 0, FETCH, "it leads in the consumer's rack"),
        ("", 0, FETCH, "a consumer without a rack"),
        ("x", 0, FETCH, "a rack without a replica"),
        ("", 0, WITHOUT_RACKS, "a client that knows no racks"),
    ];
    for (rack, offset, version, why) in kept {
        let answer = ask(leader_at, version, &request(rack, offset));
        assert_eq!((answer.error_code, answer.preferred_read_replica), (ErrorCode::NONE, -1), "{why}");
        assert!(!fetched(&answer).is_empty(), "{why}");
    }

    // The follower serves up to its high watermark.
    let expected: Vec<(i64, u64)> = writer.sends.iter().map(|send| (send.offset.unwrap(), send.value)).collect();
    let read = find("the follower has the high watermark", || {
        let answer = ask(follower_at, FETCH, &request(RACKS[follower], 0));
        assert_eq!((answer.error_code, answer.preferred_read_replica), (ErrorCode::NONE, -1));
        let (read, count) = (fetched(&answer), answer.high_watermark);
        assert_eq!(i64::try_from(read.len()).unwrap(), count, "what is committed, and nothing else");
        (count == i64::try_from(RECORDS).unwrap()).then_some(read)
    });
    assert_eq!(read, expected);
    let end = i64::try_from(RECORDS).unwrap();
    let refused = |version, offset| ask(follower_at, version, &request("", offset)).error_code;
    assert_eq!(refused(FETCH, end), ErrorCode::NONE);
    assert_eq!(refused(FETCH, end + 100), ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(
        refused(WITHOUT_RACKS, 0),
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        "such a client reads from the leader only"
    );
    let mut epoch = request("", 0);
    epoch.topics[0].partitions[0].current_leader_epoch = 1_000;
    assert_eq!(ask(follower_at, FETCH, &epoch).error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
    assert_eq!(latest_offset(follower_at), ErrorCode::NOT_LEADER_OR_FOLLOWER, "offsets are listed by the leader");
    assert_eq!(latest_offset(leader_at), ErrorCode::NONE);

    // A fetch that waits at the follower is answered when the high watermark gets there.
    let mut parked = Wire::new(follower_at, POLL * 2);
    let max_wait_ms = i32::try_from(POLL.as_millis()).unwrap();
    let began = Instant::now();
    parked.send(FETCH, &FetchRequest { max_wait_ms, min_bytes: 1, ..request(RACKS[follower], end) }).unwrap();
    writer.write(RECORDS);
    let woken = parked.receive::<FetchRequest>(FETCH).unwrap().responses[0].partitions[0].clone();
    assert_eq!(fetched(&woken), [(end, RECORDS)]);
    assert!(began.elapsed() < POLL / 2, "{:?}", began.elapsed());

    // A follower that is not in sync is not named.
    cluster.kill(follower);
    wait_until("the leader serves the consumer", || {
        let answer = ask(leader_at, FETCH, &request(RACKS[follower], 0));
        answer.preferred_read_replica == -1 && !fetched(&answer).is_empty()
    });
}

#[test]
fn another_selector_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().display().to_string();
    let log = esker_tests::cluster::run_to_end(&[
        "serve",
        "--data-dir",
        &data,
        "--set",
        "replica.selector.class=com.example.Selector",
    ]);
    assert!(log.contains("replica.selector.class") && log.contains("RackAwareReplicaSelector"), "{log}");
}

//! Requests that wait, in every version: what they are answered when what they wait for goes away, and that nothing is
//! left of them when their client does.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::ReplicaState;

use super::*;
use crate::handlers::handler::Handler;
use crate::replica::Partition;
use crate::serve::Running;

const SETTINGS: [(&str, &str); 1] = [("log.durability", "page-cache")];

fn partition(running: &Running) -> Arc<Partition> {
    running.broker.replicas.partition(&TopicRef::by_name(&"t".into()), 0).unwrap()
}

/// Another replica, of which nothing is known, is in sync: the high watermark stands still.
fn hold_high_watermark(partition: &Partition) {
    let role = partition.leader_for_epoch(-1).unwrap();
    let assignment = Assignment { replicas: vec![1, 2], isr: vec![1, 2], ..role.assignment.clone() };
    partition.set_role(Role::of(1, assignment, Arc::clone(&role.settings))).unwrap();
}

fn fetch(version: i16, id: Uuid, offset: i64, min_bytes: i32) -> FetchRequest {
    let partition = FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let (topic, topic_id) = if version >= 13 { ("".into(), id) } else { ("t".into(), Uuid::ZERO) };
    let topic = FetchTopic { topic, topic_id, partitions: vec![partition] };
    FetchRequest { max_wait_ms: 3_600_000, min_bytes, topics: vec![topic], ..FetchRequest::default() }
}

fn produce(version: i16, id: Uuid) -> ProduceRequest {
    let data = PartitionProduceData { index: 0, records: Some(batch()) };
    let (name, topic_id) = if version >= 13 { ("".into(), id) } else { ("t".into(), Uuid::ZERO) };
    let topic = TopicProduceData { name, topic_id, partition_data: vec![data] };
    ProduceRequest { acks: -1, timeout_ms: 3_600_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_whose_topic_is_deleted_meanwhile_is_answered_with_unknown_topic() {
    let (running, _dir) = broker(&SETTINGS).await;
    let mut admin = Client::to(&running).await;
    create_topic(&mut admin).await;
    let held = partition(&running);
    let versions = fetch::Fetch::VERSIONS;
    let mut readers = Vec::new();
    for version in versions.clone() {
        let mut reader = Client::to(&running).await;
        reader.send(version, 1, &fetch(version, held.topic_id(), 0, 1)).await;
        readers.push((version, reader));
    }
    until(|| held.pending_requests().0 == readers.len()).await;
    let delete =
        DeleteTopicsRequest { topic_names: vec!["t".into()], timeout_ms: 10_000, ..DeleteTopicsRequest::default() };
    assert_eq!(admin.ask(4, &delete).await.responses[0].error_code, ErrorCode::NONE);
    for (version, mut reader) in readers {
        let (_, answer) = reader.answer::<FetchRequest>(version).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "version {version}");
        assert!(data.records.as_ref().is_none_or(|records| records.is_empty()));
        reader.lives().await;
    }
    assert_eq!(held.pending_requests(), (0, 0));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_whose_topic_is_deleted_meanwhile_is_answered_with_unknown_topic() {
    let (running, _dir) = broker(&SETTINGS).await;
    let mut admin = Client::to(&running).await;
    create_topic(&mut admin).await;
    let held = partition(&running);
    hold_high_watermark(&held);
    let mut writers = Vec::new();
    for version in 3..=*produce::Produce::VERSIONS.end() {
        let mut writer = Client::to(&running).await;
        writer.send(version, 1, &produce(version, held.topic_id())).await;
        writers.push((version, writer));
    }
    until(|| held.pending_requests().1 == writers.len()).await;
    held.close();
    for (version, mut writer) in writers {
        let (_, answer) = writer.answer::<ProduceRequest>(version).await;
        let code = answer.responses[0].partition_responses[0].error_code;
        assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "version {version}");
        writer.lives().await;
    }
    running.stop().await.unwrap();
}

/// A request's frame, and a sign of it that lives as long.
struct Frame(bytes::Bytes, #[allow(dead_code)] Arc<()>);

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A produce of so many bytes.
fn large_produce(version: i16, id: Uuid, bytes: usize) -> ProduceRequest {
    let mut records = esker_protocol::records::BatchBuilder::new(esker_protocol::compression::Compression::None);
    records.append(0, 1, None, Some(&vec![7; bytes]), &[]);
    let mut request = produce(version, id);
    request.topic_data[0].partition_data[0].records = Some(records.build().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_produces_leave_the_memory_of_requests_to_others() {
    let limit = ("queued.max.request.bytes", "1048576");
    let (running, _dir) = broker(&[SETTINGS[0], limit]).await;
    create_topic(&mut Client::to(&running).await).await;
    let held = partition(&running);
    hold_high_watermark(&held);
    let mut writers = Vec::new();
    for parked in 1..=4 {
        let mut writer = Client::to(&running).await;
        let (id, held) = (held.topic_id(), &held);
        let wait = async move {
            writer.send(9, 1, &large_produce(9, id, 700_000)).await;
            until(|| held.pending_requests().1 == parked).await;
            writer
        };
        let writer = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
        writers.push(writer.expect("a parked produce keeps the memory that the next request needs"));
    }
    held.close();
    for mut writer in writers {
        writer.answer::<ProduceRequest>(9).await;
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_produce_holds_nothing_of_its_frame() {
    let (running, _dir) = broker(&SETTINGS).await;
    create_topic(&mut Client::to(&running).await).await;
    let held = partition(&running);
    hold_high_watermark(&held);
    let service = ClientService::new(Arc::clone(&running.broker));
    let mut parked = Vec::new();
    for version in 3..=*produce::Produce::VERSIONS.end() {
        let mut request = large_produce(version, held.topic_id(), 1_000_000);
        // The name of a topic that nothing is written to goes into the answer as well.
        let unknown = TopicProduceData {
            name: if version >= 13 { "".into() } else { "unknown".into() },
            topic_id: if version >= 13 { Uuid([9; 16]) } else { Uuid::ZERO },
            partition_data: request.topic_data[0].partition_data.clone(),
        };
        request.topic_data.push(unknown);
        let alive = Arc::new(());
        let memory = bytes::Bytes::from_owner(Frame(frame(version, &request), Arc::clone(&alive)));
        let Outcome::Parked(_, answer) = dispatch(&service, &connection(), memory) else { panic!("version {version}") };
        parked.push((version, alive, tokio::spawn(answer)));
    }
    until(|| held.pending_requests().1 == parked.len()).await;
    for (version, alive, _) in &parked {
        assert_eq!(Arc::strong_count(alive), 1, "version {version}: the frame is in memory");
    }
    held.close();
    for (version, _, answer) in parked {
        let Reply::Frame(answer, _) = answer.await.unwrap() else { panic!("version {version}") };
        let (_, answer) =
            esker_protocol::decode_response::<ProduceRequest>(version, answer.into_bytes().slice(4..)).unwrap();
        let names: Vec<_> = answer.responses.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names, if version >= 13 { ["", ""] } else { ["t", "unknown"] });
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_fetch_holds_nothing_of_its_frame() {
    let (running, _dir) = broker(&SETTINGS).await;
    create_topic(&mut Client::to(&running).await).await;
    let held = partition(&running);
    let service = ClientService::new(Arc::clone(&running.broker));
    let mut parked = Vec::new();
    let dispatched = |version: i16, request: &FetchRequest| {
        let alive = Arc::new(());
        let memory = bytes::Bytes::from_owner(Frame(frame(version, request), Arc::clone(&alive)));
        let size = memory.len();
        let Outcome::Parked(bytes, answer) = dispatch(&service, &connection(), memory) else {
            panic!("version {version}")
        };
        assert!(bytes <= 1024, "version {version} counts {bytes} of {size} bytes");
        (version, alive, tokio::spawn(answer))
    };
    for version in fetch::Fetch::VERSIONS {
        // Without a session, and one that asks for one. What is large are names that the answer does not need.
        for session_epoch in [-1, 0].into_iter().take(if version >= 7 { 2 } else { 1 }) {
            let mut request = FetchRequest { session_epoch, ..fetch(version, held.topic_id(), 0, 1) };
            if version >= 11 {
                request.rack_id = esker_protocol::primitives::Str::copy(&"r".repeat(30_000));
            }
            parked.push(dispatched(version, &request));
        }
    }
    until(|| held.pending_requests().0 == parked.len()).await;
    for (version, alive, _) in &parked {
        assert_eq!(Arc::strong_count(alive), 1, "version {version}: the frame is in memory");
    }
    held.close();
    for (version, _, answer) in parked {
        let Reply::Frame(answer, _) = answer.await.unwrap() else { panic!("version {version}") };
        let (_, answer) =
            esker_protocol::decode_response::<FetchRequest>(version, answer.into_bytes().slice(4..)).unwrap();
        assert_eq!(answer.responses[0].topic.as_str(), if version >= 13 { "" } else { "t" });
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_fetches_as_a_broker() {
    let (running, _dir) = broker(&SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let held = partition(&running);
    hold_high_watermark(&held);
    let mut writer = Client::to(&running).await;
    writer.send(9, 1, &produce(9, held.topic_id())).await;
    until(|| held.log().log_end_offset() == 1).await;
    // The leader itself, a broker that has no such replica, and one that has: followers do not fetch so.
    for (replica, code, finds) in [
        (1, ErrorCode::NOT_LEADER_OR_FOLLOWER, false),
        (7, ErrorCode::NOT_LEADER_OR_FOLLOWER, false),
        (2, ErrorCode::NOT_LEADER_OR_FOLLOWER, false),
        (-1, ErrorCode::NONE, false),
        (-2, ErrorCode::NONE, false),
        (-3, ErrorCode::NONE, false),
        (i32::MIN, ErrorCode::NONE, false),
    ] {
        for version in fetch::Fetch::VERSIONS {
            let mut request = FetchRequest { max_wait_ms: 0, ..fetch(version, held.topic_id(), 0, 1) };
            match version {
                15.. => request.replica_state = ReplicaState { replica_id: replica, ..ReplicaState::default() },
                _ => request.replica_id = replica,
            }
            let answer = client.ask(version, &request).await;
            let data = &answer.responses[0].partitions[0];
            let found = data.records.as_ref().is_some_and(|records| !records.is_empty());
            assert_eq!((data.error_code, found), (code, finds), "replica {replica}, version {version}");
        }
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_an_exhausted_partition_is_answered_at_the_end_of_its_time() {
    let (running, _dir) = broker(&SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    create_topic_with(&mut client, "idle", &[]).await;
    for _ in 0..20 {
        client.ask(9, &produce(9, Uuid::ZERO)).await;
    }
    for (replica_id, isolation_level) in [(-1, 0), (-1, 1), (-2, 0), (-2, 1)] {
        let topic = |name: &'static str| {
            let partition = FetchPartition { partition_max_bytes: 100, ..FetchPartition::default() };
            FetchTopic { topic: name.into(), partitions: vec![partition], ..FetchTopic::default() }
        };
        let mut request = FetchRequest {
            replica_id,
            isolation_level,
            max_wait_ms: 30,
            min_bytes: 1_000_000,
            topics: vec![topic("t"), topic("idle")],
            session_epoch: 0,
            ..FetchRequest::default()
        };
        let answer = client.ask(11, &request).await;
        assert_ne!(answer.session_id, 0);
        (request.session_id, request.topics) = (answer.session_id, Vec::new());
        for epoch in 1..4 {
            request.session_epoch = epoch;
            let answer = client.ask(11, &request).await;
            assert_eq!(answer.responses.len(), 1, "the idle one has no news");
            assert!(!answer.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
        }
    }
    assert_eq!(partition(&running).pending_requests(), (0, 0));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_clients_that_are_gone_leave_the_lists() {
    let (running, _dir) = broker(&SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let held = partition(&running);
    hold_high_watermark(&held);
    // So few that a limit of 1024 open files leaves room for the tests beside this one.
    const PAIRS: usize = 50;
    let mut gone = Vec::new();
    for _ in 0..PAIRS {
        let mut reader = Client::to(&running).await;
        reader.send(11, 1, &fetch(11, Uuid::ZERO, 0, 1)).await;
        let mut writer = Client::to(&running).await;
        writer.send(9, 1, &produce(9, Uuid::ZERO)).await;
        gone.extend([reader, writer]);
    }
    until(|| held.pending_requests() == (PAIRS, PAIRS)).await;
    drop(gone);
    until(|| held.pending_requests() == (0, 0)).await;
    // More than a connection works on at once: the close lies behind requests that are not read yet.
    let mut greedy = Client::to(&running).await;
    for id in 0..1000 {
        greedy.send(11, id, &fetch(11, Uuid::ZERO, 0, 1)).await;
    }
    until(|| held.pending_requests().0 > 200).await;
    drop(greedy);
    until(|| held.pending_requests() == (0, 0)).await;
    until(|| running.broker.metrics.network.open_connections() == 1).await;
    client.lives().await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vanished_client_sent_before_is_still_done() {
    let (running, _dir) = broker(&SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    create_topic_with(&mut client, "idle", &[]).await;
    let mut polls = fetch(11, Uuid::ZERO, 0, 1);
    polls.topics[0].topic = "idle".into();
    let mut gone = Client::to(&running).await;
    for id in 0..300 {
        gone.send(11, id, &polls).await;
    }
    for id in 0..300 {
        gone.send(9, id, &ProduceRequest { acks: 0, ..produce(9, Uuid::ZERO) }).await;
    }
    drop(gone);
    let held = partition(&running);
    until(|| held.log().log_end_offset() == 300).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_while_the_records_it_found_are_deleted() {
    let (running, _dir) = broker(&SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    client.ask(9, &produce(9, Uuid::ZERO)).await;
    let held = partition(&running);
    let mut readers = Vec::new();
    for version in fetch::Fetch::VERSIONS {
        let mut reader = Client::to(&running).await;
        reader.send(version, 1, &fetch(version, held.topic_id(), 0, 100_000)).await;
        readers.push((version, reader));
    }
    until(|| held.pending_requests().0 == readers.len()).await;
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 1 }];
    let delete =
        DeleteRecordsRequest { topics: vec![DeleteRecordsTopic { name: "t".into(), partitions }], timeout_ms: 10_000 };
    assert_eq!(client.ask(1, &delete).await.topics[0].partitions[0].low_watermark, 1);
    for (version, mut reader) in readers {
        let (_, answer) = reader.answer::<FetchRequest>(version).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::OFFSET_OUT_OF_RANGE, "version {version}");
        assert!(data.records.as_ref().is_none_or(|records| records.is_empty()));
    }
    running.stop().await.unwrap();
}

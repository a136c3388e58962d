//! Data files that another process empties under a running broker: an error for their partitions, and for nothing else.

use std::fs::OpenOptions;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Str;
use esker_protocol::records::BatchBuilder;

use crate::test_support::now_ms;
use crate::test_support::{Client, broker, create_topic_with};

async fn produce(client: &mut Client, topic: &'static str) -> i64 {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, now_ms(), None, Some(&[7; 50_000]), &[]);
    let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..TopicProduceData::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..ProduceRequest::default() };
    let answer = client.ask(9, &request).await.responses.remove(0).partition_responses.remove(0);
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer.base_offset
}

/// The error of a fetch, and how many bytes came.
async fn fetch(client: &mut Client, topic: &'static str, fetch_offset: i64) -> (ErrorCode, usize) {
    let partition = FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topic = FetchTopic { topic: topic.into(), partitions: vec![partition], ..FetchTopic::default() };
    let request = FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..FetchRequest::default() };
    let answer = client.ask(11, &request).await.responses.remove(0).partitions.remove(0);
    (answer.error_code, answer.records.unwrap_or_default().len())
}

async fn commit(client: &mut Client, offset: i64) {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_leader_epoch: -1,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    loop {
        match client.ask(7, &request).await.topics[0].partitions[0].error_code {
            ErrorCode::NONE => return,
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {}
            code => panic!("{code}"),
        }
    }
}

async fn committed(client: &mut Client) -> i64 {
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let request =
        OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..OffsetFetchRequest::default() };
    client.ask(5, &request).await.topics[0].partitions[0].committed_offset
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_data_files_are_corrupt_partitions_of_a_broker_that_goes_on() {
    let (running, dir) = broker(&[("offsets.topic.num.partitions", "1")]).await;
    let mut client = Client::to(&running).await;
    for topic in ["t", "other"] {
        create_topic_with(&mut client, topic, &[]).await;
        for offset in 0..3 {
            assert_eq!(produce(&mut client, topic).await, offset);
        }
        assert!(fetch(&mut client, topic, 0).await.1 > 150_000);
    }
    let find = FindCoordinatorRequest { key: Str::from("g"), ..FindCoordinatorRequest::default() };
    while client.ask(1, &find).await.error_code.is_error() {}
    commit(&mut client, 5).await;
    assert!(fetch(&mut client, "__consumer_offsets", 0).await.1 > 0);

    for partition in ["t-0", "__consumer_offsets-0"] {
        let path = dir.path().join(partition).join("00000000000000000000.log");
        OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
    }
    for topic in ["t", "__consumer_offsets"] {
        assert_eq!(fetch(&mut client, topic, 0).await, (ErrorCode::CORRUPT_MESSAGE, 0), "{topic}");
    }
    assert!(fetch(&mut client, "other", 0).await.1 > 150_000, "everything else is served");
    assert_eq!(committed(&mut client).await, 5);
    commit(&mut client, 6).await;
    assert_eq!(committed(&mut client).await, 6);
    assert_eq!(produce(&mut client, "t").await, 3, "appends go on behind the damage");
    assert_eq!(fetch(&mut client, "t", 3).await.0, ErrorCode::NONE);
    assert_eq!(fetch(&mut client, "t", 2).await.0, ErrorCode::CORRUPT_MESSAGE);

    let concerns = running.broker.concerns();
    assert_eq!(concerns.len(), 2, "{concerns:?}");
    assert!(concerns.iter().any(|concern| concern.starts_with("t-0: offsets 0 to 2 ")), "{concerns:?}");
    let described = client.ask(4, &DescribeLogDirsRequest { topics: None }).await;
    assert_eq!(described.results[0].error_code, ErrorCode::NONE, "the log dir is online");
    let topics =
        described.results[0].topics.iter().filter(|t| t.partitions.iter().any(|p| !p.damaged_ranges.is_empty()));
    let mut topics: Vec<_> = topics.map(|topic| topic.name.to_string()).collect();
    topics.sort_unstable();
    assert_eq!(topics, ["__consumer_offsets", "t"]);
    running.stop().await.unwrap();
}

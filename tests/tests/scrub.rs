//! A bit that rots in a closed segment is found while the broker runs, told, and served around.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::{Esker, PATIENCE, ask};

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn bit_rot_is_found_told_and_served_around() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--set", "log.scrub.interval.ms=100", "--set", "log.scrub.max.bytes.per.second=0"];
    let esker = Esker::start_with(dir.path(), &flags);
    let mut stream = esker.connect();
    let configs = vec![CreatableTopicConfig { name: "segment.bytes".into(), value: Some("1048576".into()) }];
    let topic =
        CreatableTopic { name: "t".into(), num_partitions: 1, replication_factor: 1, configs, ..Default::default() };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    assert!(!ask(&mut stream, 4, &create).topics[0].error_code.is_error());
    // One batch a record: 30 segments' worth of nothing but the letter x.
    for _ in 0..40 {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(0, 1_700_000_000_000, None, Some(&[b'x'; 100_000]), &[]);
        let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
        let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
        let produce = ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() };
        assert!(!ask(&mut stream, 9, &produce).responses[0].partition_responses[0].error_code.is_error());
    }
    let mut fetch = |offset: i64| {
        let partition =
            FetchPartition { partition: 0, fetch_offset: offset, partition_max_bytes: 1, ..Default::default() };
        let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
        let request = FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..FetchRequest::default() };
        ask(&mut stream, 11, &request).responses[0].partitions[0].error_code
    };
    // A byte of the payload of offset 3.
    let path = dir.path().join("t-0/00000000000000000000.log");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let batch = 100_000 + 61 + 12;
    file.write_all_at(b"y", 3 * batch + 50_000).unwrap();
    assert_eq!(esker.metric("esker_scrub_rounds"), 0.0, "it is switched off");
    assert!(!fetch(3).is_error(), "nobody has looked");
    // Switched on at run time.
    let rate = AlterableConfig {
        name: "log.scrub.max.bytes.per.second".into(),
        value: Some("100000000".into()),
        ..Default::default()
    };
    let resource = AlterConfigsResource { resource_type: 4, resource_name: "".into(), configs: vec![rate] };
    let alter = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert!(!ask(&mut esker.connect(), 1, &alter).responses[0].error_code.is_error());
    wait_for("the scrub finds it", || esker.metric("esker_scrub_findings") > 0.5);
    let errors: Vec<i64> = (0..40).filter(|offset| fetch(*offset).is_error()).collect();
    assert_eq!(errors, [3]);
    assert_eq!(fetch(3), ErrorCode::CORRUPT_MESSAGE);
    let ready = esker.http_get("/health/ready");
    assert!(ready.contains("t-0: offsets 3 to 3 are damaged on disk"), "{ready}");
    let dirs = ask(&mut esker.connect(), 4, &DescribeLogDirsRequest { topics: None });
    let told = &dirs.results[0].topics.iter().find(|topic| &*topic.name == "t").unwrap().partitions[0].damaged_ranges;
    assert_eq!((dirs.results[0].error_code, told.len()), (ErrorCode::NONE, 1));
    assert_eq!((told[0].first_offset, told[0].end_offset), (3, 4));
    let rounds = esker.metric("esker_scrub_rounds");
    wait_for("another round", || esker.metric("esker_scrub_rounds") > rounds);
    assert!((esker.metric("esker_scrub_findings") - 1.0).abs() < 0.1, "what is known is not found again");
    assert!(esker.metric("esker_scrub_bytes") > 1_000_000.0);
    assert!(esker.terminate().success());
}

//! kill -9 under load: every record that was acknowledged is there afterwards, once, in order; and a client whose broker was killed waits
//! for that one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::collections::BTreeMap;
use std::time::Duration;

use esker_client::admin::NewTopic;
use esker_client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, Delivery, Producer, ProducerConfig, ProducerRecord, StartAt,
};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use esker_tests::cluster::free_addresses;
use esker_tests::{Esker, ask};

const PARTITIONS: i32 = 4;

/// Rounds of kill -9 in each mode; `ESKER_KILL_ROUNDS` for more.
fn rounds() -> usize {
    std::env::var("ESKER_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

/// Produces until the broker is gone; gives what was acknowledged: partition -> (offset, number).
async fn load(bootstrap: String, from: u64, compression: Compression) -> BTreeMap<i32, Vec<(i64, u64)>> {
    let mut config = ClientConfig::new(&bootstrap);
    config.request_timeout = Duration::from_secs(5);
    let client = Client::connect(config).await.unwrap();
    let config = ProducerConfig {
        compression,
        linger: Duration::from_millis(1),
        delivery_timeout: Duration::from_secs(1),
        max_block: Duration::from_millis(500),
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&client, config);
    let mut sent: Vec<(i32, u64, Delivery)> = Vec::new();
    for number in from.. {
        let partition = i32::try_from(number % PARTITIONS as u64).unwrap();
        let record = ProducerRecord::new("t").partition(partition).value(format!("{number}"));
        match producer.send(record).await {
            Ok(delivery) => sent.push((partition, number, delivery)),
            Err(_) => break,
        }
        if number % 256 == 0 {
            tokio::task::yield_now().await;
            if client_is_gone(&bootstrap).await {
                break;
            }
        }
    }
    let mut acknowledged: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    for (partition, number, delivery) in sent {
        if let Ok(delivered) = delivery.wait().await {
            acknowledged.entry(partition).or_default().push((delivered.offset, number));
        }
    }
    acknowledged
}

async fn client_is_gone(bootstrap: &str) -> bool {
    tokio::net::TcpStream::connect(bootstrap).await.is_err()
}

async fn all_records(client: Client) -> BTreeMap<i32, Vec<(i64, u64)>> {
    let config = ConsumerConfig { max_wait: Duration::from_millis(20), ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(&client, config);
    let partitions = client.topic("t", false).await.unwrap().partitions.len();
    consumer.assign((0..i32::try_from(partitions).unwrap()).map(|partition| ("t", partition, StartAt::Earliest)));
    let mut found: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    while !consumer.is_at_end() {
        for record in consumer.poll(Duration::from_millis(100)).await.unwrap() {
            let number = String::from_utf8(record.value.unwrap().to_vec()).unwrap().parse().unwrap();
            found.entry(record.partition).or_default().push((record.offset, number));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_kill_9() {
    kill_again_and_again("flush").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_page_cache_survives_kill_9_too() {
    kill_again_and_again("page-cache").await;
}

/// What DeleteRecords was told to take stays gone: its answer waits for the disk as an acknowledged record does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_stay_deleted_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut esker = Esker::start(dir.path());
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    let topic = NewTopic { partitions: PARTITIONS, ..NewTopic::new("t") };
    Admin::new(&client).create_topics(&[topic], false).await.unwrap().remove(0).unwrap();
    let producer = Producer::new(&client, ProducerConfig::default());
    for number in 0..100 {
        let sent = producer.send(ProducerRecord::new("t").partition(0).value(format!("{number}"))).await.unwrap();
        sent.wait().await.unwrap();
    }
    for offset in [10, 20, 99] {
        let wanted = DeleteRecordsPartition { partition_index: 0, offset };
        let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions: vec![wanted] }];
        let request = DeleteRecordsRequest { topics, timeout_ms: 10_000 };
        let answer = ask(&mut esker.connect(), 2, &request).topics[0].partitions[0].clone();
        assert_eq!((answer.error_code, answer.low_watermark), (ErrorCode::NONE, offset));
        esker.kill();
        esker = Esker::start(dir.path());
        let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
        let left: Vec<i64> = all_records(client).await[&0].iter().map(|(offset, _)| *offset).collect();
        assert_eq!(left, (offset..100).collect::<Vec<_>>());
    }
}

/// Another broker may be given the address of one that was killed. What a client has queued is not for it (KIP-1242).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_never_goes_on_with_another_cluster() {
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let address = free_addresses(1)[0].to_string();
    let start = |data: &std::path::Path| Esker::start_with(data, &["--listen", &address]);
    let esker = start(own.path());
    let client = Client::connect(ClientConfig::new(&address)).await.unwrap();
    Admin::new(&client).create_topics(&[NewTopic::new("t")], false).await.unwrap().remove(0).unwrap();
    let config = || ProducerConfig {
        delivery_timeout: Duration::from_secs(1),
        max_block: Duration::from_secs(1),
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&client, ProducerConfig::default());
    producer.send(ProducerRecord::new("t").value("first")).await.unwrap().wait().await.unwrap();
    esker.kill();

    let esker = start(other.path());
    let fresh = Client::connect(ClientConfig::new(&address)).await.unwrap();
    Admin::new(&fresh).create_topics(&[NewTopic::new("t")], false).await.unwrap().remove(0).unwrap();
    let strays = Producer::new(&client, config());
    let refused = match strays.send(ProducerRecord::new("t").value("stray")).await {
        Ok(delivery) => delivery.wait().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(refused.is_err(), "the record went to another cluster");
    let refused = client.refresh(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("belongs to another cluster"), "{refused}");
    assert!(all_records(fresh).await.is_empty(), "another cluster has the record");
    esker.kill();

    let _own = start(own.path());
    producer.send(ProducerRecord::new("t").value("second")).await.unwrap().wait().await.unwrap();
    let fresh = Client::connect(ClientConfig::new(&address)).await.unwrap();
    let mut consumer = Consumer::new(&fresh, ConsumerConfig::default());
    consumer.assign([("t", 0, StartAt::Earliest)]);
    let mut values = Vec::new();
    while values.len() < 2 {
        let polled = consumer.poll(Duration::from_millis(100)).await.unwrap();
        values.extend(polled.into_iter().map(|record| record.value.unwrap()));
    }
    assert_eq!(values, ["first", "second"]);
}

async fn kill_again_and_again(durability: &'static str) {
    let dir = tempfile::tempdir().unwrap();
    let esker = Esker::start(dir.path());
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    let configs = vec![("segment.bytes".into(), "1048576".into()), ("durability".into(), durability.into())];
    let topic = NewTopic { partitions: PARTITIONS, configs, ..NewTopic::new("t") };
    for created in Admin::new(&client).create_topics(&[topic], false).await.unwrap() {
        created.unwrap();
    }
    let mut esker = Some(esker);
    let mut acknowledged: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    let mut count = 0;
    for round in 0..rounds() {
        let running = esker.take().unwrap();
        let codec = [Compression::None, Compression::Lz4, Compression::Zstd][round % 3];
        let loading = tokio::spawn(load(running.kafka.to_string(), (round as u64 + 1) * 10_000_000, codec));
        // Killed once it is under way: at another point each time, by what it has written and not by a clock.
        let enough = 200.0 + 337.0 * round as f64;
        let flushes = if durability == "flush" { 2.0 } else { 0.0 };
        while running.metric("kafka_server_brokertopicmetrics_messagesin_total{topic=\"t\"}") < enough
            || running.metric("esker_log_flushes_total") < flushes
        {
            assert!(!loading.is_finished(), "the load ended by itself");
            tokio::task::yield_now().await;
        }
        running.kill();
        for (partition, records) in loading.await.unwrap() {
            acknowledged.entry(partition).or_default().extend(records);
        }
        let restarted = Esker::start(dir.path());
        println!("round {round}: ready again after {:?}", restarted.took);
        let client = Client::connect(ClientConfig::new(&restarted.kafka.to_string())).await.unwrap();
        let found = all_records(client).await;
        for (partition, records) in &found {
            let mut numbers: Vec<u64> = records.iter().map(|(_, n)| *n).collect();
            assert!(numbers.is_sorted(), "partition {partition} is out of order");
            numbers.dedup();
            assert_eq!(numbers.len(), records.len(), "partition {partition} has a record twice");
            assert!(records.iter().map(|(offset, _)| *offset).eq(0..records.len() as i64), "offsets have gaps");
        }
        count = 0;
        for (partition, records) in &acknowledged {
            let by_offset: BTreeMap<i64, u64> = found[partition].iter().copied().collect();
            for (offset, number) in records {
                assert_eq!(by_offset.get(offset), Some(number), "acknowledged at {partition}/{offset}, and gone");
                count += 1;
            }
        }
        println!("{durability}, round {round}: {count} acknowledged records are there");
        esker = Some(restarted);
    }
    assert!(count > 0, "nothing was ever acknowledged");
}

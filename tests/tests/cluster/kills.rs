//! Brokers are killed (kill -9) and restarted under load, one after the other at random.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use esker_client::{Producer, ProducerConfig, ProducerRecord};
use esker_tests::cluster::{Cluster, wait_until};
use esker_tests::history::{Fate, History, Send};
use tokio::task::JoinHandle;

const PARTITIONS: i32 = 3;
const ROUNDS: usize = 4;
const TOPIC: &str = "t";
/// Records of each partition that are acknowledged while a broker is down.
const DURING: u64 = 20;

/// Acknowledged records, by partition.
type Counts = Arc<Vec<AtomicU64>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_no_acknowledged_record_and_leave_equal_replicas() {
    let mut cluster = Cluster::start(3);
    cluster.create_topic(TOPIC, PARTITIONS, "flush");
    let over = Arc::new(AtomicBool::new(false));
    let counts: Counts = Arc::new((0..PARTITIONS).map(|_| AtomicU64::new(0)).collect());
    let producers: Vec<JoinHandle<Vec<Send>>> = {
        let client = cluster.client().await;
        let start = |partition| {
            let producer = Producer::new(&client, ProducerConfig::default());
            tokio::spawn(produce(producer, partition, Arc::clone(&over), Arc::clone(&counts)))
        };
        (0..PARTITIONS).map(start).collect()
    };
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    eprintln!("seed {seed}");
    let mut random = seed;
    for _ in 0..ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let victim = usize::try_from(random >> 33).unwrap() % 3;
        eprintln!("kill {victim}");
        wait_for_records(&counts);
        cluster.kill(victim);
        wait_for_records(&counts);
        cluster.restart(victim);
        cluster.wait_in_sync(TOPIC);
    }
    over.store(true, Ordering::Release);
    let mut history = History::default();
    for producer in producers {
        history.sends.extend(producer.await.unwrap());
    }
    cluster.wait_in_sync(TOPIC);
    let mut ends = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let (records, end) = cluster.read_all(TOPIC, partition);
        history.last.insert(partition, records);
        ends.insert(partition, end);
    }
    assert_eq!(history.guilt(), []);
    (0..3).for_each(|at| cluster.kill(at));
    for (partition, end) in ends {
        super::assert_equal_replicas(&cluster, TOPIC, partition, end);
    }
}

fn wait_for_records(counts: &Counts) {
    let read = || counts.iter().map(|count| count.load(Ordering::Acquire)).collect::<Vec<_>>();
    let before = read();
    wait_until("records are acknowledged", || {
        read().iter().zip(&before).all(|(count, before)| *count >= before + DURING)
    });
}

/// Sends one record after the other, several in flight, until `over`.
async fn produce(producer: Producer, partition: i32, over: Arc<AtomicBool>, counts: Counts) -> Vec<Send> {
    let count = &counts[usize::try_from(partition).unwrap()];
    let mut deliveries = Vec::new();
    let mut value = u64::try_from(partition).unwrap();
    while !over.load(Ordering::Acquire) {
        let mut batch = Vec::new();
        for _ in 0..5 {
            let record = ProducerRecord::new(TOPIC).partition(partition).value(value.to_string());
            batch.push((value, producer.send(record).await.unwrap()));
            value += u64::try_from(PARTITIONS).unwrap();
            // Each in a batch of its own.
            tokio::time::sleep(Duration::from_millis(6)).await;
        }
        for (value, delivery) in batch {
            let delivered = delivery.await.expect("the producer tries until it is acknowledged");
            count.fetch_add(1, Ordering::AcqRel);
            deliveries.push(Send {
                producer: u32::try_from(partition).unwrap(),
                partition,
                value,
                transaction: None,
                fate: Fate::Done,
                offset: Some(delivered.offset),
            });
        }
    }
    deliveries
}

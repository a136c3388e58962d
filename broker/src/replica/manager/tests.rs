//! Faults and hung disks while an image is applied: one topic has the damage, clients have an answer, later images come through.

use std::io;
use std::sync::Arc;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_storage::hooked::{Doing, HookedDisk, Hooks};
use esker_storage::io::Disk;
use parking_lot::{Condvar, Mutex};

use super::TopicRef;
use crate::serve::Running;
use crate::test_support::{Client, broker_on, create_topic};

/// Panics over the files of topic `boom`, and hangs over those of `slow` until it is opened.
#[derive(Debug, Default)]
struct Harm {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Hooks for Harm {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        let Doing::Open(path, _) = doing else { return Ok(()) };
        let path = path.to_string_lossy();
        assert!(!path.contains("/boom-1/"), "a fault");
        if path.contains("/slow-0/") {
            self.opened.wait_while(&mut self.open.lock(), |open| !*open);
        }
        Ok(())
    }
}

async fn harmed() -> (Arc<Harm>, Running, tempfile::TempDir) {
    let harm = Arc::<Harm>::default();
    let hooks: Arc<dyn Hooks> = Arc::<Harm>::clone(&harm);
    let disk: Arc<dyn Disk> = Arc::new(HookedDisk(hooks));
    let (running, dir) = broker_on(disk, &[]).await;
    (harm, running, dir)
}

async fn create(client: &mut Client, name: &'static str, num_partitions: i32, timeout_ms: i32) -> ErrorCode {
    let topic =
        CreatableTopic { name: name.into(), num_partitions, replication_factor: 1, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms, ..CreateTopicsRequest::default() };
    client.ask(5, &request).await.topics[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_over_one_partition_stops_neither_its_siblings_nor_later_images() {
    let (_, running, _dir) = harmed().await;
    let mut client = Client::to(&running).await;
    assert_eq!(create(&mut client, "boom", 3, 60_000).await, ErrorCode::NONE);
    create_topic(&mut client).await;
    let served =
        |topic: &'static str, index| running.broker.replicas.partition(&TopicRef::by_name(&topic.into()), index);
    assert!(served("boom", 1).is_err());
    assert!([("boom", 0), ("boom", 2), ("t", 0)].iter().all(|(topic, index)| served(topic, *index).is_ok()));
    assert_eq!(running.broker.metrics.apply_errors.get(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_disk_ends_the_wait_of_a_client() {
    let (harm, running, _dir) = harmed().await;
    let mut client = Client::to(&running).await;
    assert_eq!(create(&mut client, "slow", 1, 1).await, ErrorCode::REQUEST_TIMED_OUT);
    // The metadata has it, and everything else goes on.
    assert_eq!(create(&mut client, "slow", 1, 1).await, ErrorCode::TOPIC_ALREADY_EXISTS);
    client.lives().await;
    *harm.open.lock() = true;
    harm.opened.notify_all();
    create_topic(&mut client).await;
    assert!(running.broker.replicas.partition(&TopicRef::by_name(&"slow".into()), 0).is_ok());
    running.stop().await.unwrap();
}

//! Faults and hung disks while an image is applied: only one topic is affected, clients get an answer, and later images are
//! applied.

use std::io;
use std::sync::{OnceLock, Weak};

use esker_core::metadata::{MetadataRecord, PartitionRecord, RemoveTopicRecord, TopicRecord};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_storage::hooked::{Doing, HookedDisk, Hooks};
use esker_storage::io::Disk;
use parking_lot::Condvar;

use super::*;
use crate::replica::partition::Guarantee;
use crate::replica::purgatory::CommitGate;
use crate::replica::test_support::{logs, node};
use crate::serve::Running;
use crate::test_support::{Client, broker_on, create_topic};

/// Panics on file operations of topic `boom`, blocks those of `slow` until it is opened, and has no space for `full` until then.
#[derive(Debug, Default)]
struct Harm {
    open: Mutex<bool>,
    opened: Condvar,
    /// Whose unserved partitions are counted whenever there is no space.
    replicas: OnceLock<Weak<ReplicaManager>>,
    unserved: Mutex<Vec<usize>>,
}

impl Hooks for Harm {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        let Doing::Open(path, _) = doing else { return Ok(()) };
        let path = path.to_string_lossy();
        assert!(!path.contains("/boom-1/"), "a fault");
        if path.contains("/slow-0/") {
            self.opened.wait_while(&mut self.open.lock(), |open| !*open);
        }
        if path.contains("/full-1/") && !*self.open.lock() {
            let replicas = self.replicas.get().and_then(Weak::upgrade);
            self.unserved.lock().extend(replicas.map(|replicas| replicas.unserved_partitions()));
            return Err(io::ErrorKind::StorageFull.into());
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
async fn a_partition_that_a_full_disk_refused_is_served_once_there_is_space() {
    let (harm, running, _dir) = harmed().await;
    let mut client = Client::to(&running).await;
    assert_eq!(create(&mut client, "full", 3, 60_000).await, ErrorCode::NONE);
    let replicas = &running.broker.replicas;
    let served = |index| replicas.partition(&TopicRef::by_name(&"full".into()), index);
    assert!(served(0).is_ok() && served(1).is_err() && served(2).is_ok() && replicas.unserved_partitions() == 1);
    harm.replicas.set(Arc::downgrade(replicas)).unwrap();
    replicas.retry_unserved();
    assert!(served(1).is_err() && replicas.unserved_partitions() == 1 && replicas.take_late_topics().is_empty());
    assert_eq!(running.broker.metrics.apply_errors.get(), 1, "it is reported once");
    let siblings = [served(0), served(2)].map(Result::unwrap);
    *harm.open.lock() = true;
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    while replicas.unserved_partitions() > 0 && Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(served(1).unwrap().role().is_leader(), "it is counted until it is served");
    let counted = harm.unserved.lock().clone();
    assert!(!counted.is_empty() && counted.iter().all(|count| *count == 1), "also while it is tried: {counted:?}");
    let now = [served(0), served(2)].map(Result::unwrap);
    assert!(siblings.iter().zip(&now).all(|(before, now)| Arc::ptr_eq(before, now)), "the others are left alone");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_disk_ends_the_wait_of_a_client() {
    let (harm, running, _dir) = harmed().await;
    let mut client = Client::to(&running).await;
    assert_eq!(create(&mut client, "slow", 1, 1).await, ErrorCode::REQUEST_TIMED_OUT);
    // Where the time was over before the decision, the topic was not created.
    while running.broker.metadata.image().topic("slow").is_none() {
        create(&mut client, "slow", 1, 1).await;
    }
    // The metadata has the topic, and everything else continues.
    assert_eq!(create(&mut client, "slow", 1, 60_000).await, ErrorCode::TOPIC_ALREADY_EXISTS);
    client.lives().await;
    *harm.open.lock() = true;
    harm.opened.notify_all();
    create_topic(&mut client).await;
    assert!(running.broker.replicas.partition(&TopicRef::by_name(&"slow".into()), 0).is_ok());
    running.stop().await.unwrap();
}

/// Partition 0 of a topic after one change of the image each.
struct Images {
    image: MetadataImage,
    topic: &'static str,
    manager: ReplicaManager,
    changes: mpsc::UnboundedReceiver<LeadershipChange>,
    _dir: tempfile::TempDir,
}

impl Images {
    fn of(topic: &'static str) -> Self {
        let (dir, logs) = logs(&Arc::default());
        let metrics = Arc::new(Metrics::new(std::iter::empty()).unwrap());
        let (manager, changes) = ReplicaManager::new(node(), logs, metrics);
        let mut image = MetadataImage::default();
        image.apply(&MetadataRecord::Topic(TopicRecord { name: topic.into(), id: Uuid([7; 16]) }));
        Self { image, topic, manager, changes, _dir: dir }
    }

    fn assign(&mut self, leader: i32, leader_epoch: i32, replicas: &[i32]) -> Result<Arc<Partition>, AccessError> {
        let (topic_id, replicas) = (Uuid([7; 16]), replicas.to_vec());
        let isr = replicas.clone();
        let record = PartitionRecord { topic_id, replicas, isr, leader, leader_epoch, ..PartitionRecord::default() };
        self.image.apply(&MetadataRecord::Partition(record));
        self.image.set_offset(self.image.offset() + 1);
        self.manager.apply(&Arc::new(self.image.clone()));
        self.manager.partition(&TopicRef::by_name(&self.topic.into()), 0)
    }

    /// The announced leader epochs; `None` is a loss.
    fn announced(&mut self) -> Vec<Option<i32>> {
        let epoch = |change| match change {
            LeadershipChange::Gained { leader_epoch, .. } => Some(leader_epoch),
            LeadershipChange::Lost { .. } | LeadershipChange::TopicDeleted { .. } => None,
        };
        std::iter::from_fn(|| self.changes.try_recv().ok()).map(epoch).collect()
    }
}

#[test]
fn a_deleted_topic_is_announced_after_what_was_gained_with_it() {
    let mut images = Images::of("__consumer_offsets");
    images.image.apply(&MetadataRecord::Topic(TopicRecord { name: "gone".into(), id: Uuid([8; 16]) }));
    images.assign(2, 0, &[1, 2]).unwrap();
    assert_eq!(images.announced(), []);
    // A coordinator that gains the partition with the very image has to remove the topic's offsets.
    images.image.apply(&MetadataRecord::RemoveTopic(RemoveTopicRecord { id: Uuid([8; 16]) }));
    images.assign(1, 1, &[1, 2]).unwrap();
    assert_eq!(images.announced(), [Some(1), None]);
}

#[test]
fn a_partition_that_moved_to_another_broker_is_closed_here() {
    for topic in ["t", "__consumer_offsets"] {
        let mut images = Images::of(topic);
        let led = images.assign(1, 0, &[1, 2]).unwrap();
        let gate = CommitGate::new(1);
        let guarantee = Guarantee { committed: true, on_disk: false };
        let pending = led.park_commit(guarantee, 1, 0, &gate);
        assert!(!gate.is_open());
        let hint = LeaderHint { leader: 2, leader_epoch: 1 };
        assert_eq!(images.assign(2, 1, &[2, 3]).unwrap_err(), AccessError::NotLeader(hint));
        assert!(gate.is_open(), "a pending produce is answered");
        assert_eq!(led.leader_for_epoch(-1).unwrap_err(), AccessError::NotLeader(hint));
        assert!(images.manager.partitions().is_empty());
        assert!(images.manager.logs().get(topic, 0).is_none(), "its log is deleted");
        drop(pending);
        // A later replica is a new partition.
        let back = images.assign(1, 2, &[1]).unwrap();
        assert!(!Arc::ptr_eq(&back, &led) && back.leader_for_epoch(2).is_ok());
        let announced: &[_] = if topic == "t" { &[] } else { &[Some(0), None, Some(2)] };
        assert_eq!(images.announced(), announced);
    }
}

#[test]
fn leadership_is_announced_by_epoch() {
    let mut images = Images::of("__consumer_offsets");
    for (leader, epoch) in [(1, 0), (1, 0), (1, 1), (2, 2), (2, 3), (1, 4)] {
        assert!(images.assign(leader, epoch, &[1, 2]).is_ok());
    }
    assert_eq!(images.announced(), [Some(0), Some(1), None, Some(4)]);
}

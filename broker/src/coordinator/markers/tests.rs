//! How long a marker is tried, and where.

use esker_core::metadata::{MetadataRecord, PartitionRecord, TopicRecord};
use esker_protocol::primitives::Uuid;
use tokio::time::Instant;

use super::*;

const TOPIC: Uuid = Uuid([1; 16]);

fn image(leader: i32, leader_epoch: i32) -> Arc<MetadataImage> {
    let mut image = MetadataImage::default();
    image.apply(&MetadataRecord::Topic(TopicRecord { name: "t".into(), id: TOPIC }));
    image.apply(&MetadataRecord::Partition(PartitionRecord {
        topic_id: TOPIC,
        partition: 0,
        replicas: vec![1, 2],
        isr: vec![1, 2],
        leader,
        leader_epoch,
        ..PartitionRecord::default()
    }));
    Arc::new(image)
}

/// A pause that no test outlasts: only a new leader ends it.
const NEVER: Duration = Duration::from_secs(3600);
const NOT_LEADER: Result<(), ErrorCode> = Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);

/// Attempts with the given results, then with success; what was tried where.
async fn attempt(
    images: &watch::Sender<Arc<MetadataImage>>,
    first_pause: Duration,
    results: &[Result<(), ErrorCode>],
    after_each: impl Fn(usize),
) -> (Outcome, Vec<Location>) {
    let mut tried = Vec::new();
    let (topic, id) = ("t".into(), "tx".into());
    let marked = MarkedPartition { own_id: 1, topic: &topic, partition: 0, id: &id, first_pause };
    let attempt = |location| {
        tried.push(location);
        after_each(tried.len());
        std::future::ready(results.get(tried.len() - 1).copied().unwrap_or(Ok(())))
    };
    let done = write_until_done(images.subscribe(), marked, attempt, || false);
    let outcome = tokio::time::timeout(Duration::from_secs(60), done).await.expect("it tries again");
    (outcome, tried)
}

#[tokio::test]
async fn a_marker_is_tried_again_with_growing_pauses_until_it_is_written() {
    let images = watch::Sender::new(image(2, 4));
    let results = [NOT_LEADER, Err(ErrorCode::NETWORK_EXCEPTION), NOT_LEADER];
    let began = Instant::now();
    let (outcome, tried) = attempt(&images, Duration::from_millis(5), &results, |_| {}).await;
    assert_eq!((outcome, tried), (Outcome::Done, vec![Location::Broker { node_id: 2, leader_epoch: 4 }; 4]));
    assert!(began.elapsed() >= Duration::from_millis(35), "5, 10 and 20 ms");
}

#[tokio::test]
async fn a_new_leader_is_tried_at_once() {
    let images = watch::Sender::new(image(2, 4));
    let new_leader = |count| {
        if count == 1 {
            images.send_replace(image(1, 5));
        }
    };
    let (outcome, tried) = attempt(&images, NEVER, &[NOT_LEADER], new_leader).await;
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(tried, [Location::Broker { node_id: 2, leader_epoch: 4 }, Location::Here { leader_epoch: 5 }]);
    // The same broker leads again, in a new epoch: it has started anew.
    let restarted = |count| {
        if count == 1 {
            images.send_replace(image(1, 6));
        }
    };
    let (_, tried) = attempt(&images, NEVER, &[NOT_LEADER], restarted).await;
    assert_eq!(tried, [Location::Here { leader_epoch: 5 }, Location::Here { leader_epoch: 6 }]);
}

#[tokio::test]
async fn a_deleted_partition_and_a_refused_marker_need_no_more_attempts() {
    let images = watch::Sender::new(Arc::new(MetadataImage::default()));
    let (outcome, tried) = attempt(&images, NEVER, &[], |_| {}).await;
    assert_eq!((outcome, tried), (Outcome::Done, vec![Location::Deleted]));
    images.send_replace(image(-1, 4));
    let refused = [Err(ErrorCode::LEADER_NOT_AVAILABLE), Err(ErrorCode::TRANSACTION_COORDINATOR_FENCED)];
    let (outcome, tried) = attempt(&images, RETRY_AFTER, &refused, |_| {}).await;
    assert_eq!((outcome, tried), (Outcome::Done, vec![Location::Leaderless; 2]));
}

#[tokio::test]
async fn another_coordinator_takes_over() {
    let images = watch::Sender::new(image(2, 4));
    let (topic, id) = ("t".into(), "tx".into());
    let marked = MarkedPartition { own_id: 1, topic: &topic, partition: 0, id: &id, first_pause: RETRY_AFTER };
    let failed = |_| std::future::ready(NOT_LEADER);
    let outcome = write_until_done(images.subscribe(), marked, failed, || true).await;
    assert_eq!(outcome, Outcome::Abandoned);
    let (subscribed, marked) = (images.subscribe(), MarkedPartition { first_pause: NEVER, ..marked });
    drop(images);
    let outcome = write_until_done(subscribed, marked, failed, || false).await;
    assert_eq!(outcome, Outcome::Abandoned, "the broker stops");
}

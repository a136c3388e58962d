//! The metadata log as a quorum of one, and openraft's own suite on its store.

mod install;
mod pull;

use std::path::Path;

use esker_core::controller::AllocateProducerIds;
use esker_core::metadata::{ConfigRecord, MetadataRecord, TopicRecord};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;
use esker_storage::io::OsDisk;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::types::{Applied, Proposal};
use super::*;
use crate::controller::SubmitError;
use crate::test_support::node;

impl From<u64> for RaftId {
    fn from(id: u64) -> Self {
        Self { node_id: i32::try_from(id).unwrap(), directory: [0; 16] }
    }
}

/// A node that knows no other.
fn local() -> Arc<LocalNode> {
    Arc::new(LocalNode::new(Uuid::ZERO, Vec::new(), Uuid::ZERO))
}

fn network() -> Network {
    Network::new(&node(), &local())
}

/// The only voter.
fn seat() -> Seat {
    Seat { id: RaftId::from(1), address: "127.0.0.1:1".to_owned(), begin: Begin::Cluster }
}

struct Stores;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, machine, _published) = super::open(&node(), Arc::new(OsDisk), dir.path().to_owned()).await.unwrap();
        Ok((dir, log, machine))
    }
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + std::time::Duration::from_secs(60)
}

#[tokio::test(flavor = "multi_thread")]
async fn openrafts_own_suite() {
    Suite::test_all(Stores).await.unwrap();
}

async fn open(dir: &Path) -> Metadata {
    start(&node(), &local(), Arc::new(OsDisk), dir.to_owned(), seat()).await.unwrap()
}

fn topic(name: &str) -> Vec<MetadataRecord> {
    vec![MetadataRecord::Topic(TopicRecord { name: name.to_owned().into(), id: Uuid([name.len() as u8; 16]) })]
}

#[tokio::test]
async fn a_new_log_has_features_and_what_is_committed_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(dir.path()).await;
    assert!(metadata.image().feature("metadata.version") > 0);
    let committed = metadata.submit_records(soon(), |_| topic("a")).await.unwrap();
    assert!(committed.changed);
    let image = metadata.image();
    assert!(image.topic("a").is_some() && image.offset() >= committed.offset);
    metadata.quorum().wait_for(|view| view.voters().map(|voter| voter.id).eq([RaftId::from(1)])).await.unwrap();
    metadata.shutdown().await;
    drop(metadata);

    let metadata = open(dir.path()).await;
    assert!(metadata.image().topic("a").is_some(), "the image is whole before anybody sees it");
    assert!(metadata.image().offset() >= image.offset());
    metadata.shutdown().await;
}

#[tokio::test]
async fn decisions_see_all_that_was_decided_before() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = Arc::new(open(dir.path()).await);
    let ask = |_| {
        let metadata = Arc::clone(&metadata);
        tokio::spawn(async move {
            submit(metadata.as_ref(), AllocateProducerIds { node_id: 1 }, soon()).await.unwrap().reply
        })
    };
    let asked: Vec<_> = (0..100).map(ask).collect();
    let mut blocks = Vec::new();
    for task in asked {
        blocks.push(task.await.unwrap());
    }
    blocks.sort_unstable();
    assert_eq!(blocks, (0..100).map(|n| n * 1000).collect::<Vec<i64>>(), "no block is given twice");
    metadata.shutdown().await;
}

#[tokio::test]
async fn a_decision_that_panics_harms_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(dir.path()).await;
    let failed = metadata.submit_records(soon(), |_| panic!("a fault")).await;
    assert!(matches!(failed, Err(SubmitError::Fault(_))), "{failed:?}");
    metadata.submit_records(soon(), |_| topic("a")).await.unwrap();
    assert!(metadata.image().topic("a").is_some());
    metadata.shutdown().await;
}

#[tokio::test]
async fn an_entry_that_was_decided_on_another_state_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(dir.path()).await;
    metadata.shutdown().await;
    drop(metadata);
    let (raft, published) =
        start_raft(&node(), network(), Arc::new(OsDisk), dir.path().to_owned(), RaftId::from(1), 1000).await.unwrap();
    raft.trigger().elect(true).await.unwrap();
    let leads = |m: &openraft::RaftMetrics<TypeConfig>| {
        m.state == ServerState::Leader && m.last_applied.map(|id| id.index) == m.last_log_index
    };
    raft.wait(Some(std::time::Duration::from_secs(60))).metrics(leads, "to lead").await.unwrap();
    let term = raft.metrics().borrow_watched().current_term;
    let records = MetadataRecord::encode_all(&topic("a"), published.current.load().level()).unwrap();
    for (other_term, off_by) in [(term, -1), (term, 1), (term + 1, 0), (term - 1, 0)] {
        let decided_on = published.current.load().offset().checked_add_signed(off_by).unwrap();
        let written = raft.client_write(Proposal::new(other_term, decided_on, &records)).await.unwrap();
        assert_eq!(written.data, Applied::Stale, "{other_term} {off_by}");
    }
    assert!(published.current.load().topic("a").is_none());
    let now = published.current.load().offset();
    let written = raft.client_write(Proposal::new(term, now, &records)).await.unwrap();
    assert_eq!(written.data, Applied::Changed);
    assert!(published.current.load().topic("a").is_some());
    raft.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_decision_whose_caller_has_gone_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(dir.path()).await;
    let past = tokio::time::Instant::now().checked_sub(std::time::Duration::from_secs(1)).unwrap();
    let late = metadata.submit_records(past, |_| topic("late")).await;
    assert!(matches!(late, Err(SubmitError::TimedOut)), "{late:?}");
    metadata.submit_records(soon(), |_| topic("a")).await.unwrap();
    assert!(metadata.image().topic("late").is_none());
    metadata.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_becomes_a_snapshot_and_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    const AFTER: u64 = 64;
    let open = || async {
        start_with(&node(), &local(), Arc::new(OsDisk), dir.path().to_owned(), seat(), AFTER).await.unwrap()
    };
    let metadata = open().await;
    metadata.submit_records(soon(), |_| topic("a")).await.unwrap();
    // More than one chunk of the snapshot.
    let named = |n: u128| TopicRecord { name: n.to_string().into(), id: Uuid(n.to_be_bytes()) };
    let many = move |_: &_| (0..1500).map(|n| MetadataRecord::Topic(named(n))).collect();
    metadata.submit_records(soon(), many).await.unwrap();
    let mut entries = 0u64;
    while entries < AFTER * 3 {
        let value = entries.to_string();
        let config = ConfigRecord {
            resource_type: 2,
            resource_name: "a".into(),
            name: "retention.ms".into(),
            value: Some(value.into()),
        };
        let committed = metadata.submit_records(soon(), move |_| vec![MetadataRecord::Config(config.clone())]);
        entries = committed.await.unwrap().offset;
    }
    let snapshot = dir.path().join("metadata.snapshot");
    while !snapshot.exists() {
        tokio::task::yield_now().await;
    }
    metadata.shutdown().await;
    let before = metadata.image();
    drop(metadata);
    let metadata = open().await;
    let image = metadata.image();
    let config = |image: &esker_core::metadata::MetadataImage| {
        image
            .configs_of(&esker_core::metadata::ConfigResource::topic("a"))
            .map(|(_, v)| v.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(config(&image), config(&before));
    assert!(image.topic("a").is_some());
    assert_eq!(image.topics().count(), 1501);
    metadata.shutdown().await;
}

#[tokio::test]
async fn the_log_of_a_build_before_the_format_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let steps = [0u8, 1, 1, 0];
    let mut frame = 4u32.to_le_bytes().to_vec();
    // CRC-32C of the steps.
    frame.extend(0xfe84_41ceu32.to_le_bytes());
    frame.extend(steps);
    std::fs::write(dir.path().join("metadata.log"), &frame).unwrap();
    let refused = start(&node(), &local(), Arc::new(OsDisk), dir.path().to_owned(), seat()).await;
    let message = refused.err().map(|error| error.to_string()).unwrap();
    assert!(message.contains("earlier build of Esker") && message.contains("adopts the topics"), "{message}");
    assert_eq!(std::fs::read(dir.path().join("metadata.log")).unwrap(), frame);
}

/// Between members of different recoveries nothing may pass: not even a term.
#[tokio::test]
async fn nodes_of_another_recovery_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(dir.path()).await;
    let server = metadata.server();
    assert_eq!(server.recovery(), Some(0));
    let candidate = || wire::WireVoter { node_id: 2, directory: Uuid([2; 16]) };
    for (term, expected) in [(1 << 24, ErrorCode::INCONSISTENT_VOTER_SET), (1, ErrorCode::NONE)] {
        let vote = wire::WireVote { term, candidate: candidate(), committed: true };
        let asked = wire::RaftVoteRequest { vote: vote.clone(), ..wire::RaftVoteRequest::default() };
        assert_eq!(server.vote(&asked).await.error_code, expected, "{term}");
        let sent = wire::RaftAppendRequest { vote, ..wire::RaftAppendRequest::default() };
        assert_eq!(server.append(&sent).await.error_code, expected, "{term}");
    }
    metadata.shutdown().await;
}

#[tokio::test]
async fn a_recovered_log_is_led_with_all_that_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(dir.path()).await;
    metadata.submit_records(soon(), |_| topic("a")).await.unwrap();
    let before = metadata.image();
    metadata.shutdown().await;
    drop(metadata);
    for recovery in 1..=2 {
        let state = metalog::QuorumState::read(&OsDisk, dir.path()).unwrap();
        let own = metalog::VoterId { node_id: 1, directory: [0; 16] };
        recover_quorum(Arc::new(OsDisk), dir.path(), own, state).unwrap();
        let metadata = open(dir.path()).await;
        assert_eq!(metadata.server().recovery(), Some(recovery));
        let image = metadata.image();
        assert!(image.topic("a").is_some());
        assert!(image.next_producer_id() > before.next_producer_id(), "the decision of the recovery counts");
        metadata.submit_records(soon(), |_| topic("bb")).await.unwrap();
        metadata.shutdown().await;
    }
}

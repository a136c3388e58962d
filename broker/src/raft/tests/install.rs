//! InstallSnapshot at a follower whose log conflicts with the leader's at the snapshot's index: elsewhere a live lock, or an old
//! leader's entries that stay. The follower is one of three, and the test is its leaders.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use esker_core::metadata::{MetadataRecord, RecordLevel, TopicRecord};
use esker_protocol::primitives::Uuid;
use esker_storage::hooked::{Doing, HookedDisk, Hooks};
use esker_storage::io::{LogFile, OsDisk};
use esker_storage::metalog::{SnapshotFile, Snapshots};
use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesRequest;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership};

use super::super::convert::{from_meta, to_meta};
use super::super::types::{Entry, LeaderId, LogId, Proposal, Snapshot, StoredMembership, Vote};
use super::*;
use crate::test_support::node;

const PATIENCE: Duration = Duration::from_secs(20);

fn id(leader: u64, index: u64) -> LogId {
    // The second node leads term 1, the third term 2.
    LogId { leader_id: LeaderId::new(leader - 1, RaftId::from(leader)), index }
}

fn vote(leader: u64) -> Vote {
    Vote::new_committed(leader - 1, RaftId::from(leader))
}

fn members() -> Membership<RaftId, BasicNode> {
    let voters = [1u64, 2, 3].map(RaftId::from).into();
    Membership::new_with_defaults(vec![voters], [])
}

fn records(topic: &str) -> Bytes {
    // No two topics have the same id.
    let id = Uuid(std::array::from_fn(|at| topic.as_bytes().get(at).copied().unwrap_or_default()));
    MetadataRecord::encode_all(
        &[MetadataRecord::Topic(TopicRecord { name: topic.to_owned().into(), id })],
        RecordLevel::NEWEST,
    )
    .unwrap()
}

fn entry(leader: u64, index: u64, topic: &str) -> Entry {
    Entry::new(
        id(leader, index),
        EntryPayload::Normal(Proposal { term: leader - 1, decided_on: index, records: records(topic) }),
    )
}

/// Fails everything from the n-th operation on.
#[derive(Debug)]
struct FailFrom(AtomicUsize);

impl FailFrom {
    fn pass(&self) -> io::Result<()> {
        match self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the disk is gone")),
        }
    }
}

impl Hooks for FailFrom {
    fn before(&self, _: Doing<'_>) -> io::Result<()> {
        self.pass()
    }

    fn write(&self, file: &dyn LogFile, parts: &mut [io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.pass()?;
        file.write_at(parts, offset)
    }
}

struct Follower {
    raft: Raft<TypeConfig, StateMachine>,
    published: Published,
}

impl Follower {
    async fn start(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let (raft, published) =
            start_raft(&node(), network(), disk, dir.to_owned(), RaftId::from(1), 1000).await.unwrap();
        // Its leaders are quiet at times, and that is no reason to become one.
        raft.runtime_config().elect(false);
        Self { raft, published }
    }

    async fn append(&self, leader: u64, prev: Option<LogId>, entries: Vec<Entry>, committed: LogId) {
        let request =
            AppendEntriesRequest { vote: vote(leader), prev_log_id: prev, entries, leader_commit: Some(committed) };
        let answer = tokio::time::timeout(PATIENCE, self.raft.append_entries(request)).await;
        assert!(answer.expect("a live lock").unwrap().is_success());
    }

    /// Receives the snapshot as bytes, in pieces, and installs it.
    async fn install(&self, leader: u64, snapshot: &SnapshotFile) -> Result<(), String> {
        let mut receiver = self.published.files.snapshots.receive().map_err(|e| e.to_string())?;
        let (mut piece, mut at) = ([0; 32], 0);
        while at < snapshot.size() {
            let read = snapshot.read_at(&mut piece, at).unwrap();
            receiver.write(&piece[..read]).map_err(|e| e.to_string())?;
            at += read as u64;
        }
        let received = receiver.finish().map_err(|e| e.to_string())?;
        let snapshot = Snapshot { meta: from_meta(received.meta()).unwrap(), snapshot: received };
        let installed = tokio::time::timeout(PATIENCE, self.raft.install_full_snapshot(vote(leader), snapshot)).await;
        installed.expect("a live lock").map(drop).map_err(|error| error.to_string())
    }

    async fn stop(self) {
        // A disk that failed has ended it.
        let _ = self.raft.shutdown().await;
        let files = self.published.files;
        tokio::task::spawn_blocking(move || files.close()).await.unwrap();
    }

    /// The log of the old leader up to 5, of which only the members are committed.
    async fn follow_the_old_leader(&self) {
        let mut entries = vec![Entry::new(id(2, 0), EntryPayload::Membership(members()))];
        entries.extend((1..=5).map(|index| entry(2, index, "lost")));
        self.append(2, None, entries, id(2, 0)).await;
        assert_eq!(self.published.files.log.last_id().unwrap().index, 5);
    }

    /// The new leader continues behind its snapshot; then nothing of the old leader's is left.
    async fn goes_on_behind(&self, last: u64) {
        self.append(3, Some(id(3, last)), vec![entry(3, last + 1, "after")], id(3, last + 1)).await;
        let mut changes = self.published.changes.clone();
        let changed = changes.wait_for(|image| image.topic("after").is_some());
        tokio::time::timeout(PATIENCE, changed).await.expect("it is applied").unwrap();
        // The purge may come after the entry.
        let log = &self.published.files.log;
        let wait = self.raft.wait(Some(PATIENCE));
        wait.purged(Some(id(3, last)), "the log behind the snapshot only").await.unwrap();
        self.holds(last);
        assert_eq!(log.last_id().map(super::super::convert::from_log_id), Some(id(3, last + 1)));
    }

    fn holds(&self, last: u64) {
        let image = self.published.current.load();
        assert!(image.topic("snapshot").is_some() && image.topic("after").is_some() && image.topic("lost").is_none());
        let indexes: Vec<u64> = self.published.files.log.entries(0..).iter().map(|entry| entry.id.index).collect();
        assert_eq!(indexes, [last + 1]);
    }
}

/// The new leader's snapshot, in a folder of its own.
fn snapshot_at(dir: &Path, last: u64) -> SnapshotFile {
    let membership = StoredMembership::new(Some(id(2, 0)), members());
    let meta = to_meta(Some(&id(3, last)), &membership);
    let snapshots = Snapshots::open(Arc::new(OsDisk), dir).unwrap();
    snapshots.write(&meta, [Ok(records("snapshot")), Ok(records("an other"))]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflicting_log_is_replaced_by_the_snapshot() {
    // Within the follower's log, at its end, and behind it.
    for last in [1, 3, 5, 8] {
        let (dir, leader) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let snapshot = snapshot_at(leader.path(), last);
        let follower = Follower::start(Arc::new(OsDisk), dir.path()).await;
        follower.follow_the_old_leader().await;
        follower.install(3, &snapshot).await.unwrap();
        follower.goes_on_behind(last).await;
        follower.stop().await;
        let follower = Follower::start(Arc::new(OsDisk), dir.path()).await;
        // What the leader had committed is applied again when it says so.
        follower.append(3, Some(id(3, last + 1)), Vec::new(), id(3, last + 1)).await;
        let wait = follower.raft.wait(Some(PATIENCE));
        wait.applied_index(Some(last + 1), "as before").await.unwrap();
        follower.holds(last);
        follower.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_that_a_failing_disk_cut_off_is_repeated_after_a_restart() {
    const LAST: u64 = 3;
    let leader = tempfile::tempdir().unwrap();
    let snapshot = snapshot_at(leader.path(), LAST);
    for operations in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let follower = Follower::start(Arc::new(OsDisk), dir.path()).await;
        follower.follow_the_old_leader().await;
        follower.stop().await;

        let disk = Arc::new(FailFrom(AtomicUsize::new(usize::MAX)));
        let follower = Follower::start(Arc::new(HookedDisk(Arc::clone(&disk) as Arc<dyn Hooks>)), dir.path()).await;
        disk.0.store(operations, Ordering::SeqCst);
        let installed = follower.install(3, &snapshot).await.is_ok();
        // The purge comes after the answer, and may fail.
        let wait = follower.raft.wait(Some(PATIENCE));
        let purged = wait.metrics(
            |metrics| metrics.purged == Some(id(3, LAST)) || metrics.running_state.is_err(),
            "it is purged, or has failed",
        );
        let whole = installed && purged.await.unwrap().running_state.is_ok();
        follower.stop().await;

        let follower = Follower::start(Arc::new(OsDisk), dir.path()).await;
        follower.install(3, &snapshot).await.unwrap();
        follower.goes_on_behind(LAST).await;
        follower.stop().await;
        if whole && disk.0.load(Ordering::SeqCst) > 0 {
            assert!(operations > 10, "it took {operations} operations");
            return;
        }
    }
}

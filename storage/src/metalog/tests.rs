use super::*;
use std::io;

use crate::{MachineEnv, io::OsDisk, test_support::ManualEnv};

fn open(dir: &Path) -> Result<MetadataFiles, MetadataError> {
    MetadataFiles::open(&MachineEnv::default(), Arc::new(OsDisk), dir)
}

fn id(index: u64) -> LogId {
    LogId { term: 1, leader: VoterId::default(), index }
}

/// Waits until a change is durable.
fn durable(change: impl FnOnce(Done)) {
    let (sender, receiver) = std::sync::mpsc::channel();
    change(Box::new(move |written| sender.send(written).unwrap()));
    receiver.recv().unwrap().unwrap();
}

/// Entries 0 to 9, a snapshot up to 6, of which 4 are purged.
fn filled(dir: &Path) {
    let files = open(dir).unwrap();
    durable(|done| files.log.save_vote(Vote { term: 1, ..Vote::default() }, done));
    let entries = (0..10).map(|index| Entry { id: id(index), payload: Payload::Blank }).collect();
    durable(|done| files.log.append(entries, done).unwrap());
    files.snapshots.write(&SnapshotMeta { last: Some(id(6)), ..SnapshotMeta::default() }, []).unwrap();
    durable(|done| files.log.purge(id(4), done));
    files.close();
}

#[test]
fn a_folder_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let files = open(dir.path()).unwrap();
    assert_eq!((files.log.purged(), files.log.last_id()), (Some(id(4)), Some(id(9))));
    let indexes: Vec<u64> = files.log.entries(..).iter().map(|entry| entry.id.index).collect();
    assert_eq!(indexes, [5, 6, 7, 8, 9]);
    assert!(
        files.log.entries(7..7).is_empty()
            && files.log.entries((std::ops::Bound::Excluded(9), std::ops::Bound::Included(3))).is_empty()
    );
    assert_eq!(files.snapshots.current().unwrap().meta().last, Some(id(6)));
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (log, snapshot) = (dir.path().join("metadata.log"), dir.path().join("metadata.snapshot"));
    let (log_bytes, snapshot_bytes) = (std::fs::read(&log).unwrap(), std::fs::read(&snapshot).unwrap());
    let refusal = || match open(dir.path()) {
        Err(MetadataError::Mismatch { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    std::fs::remove_file(&snapshot).unwrap();
    assert!(refusal().contains("metadata.snapshot is missing"));

    let older = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(Arc::new(OsDisk), older.path()).unwrap();
    snapshots.write(&SnapshotMeta { last: Some(id(3)), ..SnapshotMeta::default() }, []).unwrap();
    std::fs::copy(older.path().join("metadata.snapshot"), &snapshot).unwrap();
    assert!(refusal().contains("metadata.snapshot ends at 3"));

    std::fs::write(&snapshot, snapshot_bytes).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert!(refusal().contains("metadata.log is missing"));
    std::fs::write(&log, log_bytes).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn a_hole_in_the_log_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let files = open(dir.path()).unwrap();
    let entry = |index| Entry { id: id(index), payload: Payload::Blank };
    for entries in [vec![entry(11)], vec![entry(9)], vec![entry(10), entry(12)]] {
        assert!(files.log.append(entries, Box::new(|_| panic!("it is not written"))).is_err());
    }
    assert_eq!(files.log.last_id(), Some(id(9)));
    files.close();
    let error = Arc::new(parking_lot::Mutex::new(None));
    let seen = Arc::clone(&error);
    files.log.append(vec![entry(10)], Box::new(move |written| *seen.lock() = written.err())).unwrap();
    assert!(error.lock().as_ref().is_some_and(|error| error.to_string().contains("closed")));
}

/// Without threads the call that changes the log writes it before it returns.
#[test]
fn without_threads_the_caller_writes() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (dir, env) = (tempfile::tempdir().unwrap(), ManualEnv::default());
    let open = || MetadataFiles::open(&env, Arc::new(OsDisk), dir.path()).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let count = || -> Done {
        let done = Arc::clone(&done);
        Box::new(move |result| {
            result.unwrap();
            done.fetch_add(1, Ordering::SeqCst);
        })
    };
    let files = open();
    let vote = Vote { term: 1, candidate: VoterId::default(), committed: true };
    files.log.save_vote(vote, count());
    assert_eq!(done.load(Ordering::SeqCst), 1);
    let entries = (1..4).map(|index| Entry { id: id(index), payload: Payload::Blank }).collect();
    files.log.append(entries, count()).unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 2);
    files.log.save_committed(Some(id(2))).unwrap();
    // As after a power cut: the hint is lost, acknowledged changes are not.
    let after_a_cut = open();
    assert_eq!((after_a_cut.log.vote(), after_a_cut.log.last_id()), (Some(vote), Some(id(3))));
    assert_eq!(after_a_cut.log.committed(), None);
    files.log.close();
    assert_eq!(open().log.committed(), Some(id(2)));
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    let refuse = move |result: io::Result<()>| _ = counted.fetch_add(usize::from(result.is_err()), Ordering::SeqCst);
    files.log.save_vote(vote, Box::new(refuse));
    assert_eq!(refused.load(Ordering::SeqCst), 1, "a closed log takes nothing");
}

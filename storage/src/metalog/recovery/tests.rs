use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::super::{MetadataFiles, SnapshotMeta};
use super::*;
use crate::{env::MachineEnv, io::OsDisk};

fn voter(node_id: i32) -> VoterId {
    VoterId { node_id, directory: [node_id as u8; 16] }
}

fn three() -> Members {
    let voters: BTreeSet<_> = (1..=3).map(voter).collect();
    let addresses = voters.iter().map(|id| (*id, format!("127.0.0.1:{}", id.node_id))).collect();
    Members { voters: vec![voters], addresses }
}

fn open(dir: &Path) -> MetadataFiles {
    MetadataFiles::open(&MachineEnv::default(), Arc::new(OsDisk), dir).unwrap()
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, leader: voter(1), index }
}

/// Recovers node 3.
fn recover(dir: &Path) -> std::io::Result<LogId> {
    make_only_voter(Arc::new(OsDisk), dir, voter(3), [Ok(Bytes::from_static(b"all"))])
}

/// Runs a change of the log until it is durable.
fn durable(change: impl FnOnce(super::super::Done)) {
    let (sender, done) = std::sync::mpsc::channel();
    change(Box::new(move |written| sender.send(written).unwrap()));
    done.recv().unwrap().unwrap();
}

/// Members in entry 0, two more entries, and a vote in a later term. With `purged` all but the last entry are in a snapshot.
fn write_log(dir: &Path, purged: bool) {
    let files = open(dir);
    let vote = Vote { term: 5, candidate: voter(2), committed: true };
    durable(|done| files.log.save_vote(vote, done));
    let entries = vec![
        Entry { id: id(1, 0), payload: Payload::Members(three()) },
        Entry { id: id(1, 1), payload: Payload::Blank },
        Entry { id: id(4, 2), payload: Payload::Records(Bytes::from_static(b"records")) },
    ];
    durable(|done| files.log.append(entries, done).unwrap());
    files.log.save_committed(Some(id(1, 1))).unwrap();
    if purged {
        let meta = SnapshotMeta { last: Some(id(1, 1)), members_at: Some(id(1, 0)), members: three() };
        files.snapshots.write(&meta, []).unwrap();
        durable(|done| files.log.purge(id(1, 1), done));
    }
    files.close();
}

#[test]
fn the_survivor_is_the_only_voter_in_a_term_above_all_others() {
    for purged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), purged);
        let before = QuorumState::read(&OsDisk, dir.path()).unwrap();
        assert_eq!((before.last, before.members.clone(), before.recovery()), (Some(id(4, 2)), three(), 0));
        assert_eq!(before.committed, Some(id(1, 1)));
        for recovery in 1..=2 {
            let made = recover(dir.path()).unwrap();
            assert_eq!(made, LogId { term: recovery * TERMS, leader: voter(3), index: 2 + recovery });
            let after = QuorumState::read(&OsDisk, dir.path()).unwrap();
            assert_eq!((after.last, after.recovery(), after.entries.len()), (Some(made), recovery, 0));
            let only = [(voter(3), "127.0.0.1:3".to_owned())];
            assert_eq!(after.members, Members { voters: vec![[voter(3)].into()], addresses: only.into() });
            assert_eq!(after.vote, Some(Vote { term: made.term, candidate: voter(3), committed: false }));
            assert_eq!(recovery_in(&OsDisk, dir.path()), Some(recovery));
            let files = open(dir.path());
            let chunks: Vec<Bytes> = files.snapshots.current().unwrap().chunks().map(Result::unwrap).collect();
            assert_eq!((chunks, files.log.last_id()), (vec![Bytes::from_static(b"all")], Some(made)));
            files.close();
        }
    }
}

#[test]
fn ranges_of_terms_belong_to_one_recovery() {
    for (term, recovery) in [(0, 0), (TERMS - 1, 0), (TERMS, 1), (2 * TERMS - 1, 1), (2 * TERMS, 2)] {
        assert_eq!(recovery_of(term), recovery, "{term}");
    }
}

#[test]
fn a_folder_without_a_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(QuorumState::read(&OsDisk, dir.path()).is_err());
    assert_eq!(recovery_in(&OsDisk, dir.path()), None);
    write_log(dir.path(), true);
    std::fs::remove_file(dir.path().join("metadata.snapshot")).unwrap();
    assert!(recover(dir.path()).is_err());
}

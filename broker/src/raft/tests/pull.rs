//! Pulls of the metadata log: a leader, and a node that is no member, which takes in what the leader answers.

use std::time::Duration;

use esker_protocol::Message;
use esker_protocol::primitives::Reader;
use openraft::RaftMetrics;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tempfile::TempDir;

use super::super::pull::{RaftPullRequest, RaftPullResponse, RaftPullSnapshotRequest};
use super::super::wire::{
    RaftAppendRequest, RaftSnapshotRequest, RaftVoteRequest, WireLogId, id_of, wire_log_id, wire_vote,
};
use super::*;

/// Longer than any test, unless what is waited for never comes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Entries after which the leader has a snapshot.
const AFTER: u64 = 64;

/// The only voter.
async fn leader(dir: &Path) -> Metadata {
    let started = start_with(&node(), &local(), Arc::new(OsDisk), dir.to_owned(), seat(), AFTER).await.unwrap();
    until_led(&started).await;
    started
}

/// Waits until the view of a node, by which it answers pulls, names the leader: what a node has done shows there later.
async fn until_led(node: &Metadata) {
    let mut quorum = node.quorum();
    let led = quorum.wait_for(|view| view.leader_address().is_some());
    tokio::time::timeout(PATIENCE, led).await.unwrap().unwrap();
}

/// A node that is no member, with an empty log.
async fn observer() -> (Metadata, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let seat = Seat { id: RaftId::from(2), address: "127.0.0.1:2".to_owned(), begin: Begin::Member };
    let started = start_with(&node(), &local(), Arc::new(OsDisk), dir.path().to_owned(), seat, AFTER).await;
    (started.unwrap(), dir)
}

/// Waits until the observer's metrics, of which its requests are made, show what it has done: they come after its answers.
async fn until_shown(observer: &Metadata, shows: impl Fn(&RaftMetrics<TypeConfig>) -> bool + Send) {
    observer.raft().wait(Some(PATIENCE)).metrics(shows, "what the observer has done").await.unwrap();
}

async fn until_committed(observer: &Metadata, entries: u64) {
    until_shown(observer, |metrics| metrics.local_committed.map_or(0, |last| last.index + 1) >= entries).await;
}

/// What the observer asks for.
fn request(observer: &Metadata, wait: Duration) -> RaftPullRequest {
    let metrics = observer.raft().metrics();
    let metrics = metrics.borrow_watched();
    RaftPullRequest {
        vote: wire_vote(&metrics.vote),
        committed: wire_log_id(metrics.local_committed.as_ref()),
        max_wait_ms: i32::try_from(wait.as_millis()).unwrap(),
        ..RaftPullRequest::default()
    }
}

async fn pull(leader: &Metadata, observer: &Metadata) -> RaftPullResponse {
    leader.server().pull(RaftId::from(2), &request(observer, Duration::ZERO)).await
}

fn append_of(answer: &RaftPullResponse) -> RaftAppendRequest {
    assert_eq!((answer.error_code, answer.needs_snapshot), (ErrorCode::NONE, false));
    RaftAppendRequest::decode(&mut Reader::new(answer.append.clone()), 0).unwrap()
}

/// Pulls until the observer has applied what the leader has, and asks for what follows.
async fn catch_up(leader: &Metadata, observer: &Metadata) {
    let end = leader.image().offset();
    while observer.image().offset() < end {
        let appended = observer.server().append_pulled(&append_of(&pull(leader, observer).await)).await;
        assert_eq!((appended.error_code, appended.outcome), (ErrorCode::NONE, 0));
        tokio::task::yield_now().await;
    }
    until_committed(observer, end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_no_member_follows_by_pulls() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, (observer, _dir)) = (leader(dir.path()).await, observer().await);
    leader.submit_records(soon(), |_| topic("a")).await.unwrap();
    catch_up(&leader, &observer).await;
    assert!(observer.image().topic("a").is_some());
    let view = tokio::time::timeout(PATIENCE, async {
        observer.quorum().wait_for(|view| view.leader == Some(RaftId::from(1))).await.unwrap().clone()
    });
    let view = view.await.unwrap();
    assert!(!view.own_votes() && view.members.len() == 1 && view.leader_address() == Some("127.0.0.1:1"));
    // All of it is there: the answer says which node leads, and has no entries.
    let last = append_of(&pull(&leader, &observer).await);
    assert!(last.entries.is_empty() && last.previous == last.committed && last.vote.committed);
    let seen = leader.observers();
    let ends: Vec<_> = seen.iter().map(|observer| (observer.id, observer.entries)).collect();
    assert_eq!(ends, [(RaftId::from(2), leader.image().offset())]);
    assert!(seen[0].caught_up_ago.is_some());
    assert!(leader.quorum().borrow().is_only_member(), "the observer is no member");
    observer.shutdown().await;
    leader.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_waits_for_a_commit_whose_entries_are_encoded_once() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, (observer, _dir)) = (Arc::new(leader(dir.path()).await), observer().await);
    catch_up(&leader, &observer).await;
    let request = request(&observer, PATIENCE);
    let waiting: Vec<_> = (2..22u64)
        .map(|id| {
            let (leader, request) = (Arc::clone(&leader), request.clone());
            tokio::spawn(async move { leader.server().pull(RaftId::from(id), &request).await })
        })
        .collect();
    while leader.observers().len() < waiting.len() {
        tokio::task::yield_now().await;
    }
    leader.submit_records(soon(), |_| topic("a")).await.unwrap();
    let mut places = Vec::new();
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert_eq!(append_of(&answer).entries.len(), 1);
        places.push(answer.append.as_ptr());
    }
    places.dedup();
    assert_eq!(places.len(), 1, "all observers share the same bytes");
    observer.shutdown().await;
    leader.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lacks_purged_entries_takes_the_snapshot_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, (observer, _dir)) = (leader(dir.path()).await, observer().await);
    // Enough for one snapshot and too few for a second, which would take the place of the one that is pulled.
    let number = AFTER + AFTER / 2;
    for number in 1..=number {
        let name = number.to_string();
        let named = TopicRecord { name: name.into(), id: Uuid(u128::from(number).to_be_bytes()) };
        leader.submit_records(soon(), move |_| vec![MetadataRecord::Topic(named.clone())]).await.unwrap();
    }
    while leader.server().pulls().first_entry() == 0 {
        tokio::task::yield_now().await;
    }
    let answer = pull(&leader, &observer).await;
    assert!(answer.needs_snapshot && !answer.error_code.is_error());
    let (mut id, mut offset) = (wire_log_id(None), 0_i64);
    loop {
        let piece = leader.server().pull_snapshot(&RaftPullSnapshotRequest { id: id.clone(), offset }).await;
        assert_eq!(piece.error_code, ErrorCode::NONE);
        let (vote, done) = (answer.vote.clone(), piece.bytes.is_empty());
        let sent = RaftSnapshotRequest { vote, transfer: 1, offset, bytes: piece.bytes.clone(), done };
        assert_eq!(observer.server().receive_snapshot(&sent).await.error_code, ErrorCode::NONE);
        (id, offset) = (piece.id, offset + i64::try_from(piece.bytes.len()).unwrap());
        if done {
            assert_eq!(offset, piece.size);
            break;
        }
    }
    until_committed(&observer, u64::try_from(id.index).unwrap() + 1).await;
    // Another snapshot has taken its place, as far as the leader can tell.
    let other = WireLogId { index: id.index + 1, ..id };
    let replaced = leader.server().pull_snapshot(&RaftPullSnapshotRequest { id: other, offset: 0 }).await;
    assert_eq!(replaced.error_code, ErrorCode::POSITION_OUT_OF_RANGE);
    catch_up(&leader, &observer).await;
    assert_eq!(observer.image().topics().count(), usize::try_from(number).unwrap());
    observer.shutdown().await;
    leader.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_lead_names_the_leader_and_another_history_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, (observer, _dir)) = (leader(dir.path()).await, observer().await);
    let unknown = observer.server().pull(RaftId::from(3), &request(&observer, Duration::ZERO)).await;
    assert_eq!((unknown.error_code, unknown.leader.node_id), (ErrorCode::NOT_CONTROLLER, -1));
    catch_up(&leader, &observer).await;
    until_led(&observer).await;
    let named = observer.server().pull(RaftId::from(3), &request(&observer, PATIENCE)).await;
    assert_eq!(named.error_code, ErrorCode::NOT_CONTROLLER);
    assert_eq!((id_of(&named.leader), &*named.leader_address), (RaftId::from(1), "127.0.0.1:1"));
    // A node that cannot reach the leader of a term hears of a later one only.
    let unreachable_term = named.term;
    let in_vain = RaftPullRequest { unreachable_term, ..request(&observer, Duration::ZERO) };
    let answer = observer.server().pull(RaftId::from(3), &in_vain).await;
    assert_eq!((answer.error_code, answer.term), (ErrorCode::NOT_CONTROLLER, unreachable_term));
    let mut other = request(&observer, Duration::ZERO);
    other.committed.leader.node_id = 9;
    let refused = leader.server().pull(RaftId::from(2), &other).await;
    assert_eq!(refused.error_code, ErrorCode::INCONSISTENT_VOTER_SET);
    // What a new leader announces is taken as an AppendEntries without entries.
    let announced = leader.server().announcement().unwrap();
    assert!(announced.entries.is_empty());
    assert_eq!(observer.server().append(&announced).await.outcome, 0);
    assert!(observer.server().announcement().is_none(), "it does not lead");
    observer.shutdown().await;
    leader.shutdown().await;
}

/// A voter that was a candidate while it was cut off, and was removed since, comes back with a vote of a later term.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_other_voters_begins_the_term_that_an_observer_with_a_later_vote_needs() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, (observer, _dir)) = (leader(dir.path()).await, observer().await);
    catch_up(&leader, &observer).await;
    until_shown(&observer, |metrics| metrics.vote.committed).await;
    let (before, known) = (leader.quorum().borrow().term, request(&observer, Duration::ZERO));
    let mut vote = known.vote.clone();
    (vote.term, vote.candidate.node_id, vote.committed) = (vote.term + 1, 3, false);
    let asked = RaftVoteRequest { vote, last: known.committed, transfer: true, pre_vote: false };
    assert!(observer.server().vote(&asked).await.granted);
    until_shown(&observer, |metrics| wire_vote(&metrics.vote) == asked.vote).await;
    leader.submit_records(soon(), |_| topic("a")).await.unwrap();
    let refused = observer.server().append_pulled(&append_of(&pull(&leader, &observer).await)).await;
    assert_eq!(refused.outcome, 3, "it takes entries of later terms only");
    let elected = tokio::time::timeout(PATIENCE, async {
        leader.quorum().wait_for(|view| view.is_leading() && view.term > before).await.unwrap().term
    });
    // Later by more where its own election time-out has come first.
    assert!(elected.await.unwrap() >= before + 2, "a term after the candidate's");
    catch_up(&leader, &observer).await;
    assert!(observer.image().topic("a").is_some());
    observer.shutdown().await;
    leader.shutdown().await;
}

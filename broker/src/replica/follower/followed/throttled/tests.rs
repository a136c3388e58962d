//! Who waits for whom, beside producers and without them.

use std::collections::BTreeMap;

use super::*;
use crate::replica::role::Role;
use crate::replica::settings::TopicSettings;
use crate::replica::test_support::{Replica, assignment};

const MOST: i32 = 8 << 20;
const BESIDE: Beside = Beside { own: 1, bytes: 1 << 20, pause_end: None };
const EACH: i32 = BESIDE.bytes / AT_ONCE as i32;
fn pausing() -> Beside {
    Beside { pause_end: Some(Instant::now() + Duration::from_secs(60)), ..BESIDE }
}

/// Where the leader's log ends.
const FAR: i64 = 1000;

/// Replicas of broker 1 that follow broker 2 and are not in sync; the leader's log ends at `leader_end`.
fn catching_up(replicas: &[Replica], leader_end: i64) -> FollowedPartitions {
    let mut followed = FollowedPartitions::default();
    for replica in replicas {
        replica.append();
        replica.set_role(2, 1, &[2]);
        followed.add_partition(Arc::clone(&replica.partition), 1);
        followed.note_leader_end(replica.partition.id(), 0, leader_end);
    }
    followed
}

/// The partitions of the next request, each with what it may bring.
fn named(followed: &mut FollowedPartitions, beside: Option<&Beside>) -> BTreeMap<i32, i32> {
    let named = followed.name_changed(beside, MOST);
    named.topics.iter().flat_map(|topic| &topic.partitions).map(|p| (p.partition, p.partition_max_bytes)).collect()
}

/// A record is fetched.
fn fetch(followed: &mut FollowedPartitions, replica: &Replica) {
    replica.set_role(1, 2, &[1]);
    replica.append();
    replica.set_role(2, 3, &[2]);
    followed.note_progress(replica.partition.id());
}

fn indexes(partitions: &[Arc<Partition>]) -> Vec<i32> {
    partitions.iter().map(|partition| partition.index()).collect()
}

#[test]
fn few_catch_up_at_a_time_and_none_during_a_pause() {
    let replicas: Vec<Replica> = (0..20).map(|index| Replica::leading_at(index, &[1])).collect();
    let mut followed = catching_up(&replicas, FAR);
    assert!(!followed.take_far(1, |_| false).has_fetched);
    assert!(followed.has_waiting() && !followed.has_news());
    followed.admit(Some(&pausing()), Instant::now());
    assert!(named(&mut followed, Some(&pausing())).is_empty());
    followed.admit(Some(&BESIDE), Instant::now());
    assert!(!followed.take_far(1, |_| false).has_fetched, "what was admitted stays");
    assert_eq!(named(&mut followed, Some(&BESIDE)), (0..AT_ONCE as i32).map(|index| (index, EACH)).collect());
    followed.admit(Some(&BESIDE), Instant::now());
    assert!(!followed.has_news() && followed.has_waiting(), "no room");

    fetch(&mut followed, &replicas[3]);
    assert!(followed.take_far(1, |_| false).has_fetched);
    assert!(followed.has_news(), "it leaves the session");
    assert_eq!(followed.name_changed(Some(&pausing()), MOST).forgotten.len(), 1);
    followed.admit(Some(&BESIDE), Instant::now());
    assert_eq!(named(&mut followed, Some(&BESIDE)), BTreeMap::from([(4, EACH)]), "another one in its place");
}

#[test]
fn all_catch_up_at_once_where_no_producer_waits() {
    let replicas: Vec<Replica> = (0..20).map(|index| Replica::leading_at(index, &[1])).collect();
    let mut followed = catching_up(&replicas, FAR);
    followed.take_far(1, |_| false);
    followed.admit(None, Instant::now());
    assert_eq!(named(&mut followed, None), (0..20).map(|index| (index, MOST)).collect());
    assert!(!followed.has_waiting());
}

#[test]
fn what_is_nearly_in_sync_is_not_throttled() {
    let replicas = [Replica::leading(&[1])];
    let mut followed = catching_up(&replicas, 1);
    followed.take_far(1, |_| false);
    assert_eq!(named(&mut followed, Some(&pausing())), BTreeMap::from([(0, MOST)]));
    fetch(&mut followed, &replicas[0]);
    assert!(
        !followed.take_far(1, |_| false).has_fetched && followed.has_news(),
        "its leader's end is where it was: it reports at once"
    );
}

#[test]
fn a_partition_of_which_nothing_is_known_brings_little() {
    let replicas = [Replica::leading(&[1])];
    let mut followed = catching_up(&replicas, -1);
    followed.take_far(1, |_| false);
    assert_eq!(named(&mut followed, Some(&pausing())), BTreeMap::from([(0, FIRST)]));
    // So does one in a session that begins anew.
    let mut followed = catching_up(&[Replica::leading(&[1])], FAR);
    followed.forget_leader_ends();
    followed.forget_session();
    assert_eq!(named(&mut followed, Some(&pausing())), BTreeMap::from([(0, FIRST)]));
}

#[test]
fn a_partition_that_is_followed_anew_waits_for_nothing() {
    let replicas = [Replica::leading(&[1])];
    let mut followed = catching_up(&replicas, FAR);
    followed.take_far(1, |_| false);
    assert!(followed.has_waiting());
    followed.add_partition(Arc::clone(&replicas[0].partition), 2);
    assert!(!followed.has_waiting() && followed.has_news());
    followed.note_leader_end(replicas[0].partition.id(), 0, FAR);
    followed.take_far(1, |_| false);
    followed.remove_partition(replicas[0].partition.id());
    followed.admit(None, Instant::now());
    assert!(!followed.has_waiting() && named(&mut followed, None).is_empty());
}

#[test]
fn what_is_far_behind_is_flushed_by_and_by() {
    let replicas: Vec<Replica> = (0..2).map(|index| Replica::flushing_at(index, &[1])).collect();
    let mut followed = catching_up(&replicas, FAR);
    followed.note_leader_end(replicas[1].partition.id(), 0, 1);
    assert!(followed.take_far(1, |_| false).due.is_empty());
    followed.admit(Some(&BESIDE), Instant::now());
    assert_eq!(indexes(&followed.unflushed()), [1], "a request waits for what is nearly in sync only");
    replicas[1].partition.log().flush().unwrap();
    assert_eq!(named(&mut followed, Some(&BESIDE)), BTreeMap::from([(0, 1 << 20), (1, MOST)]));
    assert!(!followed.has_news(), "no request for a flush that nobody waits for");
    followed.admit(None, Instant::now());
    followed.note_progress(replicas[0].partition.id());
    assert_eq!(indexes(&followed.unflushed()), [0], "no producer waits");
}

#[test]
fn much_that_is_unflushed_is_flushed_beside_the_requests() {
    let replicas: Vec<Replica> = (0..2).map(|index| Replica::flushing_at(index, &[1])).collect();
    replicas.iter().for_each(|replica| replica.append_bytes(300 << 10));
    let mut followed = catching_up(&replicas, FAR);
    assert!(followed.take_far(1, |_| false).due.is_empty(), "far behind");
    followed.admit(Some(&BESIDE), Instant::now());
    named(&mut followed, Some(&BESIDE));
    let near = replicas[1].partition.id();
    followed.note_leader_end(near, 0, 2);
    followed.note_progress(near);
    let taken = followed.take_far(1, |_| false);
    assert_eq!(indexes(&taken.due), [1], "it would be in sync");
    assert_eq!(named(&mut followed, None), BTreeMap::new(), "it is not fetched meanwhile");
    followed.note_flushed(&taken.due[0]);
    assert!(followed.take_far(1, |_| false).due.is_empty(), "once: the next flush is the request's");
    assert_eq!(indexes(&followed.unflushed()), [1]);
    // Behind so much that a crash would cost too much.
    replicas[0].set_role(1, 2, &[1]);
    replicas[0].append_bytes(40 << 20);
    replicas[0].set_role(2, 3, &[2]);
    followed.note_progress(replicas[0].partition.id());
    assert!(followed.take_far(1, |_| true).due.is_empty(), "a flush is under way");
    followed.admit(Some(&BESIDE), Instant::now());
    named(&mut followed, Some(&BESIDE));
    followed.note_progress(replicas[0].partition.id());
    let taken = followed.take_far(1, |_| false);
    assert_eq!(indexes(&taken.due), [0]);
    followed.note_flushed(&taken.due[0]);
    assert!(followed.has_waiting());
}

#[test]
fn a_partition_whose_own_producers_wait_is_not_throttled() {
    let replica = Replica::leading(&[1]);
    let is_catching_up = |min_insync_replicas: usize, isr: &[i32]| {
        let settings = TopicSettings { min_insync_replicas, ..(*replica.settings).clone() };
        Role::of(1, assignment(2, 1, isr), Arc::new(settings)).is_catching_up(1)
    };
    assert!(is_catching_up(1, &[2]) && is_catching_up(2, &[2, 3]));
    assert!(!is_catching_up(2, &[2]), "acks=all fails until this replica has caught up");
    assert!(!is_catching_up(1, &[1, 2]), "it is in sync");
    assert!(!Role::of(1, assignment(1, 1, &[2]), Arc::clone(&replica.settings)).is_catching_up(1), "it leads");
}

#[test]
fn a_partition_that_brings_nothing_keeps_no_place() {
    let replicas: Vec<Replica> = (0..6).map(|index| Replica::leading_at(index, &[1])).collect();
    let (mut followed, start) = (catching_up(&replicas, FAR), Instant::now());
    followed.take_far(1, |_| false);
    assert_eq!(followed.admit(Some(&BESIDE), start), AT_ONCE);
    named(&mut followed, Some(&BESIDE));
    assert_eq!(followed.admit(Some(&BESIDE), start + PLACE), 0, "its answer may be under way");
    followed.begin_answer();
    assert_eq!(followed.admit(Some(&BESIDE), start + PLACE / 2), 0);
    assert_eq!(followed.admit(Some(&BESIDE), start + PLACE), AT_ONCE);
    let taken: Vec<i32> = named(&mut followed, Some(&BESIDE)).into_keys().collect();
    assert_eq!(taken, [0, 1, 4, 5], "in turn");
}

#[test]
fn what_was_admitted_is_flushed_when_no_producer_waits() {
    let replicas = [Replica::flushing_at(0, &[1])];
    let mut followed = catching_up(&replicas, FAR);
    followed.take_far(1, |_| false);
    followed.admit(Some(&BESIDE), Instant::now());
    named(&mut followed, Some(&BESIDE));
    assert!(followed.unflushed().is_empty());
    followed.admit(None, Instant::now());
    assert_eq!(indexes(&followed.unflushed()), [0]);
}

#[test]
fn a_partition_that_producers_come_to_need_leaves_its_place() {
    let replicas = [Replica::flushing_at(0, &[1])];
    let mut followed = catching_up(&replicas, FAR);
    followed.take_far(1, |_| false);
    followed.admit(Some(&BESIDE), Instant::now());
    let settings = TopicSettings { min_insync_replicas: 2, ..(*replicas[0].settings).clone() };
    replicas[0].partition.set_role(Role::of(1, assignment(2, 1, &[2]), Arc::new(settings))).unwrap();
    followed.take_far(1, |_| false);
    assert_eq!(indexes(&followed.unflushed()), [0]);
    assert_eq!(named(&mut followed, Some(&pausing())), BTreeMap::from([(0, MOST)]));
}

#[test]
fn what_is_fetched_when_producers_begin_to_wait_is_throttled() {
    let replicas: Vec<Replica> = (0..6).map(|index| Replica::leading_at(index, &[1])).collect();
    let mut followed = catching_up(&replicas, FAR);
    followed.admit(None, Instant::now());
    assert_eq!(named(&mut followed, None).len(), 6);
    followed.look_at_catching_up();
    assert!(!followed.take_far(1, |_| false).has_fetched && !followed.has_waiting(), "not known to be throttled");
    for replica in &replicas {
        followed.note_catching_up(replica.partition.id(), true);
    }
    followed.look_at_catching_up();
    followed.take_far(1, |_| false);
    assert_eq!(followed.name_changed(Some(&pausing()), MOST).forgotten.len(), 1, "one topic");
    assert!(!followed.is_fetching() && followed.has_waiting());
}

#[test]
fn one_that_is_near_with_much_unflushed_is_flushed_alone_in_any_case() {
    for (bytes, due) in [(300 << 10, vec![]), (3 << 20, vec![0])] {
        let replicas = [Replica::flushing_at(0, &[1])];
        replicas[0].append_bytes(bytes);
        let mut followed = catching_up(&replicas, FAR);
        followed.take_far(1, |_| false);
        followed.admit(Some(&BESIDE), Instant::now());
        followed.note_leader_end(replicas[0].partition.id(), 0, 2);
        assert_eq!(indexes(&followed.take_far(1, |_| true).due), due, "{bytes}");
        assert_eq!(followed.unflushed().len(), 1 - due.len(), "little of it goes with the request's round");
    }
}

//! What a request names, and which answers count.

use super::*;
use crate::replica::test_support::Replica;

const LONGEST: Duration = Duration::from_millis(50);

/// A partition with one record of epoch 0 that follows broker 2 in epoch 1.
fn following() -> (Replica, FollowedPartitions, PartitionId) {
    let replica = Replica::leading(&[1]);
    replica.append();
    replica.set_role(2, 1, &[1, 2]);
    let id = replica.partition.id();
    let mut followed = FollowedPartitions::default();
    followed.add_partition(Arc::clone(&replica.partition), 1);
    (replica, followed, id)
}

fn named(followed: &mut FollowedPartitions) -> (Vec<(i64, i32)>, usize) {
    let named = followed.name_changed(None, 100);
    let partitions = named.topics.iter().flat_map(|topic| &topic.partitions);
    (partitions.map(|p| (p.fetch_offset, p.last_fetched_epoch)).collect(), named.forgotten.len())
}

#[test]
fn a_request_names_what_changed() {
    let (replica, mut followed, id) = following();
    assert!(followed.has_news() && followed.is_fetching());
    assert_eq!(named(&mut followed), (vec![(1, 0)], 0));
    followed.note_progress(id);
    assert!(!followed.has_news(), "its position is the same");
    assert_eq!(named(&mut followed), (vec![], 0));
    replica.partition.truncate_to(1, 0).unwrap();
    followed.note_progress(id);
    assert_eq!(named(&mut followed), (vec![(0, -1)], 0));
    followed.remove_partition(id);
    assert!(followed.is_empty() && followed.has_news());
    assert_eq!(named(&mut followed), (vec![], 1));
}

#[test]
fn a_partition_that_pauses_leaves_the_session_until_its_pause_ends() {
    let (_replica, mut followed, id) = following();
    named(&mut followed);
    let now = Instant::now();
    assert!(followed.pause(id, now, LONGEST), "the first error in a row");
    assert_eq!(named(&mut followed), (vec![], 1));
    assert_eq!(followed.next_wake(), Some(now + FIRST_PAUSE));
    assert!(!followed.is_fetching());
    followed.end_pauses(Some(now));
    assert_eq!(named(&mut followed), (vec![], 0), "too early");
    followed.end_pauses(Some(now + FIRST_PAUSE));
    assert_eq!(named(&mut followed), (vec![(1, 0)], 0));
    assert!(!followed.pause(id, now, LONGEST));
    assert_eq!(followed.next_wake(), Some(now + FIRST_PAUSE * 2));
    followed.end_pauses(None);
    followed.pause(id, now, LONGEST);
    assert_eq!(followed.next_wake(), Some(now + LONGEST), "the longest pause");
    followed.add_partition(Arc::clone(&followed.by_id[&id].partition), 2);
    assert_eq!((followed.next_wake(), followed.is_fetching()), (None, true), "another leader epoch ends it");
}

#[test]
fn an_answer_to_an_earlier_position_does_not_count() {
    let (replica, mut followed, id) = following();
    named(&mut followed);
    replica.partition.truncate_to(1, 0).unwrap();
    followed.begin_answer();
    assert!(followed.awaited(id).is_none(), "the log ends elsewhere now");
    followed.note_progress(id);
    // Two requests are in flight, the second one names the partition.
    named(&mut followed);
    followed.note_progress(id);
    named(&mut followed);
    followed.begin_answer();
    assert!(followed.awaited(id).is_some());
    followed.add_partition(Arc::clone(&replica.partition), 2);
    assert!(followed.awaited(id).is_none(), "the leader epoch is another one");
    named(&mut followed);
    assert!(followed.awaited(id).is_none(), "the answer came before the request");
    followed.forget_session();
    named(&mut followed);
    followed.begin_answer();
    assert!(followed.awaited(id).is_some());
}

#[test]
fn the_growth_of_a_leaders_log_counts_where_this_replica_is_far_behind() {
    let (_replica, mut followed, id) = following();
    let grown = [(0, 100), (10, 130), (20, 120), (30, 125), (125, 140), (140, 150)];
    let grown = grown.map(|(from, leader_end)| followed.note_leader_end(id, from, leader_end));
    assert_eq!(grown, [None, Some(30), Some(0), Some(5), None, None], "a high watermark may be an older one");
    followed.remove_partition(id);
    assert_eq!(followed.note_leader_end(id, 0, 1000), None);
}

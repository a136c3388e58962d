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
    assert!(followed.has_news(None) && followed.is_fetching());
    assert_eq!(named(&mut followed), (vec![(1, 0)], 0));
    followed.note_progress(id);
    assert!(!followed.has_news(None), "its position is the same");
    assert_eq!(named(&mut followed), (vec![], 0));
    replica.partition.truncate_to(1, 0).unwrap();
    followed.note_progress(id);
    assert_eq!(named(&mut followed), (vec![(0, -1)], 0));
    followed.remove_partition(id);
    assert!(followed.is_empty() && followed.has_news(None));
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
fn what_catches_up_brings_little_beside_other_partitions() {
    let replicas: Vec<Replica> = (0..4).map(|index| Replica::leading_at(index, &[1])).collect();
    let mut followed = FollowedPartitions::default();
    let mut epoch = 0;
    let mut limits = |in_sync: &[i32], max: i32, beside: Option<i32>| -> Vec<i32> {
        epoch += 2;
        for replica in &replicas {
            replica.set_role(1, epoch, &[1]);
            replica.append();
            let isr: &[i32] = if in_sync.contains(&replica.partition.index()) { &[1, 2] } else { &[2] };
            replica.set_role(2, epoch + 1, isr);
            followed.add_partition(Arc::clone(&replica.partition), epoch + 1);
        }
        let named = followed.name_changed(beside, max);
        named.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.partition_max_bytes).collect()
    };
    let max = 8 << 20;
    assert_eq!(limits(&[0, 2], max, None), [max; 4], "no producer waits");
    let share = CATCH_UP / 2;
    assert_eq!(limits(&[0, 2], max, Some(1)), [max, share, max, share]);
    assert_eq!(limits(&[0, 1, 2], max, Some(1)), [max, max, max, CATCH_UP]);
    assert_eq!(limits(&[0, 1, 2], 1000, Some(1)), [1000; 4], "what is configured is the most");
    assert_eq!(limits(&[0, 1, 2, 3], max, Some(1)), [max; 4]);
}

#[test]
fn a_flush_of_what_catches_up_holds_up_nothing_else() {
    let replicas: Vec<Replica> = (0..2).map(|index| Replica::flushing_at(index, &[1])).collect();
    let mut followed = FollowedPartitions::default();
    for replica in &replicas {
        replica.append();
        let isr: &[i32] = if replica.partition.index() == 0 { &[1, 2] } else { &[2] };
        replica.set_role(2, 1, isr);
        followed.add_partition(Arc::clone(&replica.partition), 1);
    }
    let indexes = |taken: &[Arc<Partition>]| taken.iter().map(|partition| partition.index()).collect::<Vec<_>>();
    let taken = followed.take_catching_up(1);
    assert_eq!(indexes(&taken), [1]);
    assert_eq!(indexes(&followed.unflushed()), [0], "a request waits for what is in sync only");
    assert_eq!(named(&mut followed).0.len(), 1, "the other one is not fetched until it is flushed");
    assert!(followed.take_catching_up(1).is_empty(), "its flush is under way");
    replicas[0].partition.log().flush().unwrap();
    assert_eq!(named(&mut followed).0.len(), 1, "what is in sync is flushed");
    assert!(!followed.has_news(None));
    followed.note_flushed(&taken);
    assert!(followed.has_news(None) && !followed.has_news(Some(1)), "it overtakes no request that producers wait for");
    // Not flushed all the same: another attempt.
    assert_eq!(indexes(&followed.take_catching_up(1)), [1]);
    // A new leader epoch does not wait for it.
    followed.add_partition(Arc::clone(&replicas[1].partition), 2);
    assert_eq!(named(&mut followed).0.len(), 1);
}

//! The in-sync sets by cases, and the invariants of the high watermark over random histories.

use proptest::prelude::*;

use super::*;

const LEADER: i32 = 1;

fn ends(log_end: i64, flushed: i64) -> ReplicaEnds {
    ReplicaEnds { log_end, flushed }
}

fn followers(isr: &[i32], known: &[(i32, i64)]) -> Followers {
    let mut followers = Followers::new(LEADER, &[1, 2, 3], isr);
    for (id, end) in known {
        assert!(followers.record_ends(*id, ends(*end, *end), 100));
    }
    followers
}

fn by_log_end(followers: &Followers, current: i64, min_in_sync: usize) -> i64 {
    followers.high_watermark(current, ends(10, 10), CountedEnd::LogEnd, min_in_sync)
}

/// Committed ISR, proposed ISR, ends of followers, `min.insync.replicas`, the high watermark from 1 with the leader at 10, and why.
type Case<'a> = (&'a [i32], Option<&'a [i32]>, &'a [(i32, i64)], usize, i64, &'a str);

#[test]
fn the_maximal_isr_moves_the_high_watermark_and_the_committed_isr_is_counted() {
    let cases: &[Case<'_>] = &[
        (&[1], None, &[(2, 4), (3, 5)], 1, 10, "replicas that are not in sync hold nothing"),
        (&[1, 2], None, &[(2, 4), (3, 2)], 1, 4, "the in-sync follower decides"),
        (&[1, 2], Some(&[1, 2, 3]), &[(2, 4), (3, 2)], 1, 2, "a follower that is proposed to join is waited for"),
        (&[1, 2], Some(&[1]), &[(2, 4)], 1, 4, "a follower that is proposed to leave is waited for"),
        (&[1, 2], Some(&[1, 3]), &[(2, 4), (3, 3)], 1, 3, "both sets are waited for"),
        (&[1], Some(&[1, 2]), &[(2, 10)], 2, 1, "a proposed member does not count for min.insync.replicas"),
        (&[1, 2], Some(&[1]), &[(2, 4)], 2, 4, "a member that is proposed to leave does"),
        (&[1, 2, 9], None, &[(2, 4)], 1, 1, "a member that is no replica holds it"),
        (&[1, 2, 3], None, &[(2, 4)], 1, 1, "a member that has not fetched holds it"),
    ];
    for (isr, proposed, known, min_in_sync, expected, why) in cases {
        let mut followers = followers(isr, known);
        if let Some(proposed) = proposed {
            followers.propose(proposed);
        }
        assert_eq!(by_log_end(&followers, 1, *min_in_sync), *expected, "{why}");
    }
}

#[test]
fn the_low_watermark_waits_for_live_followers_and_for_the_maximal_isr() {
    // Committed ISR, proposed ISR, live brokers, log starts of followers, the low watermark with the leader at 10, and why.
    type Case<'a> = (&'a [i32], Option<&'a [i32]>, &'a [i32], &'a [(i32, i64)], i64, &'a str);
    let cases: &[Case<'_>] = &[
        (&[1, 2, 3], None, &[1, 2, 3], &[(2, 10), (3, 10)], 10, "all have deleted"),
        (&[1, 2, 3], None, &[1, 2, 3], &[(2, 10), (3, 4)], 4, "one has not"),
        (&[1, 2, 3], None, &[1, 2, 3], &[(2, 10)], -1, "one has not fetched"),
        (&[1, 2], None, &[1, 2], &[(2, 10), (3, 4)], 10, "it is fenced"),
        (&[1, 2], None, &[1, 2, 3], &[(2, 10), (3, 4)], 4, "it is alive"),
        (&[1, 2, 3], None, &[1, 2], &[(2, 10), (3, 4)], 4, "it is fenced, and may lead next"),
        (&[1, 2], Some(&[1, 2, 3]), &[1, 2], &[(2, 10), (3, 4)], 4, "it may be in sync already"),
        (&[1], None, &[1], &[], 10, "the leader is alone"),
    ];
    for (isr, proposed, live, starts, expected, why) in cases {
        let mut followers = followers(isr, &[]);
        if let Some(proposed) = proposed {
            followers.propose(proposed);
        }
        for (id, log_start) in *starts {
            let fetch = FollowerFetch { id: *id, broker_epoch: 1, log_start: *log_start, ends: ends(10, 10) };
            assert!(followers.record_fetch(&fetch, CountedEnd::LogEnd, 10, 0));
        }
        assert_eq!(followers.low_watermark(10, |id| live.contains(&id)), *expected, "{why}");
    }
}

#[test]
fn a_leader_is_alone_by_the_maximal_isr() {
    let mut followers = followers(&[1], &[]);
    assert!(followers.is_leader_alone());
    followers.propose(&[1, 3]);
    assert!(!followers.is_leader_alone());
    followers.withdraw_proposal();
    assert!(followers.is_leader_alone());
}

#[test]
fn what_is_known_stays_known_in_its_epoch() {
    let mut before = followers(&[1, 2], &[(2, 4), (3, 7)]);
    before.propose(&[1, 2, 3]);
    let mut same = Followers::new(LEADER, &[1, 2, 3], &[1, 2]);
    same.continue_from(&before, 0);
    assert_eq!(same, before, "another configuration of the topic takes no proposal back");

    let mut shrunk = Followers::new(LEADER, &[1, 2, 3], &[1]);
    shrunk.continue_from(&before, 0);
    assert!(shrunk.is_leader_alone(), "another ISR is the controller's answer");
    assert_eq!(shrunk.ends_of(3), Some(ends(7, 7)));

    let mut replaced = Followers::new(LEADER, &[1, 3, 4], &[1, 2]);
    replaced.continue_from(&before, 0);
    assert_eq!((replaced.ends_of(2), replaced.ends_of(4)), (Some(ends(4, 4)), Some(ReplicaEnds::UNKNOWN)));
}

#[test]
fn a_report_counts_for_what_it_can_be() {
    let mut followers = followers(&[1, 2], &[(2, 4)]);
    assert!(!followers.record_ends(9, ends(5, 5), 10), "no follower");
    assert!(!followers.record_ends(LEADER, ends(5, 5), 10), "the leader itself");
    assert!(!followers.record_ends(2, ends(11, 5), 10), "past the leader's log end");
    assert_eq!(followers.ends_of(2), Some(ends(4, 4)));
    assert!(followers.record_ends(2, ends(5, 8), 10));
    assert_eq!(followers.ends_of(2), Some(ends(5, 5)), "nothing is flushed past the log end");
    assert!(followers.record_ends(2, ends(3, 3), 10), "a follower that lost records says so");
    assert_eq!(by_log_end(&followers, 5, 1), 5, "and the high watermark stays");
}

/// One thing that happens to a leader.
#[derive(Debug, Clone)]
enum Event {
    Append(i64),
    Flush(i64),
    Report(i32, i64, i64),
    Propose(Vec<i32>),
    Withdraw,
    Image(Vec<i32>),
    MinInSync(usize),
}

#[test]
fn a_report_of_an_earlier_incarnation_does_not_count_any_more() {
    let mut followers = followers(&[1, 2], &[]);
    let fetch = |broker_epoch: i64, end: i64| FollowerFetch { id: 2, broker_epoch, log_start: 0, ends: ends(end, end) };
    assert!(followers.record_fetch(&fetch(7, 5), CountedEnd::LogEnd, 10, 0));
    assert!(!followers.record_fetch(&fetch(6, 9), CountedEnd::LogEnd, 10, 0), "it was on its way");
    assert_eq!((followers.broker_epoch_of(2), by_log_end(&followers, 1, 1)), (7, 5));
    assert!(followers.record_fetch(&fetch(8, 4), CountedEnd::LogEnd, 10, 0), "a later one may have less");
    assert_eq!((followers.broker_epoch_of(2), by_log_end(&followers, 1, 1)), (8, 4));
}

fn isr() -> impl Strategy<Value = Vec<i32>> {
    proptest::collection::vec(2..5i32, 0..3).prop_map(|mut others| {
        others.sort_unstable();
        others.dedup();
        others.insert(0, LEADER);
        others
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..5i64).prop_map(Event::Append),
        3 => (0..8i64).prop_map(Event::Flush),
        8 => (1..6i32, 0..6i64, 0..6i64).prop_map(|(id, behind, unflushed)| Event::Report(id, behind, unflushed)),
        1 => isr().prop_map(Event::Propose),
        1 => Just(Event::Withdraw),
        1 => isr().prop_map(Event::Image),
        1 => (1..4usize).prop_map(Event::MinInSync),
    ]
}

proptest! {
    #[test]
    fn no_history_moves_the_high_watermark_back_or_past_a_replica_that_must_have_it(
        events in proptest::collection::vec(event(), 1..80),
        by_flushed in any::<bool>(),
    ) {
        let counted = if by_flushed { CountedEnd::Flushed } else { CountedEnd::LogEnd };
        let (mut own, mut current, mut min_in_sync) = (ends(0, 0), 0, 1);
        let (mut committed, mut maximal) = (vec![LEADER], vec![LEADER]);
        let mut state = Followers::new(LEADER, &[1, 2, 3], &committed);
        // What each broker reported last.
        let mut reports = std::collections::BTreeMap::new();
        for event in events {
            match event {
                Event::Append(count) => own.log_end += count,
                Event::Flush(count) => own.flushed = own.log_end.min(own.flushed + count),
                Event::Report(id, behind, unflushed) => {
                    let log_end = own.log_end - behind + 1;
                    let reported = ends(log_end, log_end - unflushed);
                    if state.record_ends(id, reported, own.log_end) {
                        reports.insert(id, reported);
                    }
                }
                Event::Propose(isr) => {
                    state.propose(&isr);
                    maximal = committed.iter().chain(&isr).copied().collect();
                }
                Event::Withdraw => {
                    state.withdraw_proposal();
                    maximal.clone_from(&committed);
                }
                Event::Image(isr) => {
                    let mut next = Followers::new(LEADER, &[1, 2, 3], &isr);
                    next.continue_from(&state, 0);
                    state = next;
                    if isr != committed {
                        maximal.clone_from(&isr);
                        committed = isr;
                        // A broker that is no follower any more is forgotten.
                        reports.retain(|id, _| state.ends_of(*id).is_some());
                    }
                }
                Event::MinInSync(min) => min_in_sync = min,
            }
            let next = state.high_watermark(current, own, counted, min_in_sync);
            prop_assert!(next >= current, "it went back");
            prop_assert!(next <= own.log_end, "it is past the log end");
            if next > current {
                prop_assert!(committed.len() >= min_in_sync, "too few replicas are in sync");
                for id in maximal.iter().filter(|id| **id != LEADER && state.ends_of(**id).is_some()) {
                    let known = reports.get(id).copied().unwrap_or(ReplicaEnds::UNKNOWN);
                    prop_assert!(known.counted(counted) >= next, "broker {id} does not have it");
                }
                prop_assert!(own.counted(counted) >= next, "the leader does not have it");
            }
            prop_assert_eq!(state.is_leader_alone(), maximal.iter().all(|id| *id == LEADER || state.ends_of(*id).is_none()));
            current = next;
        }
    }
}

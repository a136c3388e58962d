//! Joins and departures by cases.

use super::*;

const LEADER: i32 = 1;
const LAG: i64 = 100;

fn fetch(id: i32, log_end: i64) -> FollowerFetch {
    FollowerFetch { id, broker_epoch: 7, log_start: 0, ends: ReplicaEnds { log_end, flushed: log_end } }
}

fn rule(leader_end: i64, now_ms: i64) -> IsrRule {
    let counted = CountedEnd::LogEnd;
    IsrRule { leader_end, high_watermark: 10, epoch_start: 5, log_start: 0, counted, now_ms, max_lag_ms: LAG }
}

fn fetched(isr: &[i32], fetches: &[(i32, i64, i64, i64)]) -> Followers {
    let mut followers = Followers::new(LEADER, &[1, 2, 3], isr);
    for (id, end, leader_end, now) in fetches {
        assert!(followers.record_fetch(&fetch(*id, *end), CountedEnd::LogEnd, *leader_end, *now));
    }
    followers
}

#[test]
fn joins_and_departures() {
    // ISR, fetches as (follower, end, leader's end, time), the leader's end and the time of the look, and the change.
    type Case<'a> = (&'a [i32], &'a [(i32, i64, i64, i64)], (i64, i64), IsrChange, &'a str);
    let propose = |isr: &[i32]| IsrChange::Propose(isr.to_vec());
    let cases: &[Case<'_>] = &[
        (&[1, 2, 3], &[], (20, LAG), IsrChange::None, "each has the full time after the start"),
        (&[1, 2, 3], &[], (20, LAG + 1), propose(&[1]), "none fetched within it"),
        (&[1, 2, 3], &[(2, 20, 20, 50)], (20, LAG + 1), propose(&[1, 2]), "one did"),
        (&[1, 2], &[(2, 20, 20, 1)], (20, 10_000), IsrChange::None, "an idle partition: all is there"),
        (&[1, 2], &[(2, 20, 20, 1)], (21, 10_000), propose(&[1]), "one record is missing for too long"),
        (&[1], &[(2, 10, 20, 5)], (20, 6), propose(&[1, 2]), "every committed record is there"),
        (&[1], &[(2, 9, 20, 5)], (20, 6), IsrChange::None, "one is missing"),
        (&[1, 3], &[(2, 12, 20, 5)], (20, LAG + 9), propose(&[1, 2]), "one joins while another leaves"),
    ];
    for (isr, fetches, (leader_end, now), expected, why) in cases {
        let mut followers = fetched(isr, fetches);
        assert_eq!(followers.isr_change(isr, &rule(*leader_end, *now), |_, _| true), *expected, "{why}");
    }
}

#[test]
fn a_follower_that_is_not_eligible_joins_later() {
    let mut followers = fetched(&[1], &[(2, 10, 20, 5)]);
    assert!(followers.could_join(2, &rule(20, 5)));
    assert!(!followers.could_join(3, &rule(20, 5)));
    assert_eq!(followers.isr_change(&[1], &rule(20, 6), |_, epoch| epoch != 7), IsrChange::Later);
    followers.propose(&[1, 2]);
    assert!(!followers.could_join(2, &rule(20, 5)), "it is proposed");
    assert_eq!(followers.isr_change(&[1], &rule(20, 6), |_, _| true), IsrChange::Later, "no second proposal");
    followers.withdraw_proposal();
    assert_eq!(followers.isr_change(&[1], &rule(20, 6), |_, _| true), IsrChange::Propose(vec![1, 2]));
}

#[test]
fn a_follower_with_deleted_records_joins_once_it_has_deleted_them() {
    let mut followers = fetched(&[1], &[(2, 10, 20, 5)]);
    let rule = IsrRule { log_start: 3, ..rule(20, 6) };
    assert!(!followers.could_join(2, &rule));
    assert_eq!(followers.isr_change(&[1], &rule, |_, _| true), IsrChange::None);
    followers.record_fetch(&FollowerFetch { log_start: 3, ..fetch(2, 10) }, CountedEnd::LogEnd, 20, 6);
    assert!(followers.could_join(2, &rule));
    assert_eq!(followers.isr_change(&[1], &rule, |_, _| true), IsrChange::Propose(vec![1, 2]));
}

#[test]
fn where_flushed_offsets_count_a_follower_must_have_flushed() {
    let mut followers = Followers::new(LEADER, &[1, 2], &[1]);
    let rule = IsrRule { counted: CountedEnd::Flushed, ..rule(20, 1) };
    let ends = ReplicaEnds { log_end: 20, flushed: 9 };
    followers.record_fetch(&FollowerFetch { ends, ..fetch(2, 0) }, CountedEnd::Flushed, 20, 1);
    assert_eq!(followers.isr_change(&[1], &rule, |_, _| true), IsrChange::None);
    let ends = ReplicaEnds { flushed: 10, ..ends };
    followers.record_fetch(&FollowerFetch { ends, ..fetch(2, 0) }, CountedEnd::Flushed, 20, 1);
    assert_eq!(followers.isr_change(&[1], &rule, |_, _| true), IsrChange::Propose(vec![1, 2]));
}

#[test]
fn a_follower_that_just_joined_has_the_full_time() {
    let before = fetched(&[1], &[(2, 10, 20, 5)]);
    let mut joined = Followers::new(LEADER, &[1, 2, 3], &[1, 2]);
    joined.continue_from(&before, 1000);
    assert_eq!(joined.isr_change(&[1, 2], &rule(20, 1000 + LAG), |_, _| true), IsrChange::None);
    assert_eq!(joined.isr_change(&[1, 2], &rule(20, 1001 + LAG), |_, _| true), IsrChange::Propose(vec![1]));
}

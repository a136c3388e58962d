//! Members of the metadata quorum: on command and by themselves.

use std::collections::BTreeSet;

use super::*;
use crate::metadata::{BrokerRecord, NodeReservationRecord, RemovedVoterRecord};
use ErrorCode as E;

fn key(node_id: i32, directory: u8) -> MemberKey {
    MemberKey { node_id, directory: Uuid([directory; 16]) }
}

fn member(node_id: i32, directory: u8, votes: bool, behind: Option<u64>) -> QuorumMember {
    let role = if votes { MemberRole::Voter } else { MemberRole::Learner };
    let key = key(node_id, directory);
    QuorumMember {
        key,
        role,
        has_address: true,
        behind,
        pulls: false,
        answers: true,
        silent: false,
        broker_only: false,
    }
}

fn observer(node_id: i32, directory: u8, behind: u64) -> QuorumMember {
    let learner = member(node_id, directory, false, Some(behind));
    QuorumMember { role: MemberRole::Observer, pulls: true, ..learner }
}

/// Nodes 1 to 5 are alive, each with the folder of its own number; node 6 is fenced.
fn image() -> MetadataImage {
    let mut image = MetadataImage::default();
    image.apply(&MetadataRecord::newest_level());
    for node_id in 1..=6 {
        let directory = Uuid([node_id as u8; 16]);
        image.apply(&MetadataRecord::NodeReservation(NodeReservationRecord { node_id, directory }));
        let fenced = node_id == 6;
        let log_dirs = vec![directory];
        image.apply(&MetadataRecord::Broker(BrokerRecord { node_id, fenced, log_dirs, ..BrokerRecord::default() }));
    }
    image
}

fn reserve(image: &mut MetadataImage, node_id: i32, directory: u8) {
    let directory = Uuid([directory; 16]);
    image.apply(&MetadataRecord::NodeReservation(NodeReservationRecord { node_id, directory }));
}

fn remove(image: &mut MetadataImage, node_id: i32) {
    let directory = Uuid([node_id as u8; 16]);
    image.apply(&MetadataRecord::RemovedVoter(RemovedVoterRecord { node_id, directory, forgotten: false }));
}

fn quorum(members: &[QuorumMember]) -> Quorum<'_> {
    Quorum { leader: key(1, 1), members, changing: false }
}

/// Voters 1 to 3, and learners.
fn members() -> Vec<QuorumMember> {
    let voters = (1..=3).map(|id| member(id, id as u8, true, Some(0)));
    let learners = [
        member(4, 4, false, Some(100)),
        member(5, 5, false, Some(101)),
        member(6, 6, false, Some(0)),
        member(4, 40, false, Some(0)),
    ];
    voters.chain(learners).collect()
}

#[test]
fn voters_are_added_on_command_when_they_are_alive_and_have_caught_up() {
    let mut image = image();
    remove(&mut image, 4);
    let members = members();
    let cases = [
        (key(4, 4), None, "also one that was removed"),
        (key(5, 5), Some(E::REQUEST_TIMED_OUT), "too far behind"),
        (key(6, 6), Some(E::REQUEST_TIMED_OUT), "not alive"),
        (key(4, 40), Some(E::REQUEST_TIMED_OUT), "the id is reserved for another folder"),
        (key(4, 9), Some(E::REQUEST_TIMED_OUT), "no observer"),
        (key(7, 7), Some(E::REQUEST_TIMED_OUT), "no node"),
        (key(2, 2), Some(E::DUPLICATE_VOTER), "a voter"),
        (key(2, 9), Some(E::DUPLICATE_VOTER), "the id of a voter"),
        (key(-1, 4), Some(E::INVALID_REQUEST), "no node id"),
        (key(4, 0), Some(E::INVALID_REQUEST), "no folder"),
    ];
    for (key, expected, why) in cases {
        let code = check_add_voter(&image, quorum(&members), key).err().map(|refusal| refusal.code);
        assert_eq!(code, expected, "{why}");
    }
    let silent = [member(1, 1, true, Some(0)), member(4, 4, false, None)];
    let refused = check_add_voter(&image, quorum(&silent), key(4, 4)).unwrap_err();
    assert!(refused.message.contains("does not answer"), "{refused:?}");
    let changing = Quorum { changing: true, ..quorum(&members) };
    let refused = check_add_voter(&image, changing, key(4, 4)).unwrap_err();
    assert_eq!(refused.code, E::REQUEST_TIMED_OUT, "one change at a time");
}

#[test]
fn a_node_that_is_a_broker_only_gets_no_vote() {
    let broker_only = |member: QuorumMember| QuorumMember { broker_only: true, ..member };
    let voters = [1, 2].map(|id| member(id, id as u8, true, Some(0)));
    let learner = |id: i32| member(id, id as u8, false, Some(0));
    let added = |id: i32| Some(MemberChange::AddVoters(BTreeSet::from([key(id, id as u8)])));
    let learns = |id: i32| Some(MemberChange::AddLearners(BTreeSet::from([key(id, id as u8)])));
    let cases = [
        (vec![observer(3, 3, 0)], learns(3), "a node with both roles"),
        (vec![broker_only(observer(3, 3, 0))], None, "an observer"),
        (vec![broker_only(observer(3, 3, 0)), observer(4, 4, 0)], learns(4), "the next node in its place"),
        (vec![broker_only(learner(3))], None, "a learner, which was restarted with another role"),
        (vec![broker_only(learner(3)), learner(4)], added(4), "the next learner in its place"),
        (
            vec![QuorumMember { pulls: true, ..broker_only(learner(3)) }],
            Some(MemberChange::RemoveLearner(key(3, 3))),
            "a learner that pulls the log leaves",
        ),
    ];
    for (others, expected, why) in cases {
        let members: Vec<_> = voters.into_iter().chain(others).collect();
        assert_eq!(next_member_change(&image(), quorum(&members), 3), expected, "{why}");
    }
    let members: Vec<_> = voters.into_iter().chain([broker_only(observer(3, 3, 0)), observer(4, 4, 0)]).collect();
    let refused = check_add_voter(&image(), quorum(&members), key(3, 3)).unwrap_err();
    assert_eq!(refused.code, E::INVALID_REQUEST);
    assert!(refused.message.contains("process.roles=broker,controller"), "{refused:?}");
    assert!(check_add_voter(&image(), quorum(&members), key(4, 4)).is_ok());
    let all = [broker_only(voters[0]), voters[1], broker_only(member(3, 3, true, Some(0)))];
    assert_eq!(next_member_change(&image(), quorum(&all), 3), None, "a voter keeps its vote");
}

#[test]
fn voters_are_removed_on_command_but_the_last() {
    let members = members();
    let cases = [
        (key(1, 1), Ok(VoterRemoval::HandOver), "the leader"),
        (key(2, 2), Ok(VoterRemoval::Remove), "another"),
        (key(2, 9), Err(E::VOTER_NOT_FOUND), "another folder"),
        (key(4, 4), Err(E::VOTER_NOT_FOUND), "a learner"),
        (key(9, 9), Err(E::VOTER_NOT_FOUND), "no member"),
        (key(-1, 1), Err(E::INVALID_REQUEST), "no node id"),
        (key(1, 0), Err(E::INVALID_REQUEST), "no folder"),
    ];
    for (key, expected, why) in cases {
        let decided = check_remove_voter(quorum(&members), key).map_err(|refusal| refusal.code);
        assert_eq!(decided, expected, "{why}");
    }
    let last = [member(1, 1, true, Some(0)), member(2, 2, false, Some(0))];
    assert_eq!(check_remove_voter(quorum(&last), key(1, 1)).unwrap_err().code, E::INVALID_REQUEST);
    let changing = Quorum { changing: true, ..quorum(&members) };
    assert_eq!(check_remove_voter(changing, key(2, 2)).unwrap_err().code, E::REQUEST_TIMED_OUT);
}

#[test]
fn a_voter_stays_that_the_others_cannot_do_without() {
    let voters = |answering: &[i32], count: i32| -> Vec<QuorumMember> {
        let voter = |id: i32| QuorumMember { answers: answering.contains(&id), ..member(id, id as u8, true, Some(0)) };
        (1..=count).map(voter).collect()
    };
    // The leader is 1, and answers itself.
    let cases: &[(&[i32], i32, i32, bool)] = &[
        (&[2, 3], 3, 2, true),
        (&[2], 3, 3, true),
        (&[2], 3, 2, false),
        (&[2], 3, 1, false),
        (&[2, 3], 3, 1, true),
        (&[2, 3], 5, 4, true),
        (&[2, 3], 5, 3, false),
        (&[2, 3, 4], 5, 3, true),
        (&[2, 3, 4], 5, 1, true),
        (&[], 2, 2, true),
        (&[], 2, 1, false),
    ];
    for (answering, count, removed, allowed) in cases {
        let members = voters(answering, *count);
        let decided = check_remove_voter(quorum(&members), key(*removed, *removed as u8));
        let text = format!("{answering:?} of {count} answer, {removed} goes: {decided:?}");
        assert_eq!(decided.is_ok(), *allowed, "{text}");
        let expected = decided.map_or_else(|refusal| Some(refusal.code), |_| None);
        assert!(expected.is_none_or(|code| code == E::REQUEST_TIMED_OUT), "{text}");
    }
    let members = voters(&[2], 3);
    let refusal = check_remove_voter(quorum(&members), key(2, 2)).unwrap_err();
    assert!(refusal.message.contains(&key(3, 3).to_string()), "it names who does not answer: {}", refusal.message);
}

#[test]
fn the_first_nodes_become_voters_up_to_an_odd_number() {
    let learner = |id: i32| member(id, id as u8, false, Some(0));
    let voter = |id: i32| member(id, id as u8, true, Some(0));
    let added = |members: &[QuorumMember], removed: &[i32], size: usize| {
        let mut image = image();
        removed.iter().for_each(|node_id| remove(&mut image, *node_id));
        match next_member_change(&image, quorum(members), size) {
            Some(MemberChange::AddVoters(added)) => added.iter().map(|key| key.node_id).collect(),
            None => Vec::new(),
            Some(change) => panic!("{change:?}"),
        }
    };
    assert_eq!(added(&[voter(1)], &[], 3), [0; 0], "alone");
    assert_eq!(added(&[voter(1), learner(2)], &[], 3), [0; 0], "two voters stop with either");
    assert_eq!(added(&[voter(1), learner(2), learner(3)], &[], 3), [2, 3]);
    assert_eq!(added(&[voter(1), learner(2), learner(3)], &[], 1), [0; 0]);
    assert_eq!(added(&[voter(1), learner(2), learner(3), learner(4)], &[], 5), [2, 3]);
    assert_eq!(added(&[voter(1), voter(2), learner(3)], &[3], 3), [0; 0], "removed");
    assert_eq!(added(&[voter(1), voter(2), learner(3), learner(4)], &[3], 3), [4], "another in its place");
    assert_eq!(added(&[voter(1), voter(2), learner(6)], &[], 3), [0; 0], "not alive");
    assert_eq!(added(&[voter(1), voter(2), member(3, 3, false, None)], &[], 3), [0; 0], "silent");
    let nowhere = QuorumMember { has_address: false, ..learner(3) };
    assert_eq!(added(&[voter(1), voter(2), nowhere], &[], 3), [0; 0], "without an address");
    let changing = Quorum { changing: true, ..quorum(&[]) };
    assert_eq!(next_member_change(&image(), changing, 3), None);
}

#[test]
fn a_member_whose_id_belongs_to_another_folder_leaves() {
    let mut image = image();
    reserve(&mut image, 3, 30);
    let voter = |id: i32| member(id, id as u8, true, Some(0));
    let old_learner = member(3, 3, false, None);
    let (old_voter, new) = (voter(3), member(3, 30, false, Some(0)));
    let learner_leaves = Some(MemberChange::RemoveLearner(key(3, 3)));
    assert_eq!(next_member_change(&image, quorum(&[voter(1), old_learner, new]), 3), learner_leaves);
    let members = [voter(1), voter(2), old_voter, new];
    let replaced = MemberChange::ReplaceVoter { outdated: key(3, 3), current: key(3, 30) };
    assert_eq!(next_member_change(&image, quorum(&members), 3), Some(replaced.clone()));
    assert_eq!(next_member_change(&image, quorum(&members), 5), Some(replaced), "its vote is not one more");
    let behind = [voter(1), voter(2), old_voter, member(3, 30, false, Some(101))];
    assert_eq!(next_member_change(&image, quorum(&behind), 5), None, "not before the new member has caught up");
    assert_eq!(next_member_change(&image, quorum(&[voter(1), voter(2), old_voter]), 3), None, "nor without one");
}

/// What the leader does by itself, as node ids.
fn next(members: &[QuorumMember], removed: &[i32], size: usize) -> (&'static str, Vec<i32>) {
    let mut image = image();
    removed.iter().for_each(|node_id| remove(&mut image, *node_id));
    let ids = |keys: BTreeSet<MemberKey>| keys.iter().map(|key| key.node_id).collect();
    match next_member_change(&image, quorum(members), size) {
        None => ("nothing", Vec::new()),
        Some(MemberChange::AddLearners(keys)) => ("learners", ids(keys)),
        Some(MemberChange::AddVoters(keys)) => ("voters", ids(keys)),
        Some(MemberChange::RemoveLearner(key)) => ("leaves", vec![key.node_id]),
        Some(MemberChange::ReplaceVoter { current, .. }) => ("replaced", vec![current.node_id]),
    }
}

#[test]
fn observers_become_learners_before_they_become_voters() {
    let voter = |id: i32| member(id, id as u8, true, Some(0));
    let learner = |id: i32, behind| member(id, id as u8, false, behind);
    let seen = |id: i32| observer(id, id as u8, 0);
    let one = |what, id| (what, vec![id]);
    let nothing = ("nothing", Vec::new());
    assert_eq!(next(&[voter(1), seen(2)], &[], 3), nothing, "two voters stop with either");
    assert_eq!(next(&[voter(1), seen(2), seen(3), seen(4)], &[], 3), ("learners", vec![2, 3]));
    let begun = [voter(1), learner(2, Some(0)), learner(3, None), seen(4)];
    assert_eq!(next(&begun, &[], 3), nothing, "the leader has not reached one of them yet");
    let reached = [voter(1), learner(3, Some(0)), learner(4, Some(5)), seen(2)];
    assert_eq!(next(&reached, &[], 3), ("voters", vec![3, 4]), "those on the way come first");
    let silent = QuorumMember { silent: true, ..learner(3, None) };
    assert_eq!(next(&[voter(1), voter(2), silent, seen(4)], &[], 3), one("learners", 4), "another in its place");
    let late = QuorumMember { behind: Some(101), ..seen(3) };
    assert_eq!(next(&[voter(1), voter(2), late, seen(4)], &[], 3), one("learners", 4), "too far behind");
    let quiet = QuorumMember { pulls: false, ..seen(3) };
    assert_eq!(next(&[voter(1), voter(2), quiet], &[], 3), nothing, "it pulled long ago");
    assert_eq!(next(&[voter(1), voter(2), seen(6)], &[], 3), nothing, "not alive");
    assert_eq!(next(&[voter(1), voter(2), seen(3)], &[3], 3), nothing, "removed by command");
    assert_eq!(next(&[voter(1), voter(2), voter(3), seen(4)], &[], 3), nothing, "enough voters");
}

#[test]
fn a_learner_that_is_not_to_vote_leaves_once_it_needs_no_member_seat() {
    let voters = || (1..=3).map(|id| member(id, id as u8, true, Some(0)));
    let with =
        |learner: QuorumMember, removed: &[i32]| next(&voters().chain([learner]).collect::<Vec<_>>(), removed, 3);
    let learner = |id: i32| member(id, id as u8, false, Some(0));
    let leaves = |id: i32| ("leaves", vec![id]);
    let nothing = ("nothing", Vec::new());
    assert_eq!(with(learner(4), &[]), nothing, "of an earlier build, which does not pull");
    assert_eq!(with(QuorumMember { pulls: true, ..learner(4) }, &[]), leaves(4));
    assert_eq!(with(QuorumMember { silent: true, behind: None, ..learner(4) }, &[]), leaves(4), "gone for long");
    assert_eq!(with(learner(4), &[4]), nothing, "removed by command, and it may not know that yet");
    assert_eq!(with(learner(6), &[6]), leaves(6), "removed by command, and dead");
}

#[test]
fn the_new_folder_of_a_voter_becomes_a_learner_before_it_gets_the_vote() {
    let mut image = image();
    reserve(&mut image, 3, 30);
    let voter = |id: i32| member(id, id as u8, true, Some(0));
    let members = [voter(1), voter(2), voter(3), observer(3, 30, 0)];
    let learner = Some(MemberChange::AddLearners([key(3, 30)].into()));
    assert_eq!(next_member_change(&image, quorum(&members), 3), learner);
    // It pulls to the end, and stays until it has the vote.
    let begun = QuorumMember { pulls: true, ..member(3, 30, false, None) };
    assert_eq!(next_member_change(&image, quorum(&[voter(1), voter(2), voter(3), begun]), 3), None);
}

#[test]
fn the_folder_of_a_node_is_the_reserved_one() {
    let mut image = image();
    let folder = |image: &MetadataImage, node_id: i32, candidates: &[u8]| {
        folder_of(image, node_id, candidates.iter().map(|byte| Uuid([*byte; 16]))).map(|found| found.0[0])
    };
    reserve(&mut image, 3, 30);
    assert_eq!(folder(&image, 3, &[3, 30]), Some(30));
    assert_eq!(folder(&image, 3, &[3]), None, "the former one is not meant");
    image.apply(&MetadataRecord::NodeReservation(NodeReservationRecord { node_id: 4, directory: Uuid::ZERO }));
    assert_eq!(folder(&image, 4, &[40, 4]), Some(4), "by its log dirs");
    assert_eq!((folder(&image, 9, &[8]), folder(&image, 9, &[8, 7]), folder(&image, 9, &[])), (Some(8), None, None));
}

#[test]
fn after_a_recovery_the_survivor_leads_and_nothing_is_given_out_again() {
    let mut image = cluster(3);
    let topic = CreatableTopic { replication_factor: 3, ..topic("a") };
    create(&mut image, vec![topic]);
    allocate_producer_ids(&image, 1).records.iter().for_each(|record| image.apply(record));
    let mut recovered = image.clone();
    recover_metadata(&image, 2).iter().for_each(|record| recovered.apply(record));
    assert_eq!(recovered.live_brokers().map(|broker| broker.node_id).collect::<Vec<_>>(), [2]);
    assert!(recovered.next_producer_id() > image.next_producer_id() + 1_000_000);
    let of = |image: &MetadataImage| image.topic("a").unwrap().partitions.iter().cloned().collect::<Vec<_>>();
    assert_eq!(of(&recovered).len(), 3);
    for (before, after) in of(&image).into_iter().zip(of(&recovered)) {
        assert!(after.leader_epoch > before.leader_epoch + 1000 && after.partition_epoch > before.partition_epoch);
        assert_eq!((after.leader, after.isr, after.replicas), (2, vec![2], before.replicas));
    }
}

//! Reassignments, and in-sync sets that leaders propose.

use esker_protocol::messages::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, PartitionData, TopicData,
};
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use esker_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};

use super::*;
use crate::metadata::{ConfigResource, PartitionImage};
use ErrorCode as E;

fn partition(image: &MetadataImage) -> &PartitionImage {
    image.topic("t").unwrap().partitions.first().unwrap()
}

fn reassign(image: &mut MetadataImage, name: &'static str, index: i32, replicas: Option<&[i32]>) -> ErrorCode {
    reassign_with(image, name, index, replicas, true)
}

fn reassign_with(
    image: &mut MetadataImage,
    name: &'static str,
    partition_index: i32,
    replicas: Option<&[i32]>,
    allow_replication_factor_change: bool,
) -> ErrorCode {
    let partition = ReassignablePartition { partition_index, replicas: replicas.map(<[i32]>::to_vec) };
    let request = AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic { name: name.into(), partitions: vec![partition] }],
        allow_replication_factor_change,
        ..AlterPartitionReassignmentsRequest::default()
    };
    let Decision { records, reply } = alter_partition_reassignments(image, RULES, &request);
    records.iter().for_each(|record| image.apply(record));
    reply.responses[0].partitions[0].error_code
}

fn propose(image: &mut MetadataImage, change: impl FnOnce(&mut AlterPartitionRequest)) -> AlterPartitionResponse {
    let partition = partition(image).clone();
    let data = PartitionData {
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        new_isr: partition.isr.clone(),
        leader_recovery_state: i8::from(partition.recovering),
        ..PartitionData::default()
    };
    let mut request = AlterPartitionRequest {
        broker_id: partition.leader,
        broker_epoch: image.broker(partition.leader).unwrap().epoch,
        topics: vec![TopicData { topic_id: partition.topic_id, partitions: vec![data] }],
    };
    change(&mut request);
    let Decision { records, reply } = alter_partition(image, RULES, &request);
    records.iter().for_each(|record| image.apply(record));
    reply
}

fn propose_isr(image: &mut MetadataImage, isr: &[i32]) -> ErrorCode {
    let reply = propose(image, |request| request.topics[0].partitions[0].new_isr = isr.to_vec());
    reply.topics[0].partitions[0].error_code
}

#[test]
fn a_new_order_of_the_replicas_is_complete_at_once() {
    type Case = (&'static str, i32, Option<&'static [i32]>, E, &'static [i32]);
    let cases: [Case; 8] = [
        ("t", 0, Some(&[0, 1, 2]), E::NONE, &[0, 1, 2]),
        ("t", 0, Some(&[2, 1, 0]), E::NONE, &[2, 1, 0]),
        ("t", 0, None, E::NO_REASSIGNMENT_IN_PROGRESS, &[0, 1, 2]),
        ("t", 0, Some(&[]), E::INVALID_REPLICA_ASSIGNMENT, &[0, 1, 2]),
        ("t", 0, Some(&[0, 0, 1]), E::INVALID_REPLICA_ASSIGNMENT, &[0, 1, 2]),
        ("t", 0, Some(&[0, 1, 9]), E::INVALID_REPLICA_ASSIGNMENT, &[0, 1, 2]),
        ("t", 7, Some(&[0]), E::UNKNOWN_TOPIC_OR_PARTITION, &[0, 1, 2]),
        ("none", 0, Some(&[0]), E::UNKNOWN_TOPIC_OR_PARTITION, &[0, 1, 2]),
    ];
    for (name, partition_index, replicas, code, after) in cases {
        let mut image = replicated(0, &[0, 1, 2]);
        let epoch = partition(&image).leader_epoch;
        assert_eq!(
            reassign(&mut image, name, partition_index, replicas),
            code,
            "{name} {partition_index} {replicas:?}"
        );
        let now = partition(&image);
        assert_eq!((now.replicas.as_slice(), now.leader_epoch, now.is_reassigning()), (after, epoch, false));
    }
}

/// Brokers 0 to 5, the partition on the first three.
fn larger() -> MetadataImage {
    let mut image = replicated(0, &[0, 1, 2]);
    for node_id in 3..6 {
        let registration = Registration {
            node_id,
            incarnation: Uuid::ZERO,
            listeners: vec![],
            rack: None,
            log_dirs: vec![],
            cordoned_log_dirs: vec![],
        };
        register_broker(&image, registration).records.iter().for_each(|r| image.apply(r));
    }
    image
}

#[test]
fn a_partition_moves_once_the_new_replicas_are_in_sync() {
    let mut image = larger();
    assert_eq!(reassign(&mut image, "t", 0, Some(&[2, 3, 4])), E::NONE);
    let moving = partition(&image);
    assert_eq!(moving.replicas, [2, 3, 4, 0, 1]);
    assert_eq!((&*moving.adding, &*moving.removing), (&[3, 4][..], &[0, 1][..]));
    assert_eq!((moving.leader, moving.isr.as_slice()), (0, &[0, 1, 2][..]));
    assert_eq!(propose_isr(&mut image, &[0, 1, 2, 3]), E::NONE);
    assert!(partition(&image).is_reassigning());
    for (topics, found) in [(None, 1), (Some(("t", 0)), 1), (Some(("t", 1)), 0), (Some(("u", 0)), 0)] {
        let named = |(name, index): (&'static str, i32)| {
            vec![ListPartitionReassignmentsTopics { name: name.into(), partition_indexes: vec![index] }]
        };
        let request = ListPartitionReassignmentsRequest { topics: topics.map(named), timeout_ms: 1 };
        let listed = list_partition_reassignments(&image, &request).topics;
        assert_eq!(listed.len(), found, "{topics:?}");
        let partitions = listed.iter().flat_map(|topic| &topic.partitions);
        assert!(partitions.into_iter().all(|p| p.adding_replicas == [3, 4] && p.removing_replicas == [0, 1]));
    }
    let epoch = partition(&image).leader_epoch;
    let answered = propose_isr(&mut image, &[0, 1, 2, 3, 4]);
    assert_eq!(answered, E::NEW_LEADER_ELECTED, "the leader is one of those that go");
    let moved = partition(&image);
    assert_eq!((moved.replicas.as_slice(), moved.isr.as_slice()), (&[2, 3, 4][..], &[2, 3, 4][..]));
    assert_eq!((moved.leader, moved.leader_epoch, moved.is_reassigning()), (2, epoch + 1, false));
    let all = ListPartitionReassignmentsRequest { topics: None, timeout_ms: 1 };
    assert!(list_partition_reassignments(&image, &all).topics.is_empty());
    assert_eq!([image.replicated_count(0), image.replicated_count(4), image.led_count(2)], [0, 1, 1]);
}

#[test]
fn a_reassignment_is_changed_or_cancelled() {
    let mut image = larger();
    reassign(&mut image, "t", 0, Some(&[2, 3, 4]));
    assert_eq!(reassign(&mut image, "t", 0, Some(&[1, 3, 5])), E::NONE, "another target");
    let moving = partition(&image);
    assert_eq!(moving.replicas, [1, 3, 5, 2, 4, 0]);
    assert_eq!((&*moving.adding, &*moving.removing), (&[3, 5][..], &[2, 4, 0][..]), "what was added before still is");
    propose_isr(&mut image, &[0, 1, 2, 3]);
    assert_eq!(reassign(&mut image, "t", 0, None), E::NONE);
    let back = partition(&image);
    assert_eq!((back.replicas.as_slice(), back.isr.as_slice(), back.leader), (&[1, 2, 4, 0][..], &[0, 1, 2][..], 0));
}

#[test]
fn a_cancellation_needs_a_replica_of_before_in_sync() {
    let mut image = larger();
    reassign(&mut image, "t", 0, Some(&[0, 3]));
    let mut taken_over = partition(&image).clone();
    (taken_over.leader, taken_over.isr) = (3, vec![3]);
    image.apply(&MetadataRecord::Partition(taken_over));
    assert_eq!(reassign(&mut image, "t", 0, None), E::INVALID_REPLICA_ASSIGNMENT);
}

#[test]
fn the_replication_factor_changes_where_the_request_allows_it() {
    let mut image = larger();
    for (replicas, allowed, code) in [
        (&[3, 4][..], false, E::INVALID_REPLICATION_FACTOR),
        (&[3, 4, 5], false, E::NONE),
        (&[0, 1], false, E::INVALID_REPLICATION_FACTOR),
        (&[0, 1], true, E::NONE),
    ] {
        assert_eq!(reassign_with(&mut image, "t", 0, Some(replicas), allowed), code, "{replicas:?}");
    }
    let now = partition(&image);
    assert_eq!((now.replicas.as_slice(), now.isr.as_slice()), (&[0, 1][..], &[0, 1][..]));
}

#[test]
fn a_proposal_is_held_against_the_partition_as_it_is() {
    fn data(request: &mut AlterPartitionRequest) -> &mut PartitionData {
        &mut request.topics[0].partitions[0]
    }
    let with_epoch = |epochs: &'static [(i32, i64)]| {
        move |request: &mut AlterPartitionRequest| {
            let data = data(request);
            data.new_isr.clear();
            let state = |(broker_id, broker_epoch): &(i32, i64)| BrokerState {
                broker_id: *broker_id,
                broker_epoch: *broker_epoch,
            };
            data.new_isr_with_epochs = epochs.iter().map(state).collect();
        }
    };
    type Change = Box<dyn Fn(&mut AlterPartitionRequest)>;
    let cases: Vec<(Change, E, &str)> = vec![
        (Box::new(|r| data(r).leader_epoch += 1), E::NOT_CONTROLLER, "a later leader epoch"),
        (Box::new(|r| data(r).partition_epoch += 1), E::NOT_CONTROLLER, "a later partition epoch"),
        (Box::new(|r| data(r).leader_epoch -= 1), E::FENCED_LEADER_EPOCH, "an earlier leader epoch"),
        (Box::new(|r| data(r).partition_epoch -= 1), E::INVALID_UPDATE_VERSION, "an earlier partition epoch"),
        (Box::new(|r| r.broker_id = 1), E::INVALID_REQUEST, "not the leader"),
        (Box::new(|r| data(r).partition_index = 4), E::UNKNOWN_TOPIC_OR_PARTITION, "no such partition"),
        (Box::new(|r| r.topics[0].topic_id = Uuid([88; 16])), E::UNKNOWN_TOPIC_ID, "no such topic"),
        (Box::new(|r| data(r).new_isr = vec![0, 7]), E::INVALID_REQUEST, "not a replica"),
        (Box::new(|r| data(r).new_isr = vec![0, 1, 1]), E::INVALID_REQUEST, "one twice"),
        (Box::new(|r| data(r).new_isr = vec![1, 2]), E::INVALID_REQUEST, "without the leader"),
        (Box::new(|r| data(r).new_isr = vec![]), E::INVALID_REQUEST, "nobody"),
        (Box::new(|r| data(r).leader_recovery_state = 1), E::INVALID_REQUEST, "nothing to recover from"),
        (Box::new(|r| data(r).leader_recovery_state = 2), E::INVALID_REQUEST, "no such state"),
        (Box::new(with_epoch(&[(0, 0), (1, 5)])), E::INELIGIBLE_REPLICA, "another incarnation"),
        (Box::new(with_epoch(&[(0, 0), (2, 0)])), E::INELIGIBLE_REPLICA, "a fenced broker"),
        (Box::new(with_epoch(&[(0, 0), (1, 0)])), E::NONE, "fits"),
        (Box::new(|_| ()), E::NONE, "no change"),
    ];
    for (change, code, why) in cases {
        let mut image = replicated(0, &[0, 1]);
        let mut partition = partition(&image).clone();
        (partition.leader_epoch, partition.partition_epoch) = (3, 4);
        image.apply(&MetadataRecord::Partition(partition));
        let fenced = crate::metadata::BrokerChangeRecord { node_id: 2, fenced: 1, ..Default::default() };
        image.apply(&MetadataRecord::BrokerChange(fenced));
        let before = image.clone();
        let reply = propose(&mut image, change);
        assert_eq!(reply.topics[0].partitions[0].error_code, code, "{why}");
        assert_eq!(image, before, "{why}");
    }
    let mut image = replicated(0, &[0, 1]);
    assert_eq!(propose(&mut image, |r| r.broker_epoch += 1).error_code, E::STALE_BROKER_EPOCH);
    let twice = propose(&mut image, |request| {
        data(request).new_isr = vec![0];
        let same = data(request).clone();
        request.topics[0].partitions.push(same);
    });
    let codes: Vec<_> = twice.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [E::NONE, E::INVALID_REQUEST], "one proposal a partition");
    assert_eq!(twice.topics[0].partitions[0].partition_epoch, partition(&image).partition_epoch);
}

#[test]
fn a_recovered_leader_takes_followers_again() {
    let mut image = replicated(0, &[0]);
    let recovering = PartitionImage { recovering: true, ..partition(&image).clone() };
    image.apply(&MetadataRecord::Partition(recovering));
    let early = propose(&mut image, |r| r.topics[0].partitions[0].new_isr = vec![0, 1]);
    assert_eq!(early.topics[0].partitions[0].error_code, E::INVALID_REQUEST);
    propose(&mut image, |r| r.topics[0].partitions[0].leader_recovery_state = 0);
    assert!(!partition(&image).recovering);
    assert_eq!(propose_isr(&mut image, &[0, 1]), E::NONE);
    assert_eq!(partition(&image).isr, [0, 1]);
}

fn set(image: &mut MetadataImage, resource: ConfigResource, name: &'static str, value: &'static str) {
    let target = ConfigTarget {
        resource_type: resource.kind.id(),
        resource_name: resource.name,
        replace_all: false,
        changes: vec![ConfigChange { name: name.into(), op: ConfigOp::of_id(0), value: Some(value.into()) }],
    };
    let (records, outcomes) = alter_configs(image, 0, &STATICS, &[target]);
    assert_eq!(outcomes, [Ok(())]);
    records.iter().for_each(|record| image.apply(record));
}

#[test]
fn a_partition_without_a_leader_gets_one_where_unclean_elections_become_allowed() {
    for (resource, value, leader) in [
        (ConfigResource::topic("t"), "true", 1),
        (ConfigResource::topic("t"), "false", -1),
        (ConfigResource::all_brokers(), "true", 1),
    ] {
        let mut image = replicated(-1, &[]);
        let fenced = crate::metadata::BrokerChangeRecord { node_id: 0, fenced: 1, ..Default::default() };
        image.apply(&MetadataRecord::BrokerChange(fenced));
        image.apply(&MetadataRecord::Partition(PartitionImage { elr: vec![0], ..partition(&image).clone() }));
        set(&mut image, resource.clone(), "unclean.leader.election.enable", value);
        let now = partition(&image);
        assert_eq!((now.leader, now.recovering), (leader, leader > 0), "{resource:?} {value}");
    }
}

#[test]
fn a_lower_minimum_takes_the_eligible_ones_away() {
    let cases = [
        (ConfigResource::topic("t"), "1", 0, &[][..]),
        (ConfigResource::topic("t"), "2", 0, &[1]),
        (ConfigResource::topic("t"), "3", 0, &[1]),
        (ConfigResource::topic("t"), "1", -1, &[1]),
        (ConfigResource::all_brokers(), "1", 0, &[]),
    ];
    for (resource, value, leader, elr) in cases {
        let isr = if leader < 0 { vec![] } else { vec![0] };
        let mut image = replicated(leader, &isr);
        image.apply(&MetadataRecord::Partition(PartitionImage { elr: vec![1], ..partition(&image).clone() }));
        if leader < 0 {
            for node_id in 0..3 {
                let fenced = crate::metadata::BrokerChangeRecord { node_id, fenced: 1, ..Default::default() };
                image.apply(&MetadataRecord::BrokerChange(fenced));
            }
        }
        set(&mut image, resource.clone(), "min.insync.replicas", value);
        assert_eq!(partition(&image).elr, elr, "{resource:?} {value} {leader}");
    }
}

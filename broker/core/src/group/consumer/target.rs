//! From a group to what its assignor is given, and from the assignor's answer to records.

use std::collections::HashMap;

use esker_protocol::messages::internal::consumer_groups::ConsumerGroupRecord;

use super::assignor::{Assignor, Candidate, Spec, Subscriptions, Topic, assign};
use super::group::ConsumerGroup;
use super::member::Partitions;
use crate::metadata::MetadataImage;

/// The records of a new target assignment for the group's epoch: the parts that change, then the epoch.
pub(super) fn new_target(
    group: &ConsumerGroup,
    image: &MetadataImage,
    assignor: Assignor,
    now: i64,
) -> Vec<ConsumerGroupRecord> {
    let spec = spec(group, image);
    let mut records = Vec::new();
    for (member, target) in spec.members.iter().zip(assign(assignor, &spec)) {
        if member.current.is_none_or(|current| *current != target) {
            records.push(group.target_record(member.id, &target));
        }
    }
    records.push(group.assignment_record(group.epoch, now));
    records
}

fn spec<'a>(group: &'a ConsumerGroup, image: &MetadataImage) -> Spec<'a> {
    let mut topics = Vec::new();
    let mut places = HashMap::new();
    // Topics that there are none of are left out until they come.
    for (name, topic) in group.topics.keys().filter_map(|name| Some((name, image.topic(name)?))) {
        places.insert(name.as_str(), topics.len());
        topics.push(Topic { id: topic.id, partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX) });
    }
    let candidate = |member: &'a super::member::ConsumerMember| Candidate {
        id: &member.id,
        instance_id: member.instance_id.as_ref(),
        current: group.target_of(&member.id).map(|target| &**target as &Partitions),
    };
    let subscriptions = if group.is_homogeneous() {
        Subscriptions::Same
    } else {
        let of_member = |member: &super::member::ConsumerMember| {
            let resolved = group.resolved.get(&member.regex);
            let names = member.topics.iter().chain(resolved.into_iter().flat_map(|r| &r.topics));
            let mut own: Vec<usize> = names.filter_map(|name| places.get(name.as_str()).copied()).collect();
            own.sort_unstable();
            own.dedup();
            own
        };
        Subscriptions::Each(group.members().map(of_member).collect())
    };
    Spec { members: group.members().map(candidate).collect(), topics, subscriptions }
}

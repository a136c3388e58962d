//! The results of ConsumerGroupDescribe and ListGroups.

use esker_protocol::primitives::Str;

use super::group::ConsumerGroup;
use super::member::{ConsumerMember, Partitions, without_epochs};
use crate::group::state::GroupShard;

/// A group of ConsumerGroupDescribe.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerDescription {
    /// Its state.
    pub state: &'static str,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch of its target assignment.
    pub assignment_epoch: i32,
    /// The assignor that it uses.
    pub assignor: Str,
    /// Its members.
    pub members: Vec<ConsumerMemberDescription>,
}

/// One member of a [`ConsumerDescription`].
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerMemberDescription {
    /// The member.
    pub member: ConsumerMember,
    /// Partitions that the member owns, or has not revoked yet.
    pub assignment: Partitions,
    /// What it is to have.
    pub target: Partitions,
}

impl GroupShard {
    /// A consumer group.
    pub fn describe_consumer(&self, id: &str) -> Option<ConsumerDescription> {
        let group = self.consumers.group(id)?;
        let default = || self.consumers.limits.assignors.first().map(|name| Str::copy(name)).unwrap_or_default();
        Some(ConsumerDescription {
            state: group.state().name(),
            epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            assignor: group.preferred_assignor().cloned().unwrap_or_else(default),
            members: group.members().map(|member| describe(group, member)).collect(),
        })
    }
}

fn describe(group: &ConsumerGroup, member: &ConsumerMember) -> ConsumerMemberDescription {
    let mut assignment = without_epochs(&member.assigned);
    for (topic, partitions) in without_epochs(&member.revoking) {
        let all = assignment.entry(topic).or_default();
        all.extend(partitions);
        all.sort_unstable();
    }
    ConsumerMemberDescription {
        member: member.clone(),
        assignment,
        target: group.target_of(&member.id).map(|target| Partitions::clone(target)).unwrap_or_default(),
    }
}

//! What a decision about a consumer group works on: a clone of the group and its new records, the members that it names.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::consumer_groups::ConsumerGroupRecord;
use esker_protocol::primitives::Str;

use super::group::ConsumerGroup;
use super::member::{ConsumerMember, Partitions};
use crate::controller::Refusal;
use crate::group::record::GroupRecord;

/// A clone of a group with the records that made it differ.
pub(super) struct Draft {
    pub group: ConsumerGroup,
    pub records: Vec<GroupRecord>,
}

impl Draft {
    pub fn new(group: ConsumerGroup) -> Self {
        Self { group, records: Vec::new() }
    }

    pub fn emit(&mut self, record: ConsumerGroupRecord) {
        self.group.apply(&record);
        self.records.push(GroupRecord::Consumer(record));
    }

    /// A member is out.
    pub fn remove(&mut self, member: &Str) {
        self.emit(self.group.current_tombstone(member));
        self.emit(self.group.target_tombstone(member));
        self.emit(self.group.member_tombstone(member));
    }

    /// A static member came back: it replaces its former member, and keeps all partitions of that one.
    pub fn take_over(&mut self, old: &ConsumerMember, new_id: &Str) -> ConsumerMember {
        let mut new = old.clone();
        new.id = new_id.clone();
        (new.epoch, new.previous_epoch) = (0, 0);
        let target = self.group.target_of(&old.id).map(|target| Partitions::clone(target)).unwrap_or_default();
        self.remove(&old.id);
        self.emit(new.metadata_record(&self.group.id));
        self.emit(self.group.target_record(&new.id, &target));
        self.emit(new.current_record(&self.group.id));
        new
    }
}

pub(super) fn unknown_member(group: &ConsumerGroup, member: &str) -> Refusal {
    let message = format!("Member {member} is not a member of group {}.", group.id);
    Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, message)
}

/// A member whose metadata changes, and the consequences.
pub(super) struct Change {
    pub before: ConsumerMember,
    pub after: ConsumerMember,
    /// The member's subscription is another.
    pub subscription: bool,
}

/// The holder of an instance id, if the request is from it.
pub(super) fn static_member<'a>(
    group: &'a ConsumerGroup,
    instance: &Str,
    member_id: &Str,
) -> Result<&'a ConsumerMember, Refusal> {
    let holder = group
        .static_member(instance)
        .ok_or_else(|| Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, format!("Instance id {instance} is unknown.")))?;
    if holder.id != *member_id {
        return Err(Refusal::new(
            ErrorCode::FENCED_INSTANCE_ID,
            format!("Static member {member_id} with instance id {instance} was fenced by member {}.", holder.id),
        ));
    }
    Ok(holder)
}

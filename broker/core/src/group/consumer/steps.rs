//! The steps of a heartbeat that members of both protocols share: room in the group, topics, a new target, reconciliation.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::draft::{Change, Draft};
use super::group::ConsumerGroup;
use super::member::{ConsumerMember, MemberState, Partitions};
use super::reconcile::{MustRejoin, Step};
use super::target::new_target;
use super::timers::Clock;
use crate::controller::Refusal;
use crate::group::decision::{Consequence, Effects};
use crate::group::history::{Cause, Kind};
use crate::group::state::GroupShard;

impl GroupShard {
    /// Whether a member may join: it is in the group already, or there is room for another one.
    pub(super) fn check_room(
        &self,
        group: &ConsumerGroup,
        member_id: &Str,
        instance: Option<&Str>,
    ) -> Result<(), Refusal> {
        let most = self.consumers.limits.max_size;
        let known = instance.is_some_and(|i| group.static_members.contains_key(i)) || group.member(member_id).is_some();
        if known || group.members.len() < most {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {most} members.");
        Err(Refusal::new(ErrorCode::GROUP_MAX_SIZE_REACHED, message))
    }

    /// Looks at the topics if it must; a change of them, or of the members, makes a new epoch.
    pub(super) fn refresh_topics(&self, draft: &mut Draft, cause: Option<Cause>, now: i64, effects: &mut Effects) {
        let consumers = &self.consumers;
        let id = draft.group.id.clone();
        let needed = consumers.groups.get(&id).is_none_or(|live| live.needs_refresh(now));
        if cause.is_none() && !needed {
            return;
        }
        let hash = consumers.hashes.of_group(&consumers.image, &draft.group);
        if cause.is_some() || hash != draft.group.metadata_hash {
            let (from, to) = (draft.group.epoch, draft.group.epoch.saturating_add(1));
            draft.emit(draft.group.epoch_record(to, hash));
            let cause = cause.unwrap_or_else(|| consumers.topic_cause_of(&id));
            effects.record_cause(&id, (Kind::Consumer, from, to), cause, now);
        }
        let until = now.saturating_add(i64::from(i32::MAX));
        effects.update.consequences.push(Consequence::Refreshed(id, until, draft.group.epoch));
        if draft.group.has_partition_metadata {
            draft.emit(draft.group.partition_metadata_tombstone());
        }
    }

    /// Whether the target assignment is behind the group, and the last one is not too fresh.
    pub(super) fn is_target_due(&self, group: &ConsumerGroup, now: i64) -> bool {
        let interval = self.consumers.assignment_interval_ms(&group.id);
        let too_soon = group.assigned_at != 0 && now < group.assigned_at.saturating_add(interval);
        group.assignment_epoch < group.epoch && !(interval > 0 && too_soon)
    }

    /// Makes a new target assignment, if one is due.
    pub(super) fn update_target(&self, draft: &mut Draft, now: i64) {
        let group = &draft.group;
        if !self.is_target_due(group, now) {
            return;
        }
        let records = new_target(group, &self.consumers.image, self.consumers.assignor_of(group), now);
        records.into_iter().for_each(|record| draft.emit(record));
    }

    /// Takes the member one step towards the target.
    pub(super) fn reconcile_member(
        &self,
        draft: &mut Draft,
        change: &Change,
        owned: Option<&Partitions>,
        now: i64,
        effects: &mut Effects,
    ) -> Result<ConsumerMember, Refusal> {
        let (group, member) = (&draft.group, &change.after);
        if !change.subscription && member.is_reconciled_to(group.assignment_epoch) {
            return Ok(member.clone());
        }
        let nothing = Partitions::new();
        let step = Step {
            group,
            image: &self.consumers.image,
            target_epoch: group.assignment_epoch,
            target: group.target_of(&member.id).map_or(&nothing, |target| target),
            subscription_changed: change.subscription,
            owned,
        };
        let next = step.advance(member).map_err(|MustRejoin| {
            let message = "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.";
            Refusal::new(ErrorCode::FENCED_MEMBER_EPOCH, message)
        })?;
        if next != *member {
            draft.emit(next.current_record(&draft.group.id));
            if !next.is_classic() {
                let waits = next.state == MemberState::UnrevokedPartitions;
                let at = waits.then(|| now.saturating_add(i64::from(next.rebalance_timeout_ms)));
                let (group, member) = (draft.group.id.clone(), next.id.clone());
                effects.update.consequences.push(Consequence::Clock(group, member, Clock::Rebalance, at));
            }
        }
        Ok(next)
    }
}

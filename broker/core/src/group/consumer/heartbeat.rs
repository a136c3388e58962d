//! A member's heartbeat: it joins, reports, learns.

use std::collections::BTreeSet;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::consumer_groups::ConsumerGroupRecord;
use esker_protocol::primitives::Str;

use super::group::ConsumerGroup;
use super::leave::static_member;
use super::member::{ConsumerMember, LEFT_FOR_A_WHILE, MemberState, Partitions, plain};
use super::reconcile::{MustRejoin, Step};
use super::request::{HeartbeatReply, HeartbeatRequest};
use super::shard::{Consequence, Out};
use super::target::new_target;
use super::timers::Clock;
use crate::controller::Refusal;
use crate::group::history::{Cause, Kind, Reason};
use crate::group::shard::{Effects, GroupRecord, GroupShard};

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

    /// A static member came back: it takes the place of its former self, with all that it had.
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

/// A member that changes what it says, and what followed from that.
pub(super) struct Change {
    pub before: ConsumerMember,
    pub after: ConsumerMember,
    /// The member's subscription is another.
    pub subscription: bool,
}

impl GroupShard {
    /// ConsumerGroupHeartbeat.
    pub fn consumer_heartbeat(
        &self,
        request: &HeartbeatRequest,
        now: i64,
    ) -> Result<(Effects, HeartbeatReply), Refusal> {
        let (mut out, mut effects) = (Out::default(), Effects::default());
        let reply = self.hear(request, now, &mut out)?;
        out.conclude(&mut effects);
        Ok((effects, reply))
    }

    fn hear(&self, request: &HeartbeatRequest, now: i64, out: &mut Out) -> Result<HeartbeatReply, Refusal> {
        request.check(&self.consumers.limits)?;
        if request.leaves() {
            return self.consumer_leave(request, now, out);
        }
        let joins = request.epoch == 0;
        let mut draft = Draft::new(self.consumer_group_for(&request.group, joins, now, out)?);
        self.check_room(&draft.group, &request.member_id, request.instance_id.as_ref())?;
        let member_id = if request.member_id.is_empty() { &request.fresh } else { &request.member_id };
        let before = match &request.instance_id {
            None => dynamic(&draft.group, member_id, request)?,
            Some(instance) => fixed(&mut draft, member_id, instance, request)?,
        };
        let after = updated(&before, request);
        let new = draft.group.member(&after.id).is_none();
        if after != before {
            draft.emit(after.metadata_record(&draft.group.id));
        }
        let names = after.topics != before.topics;
        let regex = self.update_regexes(&mut draft, &before, &after, now, out)?;
        let assignor = self.assignor_changes(&draft.group, &before, &after);
        let reason = match (names, regex.resolved, assignor) {
            (false, false, false) => None,
            _ if new => Some(Reason::MemberJoined),
            (true, ..) => Some(Reason::SubscriptionChanged),
            (_, true, _) => Some(Reason::RegexChanged),
            (_, _, true) => Some(Reason::AssignorChanged),
        };
        let cause = reason.map(|reason| Cause::by(reason, &after));
        let change = Change { before, after, subscription: names || regex.changed };
        self.refresh(&mut draft, cause, now, out);
        self.retarget(&mut draft, now);
        let member = self.step(&mut draft, &change, request.owned.as_ref(), now, out)?;
        let session = now.saturating_add(self.consumers.session_timeout_ms(&request.group));
        out.consequences.push(Consequence::Clock(
            draft.group.id.clone(),
            member.id.clone(),
            Clock::Session,
            Some(session),
        ));
        let told = joins || request.is_full() || change.before.assigned != member.assigned;
        let reply = HeartbeatReply {
            member_id: member.id.clone(),
            epoch: member.epoch,
            heartbeat_interval_ms: self.consumers.heartbeat_interval_ms(&request.group),
            assignment: told.then(|| plain(&member.assigned)),
        };
        out.records.extend(draft.records);
        Ok(reply)
    }

    /// The group that a member speaks of, or the one that it would make by joining.
    fn consumer_group_for(&self, id: &Str, joins: bool, now: i64, out: &mut Out) -> Result<ConsumerGroup, Refusal> {
        let not_found = |message: String| Err(Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message));
        if let Some(group) = self.consumers.group(id) {
            return Ok(group.clone());
        }
        match (self.groups.get(id), joins) {
            (None, false) => not_found(format!("Consumer group {id} not found.")),
            (Some(_), false) => not_found(format!("Group {id} is not a consumer group.")),
            (None, true) => Ok(ConsumerGroup::new(id.clone())),
            (Some(_), true) => self.upgrade(id, now, out),
        }
    }

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

    /// Whether the group's choice of an assignor changes with a member.
    fn assignor_changes(&self, after: &ConsumerGroup, old: &ConsumerMember, new: &ConsumerMember) -> bool {
        if old.assignor == new.assignor {
            return false;
        }
        let before = self.consumers.group(&after.id);
        let assignor = |group: Option<&ConsumerGroup>| {
            let wished = group.and_then(|group| group.preferred_assignor().map(|name| name.to_string()));
            wished.or_else(|| self.consumers.limits.assignors.first().cloned())
        };
        assignor(before) != assignor(Some(after))
    }

    /// Looks at the topics if it must; a change of them, or of the members, makes a new epoch.
    pub(super) fn refresh(&self, draft: &mut Draft, cause: Option<Cause>, now: i64, out: &mut Out) {
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
            let cause = cause.unwrap_or_else(|| consumers.news_of(&id));
            out.tell(&id, (Kind::Consumer, from, to), cause, now);
        }
        let until = now.saturating_add(i64::from(i32::MAX));
        out.consequences.push(Consequence::Refreshed(id, until, draft.group.epoch));
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
    pub(super) fn retarget(&self, draft: &mut Draft, now: i64) {
        let group = &draft.group;
        if !self.is_target_due(group, now) {
            return;
        }
        let records = new_target(group, &self.consumers.image, self.consumers.assignor_of(group), now);
        records.into_iter().for_each(|record| draft.emit(record));
    }

    /// Takes the member one step towards the target.
    pub(super) fn step(
        &self,
        draft: &mut Draft,
        change: &Change,
        owned: Option<&Partitions>,
        now: i64,
        out: &mut Out,
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
        let next = step.take(member).map_err(|MustRejoin| {
            let message = "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.";
            Refusal::new(ErrorCode::FENCED_MEMBER_EPOCH, message)
        })?;
        if next != *member {
            draft.emit(next.current_record(&draft.group.id));
            if !next.is_classic() {
                let waits = next.state == MemberState::UnrevokedPartitions;
                let at = waits.then(|| now.saturating_add(i64::from(next.rebalance_timeout_ms)));
                let (group, member) = (draft.group.id.clone(), next.id.clone());
                out.consequences.push(Consequence::Clock(group, member, Clock::Rebalance, at));
            }
        }
        Ok(next)
    }
}

fn dynamic(group: &ConsumerGroup, id: &Str, request: &HeartbeatRequest) -> Result<ConsumerMember, Refusal> {
    match group.member(id) {
        Some(member) => check_epoch(member, request).map(|()| member.clone()),
        None if request.epoch == 0 => Ok(ConsumerMember::new(id.clone())),
        None => Err(unknown_member(group, id)),
    }
}

fn fixed(draft: &mut Draft, id: &Str, instance: &Str, request: &HeartbeatRequest) -> Result<ConsumerMember, Refusal> {
    if request.epoch != 0 {
        let member = static_member(&draft.group, instance, id)?;
        check_epoch(member, request)?;
        return Ok(member.clone());
    }
    let Some(holder) = draft.group.static_member(instance).cloned() else {
        return Ok(draft.group.member(id).cloned().unwrap_or_else(|| ConsumerMember::new(id.clone())));
    };
    if !holder.is_classic() && holder.epoch != LEFT_FOR_A_WHILE {
        return Err(Refusal::new(
            ErrorCode::UNRELEASED_INSTANCE_ID,
            format!(
                "Static member {id} with instance id {instance} cannot join the group because the instance id is owned by {} member.",
                holder.id
            ),
        ));
    }
    Ok(draft.take_over(&holder, id))
}

fn check_epoch(member: &ConsumerMember, request: &HeartbeatRequest) -> Result<(), Refusal> {
    let (told, known) = (request.epoch, member.epoch);
    let fenced = |how: &str| {
        Err(Refusal::new(
            ErrorCode::FENCED_MEMBER_EPOCH,
            format!(
                "The consumer group member has a {how} member epoch ({told}) than the one known by the group coordinator ({known}). The member must abandon all its partitions and rejoin."
            ),
        ))
    };
    if told == 0 || told == known {
        return Ok(());
    }
    if told > known {
        return fenced("greater");
    }
    // The answer that told the newer epoch was lost: fine, as long as the member claims nothing that is not its own.
    let subset = request.owned.as_ref().is_some_and(|owned| {
        owned.iter().all(|(topic, partitions)| {
            member.assigned.get(topic).is_some_and(|has| partitions.iter().all(|p| has.contains_key(p)))
        })
    });
    if told == member.previous_epoch && subset { Ok(()) } else { fenced("smaller") }
}

/// The member with what the request says anew.
fn updated(member: &ConsumerMember, request: &HeartbeatRequest) -> ConsumerMember {
    let mut member = member.clone();
    let take = |place: &mut Option<Str>, new: &Option<Str>| {
        if new.is_some() {
            place.clone_from(new);
        }
    };
    take(&mut member.instance_id, &request.instance_id);
    take(&mut member.rack_id, &request.rack_id);
    take(&mut member.assignor, &request.assignor);
    member.rebalance_timeout_ms = request.rebalance_timeout_ms.unwrap_or(member.rebalance_timeout_ms);
    if let Some(topics) = &request.topics {
        member.topics = topics.iter().cloned().collect::<BTreeSet<_>>();
    }
    if let Some(regex) = &request.regex {
        member.regex = regex.clone();
    }
    member.client_id = request.client_id.clone();
    member.client_host = request.client_host.clone();
    member.classic = None;
    member
}

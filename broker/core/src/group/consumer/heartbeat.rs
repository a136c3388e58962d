//! A member's heartbeat: it joins, reports, learns.

use std::collections::BTreeSet;

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::draft::{Change, Draft, static_member, unknown_member};
use super::group::ConsumerGroup;
use super::member::{ConsumerMember, LEFT_FOR_A_WHILE, without_epochs};
use super::request::{HeartbeatReply, HeartbeatRequest};
use super::timers::Clock;
use crate::controller::Refusal;
use crate::group::decision::{Consequence, Effects};
use crate::group::history::{Cause, Reason};
use crate::group::state::GroupShard;

impl GroupShard {
    /// ConsumerGroupHeartbeat.
    pub fn consumer_heartbeat(
        &self,
        request: &HeartbeatRequest,
        now: i64,
    ) -> Result<(Effects, HeartbeatReply), Refusal> {
        let mut effects = Effects::default();
        let reply = self.process_consumer_heartbeat(request, now, &mut effects)?;
        Ok((effects, reply))
    }

    fn process_consumer_heartbeat(
        &self,
        request: &HeartbeatRequest,
        now: i64,
        effects: &mut Effects,
    ) -> Result<HeartbeatReply, Refusal> {
        request.check(&self.consumers.limits)?;
        if request.leaves() {
            return self.consumer_leave(request, now, effects);
        }
        let joins = request.epoch == 0;
        let mut draft = Draft::new(self.consumer_group_for(&request.group, joins, now, effects)?);
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
        let regex = self.update_regexes(&mut draft, &before, &after, now, effects)?;
        let assignor = self.assignor_changes(&draft.group, &before, &after);
        let reason = match (names, regex.resolved, assignor) {
            (false, false, false) => None,
            _ if new => Some(Reason::MemberJoined),
            (true, ..) => Some(Reason::SubscriptionChanged),
            (_, true, _) => Some(Reason::RegexChanged),
            (_, _, true) => Some(Reason::AssignorChanged),
        };
        let cause = reason.map(|reason| Cause::of_member(reason, &after));
        let change = Change { before, after, subscription: names || regex.changed };
        self.refresh_topics(&mut draft, cause, now, effects);
        self.update_target(&mut draft, now);
        let member = self.reconcile_member(&mut draft, &change, request.owned.as_ref(), now, effects)?;
        let session = now.saturating_add(self.consumers.session_timeout_ms(&request.group));
        effects.update.consequences.push(Consequence::Clock(
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
            assignment: told.then(|| without_epochs(&member.assigned)),
        };
        effects.records.extend(draft.records);
        Ok(reply)
    }

    /// The group of a member's request, or the group that its join creates.
    fn consumer_group_for(
        &self,
        id: &Str,
        joins: bool,
        now: i64,
        effects: &mut Effects,
    ) -> Result<ConsumerGroup, Refusal> {
        let not_found = |message: String| Err(Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message));
        if let Some(group) = self.consumers.group(id) {
            return Ok(group.clone());
        }
        match (self.groups.get(id), joins) {
            (None, false) => not_found(format!("Consumer group {id} not found.")),
            (Some(_), false) => not_found(format!("Group {id} is not a consumer group.")),
            (None, true) => Ok(ConsumerGroup::new(id.clone())),
            (Some(_), true) => self.upgrade(id, now, effects),
        }
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
    // The response with the newer epoch was lost. That is allowed as long as the member claims only partitions that it owns.
    let subset = request.owned.as_ref().is_some_and(|owned| {
        owned.iter().all(|(topic, partitions)| {
            member.assigned.get(topic).is_some_and(|has| partitions.iter().all(|p| has.contains_key(p)))
        })
    });
    if told == member.previous_epoch && subset { Ok(()) } else { fenced("smaller") }
}

/// The member with the changed fields of the request.
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

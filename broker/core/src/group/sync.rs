//! SyncGroup, Heartbeat and LeaveGroup.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::classic::{ClassicGroup, State};
use super::decision::{Effects, Reply, Stored};
use super::history::{Cause, Leaving};
use super::request::{Identity, LeaveReply, SyncReply, SyncRequest};
use super::state::GroupShard;
use crate::coordinator::Token;

impl GroupShard {
    /// A member requests its assignment; the leader sends the assignments of all members.
    pub fn sync(&self, request: SyncRequest, token: Token, now: i64) -> Effects {
        let mut effects = Effects::default();
        if self.is_consumer_group(&request.group) {
            return self.classic_syncs_with_consumer(&request, token, now).unwrap_or_else(|error| {
                let replies = vec![(token, Reply::Sync(SyncReply::failed(error)))];
                Effects { replies, ..Effects::default() }
            });
        }
        let mut group = self.groups.get(&request.group).cloned();
        let outcome = match &mut group {
            _ if request.group.is_empty() => Err(ErrorCode::INVALID_GROUP_ID),
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(group) => group.sync(&request, token, now, &mut effects),
        };
        match (outcome, group) {
            (Ok(()), Some(group)) => effects.update.replace_group(group),
            (Ok(()), None) => {}
            (Err(error), _) => effects.replies.push((token, Reply::Sync(SyncReply::failed(error)))),
        }
        effects
    }

    /// Handles a heartbeat of a member.
    pub fn heartbeat(&self, group: &str, identity: &Identity, now: i64) -> (Effects, ErrorCode) {
        let mut effects = Effects::default();
        let code = self.decide_heartbeat(group, identity, now, &mut effects);
        (effects, code)
    }

    fn decide_heartbeat(&self, group: &str, identity: &Identity, now: i64, effects: &mut Effects) -> ErrorCode {
        if group.is_empty() {
            return ErrorCode::INVALID_GROUP_ID;
        }
        if self.is_consumer_group(group) {
            return self.classic_heartbeat_to_consumer(group, identity, now, effects);
        }
        let Some(group) = self.groups.get(group) else { return ErrorCode::UNKNOWN_MEMBER_ID };
        let checked = group.check_member(&identity.member_id, identity.instance_id.as_ref());
        let Some(member) = group.members.get(&identity.member_id) else {
            return checked.err().unwrap_or(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        match (checked, group.state) {
            (Err(error), _) => return error,
            _ if identity.generation != group.generation => return ErrorCode::ILLEGAL_GENERATION,
            (Ok(()), State::Empty) => return ErrorCode::UNKNOWN_MEMBER_ID,
            _ => {}
        }
        effects.update.extend_session(&group.id, &member.id, member.session_from(now));
        match group.state {
            State::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            _ => ErrorCode::NONE,
        }
    }

    /// As [`GroupShard::leave_with_reasons`], without words.
    #[cfg(test)]
    pub(crate) fn leave(
        &self,
        group_id: &Str,
        members: &[(Str, Option<Str>)],
        now: i64,
    ) -> (Result<Vec<LeaveReply>, ErrorCode>, Effects) {
        let silent = |(id, instance): &(Str, Option<Str>)| Leaving {
            member_id: id.clone(),
            instance_id: instance.clone(),
            client_reason: None,
        };
        self.leave_with_reasons(group_id, &members.iter().map(silent).collect::<Vec<_>>(), now)
    }

    /// Members leave, or are made to.
    pub fn leave_with_reasons(
        &self,
        group_id: &Str,
        members: &[Leaving],
        now: i64,
    ) -> (Result<Vec<LeaveReply>, ErrorCode>, Effects) {
        let mut effects = Effects::default();
        if group_id.is_empty() {
            return (Err(ErrorCode::INVALID_GROUP_ID), effects);
        }
        if self.is_consumer_group(group_id) {
            let replies = self.classic_leaves_consumer(group_id, members, now, &mut effects);
            return (Ok(replies), effects);
        }
        let limits = &self.limits;
        let mut replies = Vec::new();
        let mut group = self.groups.get(group_id).cloned();
        for leaving in members {
            let Leaving { member_id, instance_id, client_reason } = leaving;
            let error = match &mut group {
                None => ErrorCode::UNKNOWN_MEMBER_ID,
                Some(group) => match group.find_leaving_member(member_id, instance_id.as_ref()) {
                    Ok(Leaver::Pending) => {
                        group.pending.remove(member_id);
                        group.try_complete_join(now, &mut effects);
                        ErrorCode::NONE
                    }
                    Ok(Leaver::Member(id)) => {
                        let why = Cause::new(leaving.reason()).with_client_reason(client_reason.as_ref());
                        group.remove_and_rebalance(&id, why, now, limits, &mut effects);
                        ErrorCode::NONE
                    }
                    Err(error) => error,
                },
            };
            replies.push(LeaveReply { member_id: member_id.clone(), instance_id: instance_id.clone(), error });
        }
        if let Some(group) = group {
            effects.update.replace_group(group);
        }
        (Ok(replies), effects)
    }
}

enum Leaver {
    Pending,
    Member(Str),
}

impl ClassicGroup {
    fn sync(&mut self, request: &SyncRequest, token: Token, now: i64, effects: &mut Effects) -> Result<(), ErrorCode> {
        let identity = &request.identity;
        self.check_member(&identity.member_id, identity.instance_id.as_ref())?;
        if identity.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let other = |asked: &Option<Str>, is: &Option<Str>| asked.is_some() && asked != is;
        if other(&request.protocol_type, &self.protocol_type) || other(&request.protocol, &self.protocol) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let is_leader = self.is_leader(&identity.member_id);
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        let state = self.state;
        let Some(member) = self.member_mut(&identity.member_id) else { return Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        match state {
            State::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Stable => {
                member.refresh(now);
                let assignment = member.assignment.clone();
                let reply = SyncReply { error: ErrorCode::NONE, protocol_type, protocol, assignment };
                effects.replies.push((token, Reply::Sync(reply)));
                Ok(())
            }
            State::CompletingRebalance => {
                if let Some(earlier) = member.sync.replace(token) {
                    let given_up = SyncReply::failed(ErrorCode::REBALANCE_IN_PROGRESS);
                    effects.replies.push((earlier, Reply::Sync(given_up)));
                }
                self.awaiting_sync.remove(&identity.member_id);
                if is_leader {
                    self.store_assignment(&request.assignments, effects);
                }
                Ok(())
            }
        }
    }

    /// The leader's assignment is written; members learn it when that is committed.
    fn store_assignment(&mut self, given: &[(Str, Bytes)], effects: &mut Effects) {
        let mut assignments: BTreeMap<Str, Bytes> = self.members.keys().map(|id| (id.clone(), Bytes::new())).collect();
        for (id, assignment) in given {
            if let Some(place) = assignments.get_mut(id) {
                *place = assignment.clone();
            }
        }
        let mut assigned = self.clone();
        for (id, assignment) in &assignments {
            if let Some(member) = assigned.member_mut(id) {
                member.assignment = assignment.clone();
            }
        }
        effects.records.push(assigned.record());
        effects.stored = Some(Stored { group: self.id.clone(), generation: self.generation, assignments });
    }

    /// The assignment of a generation is committed, or could not be.
    pub(super) fn confirm_assignment(
        &mut self,
        stored: &Stored,
        outcome: Result<(), ErrorCode>,
        now: i64,
        effects: &mut Effects,
    ) {
        if self.state != State::CompletingRebalance || self.generation != stored.generation {
            return;
        }
        if let Err(error) = outcome {
            // The leader tries again.
            return self.fail_syncs(error, effects);
        }
        self.enter_state(State::Stable, now);
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        self.each_member(|member| {
            member.assignment = stored.assignments.get(&member.id).cloned().unwrap_or_default();
            if let Some(token) = member.sync.take() {
                member.refresh(now);
                let reply = SyncReply {
                    error: ErrorCode::NONE,
                    protocol_type: protocol_type.clone(),
                    protocol: protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                effects.replies.push((token, Reply::Sync(reply)));
            }
        });
    }

    fn find_leaving_member(&self, member_id: &Str, instance_id: Option<&Str>) -> Result<Leaver, ErrorCode> {
        if let Some(instance) = instance_id {
            let holder = self.static_members.get(instance).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if !member_id.is_empty() && holder != member_id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
            return Ok(Leaver::Member(holder.clone()));
        }
        if self.pending.contains_key(member_id) {
            return Ok(Leaver::Pending);
        }
        self.check_member(member_id, None).map(|()| Leaver::Member(member_id.clone()))
    }
}

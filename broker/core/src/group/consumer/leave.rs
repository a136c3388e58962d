//! Members leave, for good or for a while, or are put out.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::draft::{Draft, static_member, unknown_member};
use super::member::{LEFT_FOR_A_WHILE, Owned};
use super::request::{HeartbeatReply, HeartbeatRequest};
use crate::controller::Refusal;
use crate::group::decision::Effects;
use crate::group::history::{Cause, Kind, MemberInfo, Reason};
use crate::group::record::GroupRecord;
use crate::group::state::GroupShard;

impl GroupShard {
    pub(super) fn consumer_leave(
        &self,
        request: &HeartbeatRequest,
        now: i64,
        effects: &mut Effects,
    ) -> Result<HeartbeatReply, Refusal> {
        let group = self.consumers.group(&request.group).ok_or_else(|| {
            let why = if self.groups.contains_key(&request.group) { "is not a consumer group." } else { "not found." };
            Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, format!("Group {} {why}", request.group))
        })?;
        let member = match &request.instance_id {
            None => group.member(&request.member_id).ok_or_else(|| unknown_member(group, &request.member_id))?,
            Some(instance) => static_member(group, instance, &request.member_id)?,
        };
        let reply = HeartbeatReply {
            member_id: request.member_id.clone(),
            epoch: request.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        if request.epoch == LEFT_FOR_A_WHILE && request.instance_id.is_some() {
            // The member keeps its partitions until its session ends; a member that joins with its instance id takes them over.
            let mut away = member.clone();
            away.epoch = LEFT_FOR_A_WHILE;
            away.revoking = Owned::new();
            away.assigned.values_mut().flat_map(|partitions| partitions.values_mut()).for_each(|epoch| *epoch = 0);
            effects.records.push(GroupRecord::Consumer(away.current_record(&group.id)));
        } else {
            let (group, member) = (group.id.clone(), member.id.clone());
            self.fence_members(&group, &[(member, Cause::new(Reason::MemberLeft))], now, effects);
        }
        Ok(reply)
    }

    /// Members are out: what they had is free, and the group's epoch rises. If only members of the classic protocol are
    /// left, the group becomes a classic one.
    pub(in crate::group) fn fence_members(&self, id: &Str, members: &[(Str, Cause)], now: i64, effects: &mut Effects) {
        let Some(group) = self.consumers.group(id) else { return };
        if members.is_empty() {
            return;
        }
        let who =
            |(id, cause): &(Str, Cause)| Cause { member: group.member(id).map(MemberInfo::from), ..cause.clone() };
        let causes: Vec<Cause> = members.iter().map(who).collect();
        let (from, to) = (group.epoch, group.epoch.saturating_add(1));
        let members: Vec<Str> = members.iter().map(|(id, _)| id.clone()).collect();
        if self.may_downgrade(group, &members) {
            let group = group.clone();
            self.downgrade(&group, &members, None, Some(Cause::new(Reason::Downgraded)), now, effects);
            causes.into_iter().for_each(|cause| effects.record_cause(id, (Kind::Classic, from, to), cause, now));
            return;
        }
        let mut draft = Draft::new(group.clone());
        causes.into_iter().for_each(|cause| effects.record_cause(id, (Kind::Consumer, from, to), cause, now));
        for member in &members {
            draft.remove(member);
        }
        let unused: Vec<Str> =
            draft.group.resolved.keys().filter(|regex| !draft.group.regexes.contains_key(*regex)).cloned().collect();
        for regex in &unused {
            draft.emit(draft.group.regex_tombstone(regex));
        }
        let consumers = &self.consumers;
        let hash = consumers.hashes.of_group(&consumers.image, &draft.group);
        let epoch = draft.group.epoch.saturating_add(1);
        draft.emit(draft.group.epoch_record(epoch, hash));
        if draft.group.members.is_empty() {
            draft.emit(draft.group.assignment_record(epoch, 0));
        }
        effects.records.extend(draft.records);
    }
}

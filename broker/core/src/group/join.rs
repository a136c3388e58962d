//! JoinGroup: which members a group admits, and when a join is answered.

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::classic::{CONSUMER, ClassicGroup, State};
use super::consumer::subscribed_topics;
use super::decision::{Effects, Reply};
use super::history::{Cause, Reason};
use super::limits::GroupLimits;
use super::member::{Member, Protocol};
use super::record::GroupRecord;
use super::request::{JoinReply, JoinRequest, SyncReply};
use super::state::GroupShard;
use crate::coordinator::Token;

/// A newcomer may wait this long for its first generation.
const NEW_MEMBER_TIMEOUT_MS: i64 = 300_000;

impl GroupShard {
    /// A member joins. The answer comes in this or a later call's effects, under `token`.
    pub fn join(&self, request: JoinRequest, token: Token, now: i64) -> Effects {
        let mut effects = Effects::default();
        let mut replaced = None;
        if let Some(group) = self.consumers.group(&request.group) {
            if group.members().next().is_some() {
                return self.classic_joins_consumer(&request, token, now).unwrap_or_else(|refusal| {
                    // As in Kafka the member's id is not repeated.
                    let reply = JoinReply::failed(refusal.code, &Str::default());
                    Effects { replies: vec![(token, Reply::Join(reply))], ..Effects::default() }
                });
            }
            replaced = Some(group);
        }
        match self.try_join(&request, token, now, &mut effects) {
            Ok(group) => {
                // An empty consumer group makes room for a classic one.
                let tombstones = replaced.into_iter().flat_map(|group| group.tombstones());
                effects.records.splice(0..0, tombstones.map(GroupRecord::Consumer));
                effects.update.replace_group(group);
                effects
            }
            Err(error) => {
                let reply = JoinReply::failed(error, &request.member_id);
                Effects { replies: vec![(token, Reply::Join(reply))], ..Effects::default() }
            }
        }
    }

    fn try_join(
        &self,
        request: &JoinRequest,
        token: Token,
        now: i64,
        effects: &mut Effects,
    ) -> Result<ClassicGroup, ErrorCode> {
        if request.group.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        let allowed = self.limits.min_session_timeout_ms..=self.limits.max_session_timeout_ms;
        if !allowed.contains(&request.session_timeout_ms) {
            return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        let mut group = match self.groups.get(&request.group) {
            Some(group) => group.clone(),
            None if !request.member_id.is_empty() => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            None => ClassicGroup::new(request.group.clone(), now),
        };
        let limits = &self.limits;
        if !group.supports(&request.protocol_type, &request.protocols) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if request.member_id.is_empty() {
            group.join_new(request, token, now, limits, effects)?;
        } else {
            group.rejoin(request, token, now, limits, effects)?;
        }
        Ok(group)
    }
}

/// Why a member that joins again makes the group rebalance. A join with unchanged metadata causes a rebalance only if it comes from
/// the leader.
fn rejoin_reason(protocol_type: &str, before: &[Protocol], after: &[Protocol]) -> Reason {
    if before == after {
        return Reason::LeaderRejoined;
    }
    let names = |protocols: &[Protocol]| protocols.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    if names(before) != names(after) {
        return Reason::AssignorChanged;
    }
    let topics = |protocols: &[Protocol]| protocols.first().and_then(|p| subscribed_topics(p.metadata.clone()));
    match (protocol_type == CONSUMER).then(|| (topics(before), topics(after))) {
        Some((Some(before), Some(after))) if before == after => Reason::MetadataChanged,
        _ => Reason::SubscriptionChanged,
    }
}

impl ClassicGroup {
    fn join_new(
        &mut self,
        request: &JoinRequest,
        token: Token,
        now: i64,
        limits: &GroupLimits,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let id = Str::from(format!("{prefix}-{}", request.fresh));
        let holder = request.instance_id.as_ref().and_then(|instance| self.static_members.get(instance)).cloned();
        if let Some(old) = holder {
            return self.replace_static(request, &old, id, token, now, limits, effects);
        }
        if self.members.len() + self.pending.len() >= limits.max_size {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        if request.instance_id.is_none() && request.require_known_member_id {
            self.pending.insert(id.clone(), now.saturating_add(i64::from(request.session_timeout_ms)));
            let reply = JoinReply::failed(ErrorCode::MEMBER_ID_REQUIRED, &id);
            effects.replies.push((token, Reply::Join(reply)));
            return Ok(());
        }
        self.add_and_rebalance(request, id, token, now, limits, effects);
        Ok(())
    }

    fn add_and_rebalance(
        &mut self,
        request: &JoinRequest,
        id: Str,
        token: Token,
        now: i64,
        limits: &GroupLimits,
        effects: &mut Effects,
    ) {
        let member = Member {
            id: id.clone(),
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            session_deadline: now.saturating_add(NEW_MEMBER_TIMEOUT_MS),
            is_new: true,
            join: Some(token),
            sync: None,
        };
        self.pending.remove(&id);
        let joined = Cause::of_member(Reason::MemberJoined, &member);
        self.add(member, &request.protocol_type);
        self.record_newcomer();
        self.rebalance([joined], now, limits, effects);
    }

    /// A static member came back with an empty id: it takes the place of its former self (KIP-345).
    #[allow(clippy::too_many_arguments)]
    fn replace_static(
        &mut self,
        request: &JoinRequest,
        old: &Str,
        id: Str,
        token: Token,
        now: i64,
        limits: &GroupLimits,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let (before_leader, before_vote) = (self.leader.clone(), self.protocol.clone());
        let led = self.is_leader(old);
        let Some(mut member) = self.remove(old) else { return Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        let fenced = ErrorCode::FENCED_INSTANCE_ID;
        effects.replies.extend(member.join.take().map(|t| (t, Reply::Join(JoinReply::failed(fenced, old)))));
        effects.replies.extend(member.sync.take().map(|t| (t, Reply::Sync(SyncReply::failed(fenced)))));
        member.id = id.clone();
        member.client_id = request.client_id.clone();
        member.client_host = request.client_host.clone();
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        member.protocols.clone_from(&request.protocols);
        member.refresh(now);
        let replaced = Cause::of_member(Reason::StaticMemberReplaced, &member);
        self.add(member, &request.protocol_type);
        if led {
            self.leader = Some(id.clone());
        }
        if self.state == State::Stable && self.vote() == before_vote {
            // The assignment stays the same, so no other member must rejoin; the log records the new id. As in Kafka, only a change of the
            // protocol counts, not a change of the member's metadata within it.
            effects.records.push(self.record());
            let skip = led && request.can_skip_assignment;
            let leader = if skip { self.leader.clone() } else { before_leader };
            let mut reply = self.joined(&id, skip);
            reply.leader = leader.unwrap_or_default();
            reply.skip_assignment = skip;
            effects.on_commit.push((token, Reply::Join(reply)));
            return Ok(());
        }
        if let Some(member) = self.member_mut(&id) {
            member.join = Some(token);
        }
        self.rebalance([replaced], now, limits, effects);
        Ok(())
    }

    fn rejoin(
        &mut self,
        request: &JoinRequest,
        token: Token,
        now: i64,
        limits: &GroupLimits,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let id = &request.member_id;
        if self.pending.contains_key(id) {
            if request.instance_id.is_some() {
                return Err(ErrorCode::UNKNOWN_MEMBER_ID);
            }
            self.add_and_rebalance(request, id.clone(), token, now, limits, effects);
            return Ok(());
        }
        self.check_member(id, request.instance_id.as_ref())?;
        let is_leader = self.is_leader(id);
        let state = self.state;
        let Some(member) = self.member_mut(id) else { return Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        let unchanged = member.protocols == request.protocols;
        let current = match state {
            State::CompletingRebalance => unchanged,
            State::Stable => unchanged && !is_leader,
            State::PreparingRebalance => false,
            State::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
        };
        if current {
            member.refresh(now);
            let reply = self.joined(id, is_leader);
            effects.replies.push((token, Reply::Join(reply)));
            return Ok(());
        }
        let reason = rejoin_reason(&request.protocol_type, &member.protocols, &request.protocols);
        member.protocols.clone_from(&request.protocols);
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        member.refresh(now);
        let cause = Cause::of_member(reason, &*member);
        // A client that sends a second request has given up on its first one.
        if let Some(earlier) = member.join.replace(token) {
            let given_up = JoinReply::failed(ErrorCode::REBALANCE_IN_PROGRESS, id);
            effects.replies.push((earlier, Reply::Join(given_up)));
        }
        // A member that rejoins because the group rebalances is no cause.
        let cause = (self.state != State::PreparingRebalance).then_some(cause);
        self.rebalance(cause, now, limits, effects);
        Ok(())
    }
}

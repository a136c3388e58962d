//! Members that speak the classic protocol inside a consumer group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup mean what
//! a heartbeat of the new protocol means. The member's epoch is its generation; REBALANCE_IN_PROGRESS makes it join
//! again, and its assignment comes with the sync.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::consumer_protocol::ConsumerProtocolSubscription;
use esker_protocol::messages::internal::consumer_groups::ClassicMemberMetadata;
use esker_protocol::primitives::Str;

use super::draft::{Change, Draft, static_member, unknown_member};
use super::embedded::{assignment_bytes, classic_protocol, read_subscription};
use super::group::ConsumerGroup;
use super::limits::MigrationPolicy;
use super::member::{ConsumerMember, MemberState, Partitions, without_epochs};
use super::timers::Clock;
use crate::controller::Refusal;
use crate::coordinator::Token;
use crate::group::classic::CONSUMER;
use crate::group::decision::{Consequence, Effects, Reply};
use crate::group::history::{Cause, Leaving, Reason};
use crate::group::request::{Identity, JoinReply, JoinRequest, LeaveReply, SyncReply, SyncRequest};
use crate::group::state::GroupShard;

impl GroupShard {
    /// JoinGroup.
    pub(in crate::group) fn classic_joins_consumer(
        &self,
        request: &JoinRequest,
        token: Token,
        now: i64,
    ) -> Result<Effects, Refusal> {
        let mut effects = Effects::default();
        self.accept_classic_member(request, token, now, &mut effects)?;
        Ok(effects)
    }

    fn accept_classic_member(
        &self,
        request: &JoinRequest,
        token: Token,
        now: i64,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(group) = self.consumers.group(&request.group).cloned() else {
            return Err(Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, "The group is gone."));
        };
        let newcomer = request.member_id.is_empty();
        let member_id = if newcomer { &request.fresh } else { &request.member_id };
        self.check_classic_join(&group, request, member_id)?;
        if newcomer && request.instance_id.is_none() && request.require_known_member_id {
            let reply = JoinReply::failed(ErrorCode::MEMBER_ID_REQUIRED, member_id);
            effects.replies.push((token, Reply::Join(reply)));
            return Ok(());
        }
        let metadata = request.protocols.first().map(|p| p.metadata.clone()).unwrap_or_default();
        let subscription = read_subscription(metadata).map_err(|_| {
            refuse_protocol("Malformed embedded consumer protocol in subscription deserialization.".to_owned())
        })?;
        let holder = request.instance_id.as_ref().and_then(|instance| group.static_member(instance)).cloned();
        let mut draft = Draft::new(group);
        let before = match (&request.instance_id, &holder) {
            (None, _) | (Some(_), None) if newcomer || request.instance_id.is_none() => {
                draft.group.member(member_id).cloned().unwrap_or_else(|| ConsumerMember::new(member_id.clone()))
            }
            (Some(_), Some(holder)) if newcomer => draft.take_over(holder, member_id),
            (Some(instance), _) => static_member(&draft.group, instance, member_id)?.clone(),
            (None, _) => return Err(unknown_member(&draft.group, member_id)),
        };
        // The member that it replaces may have been the last of the new protocol.
        let downgrades = holder.as_ref().is_some_and(|holder| self.only_left(&request.group, holder));
        let after = updated(&before, request, &subscription);
        let new = draft.group.member(&after.id).is_none();
        if after != before {
            draft.emit(after.metadata_record(&draft.group.id));
        }
        let regex = self.update_regexes(&mut draft, &before, &after, now, effects)?;
        let bump = after.topics != before.topics || regex.changed;
        let reason = if new { Reason::MemberJoined } else { Reason::SubscriptionChanged };
        let cause = bump.then(|| Cause::of_member(reason, &after));
        let change = Change { before, after, subscription: bump };
        self.refresh_topics(&mut draft, cause, now, effects);
        let owned = self.named(&subscription.owned_partitions);
        let member;
        if downgrades {
            let stale = draft.group.assignment_epoch < draft.group.epoch;
            member = if stale {
                change.after
            } else {
                self.reconcile_member(&mut draft, &change, Some(&owned), now, effects)?
            };
            // The log has the old group: the changes of the draft are in the classic group alone.
            let (Some(old), Some(holder)) = (self.consumers.group(&request.group).cloned(), holder) else {
                return Err(unknown_member(&draft.group, member_id));
            };
            effects.update.consequences.clear();
            effects.events.clear();
            let why = stale.then(|| Cause::of_member(Reason::Downgraded, &member));
            self.downgrade(&old, &[], Some((&member, &holder.id)), why, now, effects);
        } else {
            self.update_target(&mut draft, now);
            member = self.reconcile_member(&mut draft, &change, Some(&owned), now, effects)?;
            effects.records.append(&mut draft.records);
            let session = now.saturating_add(i64::from(request.session_timeout_ms));
            let sync = now.saturating_add(i64::from(request.rebalance_timeout_ms));
            for (clock, at) in [(Clock::Join, None), (Clock::Session, Some(session)), (Clock::Sync, Some(sync))] {
                let (group, id) = (draft.group.id.clone(), member.id.clone());
                effects.update.consequences.push(Consequence::Clock(group, id, clock, at));
            }
        }
        let reply = joined(request, &member);
        effects.on_commit.push((token, Reply::Join(reply)));
        Ok(())
    }

    /// Whether the group may have a member of the classic protocol, room for it, and a protocol in common with it.
    fn check_classic_join(&self, group: &ConsumerGroup, request: &JoinRequest, member_id: &Str) -> Result<(), Refusal> {
        if self.consumers.limits.migration == MigrationPolicy::Disabled {
            return Err(refuse_protocol(format!(
                "Cannot join the consumer group {} with the classic protocol because the group migration is disabled.",
                group.id
            )));
        }
        self.check_room(group, member_id, request.instance_id.as_ref())?;
        if !supports(group, request) {
            return Err(refuse_protocol(format!("Member {member_id}'s protocols are not supported.")));
        }
        Ok(())
    }

    /// Whether all other members use the classic protocol, and the group may become a classic one with this member replaced.
    fn only_left(&self, id: &str, holder: &ConsumerMember) -> bool {
        self.consumers.group(id).is_some_and(|group| {
            !holder.is_classic()
                && group.classic_members() + 1 == group.members.len()
                && self.consumers.limits.migration.downgrades()
                && group.members.len() <= self.limits.max_size
        })
    }

    fn named(&self, owned: &[esker_protocol::messages::consumer_protocol::OwnedPartitions]) -> Partitions {
        let topic = |o: &esker_protocol::messages::consumer_protocol::OwnedPartitions| {
            self.consumers.image.topic(&o.topic).map(|topic| (topic.id, o.partitions.clone()))
        };
        owned.iter().filter_map(topic).collect()
    }

    /// SyncGroup: the assignment, once all that it follows from is committed.
    pub(in crate::group) fn classic_syncs_with_consumer(
        &self,
        request: &SyncRequest,
        token: Token,
        now: i64,
    ) -> Result<Effects, ErrorCode> {
        let mut effects = Effects::default();
        self.answer_sync(request, token, now, &mut effects)?;
        Ok(effects)
    }

    fn answer_sync(
        &self,
        request: &SyncRequest,
        token: Token,
        now: i64,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let group = self.consumers.group(&request.group).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let (member, classic_metadata) = check(group, &request.identity)?;
        let protocol = classic_metadata.supported_protocols.first();
        let other = |asked: &Option<Str>, is: &str| asked.as_ref().is_some_and(|asked| *asked != *is);
        if other(&request.protocol_type, CONSUMER) || other(&request.protocol, protocol.map_or("", |p| p.name.as_str()))
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let clock = |clock, at| Consequence::Clock(group.id.clone(), member.id.clone(), clock, at);
        if group.assignment_epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
            effects.update.consequences.extend(self.must_join(group, member, now));
            let reply = SyncReply::failed(ErrorCode::REBALANCE_IN_PROGRESS);
            effects.replies.push((token, Reply::Sync(reply)));
            return Ok(());
        }
        let session = now.saturating_add(i64::from(classic_metadata.session_timeout_ms));
        effects.update.consequences.extend([clock(Clock::Sync, None), clock(Clock::Session, Some(session))]);
        let metadata = protocol.map(|p| p.metadata.clone()).unwrap_or_default();
        let reply = SyncReply {
            error: ErrorCode::NONE,
            protocol_type: request.protocol_type.clone(),
            protocol: request.protocol.clone(),
            assignment: assignment_bytes(&without_epochs(&member.assigned), &metadata, &self.consumers.image),
        };
        effects.on_commit.push((token, Reply::Sync(reply)));
        Ok(())
    }

    /// The clock that starts with a member's REBALANCE_IN_PROGRESS, unless it runs already.
    fn must_join(&self, group: &ConsumerGroup, member: &ConsumerMember, now: i64) -> Option<Consequence> {
        let runs = self.consumers.groups.get(&group.id)?.timers.of(&member.id, Clock::Join).is_some();
        let at = now.saturating_add(i64::from(member.rebalance_timeout_ms));
        (!runs).then(|| Consequence::Clock(group.id.clone(), member.id.clone(), Clock::Join, Some(at)))
    }

    /// Heartbeat.
    pub(in crate::group) fn classic_heartbeat_to_consumer(
        &self,
        id: &str,
        identity: &Identity,
        now: i64,
        effects: &mut Effects,
    ) -> ErrorCode {
        let Some(group) = self.consumers.group(id) else { return ErrorCode::UNKNOWN_MEMBER_ID };
        let (member, classic_metadata) = match check(group, identity) {
            Ok(found) => found,
            Err(code) => return code,
        };
        let session = now.saturating_add(i64::from(classic_metadata.session_timeout_ms));
        let clock = Consequence::Clock(group.id.clone(), member.id.clone(), Clock::Session, Some(session));
        // With members of the new protocol in the group one of their heartbeats makes the target. Where there is none, Kafka 4.4 leaves
        // partitions that other members revoked unread until a member joins; here a member is made to rejoin, which makes the target.
        let nobody_else = group.classic_members() == group.members.len();
        let rebalances = member.epoch < group.assignment_epoch
            || nobody_else && self.is_target_due(group, now)
            || member.state == MemberState::UnrevokedPartitions
            || member.state == MemberState::UnreleasedPartitions && !waits_for_others(group, member);
        let join = if rebalances { self.must_join(group, member, now) } else { None };
        effects.update.consequences.extend(std::iter::once(clock).chain(join));
        if rebalances { ErrorCode::REBALANCE_IN_PROGRESS } else { ErrorCode::NONE }
    }

    /// LeaveGroup. Members of either protocol may be made to leave.
    pub(in crate::group) fn classic_leaves_consumer(
        &self,
        id: &Str,
        members: &[Leaving],
        now: i64,
        effects: &mut Effects,
    ) -> Vec<LeaveReply> {
        let Some(group) = self.consumers.group(id) else { return Vec::new() };
        let mut leaving: Vec<(Str, Cause)> = Vec::new();
        let mut replies = Vec::new();
        for request in members {
            let Leaving { member_id, instance_id, client_reason } = request;
            let found = match instance_id {
                None => group.member(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(instance) => match group.static_member(instance) {
                    None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
                    Some(holder) if !member_id.is_empty() && holder.id != *member_id => {
                        Err(ErrorCode::FENCED_INSTANCE_ID)
                    }
                    Some(holder) => Ok(holder),
                },
            };
            let error = match found {
                Ok(member) => {
                    if !leaving.iter().any(|(id, _)| *id == member.id) {
                        leaving.push((
                            member.id.clone(),
                            Cause::new(request.reason()).with_client_reason(client_reason.as_ref()),
                        ));
                    }
                    ErrorCode::NONE
                }
                Err(error) => error,
            };
            replies.push(LeaveReply { member_id: member_id.clone(), instance_id: instance_id.clone(), error });
        }
        let id = group.id.clone();
        self.fence_members(&id, &leaving, now, effects);
        replies
    }
}

fn refuse_protocol(message: String) -> Refusal {
    Refusal::new(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, message)
}

/// The member with the metadata of the join.
fn updated(
    before: &ConsumerMember,
    request: &JoinRequest,
    subscription: &ConsumerProtocolSubscription,
) -> ConsumerMember {
    let mut member = before.clone();
    if request.instance_id.is_some() {
        member.instance_id.clone_from(&request.instance_id);
    }
    if let Some(rack) = subscription.rack_id.as_ref().filter(|rack| !rack.is_empty()) {
        member.rack_id = Some(rack.detached());
    }
    member.rebalance_timeout_ms = request.rebalance_timeout_ms;
    member.topics = subscription.topics.iter().map(Str::detached).collect();
    member.regex = Str::default();
    member.client_id = request.client_id.clone();
    member.client_host = request.client_host.clone();
    member.classic = Some(ClassicMemberMetadata {
        session_timeout_ms: request.session_timeout_ms,
        supported_protocols: request.protocols.iter().map(classic_protocol).collect(),
    });
    member
}

/// The answer to a member that has joined.
fn joined(request: &JoinRequest, member: &ConsumerMember) -> JoinReply {
    JoinReply {
        error: ErrorCode::NONE,
        generation: member.epoch,
        protocol_type: Some(CONSUMER.into()),
        protocol: request.protocols.first().map(|p| p.name.clone()),
        leader: Str::default(),
        skip_assignment: false,
        member_id: member.id.clone(),
        members: Vec::new(),
    }
}

/// Whether a protocol of the request is one that all classic members have.
fn supports(group: &ConsumerGroup, request: &JoinRequest) -> bool {
    let common = |name: &Str| {
        let has = |m: &ConsumerMember| {
            m.classic
                .as_ref()
                .is_none_or(|classic_metadata| classic_metadata.supported_protocols.iter().any(|p| p.name == *name))
        };
        group.members().all(has)
    };
    request.protocol_type == CONSUMER && request.protocols.iter().any(|p| common(&p.name))
}

/// The requesting member, and its metadata in the classic protocol.
fn check<'a>(
    group: &'a ConsumerGroup,
    identity: &Identity,
) -> Result<(&'a ConsumerMember, &'a ClassicMemberMetadata), ErrorCode> {
    let member = match &identity.instance_id {
        None => group.member(&identity.member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?,
        Some(instance) => static_member(group, instance, &identity.member_id).map_err(|refusal| refusal.code)?,
    };
    let classic_metadata = member.classic.as_ref().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
    if member.epoch != identity.generation {
        return Err(ErrorCode::ILLEGAL_GENERATION);
    }
    Ok((member, classic_metadata))
}

/// Whether another member still owns a partition of the member's target.
fn waits_for_others(group: &ConsumerGroup, member: &ConsumerMember) -> bool {
    let target = group.target_of(&member.id);
    target.into_iter().flat_map(|target| target.iter()).any(|(topic, partitions)| {
        let has = member.assigned.get(topic);
        partitions.iter().any(|p| has.is_none_or(|has| !has.contains_key(p)) && group.owner(*topic, *p).is_some())
    })
}

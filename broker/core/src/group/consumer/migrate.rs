//! A group changes its kind while its members roll (`group.consumer.migration.policy`): a classic group becomes a consumer
//! group when the first member of the new protocol joins, and goes back when the last one leaves. No member loses a partition
//! on the way: assignments are carried over.

use std::collections::BTreeSet;

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::GroupMetadataKey;
use esker_protocol::messages::internal::consumer_groups::ClassicMemberMetadata;
use esker_protocol::primitives::{DecodeError, Str};

use super::draft::Draft;
use super::embedded::{assignment_bytes, classic_protocol, read_assignment, read_subscription};
use super::group::ConsumerGroup;
use super::member::{ConsumerMember, Partitions, owned_since};
use super::timers::Clock;
use crate::controller::Refusal;
use crate::group::classic::{CONSUMER, ClassicGroup, State};
use crate::group::decision::{Consequence, Effects, Reply};
use crate::group::history::{Cause, Kind, Reason};
use crate::group::member::{Member, Protocol};
use crate::group::record::GroupRecord;
use crate::group::request::{JoinReply, SyncReply};
use crate::group::state::GroupShard;
use crate::metadata::MetadataImage;

fn not_upgraded(id: &Str, why: &str) -> Refusal {
    Refusal::new(
        ErrorCode::GROUP_ID_NOT_FOUND,
        format!("Cannot upgrade classic group {id} to consumer group because {why}."),
    )
}

impl GroupShard {
    /// A classic group becomes a consumer group, as a member of the new protocol joins. Its members stay, and keep
    /// their protocol.
    pub(super) fn upgrade(&self, id: &Str, now: i64, effects: &mut Effects) -> Result<ConsumerGroup, Refusal> {
        let Some(classic) = self.groups.get(id) else { return Ok(ConsumerGroup::new(id.clone())) };
        effects.records.push(GroupRecord::Group(GroupMetadataKey { group: id.clone() }, None));
        if classic.state() == State::Empty {
            return Ok(ConsumerGroup::new(id.clone()));
        }
        let limits = &self.consumers.limits;
        if !limits.migration.upgrades() {
            return Err(not_upgraded(id, "online upgrade is disabled"));
        }
        if classic.protocol_type.as_deref() != Some(CONSUMER) {
            return Err(not_upgraded(id, "the group does not use the consumer embedded protocol"));
        }
        if classic.members.len() > limits.max_size {
            return Err(not_upgraded(id, "the group size exceeds the consumer group maximum size"));
        }
        let mut draft = Draft::new(ConsumerGroup::new(id.clone()));
        let members = convert(classic, &self.consumers.image)?;
        let generation = classic.generation();
        for (member, _) in &members {
            draft.emit(member.metadata_record(id));
        }
        let hash = self.consumers.hashes.of_group(&self.consumers.image, &draft.group);
        draft.emit(draft.group.epoch_record(generation, hash));
        for (member, target) in &members {
            draft.emit(draft.group.target_record(&member.id, target));
        }
        draft.emit(draft.group.assignment_record(generation, 0));
        for (member, _) in &members {
            draft.emit(member.current_record(id));
            let timeout = member.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
            let at = now.saturating_add(i64::from(timeout));
            effects.update.consequences.push(Consequence::Clock(
                id.clone(),
                member.id.clone(),
                Clock::Session,
                Some(at),
            ));
        }
        // Members whose joins are parked retry, and the new group answers them.
        let again = ErrorCode::REBALANCE_IN_PROGRESS;
        for member in classic.members.values() {
            effects.replies.extend(member.join.map(|token| (token, Reply::Join(JoinReply::failed(again, &member.id)))));
            effects.replies.extend(member.sync.map(|token| (token, Reply::Sync(SyncReply::failed(again)))));
        }
        // The join of the member causes the next epoch.
        let to = generation.saturating_add(1);
        effects.record_cause(id, (Kind::Consumer, generation, to), Cause::new(Reason::Upgraded), now);
        effects.records.append(&mut draft.records);
        Ok(draft.group)
    }

    /// Whether a group of which `leaving` go is left with members of the classic protocol alone, and may become one.
    pub(super) fn may_downgrade(&self, group: &ConsumerGroup, leaving: &[Str]) -> bool {
        let gone: BTreeSet<&Str> = leaving.iter().filter(|id| group.member(id).is_some()).collect();
        let classic_gone = gone.iter().filter(|id| group.member(id).is_some_and(ConsumerMember::is_classic)).count();
        let left = group.members.len().saturating_sub(gone.len());
        left > 0
            && group.classic_members().saturating_sub(classic_gone) == left
            && self.consumers.limits.migration.downgrades()
            && left <= self.limits.max_size
    }

    /// The group becomes a classic one, without `leaving`; `joining` takes the place of the static member `replaced`.
    pub(super) fn downgrade(
        &self,
        group: &ConsumerGroup,
        leaving: &[Str],
        joining: Option<(&ConsumerMember, &Str)>,
        rebalance: Option<Cause>,
        now: i64,
        effects: &mut Effects,
    ) {
        effects.records.extend(group.tombstones().into_iter().map(GroupRecord::Consumer));
        let mut classic = ClassicGroup::new(group.id.clone(), now);
        classic.enter_state(State::Stable, now);
        classic.generation = group.epoch;
        let stays = |member: &&ConsumerMember| {
            !leaving.contains(&member.id) && joining.is_none_or(|(_, replaced)| *replaced != member.id)
        };
        let mut members: Vec<(&ConsumerMember, &Str)> = group.members().filter(stays).map(|m| (m, &m.id)).collect();
        members.extend(joining);
        for (member, _) in &members {
            classic.add(to_classic(member, now), &CONSUMER.into());
        }
        classic.protocol = classic.vote();
        let protocol = classic.protocol.clone().unwrap_or_default();
        for (member, target_of) in members {
            if let Some(place) = classic.member_mut(&member.id) {
                let nothing = Partitions::new();
                let target = group.target_of(target_of).map_or(&nothing, |target| target);
                place.assignment = assignment_bytes(target, &place.metadata(&protocol), &self.consumers.image);
            }
        }
        effects.records.push(classic.record());
        if rebalance.is_some() {
            classic.rebalance(rebalance, now, &self.limits, effects);
        }
        effects.update.replace_group(classic);
    }
}

fn to_classic(member: &ConsumerMember, now: i64) -> Member {
    let classic_metadata = member.classic.as_ref();
    let protocols = classic_metadata.into_iter().flat_map(|classic_metadata| &classic_metadata.supported_protocols);
    let mut member = Member {
        id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: classic_metadata.map_or(0, |classic_metadata| classic_metadata.session_timeout_ms),
        protocols: protocols.map(|p| Protocol { name: p.name.clone(), metadata: p.metadata.clone() }).collect(),
        assignment: Bytes::new(),
        session_deadline: 0,
        is_new: false,
        join: None,
        sync: None,
    };
    member.refresh(now);
    member
}

/// Members of a classic group as those of a consumer group, with what they were assigned.
fn convert(classic: &ClassicGroup, image: &MetadataImage) -> Result<Vec<(ConsumerMember, Partitions)>, Refusal> {
    let id = &classic.id;
    let malformed = |_: DecodeError| not_upgraded(id, "the embedded consumer protocol is malformed");
    let custom = || {
        let why = "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default assignor before re-attempting the upgrade";
        not_upgraded(id, why)
    };
    let mut taken = BTreeSet::new();
    let mut members = Vec::new();
    for member in classic.members.values() {
        let mut target = Partitions::new();
        if !member.assignment.is_empty() {
            let assignment = read_assignment(member.assignment.clone()).map_err(malformed)?;
            if assignment.user_data.is_some_and(|data| !data.is_empty()) {
                return Err(custom());
            }
            for assigned in assignment.assigned_partitions {
                let Some(topic) = image.topic(&assigned.topic) else { continue };
                let mut partitions = assigned.partitions;
                partitions.sort_unstable();
                partitions.dedup();
                // Only a custom assignor gives a partition twice; a consumer group cannot.
                if !partitions.iter().all(|partition| taken.insert((topic.id, *partition))) {
                    return Err(custom());
                }
                if !partitions.is_empty() {
                    target.insert(topic.id, partitions);
                }
            }
        }
        let protocol = classic.protocol.clone().or_else(|| member.protocols.first().map(|p| p.name.clone()));
        let metadata = member.metadata(&protocol.unwrap_or_default());
        let subscription = read_subscription(metadata).map_err(malformed)?;
        let mut new = ConsumerMember::new(member.id.clone());
        let generation = classic.generation();
        (new.epoch, new.previous_epoch) = (generation, generation);
        new.instance_id.clone_from(&member.instance_id);
        new.rack_id = subscription.rack_id.filter(|rack| !rack.is_empty());
        new.rebalance_timeout_ms = member.rebalance_timeout_ms;
        new.client_id = member.client_id.clone();
        new.client_host = member.client_host.clone();
        new.topics = subscription.topics.into_iter().collect();
        new.assigned = owned_since(&target, generation);
        new.classic = Some(ClassicMemberMetadata {
            session_timeout_ms: member.session_timeout_ms,
            supported_protocols: member.protocols.iter().map(classic_protocol).collect(),
        });
        members.push((new, target));
    }
    Ok(members)
}

//! A group changes its kind while its members roll (`group.consumer.migration.policy`): a classic group becomes a consumer
//! group when the first member of the new protocol joins, and goes back when the last one leaves. Nobody loses a partition
//! on the way: assignments are carried over.

use std::collections::BTreeSet;

use bytes::Bytes;
use esker_protocol::Message as _;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::consumer_protocol::{
    AssignedPartitions, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use esker_protocol::messages::internal::GroupMetadataKey;
use esker_protocol::messages::internal::consumer_groups::{ClassicMemberMetadata, ClassicProtocol};
use esker_protocol::primitives::{DecodeError, Reader, Str, Writer};

use super::group::ConsumerGroup;
use super::heartbeat::Draft;
use super::member::{ConsumerMember, Partitions, owned_since};
use super::shard::{Consequence, Out};
use super::timers::Clock;
use crate::controller::Refusal;
use crate::group::classic::{ClassicGroup, State};
use crate::group::history::{Cause, Kind, Reason};
use crate::group::join::JoinReply;
use crate::group::member::{Member, Protocol};
use crate::group::offsets::CONSUMER;
use crate::group::shard::{GroupRecord, GroupShard, Reply};
use crate::group::sync::SyncReply;
use crate::metadata::MetadataImage;

fn not_upgraded(id: &Str, why: &str) -> Refusal {
    Refusal::new(
        ErrorCode::GROUP_ID_NOT_FOUND,
        format!("Cannot upgrade classic group {id} to consumer group because {why}."),
    )
}

impl GroupShard {
    /// A classic group becomes a consumer group, as a member of the new protocol joins. Its members stay, and go on with
    /// the protocol that they speak.
    pub(super) fn upgrade(&self, id: &Str, now: i64, out: &mut Out) -> Result<ConsumerGroup, Refusal> {
        let Some(classic) = self.groups.get(id) else { return Ok(ConsumerGroup::new(id.clone())) };
        out.records.push(GroupRecord::Group(GroupMetadataKey { group: id.clone() }, None));
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
            out.consequences.push(Consequence::Clock(id.clone(), member.id.clone(), Clock::Session, Some(at)));
        }
        // Whoever waits for the rest of the group asks again, and is answered by the new one.
        let again = ErrorCode::REBALANCE_IN_PROGRESS;
        for member in classic.members.values() {
            out.replies.extend(member.join.map(|token| (token, Reply::Join(JoinReply::failed(again, &member.id)))));
            out.replies.extend(member.sync.map(|token| (token, Reply::Sync(SyncReply::failed(again)))));
        }
        // The member that joins brings the epoch that follows.
        let to = generation.saturating_add(1);
        out.tell(id, (Kind::Consumer, generation, to), Cause::new(Reason::Upgraded), now);
        out.records.append(&mut draft.records);
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
        out: &mut Out,
    ) {
        out.records.extend(group.tombstones().into_iter().map(GroupRecord::Consumer));
        let mut classic = ClassicGroup::new(group.id.clone(), now);
        classic.enter(State::Stable, now);
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
        out.records.push(classic.record());
        if rebalance.is_some() {
            classic.rebalance(rebalance, now, &self.limits, &mut out.effects);
        }
        out.install = Some(classic);
    }
}

fn to_classic(member: &ConsumerMember, now: i64) -> Member {
    let said = member.classic.as_ref();
    let protocols = said.into_iter().flat_map(|said| &said.supported_protocols);
    let mut member = Member {
        id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: said.map_or(0, |said| said.session_timeout_ms),
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

pub(super) fn classic_protocol(protocol: &Protocol) -> ClassicProtocol {
    ClassicProtocol { name: protocol.name.clone(), metadata: protocol.metadata.clone() }
}

/// A version of the consumer protocol that is read: what is newer is read as the newest that there is.
fn version(r: &mut Reader) -> Result<i16, DecodeError> {
    r.i16().map(|version| version.clamp(0, ConsumerProtocolSubscription::SCHEMA.versions.last))
}

pub(super) fn read_subscription(bytes: Bytes) -> Result<ConsumerProtocolSubscription, DecodeError> {
    let mut r = Reader::new(bytes);
    let version = version(&mut r)?;
    ConsumerProtocolSubscription::decode(&mut r, version)
}

/// The topics that a member of the classic protocol says it subscribes to, sorted.
pub(in crate::group) fn subscribed_topics(metadata: Bytes) -> Option<Vec<Str>> {
    let mut topics = read_subscription(metadata).ok()?.topics;
    topics.sort_unstable();
    Some(topics)
}

fn read_assignment(bytes: Bytes) -> Result<ConsumerProtocolAssignment, DecodeError> {
    let mut r = Reader::new(bytes);
    let version = version(&mut r)?;
    ConsumerProtocolAssignment::decode(&mut r, version)
}

/// An assignment for a member of the classic protocol, in the version that it speaks.
pub(super) fn assignment_bytes(partitions: &Partitions, metadata: &Bytes, image: &MetadataImage) -> Bytes {
    let version = version(&mut Reader::new(metadata.clone())).unwrap_or_default();
    let named = partitions.iter().filter_map(|(topic, list)| Some((image.topic_by_id(*topic)?, list)));
    let assigned =
        named.map(|(topic, list)| AssignedPartitions { topic: topic.name.clone(), partitions: list.clone() });
    let assignment = ConsumerProtocolAssignment { assigned_partitions: assigned.collect(), user_data: None };
    let mut w = Writer::new();
    w.put_i16(version);
    // Names and numbers that were read from a log fit into what is written.
    let _ = assignment.encode(&mut w, version);
    w.finish().into_bytes()
}

//! A classic group: its state, its members, the choice of a protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::{GroupMetadataKey, GroupMetadataValue, MemberMetadata};
use esker_protocol::primitives::Str;
use imbl::{OrdMap, OrdSet};

use super::member::{Member, Protocol};
use super::record::GroupRecord;

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";

/// The states of a classic group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// No members; offsets may be there.
    Empty,
    /// Members are called to join.
    PreparingRebalance,
    /// The coordinator waits for the leader's assignment.
    CompletingRebalance,
    /// All members have an assignment.
    Stable,
}

impl State {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// How a join phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinPhase {
    /// First members of an empty group: wait for more, each newcomer extends it.
    Initial { until: i64, remaining_ms: i64, newcomers: bool },
    /// Until all known members have joined, at the latest then.
    Until(i64),
}

/// A classic group. Decided on a clone, which costs next to nothing: its maps are persistent.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassicGroup {
    /// Its id.
    pub id: Str,
    pub(super) state: State,
    pub(super) state_since: i64,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Str>,
    pub(super) protocol: Option<Str>,
    pub(super) leader: Option<Str>,
    pub(super) members: OrdMap<Str, Arc<Member>>,
    pub(super) static_members: OrdMap<Str, Str>,
    /// Member ids that were issued and have not joined yet, with the time at which they expire.
    pub(super) pending: OrdMap<Str, i64>,
    pub(super) phase: Option<JoinPhase>,
    /// Members that have not synced, and until when they may.
    pub(super) awaiting_sync: OrdSet<Str>,
    pub(super) sync_deadline: Option<i64>,
    /// The log has it.
    in_log: bool,
}

impl ClassicGroup {
    /// An empty group.
    pub fn new(id: Str, now: i64) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since: now,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: OrdMap::new(),
            static_members: OrdMap::new(),
            pending: OrdMap::new(),
            phase: None,
            awaiting_sync: OrdSet::new(),
            sync_deadline: None,
            in_log: false,
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its generation.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Its members.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(|member| &**member)
    }

    pub(super) fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id).map(Arc::make_mut)
    }

    pub(super) fn each_member(&mut self, mut change: impl FnMut(&mut Member)) {
        let members = std::mem::take(&mut self.members).into_iter().map(|(id, mut member)| {
            change(Arc::make_mut(&mut member));
            (id, member)
        });
        self.members = members.collect();
    }

    /// Whether nothing of it is anywhere: no member, no id that may still join, no generation, no record.
    pub(super) fn is_unused(&self) -> bool {
        let unused = self.state == State::Empty && self.members.is_empty() && self.pending.is_empty();
        unused && self.generation == 0 && !self.in_log
    }

    pub(super) fn enter_state(&mut self, state: State, now: i64) {
        self.state = state;
        self.state_since = now;
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// Protocol names that every member offers.
    fn common(&self) -> BTreeSet<&str> {
        let mut lists =
            self.members.values().map(|m| m.protocols.iter().map(|p| p.name.as_str()).collect::<BTreeSet<_>>());
        let first = lists.next().unwrap_or_default();
        lists.fold(first, |common, offered| common.intersection(&offered).copied().collect())
    }

    /// Whether a client with these protocols is compatible with the members of the group.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if protocol_type.is_empty() || protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let common = self.common();
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| common.contains(p.name.as_str()))
    }

    /// The protocol with the most votes: each member votes for the first of its own that all offer.
    pub(super) fn vote(&self) -> Option<Str> {
        let common = self.common();
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|p| common.contains(p.name.as_str())) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        // Of equals the one that the first member likes best, so that the choice does not hang on names.
        let first = self.members.values().next()?;
        first
            .protocols
            .iter()
            .map(|p| &p.name)
            .find(|name| votes.get(name) == Some(&most))
            .cloned()
            .or_else(|| votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone()))
    }

    /// The member that `member_id` (and `instance_id`, if given) names.
    pub(super) fn check_member(&self, member_id: &str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(holder) if *holder != *member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    pub(super) fn add(&mut self, member: Member, protocol_type: &Str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.members.insert(member.id.clone(), Arc::new(member));
    }

    /// Takes a member out. A new leader is found when the next generation begins.
    pub(super) fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        if let Some(instance) = &member.instance_id
            && self.static_members.get(instance).is_some_and(|holder| *holder == *member_id)
        {
            self.static_members.remove(instance);
        }
        self.awaiting_sync.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(Arc::unwrap_or_clone(member))
    }

    /// The record that writes it to the log.
    pub(super) fn record(&self) -> GroupRecord {
        let key = GroupMetadataKey { group: self.id.clone() };
        GroupRecord::Group(key, Some(self.to_record()))
    }

    fn to_record(&self) -> GroupMetadataValue {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.values().map(|m| MemberMetadata {
            member_id: m.id.clone(),
            group_instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            rebalance_timeout: m.rebalance_timeout_ms,
            session_timeout: m.session_timeout_ms,
            subscription: m.metadata(&protocol),
            assignment: m.assignment.clone(),
        });
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.state_since,
            members: members.collect(),
        }
    }

    /// The group as the log has it.
    pub(super) fn from_record(id: Str, value: GroupMetadataValue, now: i64) -> Self {
        let mut group = Self::new(id, value.current_state_timestamp);
        group.in_log = true;
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        group.protocol.clone_from(&value.protocol);
        group.leader = value.leader;
        if !value.members.is_empty() {
            group.state = State::Stable;
        }
        for m in value.members {
            let name = value.protocol.clone().unwrap_or_default();
            let mut member = Member {
                id: m.member_id.clone(),
                instance_id: m.group_instance_id.clone(),
                client_id: m.client_id,
                client_host: m.client_host,
                rebalance_timeout_ms: m.rebalance_timeout,
                session_timeout_ms: m.session_timeout,
                protocols: vec![Protocol { name, metadata: m.subscription }],
                assignment: m.assignment,
                session_deadline: 0,
                is_new: false,
                join: None,
                sync: None,
            };
            member.refresh(now);
            if let Some(instance) = m.group_instance_id {
                group.static_members.insert(instance, m.member_id.clone());
            }
            group.members.insert(m.member_id, Arc::new(member));
        }
        group
    }
}

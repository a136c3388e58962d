//! What DescribeGroups, ListGroups and the history of rebalances show.

use bytes::Bytes;
use esker_protocol::primitives::Str;

use super::classic::{ClassicGroup, State};
use super::consumer::ConsumerGroup;
use super::history::{History, Rebalance};
use super::state::GroupShard;

/// One row of ListGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    /// The group.
    pub group: Str,
    /// E.g. `consumer`; empty for a group of offsets alone.
    pub protocol_type: Str,
    /// Its state.
    pub state: &'static str,
    /// Its type: `classic` or `consumer`.
    pub kind: &'static str,
}

/// A group as metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOverview {
    /// The group.
    pub group: Str,
    /// Its type: `classic` or `consumer`.
    pub kind: &'static str,
    /// E.g. `consumer`.
    pub protocol_type: Str,
    /// The assignor.
    pub protocol: Str,
    /// Its state.
    pub state: &'static str,
    /// How many members it has.
    pub members: usize,
}

/// One group of DescribeGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its state.
    pub state: &'static str,
    /// E.g. `consumer`.
    pub protocol_type: Str,
    /// The chosen protocol; empty while there is none.
    pub protocol: Str,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// One member of a [`GroupDescription`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Member id.
    pub member_id: Str,
    /// `group.instance.id`.
    pub instance_id: Option<Str>,
    /// The client's name for itself.
    pub client_id: Str,
    /// Where it connects from.
    pub client_host: Str,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

impl GroupShard {
    /// All groups.
    pub fn list(&self) -> Vec<GroupSummary> {
        let row = |group: &ClassicGroup| GroupSummary {
            group: group.id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state.name(),
            kind: "classic",
        };
        let consumer = |group: &ConsumerGroup| GroupSummary {
            group: group.id.clone(),
            protocol_type: "consumer".into(),
            state: group.state().name(),
            kind: "consumer",
        };
        let consumers = self.consumers.groups.values().map(|live| consumer(&live.group));
        self.groups.values().map(row).chain(consumers).collect()
    }

    /// All groups with the number of their members, for metrics.
    pub fn overviews(&self) -> Vec<GroupOverview> {
        let classic = self.groups.values().map(|group| GroupOverview {
            group: group.id.clone(),
            kind: "classic",
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            protocol: group.protocol.clone().unwrap_or_default(),
            state: group.state.name(),
            members: group.members.len(),
        });
        let consumers = self.consumers.groups.values().map(|live| GroupOverview {
            group: live.group.id.clone(),
            kind: "consumer",
            protocol_type: "consumer".into(),
            protocol: live.group.preferred_assignor().cloned().unwrap_or_default(),
            state: live.group.state().name(),
            members: live.group.members().count(),
        });
        classic.chain(consumers).collect()
    }

    /// The kind and the state of every group, as in [`GroupSummary`].
    pub fn kinds_and_states(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let classic = self.groups.values().map(|group| ("classic", group.state.name()));
        classic.chain(self.consumers.groups.values().map(|live| ("consumer", live.group.state().name())))
    }

    /// How many offsets are committed.
    pub fn offset_count(&self) -> usize {
        self.offsets.values().map(|offsets| offsets.len()).sum()
    }

    /// One group.
    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        let group = self.groups.get(group)?;
        let settled = group.state == State::Stable;
        let protocol = group.protocol.clone().filter(|_| settled).unwrap_or_default();
        let members = group.members.values().map(|m| MemberDescription {
            member_id: m.id.clone(),
            instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            metadata: if settled { m.metadata(&protocol) } else { Bytes::new() },
            assignment: m.assignment.clone(),
        });
        Some(GroupDescription {
            state: group.state.name(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol,
        })
    }

    /// Every committed offset: group, topic, partition, offset.
    pub fn all_offsets(&self) -> impl Iterator<Item = (&Str, &Str, i32, i64)> {
        self.offsets.iter().flat_map(|(group, offsets)| offsets.iter().map(move |((t, p), c)| (group, t, *p, c.offset)))
    }

    /// The last rebalances of a group, oldest first; `None` if there is no such group.
    pub fn rebalances(&self, group: &str) -> Option<Vec<Rebalance>> {
        let known = self.groups.contains_key(group) || self.is_consumer_group(group);
        let kept = self.histories.get(group).map(History::rebalances);
        kept.or_else(|| known.then(Vec::new))
    }
}

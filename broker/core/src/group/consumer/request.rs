//! ConsumerGroupHeartbeat: the request of a member and its response; errors of a request that do not depend on the group.

use std::collections::BTreeSet;

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::limits::ConsumerLimits;
use super::member::{LEFT, LEFT_FOR_A_WHILE, Partitions};
use crate::controller::Refusal;

/// A heartbeat. What is `None` has not changed.
#[derive(Debug, Clone, PartialEq)]
pub struct HeartbeatRequest {
    /// The version of the request.
    pub version: i16,
    /// The group.
    pub group: Str,
    /// Member id.
    pub member_id: Str,
    /// 0 joins, -1 leaves, -2 leaves for a while, else the epoch of the last response.
    pub epoch: i32,
    /// `group.instance.id`.
    pub instance_id: Option<Str>,
    /// `client.rack`.
    pub rack_id: Option<Str>,
    /// How long it may take to revoke partitions, in ms.
    pub rebalance_timeout_ms: Option<i32>,
    /// Topics that it names.
    pub topics: Option<Vec<Str>>,
    /// A regular expression for more of them; empty for none.
    pub regex: Option<Str>,
    /// The assignor that it wishes for.
    pub assignor: Option<Str>,
    /// What it owns.
    pub owned: Option<Partitions>,
    /// The client's name for itself.
    pub client_id: Str,
    /// Where it connects from.
    pub client_host: Str,
    /// Something unique, for a member that has no id yet.
    pub fresh: Str,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct HeartbeatReply {
    /// Member id.
    pub member_id: Str,
    /// The epoch that it is in now.
    pub epoch: i32,
    /// When it should send the next, in ms.
    pub heartbeat_interval_ms: i32,
    /// The member's assignment, if it changed or the member lost it.
    pub assignment: Option<Partitions>,
}

/// Expressions of a group that are to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegexJob {
    /// The group.
    pub group: Str,
    /// The expressions.
    pub regexes: BTreeSet<Str>,
}

fn invalid<T>(message: &str) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
}

impl HeartbeatRequest {
    /// Whether it leaves, for good or for a while.
    pub fn leaves(&self) -> bool {
        self.epoch == LEFT || self.epoch == LEFT_FOR_A_WHILE
    }

    /// Whether the request is a full one, as after an error: the response is then full too.
    pub fn is_full(&self) -> bool {
        self.rebalance_timeout_ms.is_some() && (self.topics.is_some() || self.regex.is_some()) && self.owned.is_some()
    }

    pub(super) fn check(&self, limits: &ConsumerLimits) -> Result<(), Refusal> {
        let empty = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.is_empty());
        if self.member_id.is_empty() && (self.version >= 1 || self.epoch > 0 || self.epoch == LEFT) {
            return invalid("MemberId can't be empty.");
        }
        if self.group.is_empty() {
            return invalid("GroupId can't be empty.");
        }
        if empty(&self.instance_id) {
            return invalid("InstanceId can't be empty.");
        }
        if empty(&self.rack_id) {
            return invalid("RackId can't be empty.");
        }
        if self.epoch == 0 {
            if self.rebalance_timeout_ms.is_none() {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if self.topics.is_none() && self.regex.is_none() {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
        } else if self.epoch == LEFT_FOR_A_WHILE && self.instance_id.is_none() {
            return invalid("InstanceId can't be null.");
        } else if self.epoch < LEFT_FOR_A_WHILE {
            return invalid("MemberEpoch is invalid.");
        }
        match &self.assignor {
            Some(name) if !limits.assignors.iter().any(|known| *name == known.as_str()) => Err(Refusal::new(
                ErrorCode::UNSUPPORTED_ASSIGNOR,
                format!(
                    "ServerAssignor {name} is not supported. Supported assignors: {}.",
                    limits.assignors.join(", ")
                ),
            )),
            _ => Ok(()),
        }
    }
}

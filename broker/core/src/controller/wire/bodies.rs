//! The bodies of requests and answers, as messages. What is no message of its own is a part of one.

use std::sync::Arc;

use esker_protocol::Message;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{DecodeError, Str, Uuid};

use super::super::adopt::FoundPartition;
use super::super::alter_configs::{ConfigChange, ConfigOp, ConfigOutcome, ConfigTarget};
use super::super::decision::Refusal;
use super::super::join::JoinRequest;
use super::super::peer_requests::NodeConfigs;
use super::super::register::Registration;
use crate::config::{Scope, Statics, lookup};
use crate::metadata::{FeatureRangeRecord, ListenerRecord, PartitionId};

/// A config that a node was started with.
#[derive(Debug, Clone, PartialEq, Message)]
pub(super) struct StaticBody {
    pub name: Str,
    pub value: Str,
}

/// The configs of a node that decisions may depend on: not its passwords, nor names that no rule looks up.
#[derive(Debug, Clone, PartialEq, Message)]
pub(super) struct StaticsBody {
    pub node_id: i32,
    pub configs: Vec<StaticBody>,
}

/// The longest value that a string of a message can hold. Decisions read numbers, flags and short lists; a longer value is none of them.
const MAX_VALUE: usize = i16::MAX as usize;

impl StaticsBody {
    pub(super) fn new(node_id: i32, statics: &Statics) -> Self {
        let travels = |name: &str, value: &str| {
            lookup(Scope::Broker, name).is_some_and(|key| !key.is_sensitive()) && value.len() <= MAX_VALUE
        };
        let configs = statics.0.iter().filter(|(name, value)| travels(name, value));
        let configs = configs.map(|(name, value)| StaticBody { name: Str::copy(name), value: Str::copy(value) });
        Self { node_id, configs: configs.collect() }
    }

    pub(super) fn statics(self) -> Arc<Statics> {
        let configs = self.configs.into_iter().map(|config| (config.name.to_string(), config.value.to_string()));
        Arc::new(Statics(configs.collect()))
    }
}

impl From<&NodeConfigs> for StaticsBody {
    fn from(configs: &NodeConfigs) -> Self {
        Self::new(configs.node_id, &configs.statics)
    }
}

impl From<StaticsBody> for NodeConfigs {
    fn from(body: StaticsBody) -> Self {
        Self { node_id: body.node_id, statics: body.statics() }
    }
}

/// [`Registration`].
#[derive(Debug, Clone, PartialEq, Message)]
pub(super) struct RegistrationBody {
    pub node_id: i32,
    pub incarnation: Uuid,
    pub listeners: Vec<ListenerRecord>,
    #[field(nullable = "0+")]
    pub rack: Option<Str>,
    pub log_dirs: Vec<Uuid>,
    /// A controller of an earlier build does not know it.
    #[field(tag = 0, tagged = "0+")]
    pub cordoned_log_dirs: Vec<Uuid>,
}

impl From<&Registration> for RegistrationBody {
    fn from(it: &Registration) -> Self {
        let Registration { node_id, incarnation, listeners, rack, log_dirs, cordoned_log_dirs } = it.clone();
        Self { node_id, incarnation, listeners, rack, log_dirs, cordoned_log_dirs }
    }
}

impl From<RegistrationBody> for Registration {
    fn from(it: RegistrationBody) -> Self {
        let RegistrationBody { node_id, incarnation, listeners, rack, log_dirs, cordoned_log_dirs } = it;
        Self { node_id, incarnation, listeners, rack, log_dirs, cordoned_log_dirs }
    }
}

/// [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub(super) struct JoinBody {
    pub registration: RegistrationBody,
    pub features: Vec<FeatureRangeRecord>,
    pub record_level: i16,
    pub previous_epoch: i64,
}

impl From<&JoinRequest> for JoinBody {
    fn from(it: &JoinRequest) -> Self {
        let JoinRequest { registration, features, record_level, previous_epoch } = it;
        Self {
            registration: registration.into(),
            features: features.clone(),
            record_level: *record_level,
            previous_epoch: *previous_epoch,
        }
    }
}

impl From<JoinBody> for JoinRequest {
    fn from(it: JoinBody) -> Self {
        let JoinBody { registration, features, record_level, previous_epoch } = it;
        Self { registration: registration.into(), features, record_level, previous_epoch }
    }
}

/// [`FoundPartition`].
#[derive(Debug, Clone, PartialEq, Message)]
pub(super) struct FoundBody {
    pub topic: Str,
    pub partition: i32,
    #[field(nullable = "0+")]
    pub topic_id: Option<Uuid>,
    pub leader_epoch: i32,
    pub producer_id: i64,
}

impl From<&FoundPartition> for FoundBody {
    fn from(it: &FoundPartition) -> Self {
        let FoundPartition { topic, partition, topic_id, leader_epoch, producer_id } = it.clone();
        Self { topic, partition, topic_id, leader_epoch, producer_id }
    }
}

impl From<FoundBody> for FoundPartition {
    fn from(it: FoundBody) -> Self {
        let FoundBody { topic, partition, topic_id, leader_epoch, producer_id } = it;
        Self { topic, partition, topic_id, leader_epoch, producer_id }
    }
}

/// [`ConfigChange`]. The operation has Kafka's number, -1 for one that Kafka does not know.
#[derive(Debug, Clone, PartialEq, Message)]
pub(super) struct ChangeBody {
    pub name: Str,
    pub op: i8,
    #[field(nullable = "0+")]
    pub value: Option<Str>,
}

/// [`ConfigTarget`].
#[derive(Debug, Clone, PartialEq, Message)]
pub(super) struct TargetBody {
    pub resource_type: i8,
    pub resource_name: Str,
    pub replace_all: bool,
    pub changes: Vec<ChangeBody>,
}

impl From<&ConfigTarget> for TargetBody {
    fn from(it: &ConfigTarget) -> Self {
        let changes = it.changes.iter().cloned().map(|ConfigChange { name, op, value }| ChangeBody {
            name,
            op: op.map_or(-1, ConfigOp::id),
            value,
        });
        Self {
            resource_type: it.resource_type,
            resource_name: it.resource_name.clone(),
            replace_all: it.replace_all,
            changes: changes.collect(),
        }
    }
}

impl From<TargetBody> for ConfigTarget {
    fn from(it: TargetBody) -> Self {
        let TargetBody { resource_type, resource_name, replace_all, changes } = it;
        let change = |ChangeBody { name, op, value }| ConfigChange { name, op: ConfigOp::of_id(op), value };
        Self { resource_type, resource_name, replace_all, changes: changes.into_iter().map(change).collect() }
    }
}

/// A replica and its log dir.
#[derive(Debug, Clone, PartialEq, Message)]
pub(super) struct AssignedBody {
    pub topic: Uuid,
    pub partition: i32,
    pub directory: Uuid,
}

impl From<&(PartitionId, Uuid)> for AssignedBody {
    fn from((id, directory): &(PartitionId, Uuid)) -> Self {
        Self { topic: id.topic, partition: id.partition, directory: *directory }
    }
}

impl From<AssignedBody> for (PartitionId, Uuid) {
    fn from(it: AssignedBody) -> Self {
        (PartitionId { topic: it.topic, partition: it.partition }, it.directory)
    }
}

/// `Result<(), Refusal>`: without an error code all is well.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub(super) struct OutcomeBody {
    pub error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
}

impl From<&ConfigOutcome> for OutcomeBody {
    fn from(it: &ConfigOutcome) -> Self {
        match it {
            Ok(()) => Self::default(),
            Err(refusal) => Self { error_code: refusal.code, error_message: Some(refusal.message.clone()) },
        }
    }
}

impl From<OutcomeBody> for ConfigOutcome {
    fn from(it: OutcomeBody) -> Self {
        match it.error_message {
            None if !it.error_code.is_error() => Ok(()),
            message => Err(Refusal { code: it.error_code, message: message.unwrap_or_default() }),
        }
    }
}

/// A topic that is not adopted, and why.
#[derive(Debug, Clone, PartialEq, Message)]
pub(super) struct LeftBody {
    pub name: Str,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
}

/// All of a list as its parts on the wire.
pub(super) fn parts<'a, T, B: From<&'a T>>(list: &'a [T]) -> Vec<B> {
    list.iter().map(B::from).collect()
}

/// And back.
pub(super) fn whole<T: From<B>, B>(parts: Vec<B>) -> Vec<T> {
    parts.into_iter().map(T::from).collect()
}

/// A number in the type that the request has.
pub(super) fn in_range<T: TryFrom<i64>>(value: i64) -> Result<T, DecodeError> {
    T::try_from(value).map_err(|_| DecodeError::Length(value))
}

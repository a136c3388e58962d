//! The requests to the active controller, as data: one struct an API, one enum over all of them, one place that decides.
//!
//! A request owns all that its decision needs. What depends on the node that received it (its defaults for topics, its static configs) and
//! what is random (topic ids, where placement begins) travel in the request, so that every node would decide the same, and a request
//! can be sent to another node as it is. [`decide`] is the only way from a request to records.
//!
//! Must never: read a clock, a random number or a config of the deciding node.

use std::sync::Arc;

use esker_protocol::messages::alter_partition::AlterPartitionResponse;
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use esker_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse};
use esker_protocol::messages::create_topics::{CreateTopicsRequest, CreateTopicsResponse};
use esker_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsResponse};
use esker_protocol::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse};
use esker_protocol::messages::update_features::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use esker_protocol::primitives::Uuid;

use super::adopt::{Adopted, FoundPartition, register_and_adopt};
use super::alter_configs::{ConfigOutcome, ConfigTarget, alter_configs};
use super::balance::Balanced;
use super::create_partitions::create_partitions;
use super::create_topics::{CreateTopicsContext, create_topics};
use super::decision::{Decision, Refusal};
use super::delete_topics::delete_topics;
use super::elect_leaders::elect_leaders;
use super::elections::ElectionRules;
use super::features::{new_cluster_features, update_features};
use super::peer_requests::{
    AllocateNodeId, AlterPartition, AssignDirectories, BalanceLeaders, FailDirectories, FenceBroker,
    ForgetRemovedVoter, GrowInternalTopics, JoinBroker, RemoveVoterIdentity, SettleMinIsr, ShutDownBroker,
    UnfenceBroker, UnregisterBroker,
};
use super::producer_ids::allocate_producer_ids;
use super::reassign::alter_partition_reassignments;
use super::register::Registration;
use crate::config::Statics;
use crate::metadata::MetadataImage;

/// A request to the controller and the type of its answer.
pub trait ControllerRequest: Send + 'static {
    /// Its answer.
    type Reply: Send + 'static;

    /// As one of all requests.
    fn into_request(self) -> Request;

    /// Its answer out of all answers; `None` for the answer to another request.
    fn from_reply(reply: Reply) -> Option<Self::Reply>;
}

/// A broker joins or comes back; the first of a new cluster also sends the partitions that it found in its log dirs.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterBroker {
    /// The broker's registration.
    pub registration: Registration,
    /// The partitions in its log dirs.
    pub found: Vec<FoundPartition>,
    /// Ids for topics whose folders name none, in the order in which they are needed: one a found partition is enough.
    pub fresh_ids: Vec<Uuid>,
}

/// A node's configured defaults for topics that set no value of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicDefaults {
    /// The node.
    pub node_id: i32,
    /// What it was started with.
    pub statics: Arc<Statics>,
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
}

/// CreateTopics.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTopics {
    /// The client's request.
    pub request: CreateTopicsRequest,
    /// The defaults of the node that received it.
    pub defaults: TopicDefaults,
    /// A fresh id for each topic, in order.
    pub topic_ids: Vec<Uuid>,
    /// Where placement begins.
    pub seed: u64,
}

/// CreatePartitions.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatePartitions {
    /// The client's request.
    pub request: CreatePartitionsRequest,
    /// Where placement begins.
    pub seed: u64,
}

/// DeleteTopics.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteTopics {
    /// By name or id.
    pub topics: Vec<DeleteTopicState>,
    /// `delete.topic.enable` of the node that received it.
    pub enabled: bool,
}

/// AlterConfigs and IncrementalAlterConfigs.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterConfigs {
    /// The changes.
    pub targets: Vec<ConfigTarget>,
    /// Only validates the changes.
    pub validate_only: bool,
    /// The node that received it.
    pub node_id: i32,
    /// What that node was started with.
    pub statics: Arc<Statics>,
}

/// ElectLeaders.
#[derive(Debug, Clone, PartialEq)]
pub struct ElectLeaders {
    /// The client's request.
    pub request: ElectLeadersRequest,
    /// The node that received it.
    pub node_id: i32,
    /// What that node was started with: whether unclean elections are allowed.
    pub statics: Arc<Statics>,
}

/// AlterPartitionReassignments.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterPartitionReassignments {
    /// The client's request.
    pub request: AlterPartitionReassignmentsRequest,
    /// The node that received it.
    pub node_id: i32,
    /// What that node was started with.
    pub statics: Arc<Statics>,
}

/// UpdateFeatures.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateFeatures {
    /// The client's request.
    pub request: UpdateFeaturesRequest,
    /// Its version: older ones mean other things.
    pub version: i16,
}

/// A block of producer ids for a broker; the answer is the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocateProducerIds {
    /// The broker.
    pub node_id: i32,
}

/// The features of a new cluster. Changes nothing where the cluster has features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitializeFeatures;

/// How far the metadata is: what was committed before the request is at the offset that comes with the answer. Changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMetadata;

macro_rules! requests {
    ($($name:ident => $reply:ty,)*) => {
        /// Any request to the controller.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)*
        }

        impl Request {
            /// Its name, for logs and metrics.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }
        }

        /// The answer to a [`Request`] of the same name.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Reply {
            $(#[doc = concat!("To [`", stringify!($name), "`].")] $name($reply),)*
        }

        $(impl ControllerRequest for $name {
            type Reply = $reply;

            fn into_request(self) -> Request {
                Request::$name(self)
            }

            fn from_reply(reply: Reply) -> Option<$reply> {
                match reply {
                    Reply::$name(reply) => Some(reply),
                    _ => None,
                }
            }
        })*
    };
}

requests! {
    RegisterBroker => Adopted,
    InitializeFeatures => (),
    CreateTopics => CreateTopicsResponse,
    CreatePartitions => CreatePartitionsResponse,
    DeleteTopics => DeleteTopicsResponse,
    AlterConfigs => Vec<ConfigOutcome>,
    ElectLeaders => ElectLeadersResponse,
    AlterPartitionReassignments => AlterPartitionReassignmentsResponse,
    UpdateFeatures => UpdateFeaturesResponse,
    AllocateProducerIds => i64,
    JoinBroker => Result<i64, Refusal>,
    FenceBroker => Result<bool, Refusal>,
    UnfenceBroker => Result<bool, Refusal>,
    ShutDownBroker => Result<usize, Refusal>,
    UnregisterBroker => Result<(), Refusal>,
    AlterPartition => AlterPartitionResponse,
    AssignDirectories => Vec<Result<(), Refusal>>,
    FailDirectories => Result<(), Refusal>,
    AllocateNodeId => Result<i32, Refusal>,
    RemoveVoterIdentity => Result<(), Refusal>,
    ForgetRemovedVoter => Result<(), Refusal>,
    BalanceLeaders => Balanced,
    ReadMetadata => (),
    SettleMinIsr => (),
    GrowInternalTopics => i64,
}

impl Request {
    /// Sets what only the active controller knows: which registered brokers have a session. To be called before the request is decided.
    pub fn set_alive(&mut self, has_session: impl FnOnce(i32) -> bool) {
        if let Self::JoinBroker(ask) = self {
            ask.alive = has_session(ask.join.registration.node_id);
        }
    }

    /// Whether another node may send it. The rest comes from the deciding node itself: a cluster that begins, sessions, balancing.
    pub fn may_be_forwarded(&self) -> bool {
        match self {
            Self::RegisterBroker(_)
            | Self::InitializeFeatures(_)
            | Self::FenceBroker(_)
            | Self::UnfenceBroker(_)
            | Self::BalanceLeaders(_)
            | Self::GrowInternalTopics(_)
            | Self::SettleMinIsr(_) => false,
            Self::CreateTopics(_)
            | Self::CreatePartitions(_)
            | Self::DeleteTopics(_)
            | Self::AlterConfigs(_)
            | Self::ElectLeaders(_)
            | Self::AlterPartitionReassignments(_)
            | Self::UpdateFeatures(_)
            | Self::AllocateProducerIds(_)
            | Self::JoinBroker(_)
            | Self::ShutDownBroker(_)
            | Self::UnregisterBroker(_)
            | Self::AlterPartition(_)
            | Self::AssignDirectories(_)
            | Self::FailDirectories(_)
            | Self::AllocateNodeId(_)
            | Self::RemoveVoterIdentity(_)
            | Self::ForgetRemovedVoter(_)
            | Self::ReadMetadata(_) => true,
        }
    }

    /// Whether a request whose answer is lost may be sent again: carried out twice it does what it does once.
    pub fn may_be_repeated(&self) -> bool {
        match self {
            // What a broker asks for itself. A block of producer ids that nobody got is no loss; changes of partitions name the state that they are for.
            Self::AllocateProducerIds(_)
            | Self::JoinBroker(_)
            | Self::ShutDownBroker(_)
            | Self::AlterPartition(_)
            | Self::AssignDirectories(_)
            | Self::FailDirectories(_)
            | Self::AllocateNodeId(_)
            | Self::RemoveVoterIdentity(_)
            | Self::ForgetRemovedVoter(_)
            | Self::ReadMetadata(_)
            | Self::RegisterBroker(_)
            | Self::InitializeFeatures(_)
            | Self::FenceBroker(_)
            | Self::UnfenceBroker(_)
            | Self::BalanceLeaders(_)
            | Self::GrowInternalTopics(_)
            | Self::SettleMinIsr(_) => true,
            // What a client asks: its second answer would say that the topic exists.
            Self::CreateTopics(_)
            | Self::CreatePartitions(_)
            | Self::DeleteTopics(_)
            | Self::AlterConfigs(_)
            | Self::ElectLeaders(_)
            | Self::AlterPartitionReassignments(_)
            | Self::UpdateFeatures(_)
            | Self::UnregisterBroker(_) => false,
        }
    }

    /// The broker on whose behalf the request is made, where it is made by a broker for itself: no other node may send it.
    pub fn made_by(&self) -> Option<i32> {
        match self {
            Self::AllocateProducerIds(ask) => Some(ask.node_id),
            Self::JoinBroker(ask) => Some(ask.join.registration.node_id),
            Self::ShutDownBroker(ask) => Some(ask.node_id),
            Self::AlterPartition(ask) => Some(ask.request.broker_id),
            Self::AssignDirectories(ask) => Some(ask.node_id),
            Self::FailDirectories(ask) => Some(ask.node_id),
            _ => None,
        }
    }
}

/// Decides a request over an image.
pub fn decide(image: &MetadataImage, request: &Request) -> Decision<Reply> {
    match request {
        Request::RegisterBroker(ask) => {
            let mut fresh = ask.fresh_ids.iter().copied();
            register_and_adopt(image, ask.registration.clone(), &ask.found, || fresh.next().unwrap_or_default())
                .map(Reply::RegisterBroker)
        }
        Request::InitializeFeatures(InitializeFeatures) => {
            let new = image.features().next().is_none();
            let records = if new { new_cluster_features() } else { Vec::new() };
            Decision { records, reply: Reply::InitializeFeatures(()) }
        }
        Request::CreateTopics(ask) => {
            let ctx = CreateTopicsContext {
                node_id: ask.defaults.node_id,
                statics: &ask.defaults.statics,
                default_partitions: ask.defaults.partitions,
                default_replication_factor: ask.defaults.replication_factor,
                topic_ids: &ask.topic_ids,
                seed: ask.seed,
            };
            create_topics(image, &ctx, &ask.request).map(Reply::CreateTopics)
        }
        Request::CreatePartitions(ask) => create_partitions(image, &ask.request, ask.seed).map(Reply::CreatePartitions),
        Request::DeleteTopics(ask) => delete_topics(image, &ask.topics, ask.enabled).map(Reply::DeleteTopics),
        Request::AlterConfigs(ask) => {
            let (mut records, outcomes) = alter_configs(image, ask.node_id, &ask.statics, &ask.targets);
            if ask.validate_only {
                records.clear();
            }
            Decision { records, reply: Reply::AlterConfigs(outcomes) }
        }
        Request::ElectLeaders(ask) => {
            let rules = ElectionRules { node_id: ask.node_id, statics: &ask.statics };
            elect_leaders(image, rules, &ask.request).map(Reply::ElectLeaders)
        }
        Request::AlterPartitionReassignments(ask) => {
            let rules = ElectionRules { node_id: ask.node_id, statics: &ask.statics };
            alter_partition_reassignments(image, rules, &ask.request).map(Reply::AlterPartitionReassignments)
        }
        Request::UpdateFeatures(ask) => update_features(image, &ask.request, ask.version).map(Reply::UpdateFeatures),
        Request::AllocateProducerIds(ask) => allocate_producer_ids(image, ask.node_id).map(Reply::AllocateProducerIds),
        Request::JoinBroker(ask) => ask.decide(image).map(Reply::JoinBroker),
        Request::FenceBroker(ask) => ask.decide(image).map(Reply::FenceBroker),
        Request::UnfenceBroker(ask) => ask.decide(image).map(Reply::UnfenceBroker),
        Request::ShutDownBroker(ask) => ask.decide(image).map(Reply::ShutDownBroker),
        Request::UnregisterBroker(ask) => ask.decide(image).map(Reply::UnregisterBroker),
        Request::AlterPartition(ask) => ask.decide(image).map(Reply::AlterPartition),
        Request::AssignDirectories(ask) => ask.decide(image).map(Reply::AssignDirectories),
        Request::FailDirectories(ask) => ask.decide(image).map(Reply::FailDirectories),
        Request::AllocateNodeId(ask) => ask.decide(image).map(Reply::AllocateNodeId),
        Request::RemoveVoterIdentity(ask) => ask.decide(image).map(Reply::RemoveVoterIdentity),
        Request::ForgetRemovedVoter(ask) => ask.decide(image).map(Reply::ForgetRemovedVoter),
        Request::BalanceLeaders(ask) => ask.decide(image).map(Reply::BalanceLeaders),
        Request::GrowInternalTopics(ask) => ask.decide(image).map(Reply::GrowInternalTopics),
        Request::SettleMinIsr(ask) => ask.decide(image).map(Reply::SettleMinIsr),
        Request::ReadMetadata(ReadMetadata) => Decision { records: Vec::new(), reply: Reply::ReadMetadata(()) },
    }
}

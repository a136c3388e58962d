//! Metadata (3): topics with their leaders, and the brokers.
//!
//! v0 requests all topics with an empty list, v1+ with a null list; v4 may forbid automatic creation of a topic, v7 added
//! leader epochs (KIP-320), v8 authorized operations (KIP-430), v10 topic ids, v12 topics by id (KIP-516). A topic that is
//! created automatically is answered as unknown this time: the client retries, as with Kafka.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::controller::is_online;
use esker_core::internal_topics::is_internal;
use esker_core::metadata::{MetadataImage, PartitionImage, TopicImage, check_topic_name};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use super::{create_topics, operations};
use crate::broker::Broker;
use crate::task::spawn;

/// The Metadata API.
pub struct Metadata;

impl Handler for Metadata {
    type Request = MetadataRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=13;

    fn handle(ctx: RequestContext, request: MetadataRequest) -> Staged<MetadataResponse> {
        let image = ctx.broker.metadata.image();
        let named = request.topics.as_deref().unwrap_or_default();
        // One id is enough to have all looked up by id.
        let by_id = named.iter().any(|topic| !topic.topic_id.is_zero());
        if named.iter().any(|topic| !can_be_asked(topic, by_id, ctx.api_version)) {
            return Staged::Ready(malformed(named));
        }
        let mut missing = Vec::new();
        let mut topics: Vec<_> = if request.topics.is_none() || named.is_empty() && ctx.api_version == 0 {
            image.topics().map(|topic| known(&ctx, &image, topic)).collect()
        } else {
            // A topic that is requested twice is answered once.
            let mut seen = HashSet::new();
            let wanted = named.iter().filter(|topic| topic.topic_id.is_zero() != by_id);
            let wanted = wanted.filter(|topic| seen.insert((topic.topic_id, &topic.name)));
            wanted.map(|topic| describe(&ctx, &image, topic, &mut missing)).collect()
        };
        if request.include_topic_authorized_operations {
            for topic in topics.iter_mut().filter(|topic| topic.name.is_some()) {
                topic.topic_authorized_operations = operations::TOPIC;
            }
        }
        if ctx.broker.config.auto_create_topics && (request.allow_auto_topic_creation || ctx.api_version < 4) {
            create_missing(&ctx.broker, missing);
        }
        let with_cluster = request.include_cluster_authorized_operations;
        Staged::Ready(MetadataResponse {
            brokers: brokers(&ctx, &image),
            cluster_id: Some(ctx.broker.cluster_id.clone()),
            controller_id: ctx.broker.controller_id(),
            topics,
            cluster_authorized_operations: if with_cluster { operations::CLUSTER } else { i32::MIN },
            ..MetadataResponse::default()
        })
    }
}

fn brokers(ctx: &RequestContext, image: &MetadataImage) -> Vec<MetadataResponseBroker> {
    image
        .live_brokers()
        .filter_map(|broker| ctx.endpoint_of(broker.node_id))
        .map(|e| MetadataResponseBroker { node_id: e.node_id, host: e.host, port: e.port, rack: e.rack })
        .collect()
}

/// Whether a version lets a topic be named so: by id from version 12 on, else by a name.
fn can_be_asked(topic: &MetadataRequestTopic, by_id: bool, version: i16) -> bool {
    if by_id { version >= 12 } else { topic.name.is_some() }
}

/// All of the request is refused.
fn malformed(topics: &[MetadataRequestTopic]) -> MetadataResponse {
    let refused = |topic: &MetadataRequestTopic| MetadataResponseTopic {
        error_code: ErrorCode::INVALID_REQUEST,
        name: Some(topic.name.clone().unwrap_or_default()),
        topic_id: topic.topic_id,
        ..MetadataResponseTopic::default()
    };
    MetadataResponse { topics: topics.iter().map(refused).collect(), ..MetadataResponse::default() }
}

fn describe(
    ctx: &RequestContext,
    image: &MetadataImage,
    wanted: &MetadataRequestTopic,
    missing: &mut Vec<Str>,
) -> MetadataResponseTopic {
    if !wanted.topic_id.is_zero() {
        return image.topic_by_id(wanted.topic_id).map_or_else(
            || MetadataResponseTopic {
                error_code: ErrorCode::UNKNOWN_TOPIC_ID,
                name: None,
                topic_id: wanted.topic_id,
                ..MetadataResponseTopic::default()
            },
            |topic| known(ctx, image, topic),
        );
    }
    let name = wanted.name.clone().unwrap_or_default();
    let failed = |error_code| MetadataResponseTopic {
        error_code,
        is_internal: is_internal(&name),
        name: Some(name.clone()),
        ..MetadataResponseTopic::default()
    };
    match image.topic(&name) {
        Some(topic) => known(ctx, image, topic),
        None if check_topic_name(&name).is_err() => failed(ErrorCode::INVALID_TOPIC_EXCEPTION),
        None => {
            missing.push(name.detached());
            failed(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
    }
}

fn known(ctx: &RequestContext, image: &MetadataImage, topic: &TopicImage) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: topic.partitions.iter().map(|p| partition(ctx, image, p)).collect(),
        ..MetadataResponseTopic::default()
    }
}

fn partition(ctx: &RequestContext, image: &MetadataImage, p: &PartitionImage) -> MetadataResponsePartition {
    let error_code = if p.leader < 0 {
        ErrorCode::LEADER_NOT_AVAILABLE
    } else if ctx.endpoint_of(p.leader).is_none() {
        // The leader has no listener of this connection's name.
        if ctx.api_version >= 6 { ErrorCode::LISTENER_NOT_FOUND } else { ErrorCode::LEADER_NOT_AVAILABLE }
    } else {
        ErrorCode::NONE
    };
    MetadataResponsePartition {
        error_code,
        partition_index: p.partition,
        leader_id: p.leader,
        leader_epoch: p.leader_epoch,
        replica_nodes: p.replicas.clone(),
        isr_nodes: p.isr.clone(),
        offline_replicas: offline_replicas(image, p),
    }
}

/// Replicas whose broker is not there, or whose log dir failed.
pub(super) fn offline_replicas(image: &MetadataImage, p: &PartitionImage) -> Vec<i32> {
    p.replicas.iter().copied().filter(|id| !is_online(image, p, *id)).collect()
}

/// Creates requested topics in the background. A second request meanwhile does no harm: the second creation finds
/// the topic.
fn create_missing(broker: &Arc<Broker>, names: Vec<Str>) {
    let names: Vec<_> = names.into_iter().filter(|name| !is_internal(name)).collect();
    if names.is_empty() {
        return;
    }
    let topics = names.into_iter().map(|name| CreatableTopic {
        name,
        num_partitions: -1,
        replication_factor: -1,
        ..CreatableTopic::default()
    });
    let request = CreateTopicsRequest { topics: topics.collect(), ..CreateTopicsRequest::default() };
    let broker = Arc::clone(broker);
    spawn(async move {
        if let Err(error) = create_topics::create(&broker, request).await {
            tracing::warn!(%error, "topics could not be created on demand");
        }
    });
}

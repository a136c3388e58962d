//! FindCoordinator (10): which broker coordinates a group. v1 added kinds of keys (KIP-98), v4 several keys at once (KIP-699),
//! v6 share groups (KIP-932). The internal topic is created by the first request for it; until it exists the answer is "not
//! available", and clients retry. It gets `offsets.topic.replication.factor` or `transaction.state.log.replication.factor` replicas (3), or as
//! many as there are brokers; those that are about to come are waited for, for a while. Share groups are not served yet and answered so.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use esker_core::config::{Scope, lookup, resolve_broker};
use esker_core::controller::usable_brokers;
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use esker_protocol::primitives::Str;

use tokio::time::Instant;

use super::create_topics;
use super::handler::{Handler, RequestContext, Staged};
use crate::broker::{Broker, Endpoint};
use crate::task::spawn;
use esker_core::internal_topics::{OFFSETS_TOPIC, TRANSACTION_TOPIC, replicas_of_internal};

/// The FindCoordinator API.
pub struct FindCoordinator;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

impl Handler for FindCoordinator {
    type Request = FindCoordinatorRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    fn handle(ctx: RequestContext, request: FindCoordinatorRequest) -> Staged<FindCoordinatorResponse> {
        let image = ctx.broker.metadata.image();
        let keys = if ctx.api_version >= 4 { request.coordinator_keys } else { vec![request.key] };
        let mut found = keys.into_iter().map(|key| find(&ctx, &image, request.key_type, key));
        let mut response = FindCoordinatorResponse::default();
        if ctx.api_version >= 4 {
            response.coordinators = found.collect();
        } else if let Some(one) = found.next() {
            response.error_code = one.error_code;
            response.error_message = one.error_message;
            response.node_id = one.node_id;
            response.host = one.host;
            response.port = one.port;
        }
        Staged::Ready(response)
    }
}

fn find(ctx: &RequestContext, image: &MetadataImage, kind: i8, key: Str) -> Coordinator {
    let failed = |error_code: ErrorCode, message: &'static str| Coordinator {
        key: key.clone(),
        node_id: -1,
        host: Str::default(),
        port: -1,
        error_code,
        error_message: Some(message.into()),
    };
    let broker = &ctx.broker;
    let (topic, partition) = match kind {
        GROUP => (OFFSETS_TOPIC, broker.groups.partition_for(image, &key)),
        TRANSACTION => (TRANSACTION_TOPIC, broker.transactions.partition_for(image, &key)),
        SHARE => return failed(ErrorCode::INVALID_REQUEST, "Share groups are not served by this version of Esker."),
        _ => return failed(ErrorCode::INVALID_REQUEST, "Unknown kind of coordinator."),
    };
    let Some(found) = image.topic(topic) else {
        create_internal_topic(broker, image, topic);
        return failed(ErrorCode::COORDINATOR_NOT_AVAILABLE, "The coordinator is not available.");
    };
    let partition = partition.and_then(|p| usize::try_from(p).ok());
    let leader = partition.and_then(|p| found.partitions.get(p)).map_or(-1, |p| p.leader);
    match ctx.endpoint_of(leader) {
        Some(Endpoint { node_id, host, port, .. }) => {
            Coordinator { key, node_id, host, port, error_code: ErrorCode::NONE, error_message: None }
        }
        None => failed(ErrorCode::COORDINATOR_NOT_AVAILABLE, "The coordinator is not available."),
    }
}

/// `min.insync.replicas` of a topic that does not set its own.
fn inherited_min_isr(broker: &Broker, image: &MetadataImage) -> i32 {
    let key = lookup(Scope::Broker, "min.insync.replicas");
    let resolved = key.map(|key| resolve_broker(image, broker.node_id, &broker.config.statics, key));
    resolved.as_ref().and_then(|resolved| resolved.value()?.trim().parse().ok()).unwrap_or(1)
}

/// How long the first request for a coordinator may wait for brokers of a cluster that is forming, or that restart.
const EXPECTED: Duration = Duration::from_secs(10);

/// Makes the topic of a coordinator in the background, unless more brokers are expected.
pub(super) fn create_internal_topic(broker: &Arc<Broker>, image: &MetadataImage, topic: &'static str) {
    let config = &broker.config;
    let [of_groups, of_transactions] = &broker.first_coordinator_requests;
    let (first, configured) = match topic {
        TRANSACTION_TOPIC => (of_transactions, config.transaction_topic_replication_factor),
        _ => (of_groups, config.offsets_topic_replication_factor),
    };
    let waited = first.get_or_init(Instant::now).elapsed() >= EXPECTED;
    let usable = usable_brokers(image);
    let Some(replication_factor) = replicas_of_internal(image, usable, configured, config.join.len(), waited) else {
        return;
    };
    // A minimum above the number of live replicas could not be met, and nothing could be written. Brokers that have registered are live in a moment.
    let live = i32::try_from(image.live_brokers().count()).unwrap_or(i32::MAX).max(1);
    let min_isr = |configured: i32| {
        let needed = configured.min(i32::from(replication_factor));
        (waited || needed <= live).then_some(needed.min(live))
    };
    let set = |name: &'static str, value: String| CreatableTopicConfig { name: name.into(), value: Some(value.into()) };
    let creatable = if topic == TRANSACTION_TOPIC {
        let Some(min_isr) = min_isr(config.transaction_topic_min_isr) else { return };
        CreatableTopic {
            num_partitions: config.transaction_topic_partitions,
            replication_factor,
            configs: vec![
                set("cleanup.policy", "compact".to_owned()),
                set("compression.type", "uncompressed".to_owned()),
                set("min.insync.replicas", min_isr.to_string()),
                set("segment.bytes", config.transaction_topic_segment_bytes.to_string()),
                set("unclean.leader.election.enable", "false".to_owned()),
            ],
            ..CreatableTopic::default()
        }
    } else {
        let mut configs = vec![
            set("cleanup.policy", "compact".to_owned()),
            set("compression.type", "producer".to_owned()),
            set("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
        ];
        // As Kafka it has the brokers' minimum, unless that is more than there are replicas.
        let inherited = inherited_min_isr(broker, image);
        let Some(min_isr) = min_isr(inherited) else { return };
        if min_isr < inherited {
            configs.push(set("min.insync.replicas", min_isr.to_string()));
        }
        let num_partitions = config.offsets_topic_partitions;
        CreatableTopic { num_partitions, replication_factor, configs, ..CreatableTopic::default() }
    };
    let creatable = CreatableTopic { name: topic.into(), ..creatable };
    let request = CreateTopicsRequest { topics: vec![creatable], ..CreateTopicsRequest::default() };
    let broker = Arc::clone(broker);
    spawn(async move {
        if let Err(error) = create_topics::create(&broker, request).await {
            tracing::warn!(%error, "{topic} could not be created");
        }
    });
}

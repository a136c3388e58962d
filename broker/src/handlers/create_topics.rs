//! CreateTopics (19, KIP-4): creates topics. v4 takes the broker's defaults for -1 (KIP-464), v5 returns the resulting configs
//! (KIP-525), v7 the topic's id (KIP-516). The answer comes when the topics are served here.

use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::controller::{self, TopicDefaults};
use esker_protocol::messages::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};
use esker_protocol::primitives::Str;
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::request_timeout;
use crate::broker::Broker;
use crate::controller::SubmitError;
use crate::error::KafkaError;

/// The CreateTopics API.
pub struct CreateTopics;

impl Handler for CreateTopics {
    type Request = CreateTopicsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=7;

    fn handle(ctx: RequestContext, request: CreateTopicsRequest) -> Staged<CreateTopicsResponse> {
        Staged::Later(
            async move {
                let names: Vec<Str> = request.topics.iter().map(|t| t.name.clone()).collect();
                create(&ctx.broker, request).await.unwrap_or_else(|error| {
                    let error_code = error.code();
                    let failed = |name| CreatableTopicResult {
                        name,
                        error_code,
                        error_message: Some(Str::from(error.to_string())),
                        ..CreatableTopicResult::default()
                    };
                    CreateTopicsResponse { topics: names.into_iter().map(failed).collect(), ..Default::default() }
                })
            }
            .boxed(),
        )
    }
}

/// Makes topics and waits until they are served here. Used for requests, for topics on demand and for internal topics.
pub(crate) async fn create(
    broker: &Arc<Broker>,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, SubmitError> {
    let (config, node) = (&broker.config, &broker.node);
    let defaults = TopicDefaults {
        node_id: config.node_id,
        statics: Arc::clone(&config.statics),
        partitions: config.num_partitions,
        replication_factor: config.default_replication_factor,
    };
    let topic_ids = request.topics.iter().map(|_| node.random_id()).collect();
    let timeout = request_timeout(request.timeout_ms);
    broker.change(timeout, controller::CreateTopics { request, defaults, topic_ids, seed: node.random_u64() }).await
}

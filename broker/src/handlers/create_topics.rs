//! CreateTopics (19, KIP-4): makes topics. v4 takes the broker's defaults for -1 (KIP-464), v5 tells what came out
//! (KIP-525), v7 the topic's id (KIP-516). The answer comes when the topics are served here.

use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::controller::{self, CreateTopicsContext};
use esker_protocol::messages::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};
use esker_protocol::primitives::{Str, Uuid};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::patience::patience;
use crate::broker::Broker;
use crate::raft::SubmitError;

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
                    let error_code = Broker::submit_error(&error);
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
    let ids: Vec<Uuid> = request.topics.iter().map(|_| Uuid(*uuid::Uuid::new_v4().as_bytes())).collect();
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let deciding = Arc::clone(broker);
    let created = broker.change(patience(request.timeout_ms), move |image| {
        let config = &deciding.config;
        let ctx = CreateTopicsContext {
            node_id: config.node_id,
            statics: &config.statics,
            default_partitions: config.num_partitions,
            default_replication_factor: config.default_replication_factor,
            topic_ids: &ids,
            seed,
        };
        controller::create_topics(image, &ctx, &request)
    });
    created.await
}

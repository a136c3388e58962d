//! DeleteTopics (20, KIP-4): v0-5 by name, v6 by name or id (KIP-516). The answer comes when this broker serves them no
//! more; their files go in the background.

use std::ops::RangeInclusive;

use esker_core::controller;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use esker_protocol::primitives::Uuid;
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::request_timeout;
use crate::error::KafkaError;

/// The DeleteTopics API.
pub struct DeleteTopics;

impl Handler for DeleteTopics {
    type Request = DeleteTopicsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    fn handle(ctx: RequestContext, request: DeleteTopicsRequest) -> Staged<DeleteTopicsResponse> {
        Staged::Later(delete(ctx, request).boxed())
    }
}

async fn delete(ctx: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let version = ctx.api_version;
    let wanted: Vec<DeleteTopicState> = if version >= 6 {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO };
        request.topic_names.into_iter().map(by_name).collect()
    };
    let enabled = ctx.broker.config.delete_topic_enable;
    let delete = controller::DeleteTopics { topics: wanted.clone(), enabled };
    let mut response = match ctx.broker.change(request_timeout(request.timeout_ms), delete).await {
        Ok(reply) => reply,
        Err(error) => {
            let error_code = error.code();
            let failed = |topic: DeleteTopicState| DeletableTopicResult {
                name: topic.name,
                topic_id: topic.topic_id,
                error_code,
                ..DeletableTopicResult::default()
            };
            DeleteTopicsResponse { responses: wanted.into_iter().map(failed).collect(), ..Default::default() }
        }
    };
    for topic in &mut response.responses {
        if version < 3 && topic.error_code == ErrorCode::TOPIC_DELETION_DISABLED {
            topic.error_code = ErrorCode::INVALID_REQUEST;
        }
    }
    response
}

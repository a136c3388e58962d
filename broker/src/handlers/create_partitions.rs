//! CreatePartitions (37, KIP-195): adds partitions to topics. The answer comes when the new partitions are served here.

use std::ops::RangeInclusive;

use esker_core::controller;
use esker_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::request_timeout;
use crate::error::KafkaError;

/// The CreatePartitions API.
pub struct CreatePartitions;

impl Handler for CreatePartitions {
    type Request = CreatePartitionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    fn handle(ctx: RequestContext, request: CreatePartitionsRequest) -> Staged<CreatePartitionsResponse> {
        let names: Vec<_> = request.topics.iter().map(|t| t.name.clone()).collect();
        Staged::Later(
            async move {
                let timeout = request_timeout(request.timeout_ms);
                let seed = ctx.broker.node.random_u64();
                match ctx.broker.change(timeout, controller::CreatePartitions { request, seed }).await {
                    Ok(reply) => reply,
                    Err(error) => {
                        let error_code = error.code();
                        let failed = |name| CreatePartitionsTopicResult { name, error_code, ..Default::default() };
                        let results = names.into_iter().map(failed).collect();
                        CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
                    }
                }
            }
            .boxed(),
        )
    }
}

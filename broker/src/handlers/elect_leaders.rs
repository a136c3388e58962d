//! ElectLeaders (43, KIP-183, KIP-460): the answer comes when the new leaders are known here.

use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::controller;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::request_timeout;
use crate::error::KafkaError;

/// The ElectLeaders API.
pub struct ElectLeaders;

impl Handler for ElectLeaders {
    type Request = ElectLeadersRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(ctx: RequestContext, request: ElectLeadersRequest) -> Staged<ElectLeadersResponse> {
        Staged::Later(
            async move {
                let broker = &ctx.broker;
                let timeout = request_timeout(request.timeout_ms);
                let asked = request.topic_partitions.clone().unwrap_or_default();
                let (node_id, statics) = (broker.node_id, Arc::clone(&broker.config.statics));
                match broker.change(timeout, controller::ElectLeaders { request, node_id, statics }).await {
                    Ok(reply) => reply,
                    Err(error) => refused(ctx.api_version, asked, error.code()),
                }
            }
            .boxed(),
        )
    }
}

/// One code for all. Version 0 has no place for it but the partitions.
fn refused(version: i16, asked: Vec<TopicPartitions>, error_code: ErrorCode) -> ElectLeadersResponse {
    let of_topic = |topic: TopicPartitions| ReplicaElectionResult {
        topic: topic.topic,
        partition_result: topic
            .partitions
            .into_iter()
            .map(|partition_id| PartitionResult { partition_id, error_code, ..PartitionResult::default() })
            .collect(),
    };
    ElectLeadersResponse {
        error_code: if version >= 1 { error_code } else { ErrorCode::NONE },
        replica_election_results: asked.into_iter().map(of_topic).collect(),
        ..ElectLeadersResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use esker_protocol::api::ApiKey;
    use esker_protocol::encode_response;

    use super::*;

    #[test]
    fn a_refusal_can_be_answered_in_every_version() {
        for version in ElectLeaders::VERSIONS {
            let asked = vec![TopicPartitions { topic: "t".into(), partitions: vec![0, 1] }];
            let answer = refused(version, asked, ErrorCode::REQUEST_TIMED_OUT);
            assert_eq!(answer.replica_election_results[0].partition_result[1].error_code, ErrorCode::REQUEST_TIMED_OUT);
            assert!(encode_response(ApiKey::ELECT_LEADERS, version, 1, &answer).is_ok(), "version {version}");
        }
    }
}

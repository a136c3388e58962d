//! AlterConfigs (33, KIP-133) and IncrementalAlterConfigs (44, KIP-339): the first replaces all configs of a resource, the second
//! sets, deletes, appends to and subtracts from single ones. Both end in the same decision.

use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::controller::{self, ConfigChange, ConfigOp, ConfigOutcome, ConfigTarget};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::{alter_configs, incremental_alter_configs};
use esker_protocol::primitives::Str;
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::loggers;
use super::timeout::DEFAULT_TIMEOUT;
use crate::broker::Broker;
use crate::error::KafkaError;

/// The AlterConfigs API.
pub struct AlterConfigs;

/// The IncrementalAlterConfigs API.
pub struct IncrementalAlterConfigs;

impl Handler for AlterConfigs {
    type Request = alter_configs::AlterConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(
        ctx: RequestContext,
        request: alter_configs::AlterConfigsRequest,
    ) -> Staged<alter_configs::AlterConfigsResponse> {
        let target = |resource: &alter_configs::AlterConfigsResource| ConfigTarget {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            replace_all: true,
            changes: resource
                .configs
                .iter()
                .map(|c| ConfigChange { name: c.name.clone(), op: Some(ConfigOp::Set), value: c.value.clone() })
                .collect(),
        };
        let targets: Vec<_> = request.resources.iter().map(target).collect();
        Staged::Later(
            async move {
                let outcomes = alter(&ctx.broker, targets, request.validate_only).await;
                let answer = |(resource, outcome): (alter_configs::AlterConfigsResource, ConfigOutcome)| {
                    let (error_code, error_message) = to_code_and_message(outcome);
                    alter_configs::AlterConfigsResourceResponse {
                        error_code,
                        error_message,
                        resource_type: resource.resource_type,
                        resource_name: resource.resource_name,
                    }
                };
                let responses = request.resources.into_iter().zip(outcomes).map(answer).collect();
                alter_configs::AlterConfigsResponse { responses, ..Default::default() }
            }
            .boxed(),
        )
    }
}

impl Handler for IncrementalAlterConfigs {
    type Request = incremental_alter_configs::IncrementalAlterConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(
        ctx: RequestContext,
        request: incremental_alter_configs::IncrementalAlterConfigsRequest,
    ) -> Staged<incremental_alter_configs::IncrementalAlterConfigsResponse> {
        let target = |resource: &incremental_alter_configs::AlterConfigsResource| ConfigTarget {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            replace_all: false,
            changes: resource
                .configs
                .iter()
                .map(|c| ConfigChange {
                    name: c.name.clone(),
                    op: ConfigOp::of_id(c.config_operation),
                    value: c.value.clone(),
                })
                .collect(),
        };
        let targets: Vec<_> = request.resources.iter().map(target).collect();
        Staged::Later(
            async move {
                let outcomes = alter(&ctx.broker, targets, request.validate_only).await;
                let answer = |(resource, outcome): (incremental_alter_configs::AlterConfigsResource, ConfigOutcome)| {
                    let (error_code, error_message) = to_code_and_message(outcome);
                    incremental_alter_configs::AlterConfigsResourceResponse {
                        error_code,
                        error_message,
                        resource_type: resource.resource_type,
                        resource_name: resource.resource_name,
                    }
                };
                let responses = request.resources.into_iter().zip(outcomes).map(answer).collect();
                incremental_alter_configs::IncrementalAlterConfigsResponse { responses, ..Default::default() }
            }
            .boxed(),
        )
    }
}

fn to_code_and_message(outcome: ConfigOutcome) -> (ErrorCode, Option<Str>) {
    match outcome {
        Ok(()) => (ErrorCode::NONE, None),
        Err(refusal) => (refusal.code, Some(refusal.message)),
    }
}

/// Has the changes decided and committed, and waits until they are in force here. Levels of loggers are this process's alone.
async fn alter(broker: &Arc<Broker>, targets: Vec<ConfigTarget>, validate_only: bool) -> Vec<ConfigOutcome> {
    let is_logger = |target: &ConfigTarget| target.resource_type == loggers::RESOURCE_TYPE;
    let mut outcomes: Vec<Option<ConfigOutcome>> = targets
        .iter()
        .map(|target| is_logger(target).then(|| loggers::alter(broker.node_id, target, validate_only)))
        .collect();
    let others: Vec<_> = targets.into_iter().filter(|target| !is_logger(target)).collect();
    if !others.is_empty() {
        let mut decided = alter_in_metadata(broker, others, validate_only).await.into_iter();
        outcomes.iter_mut().filter(|outcome| outcome.is_none()).for_each(|outcome| *outcome = decided.next());
    }
    outcomes.into_iter().flatten().collect()
}

async fn alter_in_metadata(
    broker: &Arc<Broker>,
    targets: Vec<ConfigTarget>,
    validate_only: bool,
) -> Vec<ConfigOutcome> {
    let count = targets.len();
    let (node_id, statics) = (broker.node_id, Arc::clone(&broker.config.statics));
    let alter = controller::AlterConfigs { targets, validate_only, node_id, statics };
    match broker.change(DEFAULT_TIMEOUT, alter).await {
        Ok(reply) => reply,
        Err(error) => {
            let code = error.code();
            let message = Str::from(error.to_string());
            vec![Err(controller::Refusal { code, message }); count]
        }
    }
}

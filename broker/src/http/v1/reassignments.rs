//! Reassignments: list, begin, cancel.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use esker_admin::{PartitionKey, ReassignmentReport, cancel_reassignments, list_reassignments};
use esker_client::TopicPartition;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::{Body, InQuery, PageQuery, invalid};

/// Partitions of one request.
const MAX_PARTITIONS: usize = 1000;

/// A page of reassignments.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReassignmentPage {
    reassignments: Vec<ReassignmentReport>,
    /// `after` of the next page; null at the end.
    next: Option<String>,
}

/// Reassignments to begin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReassignmentRequest {
    /// Up to 1000 partitions.
    #[schema(min_items = 1, max_items = 1000)]
    reassignments: Vec<NewReplicas>,
}

/// The brokers that are to have the replicas of a partition.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewReplicas {
    /// The topic.
    topic: String,
    /// The partition.
    partition: i32,
    /// The brokers, the preferred leader first.
    replicas: Vec<i32>,
}

/// Reassignments that have begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BegunReassignments {
    /// How many there are.
    begun: usize,
}

/// Reassignments to cancel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelRequest {
    /// Up to 1000 partitions [default: all that are reassigned].
    #[schema(max_items = 1000)]
    partitions: Option<Vec<PartitionName>>,
}

/// A partition.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PartitionName {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// Reassignments that are cancelled.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CancelledReassignments {
    /// How many there are; one that has completed meanwhile does not count.
    cancelled: usize,
}

/// List the reassignments in progress: how far they are, and what they wait for.
#[utoipa::path(
    get, path = "/v1/reassignments", tag = "reassignments", operation_id = "list_reassignments", params(PageQuery),
    responses((status = 200, body = ReassignmentPage), Failed)
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    InQuery(query): InQuery<PageQuery>,
) -> Result<Json<ReassignmentPage>, Problem> {
    let page = query.page::<PartitionKey>()?;
    let mut ongoing = api.admin().await?.list_reassignments().await?;
    ongoing.sort_by(|a, b| a.partition.cmp(&b.partition));
    let key = |tp: &TopicPartition| PartitionKey { topic: tp.topic.to_string(), partition: tp.partition };
    let (ongoing, next) = page.cut(ongoing, |found| key(&found.partition));
    let reports = list_reassignments(api.client().await?, ongoing).await?;
    let reassignments = reports.into_iter().map(|(report, _)| report).collect();
    Ok(Json(ReassignmentPage { reassignments, next: next.map(|next| next.to_string()) }))
}

/// Begin reassignments.
///
/// The cluster completes them by itself.
#[utoipa::path(
    post, path = "/v1/reassignments", tag = "reassignments", operation_id = "begin_reassignments",
    request_body = ReassignmentRequest,
    responses((status = 202, body = BegunReassignments), Failed)
)]
pub(super) async fn begin(
    State(api): State<Arc<Api>>,
    Body(request): Body<ReassignmentRequest>,
) -> Result<(StatusCode, Json<BegunReassignments>), Problem> {
    check_count(request.reassignments.len())?;
    let targets: Vec<(TopicPartition, Option<Vec<i32>>)> = request
        .reassignments
        .into_iter()
        .map(|one| (TopicPartition::new(one.topic, one.partition), Some(one.replicas)))
        .collect();
    let results = api.admin().await?.alter_reassignments(&targets).await?;
    let begun = results.len();
    let failure = |(tp, result): (&TopicPartition, Result<(), _>)| Some((tp.to_string(), result.err()?));
    let failures = targets.iter().map(|(tp, _)| tp).zip(results).filter_map(failure).collect();
    match Problem::of_parts(failures) {
        Some(problem) => Err(problem),
        None => Ok((StatusCode::ACCEPTED, Json(BegunReassignments { begun }))),
    }
}

/// Cancel reassignments.
///
/// Partitions that have moved stay where they are.
#[utoipa::path(
    post, path = "/v1/reassignments/cancel", tag = "reassignments", operation_id = "cancel_reassignments",
    request_body = CancelRequest,
    responses((status = 200, body = CancelledReassignments), Failed)
)]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Body(request): Body<CancelRequest>,
) -> Result<Json<CancelledReassignments>, Problem> {
    let admin = api.admin().await?;
    let partitions: Vec<TopicPartition> = match request.partitions {
        Some(named) => {
            check_count(named.len())?;
            named.into_iter().map(|one| TopicPartition::new(one.topic, one.partition)).collect()
        }
        None => admin.list_reassignments().await?.into_iter().map(|found| found.partition).collect(),
    };
    Ok(Json(CancelledReassignments { cancelled: cancel_reassignments(&admin, &partitions).await? }))
}

pub(super) fn check_count(count: usize) -> Result<(), Problem> {
    if (1..=MAX_PARTITIONS).contains(&count) {
        return Ok(());
    }
    Err(invalid(format!("a request names from 1 to {MAX_PARTITIONS} partitions, not {count}")))
}

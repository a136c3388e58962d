//! New offsets for a group without members.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use esker_admin::{OutOfRange, SeekReport, SeekTarget, committed_offsets, plan_seek};
use esker_client::{Admin, TopicPartition};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::{Body, InPath, invalid};
use super::reassignments::check_count;

/// Where the offsets of partitions are set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SeekTo {
    /// The first record.
    Earliest,
    /// The end: records that are there are left out.
    Latest,
}

/// New offsets: one of `to`, `timestamp` and `offsets`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SeekRequest {
    /// The topic whose partitions are set by `to` or `timestamp` [default: all partitions that the group has offsets of].
    topic: Option<String>,
    /// The first record, or the end.
    to: Option<SeekTo>,
    /// The first record of this time (ms since 1970) or later; the end where there is none.
    timestamp: Option<i64>,
    /// Offsets of partitions, up to 1000.
    #[schema(max_items = 1000)]
    offsets: Option<Vec<NewOffset>>,
    /// Only show the new offsets, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// A new offset.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOffset {
    /// The topic.
    topic: String,
    /// The partition.
    partition: i32,
    /// The offset.
    offset: i64,
}

/// New offsets of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SeekOutcome {
    /// The group.
    group: String,
    /// Whether nothing was changed.
    dry_run: bool,
    /// The offsets, by partition.
    offsets: Vec<SeekReport>,
}

/// Set the offsets of a group that has no members.
#[utoipa::path(
    post, path = "/v1/groups/{group}/offsets", tag = "groups", operation_id = "seek_group", request_body = SeekRequest,
    params(("group" = String, Path, description = "The group's id")),
    responses((status = 200, body = SeekOutcome), Failed)
)]
pub(super) async fn seek(
    State(api): State<Arc<Api>>,
    InPath(group): InPath<String>,
    Body(request): Body<SeekRequest>,
) -> Result<Json<SeekOutcome>, Problem> {
    let dry_run = request.dry_run;
    let admin = api.admin().await?;
    let targets = targets(&admin, &group, request).await?;
    check_count(targets.len())?;
    let offsets = plan_seek(&admin, &group, &targets, OutOfRange::Refuse).await?;
    if !dry_run {
        let new: Vec<_> = targets.into_iter().zip(&offsets).map(|((tp, _), seek)| (tp, seek.new_committed)).collect();
        admin.alter_offsets(&group, &new).await?;
    }
    Ok(Json(SeekOutcome { group, dry_run, offsets }))
}

async fn targets(
    admin: &Admin,
    group: &str,
    request: SeekRequest,
) -> Result<Vec<(TopicPartition, SeekTarget)>, Problem> {
    let target = match (request.to, request.timestamp, request.offsets) {
        (Some(SeekTo::Earliest), None, None) => SeekTarget::Earliest,
        (Some(SeekTo::Latest), None, None) => SeekTarget::Latest,
        (None, Some(at), None) => SeekTarget::Timestamp(at),
        (None, None, Some(offsets)) => {
            if request.topic.is_some() {
                return Err(invalid("topic goes with to and timestamp: offsets name their topics themselves"));
            }
            let target =
                |one: NewOffset| (TopicPartition::new(one.topic, one.partition), SeekTarget::Offset(one.offset));
            return Ok(offsets.into_iter().map(target).collect());
        }
        _ => return Err(invalid("give one of to (earliest or latest), timestamp and offsets")),
    };
    let partitions: Vec<TopicPartition> = match request.topic {
        Some(name) => {
            let topic = admin.topic(&name).await?;
            topic.partitions.iter().map(|partition| TopicPartition::new(name.clone(), partition.id)).collect()
        }
        None => committed_offsets(admin, group).await?.into_iter().map(|(tp, _)| tp).collect(),
    };
    if partitions.is_empty() {
        return Err(invalid(format!("group '{group}' has no offsets: name a topic")));
    }
    Ok(partitions.into_iter().map(|tp| (tp, target)).collect())
}

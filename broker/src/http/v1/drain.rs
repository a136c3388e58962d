//! Draining a node. No process stands behind it: the reassignments are in the metadata of the cluster, which carries them out whatever
//! becomes of this node.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use esker_admin::{DrainReport, begin_drain, read_drain};
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::{Body, InPath, invalid, parse_node};

/// Reassignments in progress at most.
const MAX_AT_ONCE: usize = 1000;

/// How to drain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainRequest {
    /// Reassignments in progress at most, up to 1000 [default: 1000].
    #[schema(minimum = 1, maximum = 1000)]
    at_once: Option<usize>,
}

/// Read how far the drain of a node is.
#[utoipa::path(
    get, path = "/v1/nodes/{id}/drain", tag = "cluster", operation_id = "read_drain",
    params(("id" = i32, Path, description = "The node's id")),
    responses((status = 200, body = DrainReport), Failed)
)]
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<String>,
) -> Result<Json<DrainReport>, Problem> {
    Ok(Json(read_drain(api.client().await?, parse_node(&id)?).await?))
}

/// Begin to drain a node.
///
/// It gets no new replicas, and reassignments begin that move its replicas to other nodes. The cluster completes them by itself. While
/// `not_begun` is above 0, send the request again. `/v1/nodes/{id}/uncordon` puts the node back into service.
#[utoipa::path(
    post, path = "/v1/nodes/{id}/drain", tag = "cluster", operation_id = "begin_drain", request_body = DrainRequest,
    params(("id" = i32, Path, description = "The node's id")),
    responses((status = 202, body = DrainReport), Failed)
)]
pub(super) async fn begin(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<String>,
    Body(request): Body<DrainRequest>,
) -> Result<(StatusCode, Json<DrainReport>), Problem> {
    let at_once = request.at_once.unwrap_or(MAX_AT_ONCE);
    if !(1..=MAX_AT_ONCE).contains(&at_once) {
        return Err(invalid(format!("at_once is a number from 1 to {MAX_AT_ONCE}, not {at_once}")));
    }
    let report = begin_drain(api.client().await?, parse_node(&id)?, at_once).await?;
    Ok((StatusCode::ACCEPTED, Json(report)))
}

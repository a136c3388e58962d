//! The cluster.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use esker_admin::{ClusterStatus, read_cluster_status};

use super::super::problem::{Failed, Problem};
use super::api::Api;

/// Read the state of the cluster: nodes, voters, the controller, partitions that lack in-sync replicas.
#[utoipa::path(
    get, path = "/v1/cluster", tag = "cluster", operation_id = "read_cluster",
    responses((status = 200, body = ClusterStatus), Failed)
)]
pub(super) async fn read(State(api): State<Arc<Api>>) -> Result<Json<ClusterStatus>, Problem> {
    Ok(Json(read_cluster_status(api.client().await?).await?))
}

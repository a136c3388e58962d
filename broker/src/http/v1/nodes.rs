//! Nodes: list, read, cordon.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use esker_admin::{NodeReport, NodeSummary, check_registered, list_nodes, read_node, set_cordoned};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::{Body, InPath, InQuery, PageQuery, parse_node};

/// A page of nodes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodePage {
    nodes: Vec<NodeSummary>,
    /// `after` of the next page; null at the end.
    next: Option<i32>,
}

/// A request without fields.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

/// Whether a node gets new replicas.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CordonReport {
    node_id: i32,
    /// Whether the node gets no new replicas.
    cordoned: bool,
}

/// List nodes: brokers, voters and observers.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "cluster", operation_id = "list_nodes", params(PageQuery),
    responses((status = 200, body = NodePage), Failed)
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    InQuery(query): InQuery<PageQuery>,
) -> Result<Json<NodePage>, Problem> {
    let page = query.page()?;
    let (nodes, next) = page.cut(list_nodes(api.client().await?).await?, |node| node.status.id);
    Ok(Json(NodePage { nodes, next }))
}

/// Read a node with its log dirs.
#[utoipa::path(
    get, path = "/v1/nodes/{id}", tag = "cluster", operation_id = "read_node",
    params(("id" = i32, Path, description = "The node's id")),
    responses((status = 200, body = NodeReport), Failed)
)]
pub(super) async fn read(State(api): State<Arc<Api>>, InPath(id): InPath<String>) -> Result<Json<NodeReport>, Problem> {
    Ok(Json(read_node(api.client().await?, parse_node(&id)?).await?))
}

/// Place no new replicas on a node.
#[utoipa::path(
    post, path = "/v1/nodes/{id}/cordon", tag = "cluster", operation_id = "cordon_node", request_body = NoFields,
    params(("id" = i32, Path, description = "The node's id")),
    responses((status = 200, body = CordonReport), Failed)
)]
pub(super) async fn cordon(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<String>,
    Body(NoFields {}): Body<NoFields>,
) -> Result<Json<CordonReport>, Problem> {
    set(&api, &id, true).await
}

/// Place new replicas on a node again.
#[utoipa::path(
    post, path = "/v1/nodes/{id}/uncordon", tag = "cluster", operation_id = "uncordon_node", request_body = NoFields,
    params(("id" = i32, Path, description = "The node's id")),
    responses((status = 200, body = CordonReport), Failed)
)]
pub(super) async fn uncordon(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<String>,
    Body(NoFields {}): Body<NoFields>,
) -> Result<Json<CordonReport>, Problem> {
    set(&api, &id, false).await
}

async fn set(api: &Api, id: &str, cordoned: bool) -> Result<Json<CordonReport>, Problem> {
    let (admin, node_id) = (api.admin().await?, parse_node(id)?);
    check_registered(&admin, node_id).await?;
    set_cordoned(&admin, node_id, cordoned).await?;
    Ok(Json(CordonReport { node_id, cordoned }))
}

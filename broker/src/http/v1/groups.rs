//! Groups: list, read, delete.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use esker_admin::{GroupReport, GroupSummary, list_groups, read_group};
use esker_protocol::primitives::Str;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::{InPath, InQuery, PageQuery};
use super::rebalances::{RebalanceReport, last_rebalance};

/// A page of groups.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupPage {
    groups: Vec<GroupSummary>,
    /// `after` of the next page; null at the end.
    next: Option<String>,
}

/// A group with a page of its offsets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupDetail {
    #[serde(flatten)]
    group: GroupReport,
    /// The last rebalance; null where it is not known: the coordinator knows it, until it starts anew.
    last_rebalance: Option<RebalanceReport>,
    /// `after` of the next page of offsets; null at the end.
    next: Option<String>,
}

/// List groups.
#[utoipa::path(
    get, path = "/v1/groups", tag = "groups", operation_id = "list_groups", params(PageQuery),
    responses((status = 200, body = GroupPage), Failed)
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    InQuery(query): InQuery<PageQuery>,
) -> Result<Json<GroupPage>, Problem> {
    let page = query.page::<String>()?;
    let (groups, next) = page.cut(list_groups(&api.admin().await?).await?, |group| group.group.clone());
    Ok(Json(GroupPage { groups, next }))
}

/// Read a group: its state, its members and their partitions, its offsets and how far they lag behind.
#[utoipa::path(
    get, path = "/v1/groups/{group}", tag = "groups", operation_id = "read_group",
    params(("group" = String, Path, description = "The group's id"), PageQuery),
    responses((status = 200, body = GroupDetail), Failed)
)]
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    InPath(group): InPath<String>,
    InQuery(query): InQuery<PageQuery>,
) -> Result<Json<GroupDetail>, Problem> {
    let page = query.page()?;
    let (report, next) = read_group(&api.admin().await?, &group, &page).await?;
    Ok(Json(GroupDetail {
        last_rebalance: last_rebalance(api.broker()?, &group),
        group: report,
        next: next.map(|next| next.to_string()),
    }))
}

/// Delete a group that has no members, and its offsets.
#[utoipa::path(
    delete, path = "/v1/groups/{group}", tag = "groups", operation_id = "delete_group",
    params(("group" = String, Path, description = "The group's id")),
    responses((status = 204, description = "The group is deleted"), Failed)
)]
pub(super) async fn delete(State(api): State<Arc<Api>>, InPath(group): InPath<String>) -> Result<StatusCode, Problem> {
    for deleted in api.admin().await?.delete_groups(&[Str::copy(&group)]).await? {
        deleted?;
    }
    Ok(StatusCode::NO_CONTENT)
}

//! Why groups rebalanced lately, as their coordinator remembers it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use esker_core::group::{Cause, MemberInfo, Rebalance};
use esker_protocol::error::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::InPath;
use crate::broker::Broker;

/// The last rebalances of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RebalanceList {
    /// The group.
    group: String,
    /// Its rebalances, oldest first.
    rebalances: Vec<RebalanceReport>,
}

/// A rebalance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RebalanceReport {
    /// `classic` or `consumer`.
    protocol: &'static str,
    /// The generation or group epoch before.
    from: i32,
    /// The generation or group epoch after.
    to: i32,
    /// When it began, in ms since 1970.
    at_ms: Option<i64>,
    /// The first of its reasons.
    reason: Option<&'static str>,
    /// Its causes.
    causes: Vec<CauseReport>,
    /// Causes that are left out.
    more_causes: u32,
}

/// A cause of a rebalance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CauseReport {
    /// When, in ms since 1970.
    at_ms: i64,
    /// What happened.
    reason: &'static str,
    /// The member.
    member: Option<CauseMember>,
    /// The topic.
    topic: Option<String>,
    /// The reason that the client gave.
    said: Option<String>,
}

/// The member that caused a rebalance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CauseMember {
    /// Its id.
    member_id: String,
    /// The id of a static member.
    instance_id: Option<String>,
    /// The name that the client gave itself.
    client_id: String,
    /// Where it connects from.
    host: String,
}

/// List the last rebalances of a group, oldest first.
///
/// Its coordinator alone knows them.
#[utoipa::path(
    get, path = "/v1/groups/{group}/rebalances", tag = "groups", operation_id = "list_rebalances",
    params(("group" = String, Path, description = "The group's id")),
    responses((status = 200, body = RebalanceList), Failed)
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    InPath(group): InPath<String>,
) -> Result<Json<RebalanceList>, Problem> {
    let broker = api.broker()?;
    match broker.groups.rebalances(&broker.metadata.image(), &group) {
        Ok(Some(kept)) => Ok(Json(RebalanceList { rebalances: kept.iter().map(report).collect(), group })),
        Ok(None) => {
            Err(Problem::new(StatusCode::NOT_FOUND, "there is no such group: /v1/groups lists those that there are"))
        }
        Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the group's coordinator is loading: try again"))
        }
        // Before the first group comes its topic is not there either.
        Err(_) => {
            let detail = "this broker does not coordinate the group: ask the node that /v1/groups/{group} names as its coordinator";
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
    }
}

/// The last rebalance of a group, where this broker coordinates it and remembers one.
pub(super) fn last_rebalance(broker: &Broker, group: &str) -> Option<RebalanceReport> {
    broker.groups.rebalances(&broker.metadata.image(), group).ok()??.last().map(report)
}

fn report(rebalance: &Rebalance) -> RebalanceReport {
    RebalanceReport {
        protocol: rebalance.kind.name(),
        from: rebalance.from,
        to: rebalance.to,
        at_ms: rebalance.causes.first().map(|(at, _)| *at),
        reason: rebalance.causes.first().map(|(_, cause)| cause.reason.name()),
        causes: rebalance.causes.iter().map(|(at, cause)| caused(*at, cause)).collect(),
        more_causes: rebalance.more,
    }
}

fn caused(at_ms: i64, cause: &Cause) -> CauseReport {
    CauseReport {
        at_ms,
        reason: cause.reason.name(),
        member: cause.member.as_ref().map(member),
        topic: cause.topic.as_ref().map(ToString::to_string),
        said: cause.client_reason.as_ref().map(ToString::to_string),
    }
}

fn member(member: &MemberInfo) -> CauseMember {
    CauseMember {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
    }
}

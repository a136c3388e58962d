//! Groups: why they rebalanced lately.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use esker_core::group::{Cause, MemberInfo, Rebalance};
use esker_protocol::error::ErrorCode;
use serde_json::{Value, json};

use super::served::Served;

/// `GET /v1/groups/{group}/rebalances`: the last ones, oldest first.
pub(super) async fn rebalances(State(served): State<Arc<Served>>, Path(group): Path<String>) -> Response {
    let Some(broker) = served.broker.get() else {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "the broker is starting");
    };
    match broker.groups.rebalances(&broker.metadata.image(), &group) {
        Ok(Some(kept)) => {
            let rows: Vec<Value> = kept.iter().map(row).collect();
            Json(json!({ "group": group, "rebalances": rows })).into_response()
        }
        Ok(None) => failed(StatusCode::NOT_FOUND, "there is no such group"),
        Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => {
            failed(StatusCode::SERVICE_UNAVAILABLE, "the group's coordinator is loading")
        }
        // Before the first group comes its topic is not there either.
        Err(_) => failed(StatusCode::NOT_FOUND, "this broker does not coordinate the group"),
    }
}

fn failed(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

fn row(rebalance: &Rebalance) -> Value {
    let causes: Vec<Value> = rebalance.causes.iter().map(|(at, cause)| caused(*at, cause)).collect();
    json!({
        "protocol": rebalance.kind.name(),
        "from": rebalance.from,
        "to": rebalance.to,
        "at_ms": rebalance.causes.first().map(|(at, _)| at),
        "reason": rebalance.causes.first().map(|(_, cause)| cause.reason.name()),
        "causes": causes,
        "more_causes": rebalance.more,
    })
}

fn caused(at: i64, cause: &Cause) -> Value {
    json!({
        "at_ms": at,
        "reason": cause.reason.name(),
        "member": cause.member.as_ref().map(member),
        "topic": cause.topic.as_deref(),
        "said": cause.client_reason.as_deref(),
    })
}

fn member(member: &MemberInfo) -> Value {
    json!({
        "member_id": member.member_id.as_str(),
        "instance_id": member.instance_id.as_deref(),
        "client_id": member.client_id.as_str(),
        "host": member.client_host.as_str(),
    })
}

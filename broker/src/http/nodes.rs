//! Nodes: whether one of them may be stopped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use esker_core::controller::ElectionRules;
use esker_core::health::{assess_stop_of, obstacle};
use tokio::time::Instant;

use super::problem::problem;
use super::served::Served;
use crate::admin::{StopReport, stop_report};
use crate::broker::Broker;

/// How long this node may take to apply what the controller has.
const CATCH_UP: Duration = Duration::from_secs(1);

/// `GET /v1/nodes/{id}/safe-to-stop`: yes, or what would be lost.
pub(super) async fn safe_to_stop(State(served): State<Arc<Served>>, Path(node): Path<String>) -> Response {
    let Some(broker) = served.broker.get().cloned() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "this node is starting: ask another one");
    };
    if let Some(why) = obstacle(&broker.service_state()) {
        let detail = format!("this node does not know the cluster: {why}; ask another one");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &detail);
    }
    let target = broker.session.controller_offset();
    if !broker.replicas.wait_applied(target, Instant::now() + CATCH_UP).await {
        let applied = broker.replicas.applied_image().offset();
        let detail = format!("this node is catching up with the metadata log, at {applied} of {target}; ask again");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &detail);
    }
    let known = node.parse().ok().filter(|node_id| is_known(&broker, *node_id));
    let Some(node_id) = known else {
        return problem(StatusCode::NOT_FOUND, &format!("the cluster has no node {node}"));
    };
    let asked = Arc::clone(&broker);
    match broker.node.run_blocking(move || assess(&asked, node_id)).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn is_known(broker: &Broker, node_id: i32) -> bool {
    let image = broker.metadata.image();
    image.broker(node_id).is_some()
        || image.reservation(node_id).is_some()
        || broker.metadata.quorum().borrow().members.iter().any(|member| member.id.node_id == node_id)
}

fn assess(broker: &Broker, node_id: i32) -> StopReport {
    let voters: BTreeSet<i32> = broker.metadata.quorum().borrow().voters().map(|voter| voter.id.node_id).collect();
    let image = broker.replicas.applied_image();
    let rules = ElectionRules { node_id: broker.node_id, statics: &broker.config.statics };
    stop_report(node_id, &assess_stop_of(&image, rules, node_id, &voters))
}

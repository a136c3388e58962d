//! Whether a node may be stopped, by what this node knows of the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use esker_admin::{StopReport, stop_report};
use esker_core::controller::ElectionRules;
use esker_core::health::{assess_stop_of, obstacle};
use tokio::time::Instant;

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::{InPath, parse_node, unknown_node};
use crate::broker::Broker;

/// How long this node may take to apply what the controller has.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Read whether a node may be stopped, and what would be lost.
#[utoipa::path(
    get, path = "/v1/nodes/{id}/safe-to-stop", tag = "cluster", operation_id = "assess_stop",
    params(("id" = i32, Path, description = "The node's id")),
    responses((status = 200, body = StopReport), Failed)
)]
pub(super) async fn read(State(api): State<Arc<Api>>, InPath(id): InPath<String>) -> Result<Json<StopReport>, Problem> {
    let unavailable = |detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    let broker = api.broker()?;
    if let Some(why) = obstacle(&broker.service_state()) {
        return Err(unavailable(format!("this node does not know the cluster: {why}; ask another one")));
    }
    let target = broker.session.controller_offset();
    if !broker.replicas.wait_applied(target, Instant::now() + CATCH_UP).await {
        let applied = broker.replicas.applied_image().offset();
        let detail = format!("this node is catching up with the metadata log, at {applied} of {target}; ask again");
        return Err(unavailable(detail));
    }
    let node_id = parse_node(&id)?;
    if !is_known(broker, node_id) {
        return Err(unknown_node(node_id));
    }
    let asked = Arc::clone(broker);
    let assessed = broker.node.run_blocking(move || assess(&asked, node_id)).await;
    assessed.map(Json).map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
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

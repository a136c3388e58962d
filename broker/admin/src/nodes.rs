//! Nodes: their brokers, their log dirs, and whether they are cordoned (`cordoned.log.dirs`, KIP-1066).

use std::collections::BTreeMap;

use async_recursion::async_recursion as boxed;
use esker_client::admin::{ConfigOp, LogDir, RegisteredBroker, Resource};
use esker_client::{Admin, Client, Error};
use serde::Serialize;
use utoipa::ToSchema;

use super::cluster::{NodeStatus, read_cluster_status};
use super::error::AdminError;

const CORDONED: &str = "cordoned.log.dirs";
const ALL_DIRS: &str = "*";

/// A node, in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeSummary {
    /// What the metadata and the quorum say of it.
    #[serde(flatten)]
    pub status: NodeStatus,
    /// Its rack (`broker.rack`).
    pub rack: Option<String>,
    /// Whether its broker is registered.
    pub registered: bool,
    /// Whether its broker has no session: it does not run, or cannot reach the active controller.
    pub fenced: bool,
}

/// A node.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeReport {
    /// As in the list of nodes.
    #[serde(flatten)]
    pub summary: NodeSummary,
    /// Whether it gets no new replicas; null where its broker does not answer.
    pub cordoned: Option<bool>,
    /// Its log dirs; empty where its broker does not answer.
    pub log_dirs: Vec<LogDirReport>,
}

/// A log dir.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogDirReport {
    /// Its path.
    pub path: String,
    /// Whether it has failed.
    pub offline: bool,
    /// Whether it takes no new replicas.
    pub cordoned: bool,
    /// Replicas in it.
    pub replicas: usize,
    /// Bytes of their logs.
    pub bytes: u64,
}

/// All nodes, by id.
#[boxed]
pub async fn list_nodes(client: &Client) -> Result<Vec<NodeSummary>, AdminError> {
    let status = read_cluster_status(client).await?;
    let registered = Admin::new(client).registered_brokers().await?;
    let mut brokers: BTreeMap<i32, RegisteredBroker> =
        registered.into_iter().map(|found| (found.broker.id, found)).collect();
    let mut nodes: Vec<NodeSummary> =
        status.nodes.into_iter().map(|status| summary(brokers.remove(&status.id), status)).collect();
    // A fenced broker without a replica is in no other list.
    let rest =
        brokers.into_iter().map(|(id, broker)| summary(Some(broker), NodeStatus { id, ..NodeStatus::default() }));
    nodes.extend(rest);
    nodes.sort_by_key(|node| node.status.id);
    Ok(nodes)
}

fn summary(broker: Option<RegisteredBroker>, status: NodeStatus) -> NodeSummary {
    NodeSummary {
        registered: broker.is_some(),
        fenced: broker.as_ref().is_none_or(|found| found.fenced),
        rack: broker.and_then(|found| found.broker.rack).map(|rack| rack.to_string()),
        status,
    }
}

/// One node.
#[boxed]
pub async fn read_node(client: &Client, node_id: i32) -> Result<NodeReport, AdminError> {
    let nodes = list_nodes(client).await?;
    let ids: Vec<i32> = nodes.iter().map(|node| node.status.id).collect();
    let found = nodes.into_iter().find(|node| node.status.id == node_id);
    let summary = found.ok_or_else(|| unknown(node_id, &ids))?;
    let dirs = match summary.fenced {
        true => None,
        false => Admin::new(client).describe_log_dirs(node_id, None).await.ok(),
    };
    Ok(NodeReport {
        cordoned: dirs.as_deref().map(are_cordoned),
        log_dirs: dirs.into_iter().flatten().map(log_dir).collect(),
        summary,
    })
}

fn log_dir(dir: LogDir) -> LogDirReport {
    LogDirReport {
        path: dir.path.to_string(),
        offline: dir.offline,
        cordoned: dir.cordoned,
        replicas: dir.replicas.len(),
        bytes: dir.replicas.iter().map(|(_, bytes)| bytes).sum(),
    }
}

/// Whether all log dirs that work are cordoned: the broker gets no new replicas.
pub(super) fn are_cordoned(dirs: &[LogDir]) -> bool {
    dirs.iter().filter(|dir| !dir.offline).all(|dir| dir.cordoned)
}

/// Cordons all log dirs of a node, or none.
#[boxed]
pub async fn set_cordoned(admin: &Admin, node_id: i32, cordoned: bool) -> Result<(), Error> {
    // An empty list rather than no value: the broker may have been started with the config.
    let dirs = if cordoned { ALL_DIRS } else { "" };
    let change = [(CORDONED.into(), ConfigOp::Set(dirs.into()))];
    admin.alter_configs(&Resource::Broker(Some(node_id)), &change).await
}

/// Refuses a node that has no registered broker.
#[boxed]
pub async fn check_registered(admin: &Admin, node_id: i32) -> Result<(), AdminError> {
    let ids: Vec<i32> = admin.registered_brokers().await?.iter().map(|found| found.broker.id).collect();
    if ids.contains(&node_id) {
        return Ok(());
    }
    Err(unknown(node_id, &ids))
}

fn unknown(node_id: i32, ids: &[i32]) -> AdminError {
    let known = ids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    AdminError::Missing(format!("the cluster has no broker {node_id}; its brokers are {known}"))
}

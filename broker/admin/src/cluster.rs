//! The state of a cluster: its nodes, its metadata quorum, and partitions that lack in-sync replicas.

use std::collections::BTreeMap;

use async_recursion::async_recursion as boxed;
use esker_client::{Admin, Client};
use esker_protocol::messages::describe_quorum::{PartitionDataResult, ReplicaState};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::AdminError;
use super::quorum::{describe_quorum, log_end};

/// A cluster.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClusterStatus {
    /// Its id.
    pub cluster_id: String,
    /// The node that leads the metadata quorum: the active controller; -1 while there is none.
    pub controller: i32,
    /// The leader's term.
    pub term: i32,
    /// Partitions with fewer in-sync replicas than replicas.
    pub under_replicated: usize,
    /// Partitions without a leader.
    pub leaderless: usize,
    /// The last fail-over that the active controller has carried out since its start; null for none.
    pub last_fail_over: Option<FailOverReport>,
    /// The nodes, by id.
    pub nodes: Vec<NodeStatus>,
}

/// A fail-over: a broker whose session ended was fenced, and others lead its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FailOverReport {
    /// The broker that was fenced.
    pub node_id: i32,
    /// When, in ms since 1970.
    pub at_ms: i64,
    /// From its last sign of life to the new leaders, in ms.
    pub took_ms: i64,
}

/// One node, from what the metadata and the quorum say of it.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct NodeStatus {
    /// The node's id.
    pub id: i32,
    /// Where clients reach its broker; null while the broker is fenced or gone.
    pub address: Option<String>,
    /// Its part in the metadata quorum: `leader`, `voter`, `observer`, or empty for none.
    pub quorum: &'static str,
    /// Entries of the metadata log that it lacks.
    pub behind: i64,
    /// Partitions that it leads.
    pub leads: usize,
    /// Replicas that it has.
    pub replicas: usize,
    /// Those that are in sync.
    pub in_sync: usize,
}

/// Reads the state of the cluster.
#[boxed]
pub async fn read_cluster_status(client: &Client) -> Result<ClusterStatus, AdminError> {
    let admin = Admin::new(client);
    let topics = admin.topics().await?;
    let cluster = admin.describe_cluster().await?;
    let quorum = describe_quorum(client).await?;
    let mut nodes = nodes_of(&quorum);
    for broker in &cluster.brokers {
        nodes.entry(broker.id).or_default().address = Some(broker.address());
    }
    let (mut under_replicated, mut leaderless) = (0_usize, 0_usize);
    for partition in topics.iter().flat_map(|topic| &topic.partitions) {
        under_replicated += usize::from(partition.isr.len() < partition.replicas.len());
        leaderless += usize::from(partition.leader.is_none());
        if let Some(leader) = partition.leader {
            nodes.entry(leader).or_default().leads += 1;
        }
        for replica in &partition.replicas {
            let node = nodes.entry(*replica).or_default();
            node.replicas += 1;
            node.in_sync += usize::from(partition.isr.contains(replica));
        }
    }
    Ok(ClusterStatus {
        cluster_id: cluster.id.to_string(),
        controller: quorum.leader_id,
        term: quorum.leader_epoch,
        under_replicated,
        leaderless,
        last_fail_over: quorum.last_fail_over.first().map(|found| FailOverReport {
            node_id: found.node_id,
            at_ms: found.at_ms,
            took_ms: found.took_ms,
        }),
        nodes: nodes.into_iter().map(|(id, node)| NodeStatus { id, ..node }).collect(),
    })
}

fn nodes_of(quorum: &PartitionDataResult) -> BTreeMap<i32, NodeStatus> {
    let end = log_end(quorum);
    let node = |replica: &ReplicaState, role: &'static str| {
        let behind = end.saturating_sub(replica.log_end_offset);
        (replica.replica_id, NodeStatus { quorum: role, behind, ..NodeStatus::default() })
    };
    let voters = quorum
        .current_voters
        .iter()
        .map(|voter| node(voter, if voter.replica_id == quorum.leader_id { "leader" } else { "voter" }));
    voters.chain(quorum.observers.iter().map(|observer| node(observer, "observer"))).collect()
}

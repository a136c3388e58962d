//! `esker cluster`.

mod cordon;
mod moves;
pub(super) mod quorum;
mod recover;
mod unregister;
mod voters;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use esker_client::Admin;
use esker_protocol::messages::describe_quorum::{PartitionDataResult, ReplicaState};
use serde_json::json;

use super::connect::Connect;
use super::error::CliError;
use super::interrupt::interrupted;
use super::output::{print_line, table};
use super::safe_to_stop::{self, SafeToStopArgs};
use quorum::{describe_quorum, log_end};

/// What can be done with a cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show nodes, voters, leaders, and partitions that lack in-sync replicas.
    Status(StatusArgs),
    /// Say whether a node may be stopped: exit code 0 for yes, 1 for no with what would be lost.
    SafeToStop(SafeToStopArgs),
    /// Show the members of the metadata quorum, or change its voters.
    Voters(voters::VotersArgs),
    /// Move all replicas off a node, which stays cordoned. When interrupted, run it again.
    Drain(moves::NodeArgs),
    /// Place no new replicas on a node.
    Cordon(cordon::CordonArgs),
    /// Place new replicas on a node again.
    Uncordon(cordon::CordonArgs),
    /// Even out replicas, bytes and leaders over the nodes and their racks. When interrupted, run it again.
    Rebalance(moves::RebalanceArgs),
    /// Move all replicas of a node to another node. When interrupted, run it again.
    Replace(moves::ReplaceArgs),
    /// Take a node out of the cluster: drain it, take its vote, and unregister it once it is stopped. When interrupted, run it again.
    Remove(moves::NodeArgs),
    /// Show the reassignments in progress and what they wait for, or cancel them.
    Reassignments(moves::ReassignmentsArgs),
    /// Unregister a broker that is gone for good: its node id may be given to another data folder.
    Unregister(unregister::UnregisterArgs),
    /// Make the node of a data folder the only voter, when a majority of the voters is lost for good. No broker may use the folder.
    Recover(recover::RecoverArgs),
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    connect: Connect,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it. Commands that change the cluster for a while say at their end how they are continued.
pub async fn run(command: ClusterCommand) -> Result<(), CliError> {
    match command {
        ClusterCommand::Drain(args) => moves::drain(args).await,
        ClusterCommand::Rebalance(args) => moves::rebalance(args).await,
        ClusterCommand::Replace(args) => moves::replace(args).await,
        ClusterCommand::Remove(args) => moves::remove(args).await,
        command => tokio::select! {
            outcome = run_short(command) => outcome,
            () = interrupted() => Ok(()),
        },
    }
}

async fn run_short(command: ClusterCommand) -> Result<(), CliError> {
    match command {
        ClusterCommand::Status(args) => status(args).await,
        ClusterCommand::SafeToStop(args) => safe_to_stop::run(args).await,
        ClusterCommand::Voters(args) => voters::run(args).await,
        ClusterCommand::Cordon(args) => cordon::cordon(args).await,
        ClusterCommand::Uncordon(args) => cordon::uncordon(args).await,
        ClusterCommand::Reassignments(args) => moves::reassignments(args).await,
        ClusterCommand::Drain(_)
        | ClusterCommand::Rebalance(_)
        | ClusterCommand::Replace(_)
        | ClusterCommand::Remove(_) => Ok(()),
        ClusterCommand::Unregister(args) => unregister::run(args).await,
        ClusterCommand::Recover(args) => recover::run(&args),
    }
}

/// One node, from what the metadata and the quorum say of it.
#[derive(Debug, Default)]
struct NodeStatus {
    address: Option<String>,
    role: &'static str,
    /// Entries of the metadata log that it lacks.
    behind: i64,
    leads: usize,
    replicas: usize,
    in_sync: usize,
}

async fn status(args: StatusArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let admin = Admin::new(&client);
    let topics = admin.topics().await?;
    let cluster = admin.describe_cluster().await?;
    let quorum = describe_quorum(&client).await?;
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
    if args.json {
        let nodes: Vec<_> = nodes.iter().map(|(id, node)| to_json(*id, node)).collect();
        let status = json!({
            "cluster_id": cluster.id.as_str(), "controller": quorum.leader_id, "term": quorum.leader_epoch,
            "under_replicated": under_replicated, "leaderless": leaderless, "nodes": nodes,
        });
        return Ok(print_line(&serde_json::to_string_pretty(&status)?)?);
    }
    print_line(&format!(
        "cluster {}  controller={}  term={}  under-replicated={under_replicated}  leaderless={leaderless}",
        cluster.id, quorum.leader_id, quorum.leader_epoch
    ))?;
    let rows: Vec<_> = nodes.iter().map(|(id, node)| to_row(*id, node)).collect();
    Ok(table(&["NODE", "ADDRESS", "QUORUM", "BEHIND", "LEADS", "REPLICAS", "IN-SYNC"], &rows)?)
}

fn nodes_of(quorum: &PartitionDataResult) -> BTreeMap<i32, NodeStatus> {
    let end = log_end(quorum);
    let node = |replica: &ReplicaState, role: &'static str| {
        let behind = end.saturating_sub(replica.log_end_offset);
        (replica.replica_id, NodeStatus { role, behind, ..NodeStatus::default() })
    };
    let voters = quorum
        .current_voters
        .iter()
        .map(|voter| node(voter, if voter.replica_id == quorum.leader_id { "leader" } else { "voter" }));
    voters.chain(quorum.observers.iter().map(|observer| node(observer, "observer"))).collect()
}

fn to_json(id: i32, node: &NodeStatus) -> serde_json::Value {
    json!({
        "id": id, "address": node.address, "quorum": node.role, "behind": node.behind, "leads": node.leads,
        "replicas": node.replicas, "in_sync": node.in_sync,
    })
}

fn to_row(id: i32, node: &NodeStatus) -> Vec<String> {
    vec![
        id.to_string(),
        node.address.clone().unwrap_or_else(|| "(fenced or gone)".to_owned()),
        if node.role.is_empty() { "-" } else { node.role }.to_owned(),
        node.behind.to_string(),
        node.leads.to_string(),
        node.replicas.to_string(),
        node.in_sync.to_string(),
    ]
}

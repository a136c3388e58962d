//! `esker cluster`.

mod cordon;
mod moves;
mod outcome;
mod recover;
mod unregister;
mod voters;

use clap::{Args, Subcommand};
use esker_admin::{NodeStatus, read_cluster_status};

pub use recover::{Recover, RecoverArgs};

use super::safe_to_stop::{self, SafeToStopArgs};
use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::interrupt::interrupted;
use esker_records::output::{print_json, print_line, table};
use esker_records::times::now;

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

/// Runs it. Commands that change the cluster for a while say at their end how they are continued, and `safe-to-stop` never ends with a yes
/// that it does not have.
pub async fn run(command: ClusterCommand, recover: Recover) -> Result<(), CliError> {
    match command {
        ClusterCommand::Drain(args) => moves::drain(args).await,
        ClusterCommand::Rebalance(args) => moves::rebalance(args).await,
        ClusterCommand::Replace(args) => moves::replace(args).await,
        ClusterCommand::Remove(args) => moves::remove(args).await,
        ClusterCommand::SafeToStop(args) => safe_to_stop::run(args).await,
        command => tokio::select! {
            outcome = run_short(command, recover) => outcome,
            () = interrupted() => Ok(()),
        },
    }
}

async fn run_short(command: ClusterCommand, recover: Recover) -> Result<(), CliError> {
    match command {
        ClusterCommand::Status(args) => status(args).await,
        ClusterCommand::Voters(args) => voters::run(args).await,
        ClusterCommand::Cordon(args) => cordon::cordon(args).await,
        ClusterCommand::Uncordon(args) => cordon::uncordon(args).await,
        ClusterCommand::Reassignments(args) => moves::reassignments(args).await,
        ClusterCommand::Drain(_)
        | ClusterCommand::Rebalance(_)
        | ClusterCommand::Replace(_)
        | ClusterCommand::Remove(_)
        | ClusterCommand::SafeToStop(_) => Ok(()),
        ClusterCommand::Unregister(args) => unregister::run(args).await,
        ClusterCommand::Recover(args) => recover(&args),
    }
}

async fn status(args: StatusArgs) -> Result<(), CliError> {
    let status = read_cluster_status(&args.connect.client().await?).await?;
    if args.json {
        return print_json(&status);
    }
    print_line(&format!(
        "cluster {}  controller={}  term={}  under-replicated={}  leaderless={}",
        status.cluster_id, status.controller, status.term, status.under_replicated, status.leaderless
    ))?;
    if let Some(last) = &status.last_fail_over {
        let seconds = now().saturating_sub(last.at_ms).max(0) / 1000;
        print_line(&format!("last fail-over: of node {}, {seconds} s ago, in {} ms", last.node_id, last.took_ms))?;
    }
    let rows: Vec<_> = status.nodes.iter().map(to_row).collect();
    Ok(table(&["NODE", "ADDRESS", "QUORUM", "BEHIND", "LEADS", "REPLICAS", "IN-SYNC"], &rows)?)
}

fn to_row(node: &NodeStatus) -> Vec<String> {
    vec![
        node.id.to_string(),
        node.address.clone().unwrap_or_else(|| "(fenced or gone)".to_owned()),
        if node.quorum.is_empty() { "-" } else { node.quorum }.to_owned(),
        node.behind.to_string(),
        node.leads.to_string(),
        node.replicas.to_string(),
        node.in_sync.to_string(),
    ]
}

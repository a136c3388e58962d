//! `esker cluster safe-to-stop`: the rule of `esker_core::health` over what the cluster answers to any client.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::Args;
use esker_client::{Admin, Client, Topic};
use esker_core::health::{AffectedPartition, ReplicaSet, StopAssessment, StopEffect, assess_stop};
use esker_protocol::primitives::Str;

use super::connect::Connect;
use super::error::CliError;
use super::output::{print_json, print_line, table};
use crate::admin::{describe_quorum, stop_report};

/// Flags of `safe-to-stop`.
#[derive(Debug, Args)]
pub struct SafeToStopArgs {
    /// The node.
    #[arg(value_name = "NODE_ID")]
    node_id: i32,
    #[command(flatten)]
    connect: Connect,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

const MIN_ISR: &str = "min.insync.replicas";

/// Runs it.
pub(super) async fn run(args: SafeToStopArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let assessment = assess(&client, args.node_id).await?;
    print_assessment(args.node_id, &assessment, args.json)?;
    match assessment.is_safe() {
        true => Ok(()),
        false => Err(CliError::No(format!("node {} is not safe to stop now", args.node_id))),
    }
}

/// Whether a node of the cluster may be stopped.
pub(super) async fn assess(client: &Client, node_id: i32) -> Result<StopAssessment, CliError> {
    let admin = Admin::new(client);
    let topics = admin.topics().await?;
    let cluster = admin.describe_cluster().await?;
    let quorum = describe_quorum(client).await?;
    let alive: BTreeSet<i32> = cluster.brokers.iter().map(|broker| broker.id).collect();
    let voters: BTreeSet<i32> = quorum.current_voters.iter().map(|voter| voter.replica_id).collect();
    let is_observer = quorum.observers.iter().any(|observer| observer.replica_id == node_id);
    if !alive.contains(&node_id) && !voters.contains(&node_id) && !is_observer {
        let nodes = alive.union(&voters).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(CliError::Usage(format!("the cluster has no node {node_id}; its nodes are {nodes}")));
    }
    let is_member = |topic: &&Arc<Topic>| topic.partitions.iter().any(|partition| partition.isr.contains(&node_id));
    let touched: Vec<&Arc<Topic>> = topics.iter().filter(is_member).collect();
    let names: Vec<Str> = touched.iter().map(|topic| topic.name.clone()).collect();
    // A topic that was deleted meanwhile is left out.
    let configs = admin.topic_configs(&names, &[MIN_ISR]).await?;
    let min_isr = |topic: &Str| {
        let value = configs.get(topic).and_then(|configs| configs.first()?.value.as_ref()?.parse().ok());
        value.unwrap_or(1)
    };
    let partitions = touched.iter().flat_map(|topic| {
        let min_isr = min_isr(&topic.name);
        topic.partitions.iter().map(move |partition| ReplicaSet {
            topic: &topic.name,
            partition: partition.id,
            replicas: &partition.replicas,
            isr: &partition.isr,
            min_isr,
        })
    });
    Ok(assess_stop(node_id, partitions, &voters, |id| alive.contains(&id)))
}

/// Prints the answer.
pub(super) fn print_assessment(node_id: i32, assessment: &StopAssessment, as_json: bool) -> Result<(), CliError> {
    let quorum = &assessment.quorum;
    if as_json {
        return print_json(&stop_report(node_id, assessment));
    }
    if assessment.is_safe() {
        return Ok(print_line(&format!("node {node_id} may be stopped"))?);
    }
    if !quorum.keeps_majority() {
        print_line(&format!(
            "the metadata quorum would lose its majority: {} of {} voters would be alive, {} are needed",
            quorum.alive, quorum.voters, quorum.majority
        ))?;
    }
    if assessment.count == 0 {
        return Ok(());
    }
    print_line(&format!("partitions with too few in-sync replicas without node {node_id}: {}", assessment.count))?;
    let row = |affected: &AffectedPartition| {
        let effect = match affected.effect {
            StopEffect::LastInSyncReplica => "offline: its last in-sync replica",
            StopEffect::BelowMinIsr => "acks=all refused: below min.insync.replicas",
        };
        vec![
            format!("{}-{}", affected.topic, affected.partition),
            affected.in_sync.to_string(),
            affected.min_isr.to_string(),
            effect.to_owned(),
        ]
    };
    let rows: Vec<_> = assessment.partitions.iter().map(row).collect();
    table(&["PARTITION", "IN-SYNC AFTER", "MIN IN-SYNC", "EFFECT"], &rows)?;
    if assessment.count > rows.len() {
        print_line(&format!("... and {} more", assessment.count - rows.len()))?;
    }
    Ok(())
}

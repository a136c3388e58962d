//! `esker cluster safe-to-stop`: the rule of `esker_core::health` over what the cluster answers to any client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use esker_admin::{describe_quorum, stop_report};
use esker_client::{Admin, Client, Topic};
use esker_core::health::{AffectedPartition, ReplicaSet, StopAssessment, StopEffect, assess_stop};
use esker_protocol::primitives::Str;
use tokio::time::{Instant, sleep_until, timeout_at};

use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::interrupt::interrupted;
use esker_records::output::{print_json, print_line, print_to_stderr, table};
use esker_records::units::show_count;

/// Flags of `safe-to-stop`.
#[derive(Debug, Args)]
pub struct SafeToStopArgs {
    /// The node.
    #[arg(value_name = "NODE_ID")]
    node_id: i32,
    #[command(flatten)]
    connect: Connect,
    /// Wait until the node may be stopped, for so many seconds at most [default: 600], and say on stderr what it waits for.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "600",
          value_parser = clap::value_parser!(u32).range(1..=MAX_WAIT_SECONDS))]
    wait: Option<u32>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

const MIN_ISR: &str = "min.insync.replicas";
/// A day.
const MAX_WAIT_SECONDS: i64 = 24 * 3600;
/// Between two looks at the cluster.
const PAUSE: Duration = Duration::from_secs(1);
/// Partitions that a line names.
const NAMED: usize = 3;

/// Runs it. An interrupted command has no answer, so that it must not end with the exit code of yes.
pub(super) async fn run(args: SafeToStopArgs) -> Result<(), CliError> {
    tokio::select! {
        outcome = answer(&args) => outcome,
        () = interrupted() => Err(CliError::No(format!("interrupted: it is not known whether node {} may be stopped", args.node_id))),
    }
}

async fn answer(args: &SafeToStopArgs) -> Result<(), CliError> {
    let assessment = match args.wait {
        None => assess(&args.connect.client().await?, args.node_id).await?,
        Some(seconds) => wait_until_safe(args, Duration::from_secs(seconds.into())).await?,
    };
    print_assessment(args.node_id, &assessment, args.json)?;
    match (assessment.is_safe(), args.wait) {
        (true, _) => Ok(()),
        (false, None) => Err(CliError::No(format!("node {} is not safe to stop now", args.node_id))),
        (false, Some(seconds)) => Err(CliError::No(format!(
            "node {} is not safe to stop: the deadline of {seconds} s has passed",
            args.node_id
        ))),
    }
}

/// Assesses the stop again and again until it is safe; at the deadline, the last assessment. A cluster that does not answer for a while, as
/// when its nodes are restarted, is waited for as well.
async fn wait_until_safe(args: &SafeToStopArgs, wait: Duration) -> Result<StopAssessment, CliError> {
    let deadline = Instant::now() + wait;
    let (mut client, mut last, mut said) = (None, None, String::new());
    loop {
        let next = Instant::now() + PAUSE;
        let looked = timeout_at(deadline, look(args, &mut client)).await;
        let obstacle = match looked {
            Ok(Ok(assessment)) if assessment.is_safe() => return Ok(assessment),
            Ok(Ok(assessment)) => {
                let obstacle = describe_obstacle(&assessment);
                last = Some(assessment);
                obstacle
            }
            // What is wrong with the command itself, no time mends.
            Ok(Err(error @ (CliError::Usage(_) | CliError::Refused(_)))) => return Err(error),
            Ok(Err(error)) => format!("the cluster does not answer: {error}"),
            Err(_) => "the cluster does not answer in time".to_owned(),
        };
        if obstacle != said {
            print_to_stderr(&format!("node {} waits: {obstacle}", args.node_id));
            said = obstacle;
        }
        if next >= deadline {
            let none = || CliError::No(format!("no answer within {} s: {said}", wait.as_secs()));
            return last.ok_or_else(none);
        }
        sleep_until(next).await;
    }
}

async fn look(args: &SafeToStopArgs, client: &mut Option<Client>) -> Result<StopAssessment, CliError> {
    let client = match client {
        Some(client) => client,
        None => client.insert(args.connect.client().await?),
    };
    assess(client, args.node_id).await
}

/// What keeps a node from being stopped, in a line.
fn describe_obstacle(assessment: &StopAssessment) -> String {
    let mut obstacles = Vec::new();
    let quorum = &assessment.quorum;
    if !quorum.keeps_majority() {
        obstacles.push(format!(
            "the metadata quorum would lose its majority ({} of {} voters alive)",
            quorum.alive, quorum.voters
        ));
    }
    if assessment.count > 0 {
        let named = assessment.partitions.iter().take(NAMED);
        let mut named: Vec<String> =
            named.map(|affected| format!("{}-{}", affected.topic, affected.partition)).collect();
        if assessment.count > named.len() {
            named.push("...".to_owned());
        }
        obstacles.push(format!(
            "{} would have too few in-sync replicas ({})",
            show_count(assessment.count, "partition", "partitions"),
            named.join(", ")
        ));
    }
    obstacles.join("; ")
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

#[cfg(test)]
mod tests {
    use esker_core::health::QuorumEffect;

    use super::*;

    #[test]
    fn obstacles_are_described_in_a_line() {
        let assessment = |partitions: i32, alive: usize| StopAssessment {
            count: usize::try_from(partitions).unwrap(),
            partitions: (0..partitions)
                .map(|partition| AffectedPartition {
                    topic: "t".to_owned(),
                    partition,
                    effect: StopEffect::BelowMinIsr,
                    in_sync: 1,
                    min_isr: 2,
                })
                .collect(),
            quorum: QuorumEffect { voters: 3, alive, majority: 2, is_voter: true },
        };
        for (partitions, alive, expected) in [
            (1, 2, "1 partition would have too few in-sync replicas (t-0)"),
            (3, 2, "3 partitions would have too few in-sync replicas (t-0, t-1, t-2)"),
            (4, 2, "4 partitions would have too few in-sync replicas (t-0, t-1, t-2, ...)"),
            (0, 1, "the metadata quorum would lose its majority (1 of 3 voters alive)"),
            (
                1,
                1,
                "the metadata quorum would lose its majority (1 of 3 voters alive); 1 partition would have too few in-sync replicas (t-0)",
            ),
        ] {
            assert_eq!(describe_obstacle(&assessment(partitions, alive)), expected);
        }
    }
}

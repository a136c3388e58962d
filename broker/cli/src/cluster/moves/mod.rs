//! `esker cluster drain`, `remove`, `replace`, `rebalance` and `reassignments`: moves of replicas by AlterPartitionReassignments, in waves.
//!
//! What is to be done follows from the cluster alone, never from a file of the command: a command that was interrupted, or whose machine died,
//! goes on when it is run again. A node that is drained is cordoned first and stays so: no other command places replicas on it meanwhile.

mod goal;
mod list;
mod mover;
mod options;
mod progress;
mod report;
mod steps;

use std::cell::RefCell;

use clap::Args;

use esker_records::error::CliError;
use esker_records::interrupt::interrupted;
use goal::Goal;
pub use list::ReassignmentsArgs;
use options::MoveOptions;

/// Arguments of `drain` and `remove`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node.
    #[arg(value_name = "NODE_ID")]
    node_id: i32,
    #[command(flatten)]
    options: MoveOptions,
}

/// Arguments of `replace`.
#[derive(Debug, Args)]
pub struct ReplaceArgs {
    /// The node whose replicas move.
    #[arg(value_name = "NODE_ID")]
    node_id: i32,
    /// The node that takes them.
    #[arg(value_name = "REPLACEMENT_ID")]
    replacement: i32,
    #[command(flatten)]
    options: MoveOptions,
}

/// Arguments of `rebalance`.
#[derive(Debug, Args)]
pub struct RebalanceArgs {
    #[command(flatten)]
    options: MoveOptions,
}

/// Runs `drain`.
pub async fn drain(args: NodeArgs) -> Result<(), CliError> {
    run(Goal::Drain(args.node_id), args.options).await
}

/// Runs `remove`.
pub async fn remove(args: NodeArgs) -> Result<(), CliError> {
    run(Goal::Remove(args.node_id), args.options).await
}

/// Runs `replace`.
pub async fn replace(args: ReplaceArgs) -> Result<(), CliError> {
    run(Goal::Replace { node_id: args.node_id, replacement: args.replacement }, args.options).await
}

/// Runs `rebalance`.
pub async fn rebalance(args: RebalanceArgs) -> Result<(), CliError> {
    run(Goal::Rebalance, args.options).await
}

/// Runs `reassignments`.
pub async fn reassignments(args: ReassignmentsArgs) -> Result<(), CliError> {
    list::run(args).await
}

/// Each step is complete in itself: the command may end between any two of its requests.
async fn run(goal: Goal, options: MoveOptions) -> Result<(), CliError> {
    let deadline = async {
        match options.deadline {
            Some(deadline) => tokio::time::sleep(deadline).await,
            None => std::future::pending().await,
        }
    };
    // The line of the last progress.
    let last = RefCell::new(None);
    let ended = |why: &str| {
        let last = last.take().map(|line: String| format!(" ({line})")).unwrap_or_default();
        CliError::No(format!(
            "{why}{last}. Reassignments in progress go on: run `esker cluster {goal}` again to continue, or with --cancel to cancel them"
        ))
    };
    tokio::select! {
        outcome = steps::run(goal, &options, &last) => outcome,
        () = interrupted() => Err(ended("interrupted")),
        () = deadline => Err(ended("the deadline has passed")),
    }
}

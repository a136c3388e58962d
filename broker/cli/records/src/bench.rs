//! `esker bench`: load with this client, and what came of it.

mod consume;
mod flags;
mod measure;
mod produce;
mod progress;
mod report;

use async_recursion::async_recursion as boxed;
use clap::Subcommand;

use super::error::CliError;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Produce records, and print throughput, latency and the client's CPU time.
    #[command(after_help = produce::EXAMPLES)]
    Produce(produce::ProduceArgs),
    /// Consume records, and print throughput, latency and the client's CPU time.
    #[command(after_help = consume::EXAMPLES)]
    Consume(consume::ConsumeArgs),
}

/// Runs one.
#[boxed]
pub async fn run(command: BenchCommand) -> Result<(), CliError> {
    match command {
        BenchCommand::Produce(args) => produce::run(args).await,
        BenchCommand::Consume(args) => consume::run(args).await,
    }
}

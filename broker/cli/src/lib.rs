//! The command line beside the broker: topics, records, groups, over the `client` crate. For people and for scripts.
//!
//! A crate of its own: it compiles beside the broker, and a change in it does not compile the broker again. Must never: know the broker's parts. What
//! works on a node's metadata log comes in as a function.
//!
//! Exit codes: 0 done, 1 it failed (the message says why), 2 wrong usage, 3 warnings (`doctor`). The output of a command goes to
//! stdout, everything else to stderr.

mod broker;
mod cluster;
mod completion;
mod config;
mod context;
mod doctor;
mod group;
mod journal;
mod safe_to_stop;
mod topic;
mod txn;

use std::process::ExitCode;

use clap::Subcommand;

pub use cluster::{Recover, RecoverArgs};
use esker_records::interrupt::interrupted;
use esker_records::{bench, consume, produce};
pub use esker_records::{connect::Connect, error::CliError, output::print_line};

/// What `--help` ends with.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 it failed (stderr says why), 2 wrong usage.";

/// Commands that talk to a broker.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create, list, describe, change and delete topics.
    #[command(subcommand, after_help = EXIT_CODES)]
    Topic(topic::TopicCommand),
    /// Produce lines from stdin to a topic.
    #[command(after_help = EXIT_CODES)]
    Produce(produce::ProduceArgs),
    /// Print records of a topic.
    #[command(after_help = EXIT_CODES)]
    Consume(consume::ConsumeArgs),
    /// List, describe and delete consumer groups, and set their committed offsets.
    #[command(subcommand, after_help = EXIT_CODES)]
    Group(group::GroupCommand),
    /// Print, set and unset configs of topics, brokers, groups, client metrics and loggers.
    #[command(subcommand, after_help = EXIT_CODES)]
    Config(config::ConfigCommand),
    /// List, describe and abort transactions.
    #[command(subcommand, after_help = EXIT_CODES)]
    Txn(txn::TxnCommand),
    /// Show the state of a cluster, change its voters, recover it.
    #[command(subcommand, after_help = EXIT_CODES)]
    Cluster(cluster::ClusterCommand),
    /// Check a running cluster and this client's way to it, and say in words what is wrong.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Put load on a cluster, and print throughput and latency.
    #[command(subcommand, after_help = EXIT_CODES)]
    Bench(bench::BenchCommand),
    /// Name clusters, and choose the one that commands go to.
    #[command(subcommand, after_help = context::EXAMPLES)]
    Context(context::ContextCommand),
    /// Print a script that completes commands and flags in a shell.
    #[command(after_help = completion::EXAMPLES)]
    Completion(completion::CompletionArgs),
    /// Work on the journal of a data folder that no broker uses.
    #[command(subcommand, after_help = EXIT_CODES)]
    Journal(journal::JournalCommand),
    /// Tell about the cluster and its brokers.
    #[command(after_help = EXIT_CODES)]
    Broker(broker::BrokerArgs),
}

/// Runs a command to its end. `program` is the whole command line, for completion scripts; `recover` does what `cluster recover` is for.
pub fn run(command: Command, program: clap::Command, recover: Recover) -> ExitCode {
    if let Command::Completion(args) = &command {
        return end(completion::run(args, program));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&CliError::Io(error)),
    };
    let outcome = runtime.block_on(dispatch(command, recover));
    // A thread of its own may wait for stdin; the exit does not wait for that thread.
    runtime.shutdown_background();
    end(outcome)
}

fn end(outcome: Result<(), CliError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output closed the pipe.
        Err(CliError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

async fn dispatch(command: Command, recover: Recover) -> Result<(), CliError> {
    match command {
        // These end in their own way: what was read is sent, what was printed is committed, what was begun is named.
        Command::Produce(args) => produce::run(args).await,
        Command::Consume(args) => consume::run(args).await,
        Command::Cluster(command) => cluster::run(command, recover).await,
        Command::Bench(command) => bench::run(command).await,
        command => tokio::select! {
            outcome = run_command(command) => outcome,
            () = interrupted() => Ok(()),
        },
    }
}

async fn run_command(command: Command) -> Result<(), CliError> {
    match command {
        Command::Topic(command) => topic::run(command).await,
        Command::Group(command) => group::run(command).await,
        Command::Config(command) => config::run(command).await,
        Command::Txn(command) => txn::run(command).await,
        Command::Broker(args) => broker::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Context(command) => context::run(command),
        // It blocks, and what it has begun must end.
        Command::Journal(command) => journal::run(&command),
        Command::Produce(_)
        | Command::Consume(_)
        | Command::Cluster(_)
        | Command::Bench(_)
        | Command::Completion(_) => Ok(()),
    }
}

fn report(error: &CliError) -> ExitCode {
    use std::io::Write;
    // A failed write to stderr cannot be reported.
    let _ = writeln!(std::io::stderr(), "esker: {error}");
    match error {
        CliError::Usage(_) => ExitCode::from(2),
        CliError::Warnings(_) => ExitCode::from(3),
        CliError::Client(_)
        | CliError::Produce(_)
        | CliError::Line { .. }
        | CliError::Io(_)
        | CliError::Refused(_)
        | CliError::Metadata(_)
        | CliError::Open(_)
        | CliError::Log(_)
        | CliError::No(_)
        | CliError::Json(_) => ExitCode::from(1),
    }
}

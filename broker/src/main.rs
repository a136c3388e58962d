//! The `esker` command: a broker when started without a subcommand.

mod recover;

use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};
use esker_broker::build::BUILD;
use esker_broker::daemon::{self, ServeArgs};
use esker_broker::telemetry::{LogFormat, init_logging};
use esker_cli as cli;

/// What `--help` opens with.
const ABOUT: &str = "A Kafka-compatible event log broker. Without a subcommand it starts a broker on 127.0.0.1:9092.";

/// What `--version` names: the commit, too.
static VERSION: LazyLock<String> = LazyLock::new(|| BUILD.to_string());

#[derive(Debug, Parser)]
#[command(name = "esker", version, long_version = VERSION.as_str(), about = ABOUT, long_about = ABOUT, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a broker (what `esker` does without a subcommand)
    Serve(ServeArgs),
    #[command(flatten)]
    Client(cli::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => daemon::run(&cli.serve),
        Some(Command::Serve(args)) => daemon::run(&args),
        Some(Command::Client(command)) => {
            if let Err(error) = init_logging(LogFormat::Text, None) {
                eprintln!("esker: {error}");
                return ExitCode::from(2);
            }
            cli::run(command, Cli::command(), recover::run)
        }
    }
}

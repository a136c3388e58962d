//! `esker journal apply`: completes the partitions of a data folder from its journal, while no broker runs.
//!
//! After a clean stop a data folder is one of Kafka's. After a crash the journal may hold acknowledged records that segments lack: Kafka
//! knows nothing of it. This command does what the next start would do, stops cleanly, and removes the journal's files.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use esker_storage::{LogConfig, LogManager, LogManagerConfig, node_id_of};

use esker_records::error::CliError;
use esker_records::output::print_line;
use esker_records::times::now;
use esker_records::units::show_count;

/// Commands about the journal of a data folder.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Write acknowledged records of the journal into the partitions, so that Apache Kafka can take the folder over.
    Apply(ApplyArgs),
}

/// Arguments of `journal apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// A data folder (log dir); several if the broker has several. No broker may use it.
    #[arg(long, required = true)]
    data_dir: Vec<PathBuf>,

    /// The folder of its journal, if the broker has `log.journal.dir`; as many as data folders, in their order.
    #[arg(long)]
    journal_dir: Vec<PathBuf>,
}

/// Runs a command to its end. Blocks for the disk.
pub fn run(command: &JournalCommand) -> Result<(), CliError> {
    let JournalCommand::Apply(args) = command;
    if !args.journal_dir.is_empty() && args.journal_dir.len() != args.data_dir.len() {
        let text = "name a --journal-dir for each --data-dir, in the same order (the data folder itself, where its journal lies in it)";
        return Err(CliError::Usage(text.to_owned()));
    }
    let mut node_id = None;
    for dir in &args.data_dir {
        let found = node_id_of(dir)?;
        node_id = Some(found.ok_or_else(|| {
            CliError::Usage(format!("{} is no data folder: it has no meta.properties", dir.display()))
        })?);
    }
    let config = LogManagerConfig {
        dirs: args.data_dir.clone(),
        node_id: node_id.unwrap_or_default(),
        cluster_id: None,
        load_threads: 0,
        journal_bytes: 0,
        journal_dirs: args.journal_dir.clone(),
        // What topics are configured to is not known: nothing may be forgotten.
        default_config: LogConfig { delete: false, producer_id_expiration_ms: i64::MAX, ..LogConfig::default() },
        progress: Default::default(),
    };
    let logs = LogManager::open(config, now())?;
    let (partitions, clean) = (logs.logs().len(), logs.was_clean());
    let replayed: u64 = logs.journals().map(|(_, journal)| journal.stats().replayed).sum();
    logs.shutdown_clean()?;
    let before = if clean { "the last stop was clean" } else { "the last stop was not clean" };
    let partitions = show_count(partitions, "partition", "partitions");
    Ok(print_line(&format!("{partitions}, {replayed} bytes written from the journal ({before})"))?)
}

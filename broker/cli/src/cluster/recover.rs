//! `esker cluster recover`: its arguments. What it does to a data folder is the broker's, which has the metadata log.

use std::path::PathBuf;

use clap::Args;

use esker_records::error::CliError;

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The folder that holds the metadata log: the data folder, or `metadata.log.dir` if the broker has one.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub yes: bool,
}

/// Makes the node of a data folder the only voter of its cluster. Blocks for the disk and for the answer of who typed it.
pub type Recover = fn(&RecoverArgs) -> Result<(), CliError>;

//! `esker completion`.

use std::io::Write;

use clap::Args;
use clap_complete::{Shell, generate};

use esker_records::error::CliError;

/// What `--help` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  esker completion bash > ~/.local/share/bash-completion/completions/esker
  esker completion zsh > ~/.zfunc/_esker          (fpath must contain ~/.zfunc)
  esker completion fish > ~/.config/fish/completions/esker.fish";

/// Flags of `completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script that completes `command`.
pub(super) fn run(args: &CompletionArgs, mut command: clap::Command) -> Result<(), CliError> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

//! `esker group delete`.

use clap::Args;
use esker_client::{Admin, Error, ErrorCode};
use serde_json::json;

use esker_records::arguments::distinct;
use esker_records::connect::Connect;
use esker_records::error::{CliError, fail_with};
use esker_records::output::print_line;

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    connect: Connect,
    /// The groups' names.
    #[arg(required = true, value_name = "GROUP")]
    names: Vec<String>,
    /// A group that does not exist is no error.
    #[arg(long)]
    if_exists: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Deletes each group that can be deleted. The failures of the others are the command's failure.
pub(super) async fn run(args: DeleteArgs) -> Result<(), CliError> {
    let names = distinct(&args.names);
    let results = Admin::new(&args.connect.client().await?).delete_groups(&names).await?;
    let (mut rows, mut failures): (Vec<_>, Vec<Error>) = (Vec::new(), Vec::new());
    for (name, result) in names.iter().zip(results) {
        let outcome = match result {
            Ok(()) => "deleted",
            Err(error) if args.if_exists && error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => "missing",
            Err(error) => {
                rows.push(json!({"group": name.as_str(), "outcome": "failed", "error": error.to_string()}));
                failures.push(error);
                continue;
            }
        };
        rows.push(json!({"group": name.as_str(), "outcome": outcome}));
        if !args.json {
            print_line(&format!("{outcome} {name}"))?;
        }
    }
    if args.json {
        print_line(&serde_json::to_string_pretty(&rows)?)?;
    }
    fail_with(failures)
}

//! What a command did to one node.

use serde_json::json;

use esker_records::error::CliError;
use esker_records::output::print_line;

/// Prints it: in words, or as an object.
pub(super) fn print_outcome(node_id: i32, outcome: &str, words: &str, as_json: bool) -> Result<(), CliError> {
    if as_json {
        let outcome = json!({"id": node_id, "outcome": outcome});
        return Ok(print_line(&serde_json::to_string_pretty(&outcome)?)?);
    }
    Ok(print_line(words)?)
}

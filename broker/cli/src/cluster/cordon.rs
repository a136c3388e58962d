//! `esker cluster cordon` and `uncordon`: `cordoned.log.dirs` of a broker (KIP-1066).

use clap::Args;
use esker_admin::{check_registered, set_cordoned};
use esker_client::Admin;

use super::outcome::print_outcome;
use esker_records::connect::Connect;
use esker_records::error::CliError;

/// Arguments of `cordon` and `uncordon`.
#[derive(Debug, Args)]
pub struct CordonArgs {
    /// The node.
    #[arg(value_name = "NODE_ID")]
    node_id: i32,
    #[command(flatten)]
    connect: Connect,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `cordon`.
pub async fn cordon(args: CordonArgs) -> Result<(), CliError> {
    let (admin, node_id) = (Admin::new(&args.connect.client().await?), args.node_id);
    check_registered(&admin, node_id).await?;
    set_cordoned(&admin, node_id, true).await?;
    let words = format!(
        "node {node_id} is cordoned: it gets no new replicas; `esker cluster drain {node_id}` moves those that it has"
    );
    print_outcome(node_id, "cordoned", &words, args.json)
}

/// Runs `uncordon`.
pub async fn uncordon(args: CordonArgs) -> Result<(), CliError> {
    let (admin, node_id) = (Admin::new(&args.connect.client().await?), args.node_id);
    check_registered(&admin, node_id).await?;
    set_cordoned(&admin, node_id, false).await?;
    let words = format!(
        "node {node_id} is not cordoned: it gets new replicas; `esker cluster rebalance` moves some of those that exist to it"
    );
    print_outcome(node_id, "uncordoned", &words, args.json)
}

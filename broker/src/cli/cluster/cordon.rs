//! `esker cluster cordon` and `uncordon`: `cordoned.log.dirs` of a broker (KIP-1066).

use clap::Args;
use esker_client::admin::{ConfigOp, Resource};
use esker_client::{Admin, Error};

use super::super::connect::Connect;
use super::super::error::CliError;
use super::super::output::print_line;

const CONFIG: &str = "cordoned.log.dirs";
const ALL_DIRS: &str = "*";

/// Arguments of `cordon` and `uncordon`.
#[derive(Debug, Args)]
pub struct CordonArgs {
    /// The node.
    #[arg(value_name = "NODE_ID")]
    node_id: i32,
    #[command(flatten)]
    connect: Connect,
}

/// Runs `cordon`.
pub async fn cordon(args: CordonArgs) -> Result<(), CliError> {
    let (admin, node_id) = (Admin::new(&args.connect.client().await?), args.node_id);
    check_registered(&admin, node_id).await?;
    cordon_node(&admin, node_id).await?;
    Ok(print_line(&format!(
        "node {node_id} is cordoned: it gets no new replicas; `esker cluster drain {node_id}` moves those that it has"
    ))?)
}

/// Runs `uncordon`.
pub async fn uncordon(args: CordonArgs) -> Result<(), CliError> {
    let (admin, node_id) = (Admin::new(&args.connect.client().await?), args.node_id);
    check_registered(&admin, node_id).await?;
    // An empty list rather than no value: the broker may have been started with the config.
    set(&admin, node_id, "").await?;
    Ok(print_line(&format!(
        "node {node_id} is not cordoned: it gets new replicas; `esker cluster rebalance` moves some of those that exist to it"
    ))?)
}

/// Cordons all log dirs of a node.
pub(super) async fn cordon_node(admin: &Admin, node_id: i32) -> Result<(), Error> {
    set(admin, node_id, ALL_DIRS).await
}

async fn set(admin: &Admin, node_id: i32, dirs: &'static str) -> Result<(), Error> {
    let change = [(CONFIG.into(), ConfigOp::Set(dirs.into()))];
    admin.alter_configs(&Resource::Broker(Some(node_id)), &change).await
}

async fn check_registered(admin: &Admin, node_id: i32) -> Result<(), CliError> {
    let ids: Vec<i32> = admin.registered_brokers().await?.iter().map(|found| found.broker.id).collect();
    if ids.contains(&node_id) {
        return Ok(());
    }
    let known = ids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    Err(CliError::Usage(format!("the cluster has no broker {node_id}; its brokers are {known}")))
}

//! `esker cluster unregister`.

use clap::Args;
use esker_client::Admin;
use esker_client::admin::RegisteredBroker;

use super::outcome::print_outcome;
use esker_records::connect::Connect;
use esker_records::error::CliError;

/// Arguments of `unregister`.
#[derive(Debug, Args)]
pub struct UnregisterArgs {
    /// The id of a broker that does not run, and will not run on its present disk again.
    node_id: i32,
    #[command(flatten)]
    connect: Connect,
    /// Also a broker that runs: it registers again at once, and its replicas must catch up before they are in sync.
    #[arg(long)]
    force: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn run(args: UnregisterArgs) -> Result<(), CliError> {
    let (client, broker_id) = (args.connect.client().await?, args.node_id);
    let admin = Admin::new(&client);
    let is_it_running = |known: &RegisteredBroker| known.broker.id == broker_id && !known.fenced;
    if !args.force && admin.registered_brokers().await?.iter().any(is_it_running) {
        return Err(CliError::Refused(format!(
            "broker {broker_id} is not unregistered: it runs. Stop it and run this again once it is fenced, or add --force: its replicas leave the ISR, \
             and it registers again"
        )));
    }
    admin.unregister_broker(broker_id).await?;
    print_outcome(broker_id, "unregistered", &format!("broker {broker_id} is unregistered"), args.json)
}

//! `esker cluster unregister`.

use clap::Args;
use esker_client::Target;
use esker_protocol::messages::unregister_broker::UnregisterBrokerRequest;

use super::super::connect::Connect;
use super::super::error::CliError;
use super::outcome::print_outcome;

/// Arguments of `unregister`.
#[derive(Debug, Args)]
pub struct UnregisterArgs {
    /// The id of a broker that does not run, and will not run on its present disk again.
    node_id: i32,
    #[command(flatten)]
    connect: Connect,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn run(args: UnregisterArgs) -> Result<(), CliError> {
    let (client, broker_id) = (args.connect.client().await?, args.node_id);
    let answer = client.request(Target::Any, UnregisterBrokerRequest { broker_id }).await?;
    if answer.error_code.is_error() {
        let message = answer.error_message.map_or_else(String::new, |message| message.to_string());
        return Err(CliError::Refused(format!(
            "broker {broker_id} is not unregistered: {message} ({})",
            answer.error_code
        )));
    }
    print_outcome(broker_id, "unregistered", &format!("broker {broker_id} is unregistered"), args.json)
}

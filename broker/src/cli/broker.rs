//! `esker broker`.

use clap::Args;
use serde_json::json;

use super::output::{say, table};
use super::{CliError, Connect};

/// Flags of `broker`.
#[derive(Debug, Args)]
pub struct BrokerArgs {
    #[command(flatten)]
    connect: Connect,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn run(args: BrokerArgs) -> Result<(), CliError> {
    let view = args.connect.client().await?.refresh(None).await?;
    let partitions: usize = view.topics.values().map(|t| t.partitions.len()).sum();
    let led = |id: i32| view.topics.values().flat_map(|t| &t.partitions).filter(|p| p.leader == id).count();
    if args.json {
        let brokers: Vec<_> = view
            .nodes
            .values()
            .map(|n| json!({"id": n.id, "host": n.host, "port": n.port, "rack": n.rack, "leads": led(n.id)}))
            .collect();
        let cluster = json!({
            "cluster_id": view.cluster_id, "controller": view.controller, "topics": view.topics.len(),
            "partitions": partitions, "brokers": brokers,
        });
        return Ok(say(&serde_json::to_string_pretty(&cluster)?)?);
    }
    say(&format!(
        "cluster {}  controller={}  topics={}  partitions={partitions}",
        view.cluster_id.as_deref().unwrap_or("-"),
        view.controller,
        view.topics.len()
    ))?;
    let rows: Vec<_> = view
        .nodes
        .values()
        .map(|n| {
            let rack = n.rack.clone().unwrap_or_else(|| "-".to_owned());
            vec![n.id.to_string(), format!("{}:{}", n.host, n.port), rack, led(n.id).to_string()]
        })
        .collect();
    Ok(table(&["BROKER", "ADDRESS", "RACK", "LEADS"], &rows)?)
}

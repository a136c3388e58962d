//! `esker broker`.

use clap::Args;
use esker_admin::describe_quorum;
use esker_client::{Admin, Target};
use esker_protocol::api::ApiKey;
use serde_json::json;

use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{print_line, table};

/// Flags of `broker`.
#[derive(Debug, Args)]
pub struct BrokerArgs {
    #[command(flatten)]
    connect: Connect,
    /// The versions of each API that each broker serves, too.
    #[arg(long)]
    versions: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn run(args: BrokerArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let admin = Admin::new(&client);
    let topics = admin.topics().await?;
    let cluster = admin.describe_cluster().await?;
    // Brokers of Apache Kafka return any broker as the controller. Those without KRaft have no quorum, and return the right one.
    let leader = describe_quorum(&client).await.ok().map(|quorum| quorum.leader_id).filter(|id| *id >= 0);
    let controller = leader.or(cluster.controller);
    let partitions: usize = topics.iter().map(|t| t.partitions.len()).sum();
    let led = |id: i32| topics.iter().flat_map(|t| &t.partitions).filter(|p| p.leader == Some(id)).count();
    let mut apis = Vec::new();
    if args.versions {
        for broker in &cluster.brokers {
            for (key, first, last) in client.api_versions(Target::Node(broker.id)).await? {
                apis.push((broker.id, ApiKey(key).name(), key, first, last));
            }
        }
    }
    if args.json {
        let versions = |id: i32| {
            let of = apis.iter().filter(|api| api.0 == id);
            of.map(|(_, name, key, first, last)| json!({"api": name, "key": key, "first": first, "last": last}))
                .collect::<Vec<_>>()
        };
        let broker = |n: &esker_client::Broker| {
            let mut broker = json!({
                "id": n.id, "host": n.host.as_str(), "port": n.port, "rack": n.rack.as_deref(), "leads": led(n.id),
            });
            if let (true, Some(fields)) = (args.versions, broker.as_object_mut()) {
                fields.insert("versions".to_owned(), versions(n.id).into());
            }
            broker
        };
        let brokers: Vec<_> = cluster.brokers.iter().map(broker).collect();
        let cluster = json!({
            "cluster_id": cluster.id.as_str(), "controller": controller, "topics": topics.len(),
            "partitions": partitions, "brokers": brokers,
        });
        return Ok(print_line(&serde_json::to_string_pretty(&cluster)?)?);
    }
    print_line(&format!(
        "cluster {}  controller={}  topics={}  partitions={partitions}",
        cluster.id,
        controller.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        topics.len()
    ))?;
    let rows: Vec<_> = cluster
        .brokers
        .iter()
        .map(|n| {
            let rack = n.rack.as_deref().unwrap_or("-").to_owned();
            vec![n.id.to_string(), n.address(), rack, led(n.id).to_string()]
        })
        .collect();
    table(&["BROKER", "ADDRESS", "RACK", "LEADS"], &rows)?;
    if args.versions {
        let row = |(id, name, key, first, last): &(i32, &str, i16, i16, i16)| {
            vec![id.to_string(), (*name).to_owned(), key.to_string(), first.to_string(), last.to_string()]
        };
        print_line("")?;
        table(&["BROKER", "API", "KEY", "FIRST", "LAST"], &apis.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(())
}

//! Gathers the facts. Each part that fails becomes the reason why a check is skipped.

mod addresses;
mod brokers;
mod groups;
mod http;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use esker_admin::{describe_quorum, log_end};
use esker_client::{Admin, Client, ClientConfig, Topic};
use esker_protocol::primitives::Str;

use super::facts::{Fact, Facts, QuorumFacts, TopicFacts, VoterFacts};
use esker_records::error::CliError;
use esker_records::times::now;

const MIN_ISR: &str = "min.insync.replicas";
const DURABILITY: &str = "durability";

/// The values of the flags.
pub(super) struct Settings {
    /// Addresses of HTTP ports.
    pub http: Vec<String>,
    /// How long to measure the rate at which disks fill.
    pub sample: Option<Duration>,
    /// Longest wait for one connection or answer.
    pub timeout: Duration,
}

/// All facts of the cluster.
pub(super) async fn collect(mut config: ClientConfig, settings: &Settings) -> Result<Facts, CliError> {
    config.connect_timeout = config.connect_timeout.min(settings.timeout);
    config.request_timeout = config.request_timeout.min(settings.timeout);
    let client = Client::connect(config.clone()).await?;
    let admin = Admin::new(&client);
    let registered = admin.registered_brokers().await?;
    let cluster_id = admin.describe_cluster().await?.id.to_string();
    let topics = admin.topics().await?;
    let bootstrap = addresses::try_bootstrap(&config, settings.timeout).await;
    let ways = addresses::try_brokers(&config, &registered, &cluster_id).await;
    let brokers = brokers::describe_brokers(&admin, &registered, ways, settings.sample).await;
    let reached: Vec<i32> = brokers::reached_ids(&brokers).collect();
    Ok(Facts {
        cluster_id,
        now_ms: now(),
        bootstrap,
        topics: describe_topics(&admin, &topics).await,
        quorum: collect_quorum(&client).await,
        groups: groups::collect_groups(&admin, &brokers).await,
        transactions: transactions::collect_transactions(&client, &reached, &topics).await,
        nodes: http::ask_nodes(&settings.http, settings.timeout).await,
        brokers,
    })
}

async fn describe_topics(admin: &Admin, topics: &[Arc<Topic>]) -> Vec<TopicFacts> {
    let names: Vec<Str> = topics.iter().map(|topic| topic.name.clone()).collect();
    // Without configs, the checks that need them find nothing.
    let configs = admin.topic_configs(&names, &[MIN_ISR, DURABILITY]).await.unwrap_or_default();
    let facts = |topic: &Arc<Topic>| {
        let entry = |name: &str| configs.get(&topic.name)?.iter().find(|config| config.name == name);
        let own = entry(DURABILITY).filter(|config| config.source == esker_client::admin::ConfigSource::Topic);
        TopicFacts {
            name: topic.name.to_string(),
            partitions: topic.partitions.clone(),
            min_isr: entry(MIN_ISR).and_then(|config| config.value.as_deref()?.parse().ok()),
            durability: own.and_then(|config| Some(config.value.as_deref()?.to_owned())),
        }
    };
    // Findings name the first partitions of a list: those of internal topics come last.
    let mut facts: Vec<_> = topics.iter().map(|topic| (topic.internal, facts(topic))).collect();
    facts.sort_by_key(|(internal, _)| *internal);
    facts.into_iter().map(|(_, facts)| facts).collect()
}

async fn collect_quorum(client: &Client) -> Fact<QuorumFacts> {
    let quorum = describe_quorum(client).await.map_err(|error| error.to_string())?;
    let known = |number: i64| Some(number).filter(|number| *number >= 0);
    let voters = quorum.current_voters.iter().map(|voter| VoterFacts {
        id: voter.replica_id,
        log_end: known(voter.log_end_offset),
        last_contact_ms: known(voter.last_fetch_timestamp),
    });
    Ok(QuorumFacts { leader: quorum.leader_id, log_end: log_end(&quorum), voters: voters.collect() })
}

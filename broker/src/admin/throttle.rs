//! The limit of copies (KIP-73): the rate on each broker that takes part, and the replicas that it applies to on each topic.

use std::collections::{BTreeMap, BTreeSet};

use esker_client::admin::{ConfigOp, ConfigSource, Resource};
use esker_client::{Admin, Error};
use esker_core::plan::Move;
use esker_protocol::primitives::Str;

const RATES: [&str; 2] = ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
const LEADERS: &str = "leader.replication.throttled.replicas";
const FOLLOWERS: &str = "follower.replication.throttled.replicas";

/// Limits the copies of these moves to `rate` bytes a second on each broker.
pub async fn set_throttle(admin: &Admin, moves: &[Move], rate: u64) -> Result<(), Error> {
    let rate = Str::from(rate.to_string());
    let brokers: BTreeSet<i32> = moves.iter().flat_map(|one| one.from.iter().chain(&one.to)).copied().collect();
    for broker in brokers {
        let changes = RATES.map(|name| (name.into(), ConfigOp::Set(rate.clone())));
        admin.alter_configs(&Resource::Broker(Some(broker)), &changes).await?;
    }
    let mut topics: BTreeMap<Str, [Vec<String>; 2]> = BTreeMap::new();
    for one in moves {
        let name = |broker: i32| format!("{}:{broker}", one.partition);
        let [leaders, followers] = topics.entry(one.topic.clone()).or_default();
        leaders.extend(one.from.iter().map(|broker| name(*broker)));
        followers.extend(one.added().map(name));
    }
    for (topic, [leaders, followers]) in topics {
        let list = |replicas: Vec<String>| ConfigOp::Set(replicas.join(",").into());
        let changes = [(LEADERS.into(), list(leaders)), (FOLLOWERS.into(), list(followers))];
        ignore_missing(admin.alter_configs(&Resource::Topic(topic), &changes).await)?;
    }
    Ok(())
}

/// Removes the limits of these topics, and the rates of all brokers, unless reassignments are in progress: the limits may be theirs. Rates
/// alone may be an operator's choice, and stay unless `rates`.
pub async fn clear_throttle(admin: &Admin, topics: &BTreeSet<Str>, rates: bool) -> Result<(), Error> {
    if !admin.list_reassignments().await?.is_empty() {
        tracing::warn!(
            "limits of copies stay, since other reassignments are in progress; when they are complete, `esker cluster reassignments --cancel` removes them"
        );
        return Ok(());
    }
    let names: Vec<Str> = topics.iter().cloned().collect();
    let mut limited = false;
    for (topic, configs) in admin.topic_configs(&names, &[LEADERS, FOLLOWERS]).await? {
        let own = configs.iter().filter(|config| config.source == ConfigSource::Topic);
        let changes: Vec<(Str, ConfigOp)> = own.map(|config| (config.name.clone(), ConfigOp::Delete)).collect();
        if !changes.is_empty() {
            limited = true;
            ignore_missing(admin.alter_configs(&Resource::Topic(topic), &changes).await)?;
        }
    }
    if limited || rates {
        for registered in admin.registered_brokers().await? {
            let changes = RATES.map(|name| (name.into(), ConfigOp::Delete));
            admin.alter_configs(&Resource::Broker(Some(registered.broker.id)), &changes).await?;
        }
    }
    Ok(())
}

/// A topic that was deleted meanwhile has no limit.
fn ignore_missing(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.code() == Some(esker_client::ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(()),
        other => other,
    }
}

//! Log dirs and configs of each broker that can be reached.

use std::collections::HashMap;
use std::time::Duration;

use esker_client::Admin;
use esker_client::admin::{LogDir, RegisteredBroker, Resource};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::super::facts::{BrokerFacts, DirFacts, Fact, Way};

const DURABILITY: &str = "log.durability";

/// The brokers with what they return of themselves.
pub(super) async fn describe_brokers(
    admin: &Admin,
    registered: &[RegisteredBroker],
    ways: Vec<Way>,
    sample: Option<Duration>,
) -> Vec<BrokerFacts> {
    let one = |(registered, way): (&RegisteredBroker, Way)| {
        let broker = registered.broker.clone();
        let fenced = registered.fenced;
        async move {
            let reached = matches!(way, Way::Reached { .. });
            let unreached = || "this client cannot reach it".to_owned();
            let log_dirs = if reached { read_dirs(admin, broker.id).await } else { Err(unreached()) };
            let durability = if reached { read_durability(admin, broker.id).await } else { Err(unreached()) };
            BrokerFacts {
                id: broker.id,
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.as_ref().map(ToString::to_string),
                fenced,
                way,
                log_dirs,
                durability,
            }
        }
    };
    let mut brokers = join_all(registered.iter().zip(ways).map(one)).await;
    if let Some(sample) = sample {
        measure_fill_rate(admin, &mut brokers, sample).await;
    }
    brokers
}

/// Ids of the brokers that this client can send requests to.
pub(super) fn reached_ids(brokers: &[BrokerFacts]) -> impl Iterator<Item = i32> {
    brokers.iter().filter(|broker| matches!(broker.way, Way::Reached { .. })).map(|broker| broker.id)
}

/// Looks at the free space a second time.
async fn measure_fill_rate(admin: &Admin, brokers: &mut [BrokerFacts], sample: Duration) {
    let from = Instant::now();
    sleep(sample).await;
    for broker in brokers {
        let Ok(dirs) = &mut broker.log_dirs else { continue };
        let later = read_dirs(admin, broker.id).await.unwrap_or_default();
        let free: HashMap<_, _> = later.iter().filter_map(|dir| Some((dir.path.as_str(), dir.space?.1))).collect();
        let seconds = from.elapsed().as_secs_f64();
        for dir in dirs {
            let rate = dir.space.zip(free.get(dir.path.as_str()));
            dir.fill_rate = rate.map(|((_, before), after)| (before as f64 - *after as f64) / seconds);
        }
    }
}

async fn read_dirs(admin: &Admin, broker: i32) -> Fact<Vec<DirFacts>> {
    // The room of the disk is the same for all replicas: none of them is named.
    let dirs = admin.describe_log_dirs(broker, Some(&[])).await.map_err(|error| error.to_string())?;
    let facts = |dir: LogDir| DirFacts {
        path: dir.path.to_string(),
        offline: dir.offline,
        space: dir.total_bytes.zip(dir.usable_bytes),
        fill_rate: None,
    };
    Ok(dirs.into_iter().map(facts).collect())
}

async fn read_durability(admin: &Admin, broker: i32) -> Fact<String> {
    let configs = admin.describe_configs(&Resource::Broker(Some(broker))).await.map_err(|error| error.to_string())?;
    let found = configs.into_iter().find(|config| config.name == DURABILITY).and_then(|config| config.value);
    found.map(|value| value.to_string()).ok_or_else(|| format!("these brokers have no config {DURABILITY}"))
}

//! The limit of copies (KIP-73): the rate on each broker that takes part, and the replicas that it applies to on each topic.
//!
//! Others may have set limits, too. Entries are added to the lists of a topic when a move begins and removed when it is complete, by the
//! pure rules of `esker_core::plan`; the broker appends and subtracts, so that a change of another client in between is not lost.

use std::collections::{BTreeMap, BTreeSet};

use async_recursion::async_recursion as boxed;
use esker_client::admin::{ConfigEntry, ConfigOp, ConfigSource, Resource};
use esker_client::{Admin, Error};
use esker_core::plan::{ListChange, Move, RateChange, ThrottleEntries, add_to_list, rate_at_end, remove_from_list};
use esker_protocol::primitives::Str;

const RATES: [&str; 2] = ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
const LEADERS: &str = "leader.replication.throttled.replicas";
const FOLLOWERS: &str = "follower.replication.throttled.replicas";

/// The limits that a command has set.
#[derive(Debug, Default)]
pub struct CopyLimits {
    /// Bytes a second on each broker.
    rate: Option<u64>,
    /// The command's own entries, by topic.
    own: BTreeMap<Str, ThrottleEntries>,
    /// The rates of before, by broker, in the order of `RATES`.
    before: BTreeMap<i32, [Option<Str>; 2]>,
    /// The brokers that have the rate.
    limited: BTreeSet<i32>,
    /// An earlier run of the command has set entries; the rates are its own, too.
    resumed: bool,
    /// Entries were removed.
    removed: bool,
}

impl CopyLimits {
    /// The limits of moves of which an earlier run of the command has begun some: what is set for those is the command's own.
    pub fn new(rate: Option<u64>, resumed: &[Move]) -> Self {
        let mut limits = Self { rate, resumed: !resumed.is_empty(), ..Self::default() };
        for one in resumed {
            limits.own.entry(one.topic.clone()).or_default().extend(ThrottleEntries::of(one));
        }
        limits
    }

    /// Sets the rate on those of some brokers that do not have it; it acts on replicas that are listed. A broker that is not in the cluster now is
    /// left out: it copies nothing, and only the broker itself returns its rates, which the end restores.
    #[boxed]
    pub async fn set_rates(&mut self, admin: &Admin, brokers: &BTreeSet<i32>) -> Result<(), Error> {
        let Some(rate) = self.rate else { return Ok(()) };
        let rate = Str::from(rate.to_string());
        for broker in brokers.difference(&self.limited.clone()).copied() {
            let before = match read_rates(admin, broker).await {
                Err(error) if error.is_absent() => continue,
                before => before?,
            };
            // The first reading counts: a request whose answer is lost may have been carried out.
            self.before.entry(broker).or_insert(before);
            let changes = RATES.map(|name| (name.into(), ConfigOp::Set(rate.clone())));
            admin.alter_configs(&Resource::Broker(Some(broker)), &changes).await?;
            self.limited.insert(broker);
        }
        Ok(())
    }

    /// Lists the replicas of moves that begin.
    #[boxed]
    pub async fn add(&mut self, admin: &Admin, moves: &[Move]) -> Result<(), Error> {
        if self.rate.is_none() || moves.is_empty() {
            return Ok(());
        }
        let wanted = entries_by_topic(moves);
        let mut lists = read_lists(admin, wanted.keys()).await?;
        for (topic, wanted) in wanted {
            let [leaders, followers] = lists.remove(&topic).unwrap_or_default();
            let changes = [add_to_list(&leaders, &wanted.leaders), add_to_list(&followers, &wanted.followers)];
            // Before the request: a request whose answer is lost may have been carried out.
            let own = self.own.entry(topic.clone()).or_default();
            for (change, own) in changes.iter().zip([&mut own.leaders, &mut own.followers]) {
                if let ListChange::Append(added) = change {
                    own.extend(added.iter().cloned());
                }
            }
            alter_lists(admin, topic, changes).await?;
        }
        Ok(())
    }

    /// Removes the command's own entries of moves that are complete.
    #[boxed]
    pub async fn remove(&mut self, admin: &Admin, moves: &[Move]) -> Result<(), Error> {
        let mut done = entries_by_topic(moves);
        for (topic, done) in &mut done {
            let own = self.own.get(topic);
            done.leaders.retain(|entry| own.is_some_and(|own| own.leaders.contains(entry)));
            done.followers.retain(|entry| own.is_some_and(|own| own.followers.contains(entry)));
        }
        done.retain(|_, done| !done.leaders.is_empty() || !done.followers.is_empty());
        self.removed |= remove_entries(admin, &done).await?.any;
        for (topic, done) in &done {
            if let Some(own) = self.own.get_mut(topic) {
                own.leaders.retain(|entry| !done.leaders.contains(entry));
                own.followers.retain(|entry| !done.followers.contains(entry));
            }
        }
        Ok(())
    }

    /// Removes what is left of the command's own entries, and its rates unless reassignments are in progress: the rates may be theirs.
    /// With `without_absent` a broker that cannot be reached is taken to have the rate still; without, it is an error.
    #[boxed]
    pub async fn end(&mut self, admin: &Admin, without_absent: bool) -> Result<(), Error> {
        let removed = remove_entries(admin, &self.own).await?;
        self.removed |= removed.any;
        if removed.others {
            tracing::warn!(
                "limits of copies that this command has not set stay; `esker cluster reassignments --cancel` removes them"
            );
        }
        if self.rate.is_none() && !self.removed {
            return Ok(());
        }
        if !admin.list_reassignments().await?.is_empty() {
            warn_rates_stay();
            return Ok(());
        }
        let Some(rate) = self.rate else {
            return if removed.others { Ok(()) } else { delete_rates(admin).await };
        };
        let own = rate.to_string();
        // A broker that is away must not keep the others' rates.
        let mut failed = None;
        let registered = admin.registered_brokers().await?;
        let is_registered = |id: i32| registered.iter().any(|found| found.broker.id == id);
        for (broker, before) in self.before.iter().filter(|(broker, _)| is_registered(**broker)) {
            let ended = self.end_rates(admin, *broker, before, &own, without_absent).await;
            failed = failed.or(ended.err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sets the rates of one broker back.
    async fn end_rates(
        &self,
        admin: &Admin,
        broker: i32,
        before: &[Option<Str>; 2],
        own: &str,
        without_absent: bool,
    ) -> Result<(), Error> {
        let now = match read_rates(admin, broker).await {
            Err(error) if without_absent && error.is_unreachable() => RATES.map(|_| Some(Str::copy(own))),
            now => now?,
        };
        let rates = RATES.iter().zip(before.iter().zip(&now));
        let changes = rates.filter_map(|(name, (before, now))| {
            let before = before.as_deref().filter(|_| !self.resumed);
            let op = match rate_at_end(before, now.as_deref(), own) {
                RateChange::Keep => return None,
                RateChange::Restore(rate) => ConfigOp::Set(rate.into()),
                RateChange::Delete => ConfigOp::Delete,
            };
            Some((Str::from(*name), op))
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            return Ok(());
        }
        admin.alter_configs(&Resource::Broker(Some(broker)), &changes).await
    }
}

/// Removes the limits of moves that are cancelled, and the rates with the last of the limits.
pub(super) async fn clear_moves(admin: &Admin, moves: &[Move]) -> Result<(), Error> {
    let removed = remove_entries(admin, &entries_by_topic(moves)).await?;
    if !removed.any || removed.others {
        return Ok(());
    }
    if !admin.list_reassignments().await?.is_empty() {
        warn_rates_stay();
        return Ok(());
    }
    delete_rates(admin).await
}

/// Removes all limits of these topics, also those that others set, and then the rates of all brokers, unless reassignments are in progress: the limits
/// may be theirs. Rates alone may be an operator's choice, and stay.
#[boxed]
pub async fn clear_limits(admin: &Admin, topics: &[Str]) -> Result<(), Error> {
    if !admin.list_reassignments().await?.is_empty() {
        tracing::warn!(
            "limits of copies stay, since other reassignments are in progress; when they are complete, `esker cluster reassignments --cancel` removes them"
        );
        return Ok(());
    }
    let mut limited = false;
    for (topic, configs) in admin.topic_configs(topics, &[LEADERS, FOLLOWERS]).await? {
        let own = configs.iter().filter(|config| config.source == ConfigSource::Topic);
        let changes: Vec<(Str, ConfigOp)> = own.map(|config| (config.name.clone(), ConfigOp::Delete)).collect();
        if !changes.is_empty() {
            limited = true;
            ignore_missing(admin.alter_configs(&Resource::Topic(topic), &changes).await)?;
        }
    }
    if limited { delete_rates(admin).await } else { Ok(()) }
}

fn warn_rates_stay() {
    tracing::warn!(
        "the rates of copies stay, since other reassignments are in progress; when they are complete, `esker cluster reassignments --cancel` removes them"
    );
}

fn entries_by_topic(moves: &[Move]) -> BTreeMap<Str, ThrottleEntries> {
    let mut entries: BTreeMap<Str, ThrottleEntries> = BTreeMap::new();
    for one in moves {
        entries.entry(one.topic.clone()).or_default().extend(ThrottleEntries::of(one));
    }
    entries
}

/// What removing entries has found.
#[derive(Debug, Clone, Copy, Default)]
struct Removed {
    /// Entries were there.
    any: bool,
    /// Entries of others stay.
    others: bool,
}

async fn remove_entries(admin: &Admin, own: &BTreeMap<Str, ThrottleEntries>) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    let mut lists = read_lists(admin, own.keys()).await?;
    for (topic, own) in own {
        let Some([leaders, followers]) = lists.remove(topic) else { continue };
        let changes = [remove_from_list(&leaders, &own.leaders), remove_from_list(&followers, &own.followers)];
        for (change, list) in changes.iter().zip([leaders, followers]) {
            removed.any |= *change != ListChange::Keep;
            removed.others |= *change != ListChange::Delete && !list.is_empty();
        }
        alter_lists(admin, topic.clone(), changes).await?;
    }
    Ok(removed)
}

/// The lists of topics, of leaders and of followers.
async fn read_lists<'a>(
    admin: &Admin,
    topics: impl Iterator<Item = &'a Str>,
) -> Result<BTreeMap<Str, [String; 2]>, Error> {
    let topics: Vec<Str> = topics.cloned().collect();
    let found = admin.topic_configs(&topics, &[LEADERS, FOLLOWERS]).await?;
    let lists = |configs: Vec<ConfigEntry>| {
        [LEADERS, FOLLOWERS].map(|name| value_of(&configs, name, ConfigSource::Topic).unwrap_or_default().to_string())
    };
    Ok(found.into_iter().map(|(topic, configs)| (topic, lists(configs))).collect())
}

/// A topic that was deleted meanwhile has no list.
async fn alter_lists(admin: &Admin, topic: Str, changes: [ListChange; 2]) -> Result<(), Error> {
    let op = |(name, change): (&'static str, ListChange)| match change {
        ListChange::Keep => None,
        ListChange::Append(entries) => Some((name.into(), ConfigOp::Append(entries.join(",").into()))),
        ListChange::Subtract(entries) => Some((name.into(), ConfigOp::Subtract(entries.join(",").into()))),
        ListChange::Delete => Some((name.into(), ConfigOp::Delete)),
    };
    let changes: Vec<(Str, ConfigOp)> = [LEADERS, FOLLOWERS].into_iter().zip(changes).filter_map(op).collect();
    if changes.is_empty() {
        return Ok(());
    }
    ignore_missing(admin.alter_configs(&Resource::Topic(topic), &changes).await)
}

/// The rates that are set on a broker.
async fn read_rates(admin: &Admin, broker: i32) -> Result<[Option<Str>; 2], Error> {
    let configs = admin.describe_configs(&Resource::Broker(Some(broker))).await?;
    Ok(RATES.map(|name| value_of(&configs, name, ConfigSource::DynamicBroker)))
}

fn value_of(configs: &[ConfigEntry], name: &str, source: ConfigSource) -> Option<Str> {
    configs.iter().find(|config| config.name == name && config.source == source)?.value.clone()
}

async fn delete_rates(admin: &Admin) -> Result<(), Error> {
    for registered in admin.registered_brokers().await? {
        let changes = RATES.map(|name| (name.into(), ConfigOp::Delete));
        admin.alter_configs(&Resource::Broker(Some(registered.broker.id)), &changes).await?;
    }
    Ok(())
}

fn ignore_missing(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.code() == Some(esker_client::ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(()),
        other => other,
    }
}

//! Groups: members, lag, and whether they rebalance for long.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_admin::{committed_offsets, existing_offsets};
use esker_client::admin::{GroupListing, OffsetSpec};
use esker_client::{Admin, TopicPartition};
use tokio::time::sleep;

use super::super::facts::{BrokerFacts, Fact, GroupFacts, Way};

/// Groups that are looked at, at most.
const GROUPS: usize = 1000;
/// Between two looks at groups that rebalance.
const SECOND_LOOK: Duration = Duration::from_secs(5);
/// States of both protocols in which members wait for their partitions.
const REBALANCING: [&str; 4] = ["PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling"];

/// Groups of consumers. Groups of other kinds have no committed offsets.
pub(super) async fn collect_groups(admin: &Admin, brokers: &[BrokerFacts]) -> Fact<Vec<GroupFacts>> {
    if let Some(dead) = brokers.iter().find(|b| !b.fenced && !matches!(b.way, Way::Reached { .. })) {
        return Err(format!("broker {}, which coordinates some of them, cannot be reached", dead.id));
    }
    let mut listed = list(admin).await?;
    let count = listed.len();
    listed.truncate(GROUPS);
    let rebalancing: Vec<_> =
        listed.iter().filter(|group| is_rebalancing(group)).map(|group| group.id.clone()).collect();
    let still: Vec<_> = match rebalancing.is_empty() {
        true => Vec::new(),
        false => {
            sleep(SECOND_LOOK).await;
            let again = list(admin).await?;
            again.iter().filter(|group| is_rebalancing(group)).map(|group| group.id.clone()).collect()
        }
    };
    let mut groups = Vec::with_capacity(listed.len());
    for group in listed {
        let is_stuck = rebalancing.contains(&group.id) && still.contains(&group.id);
        // A group that ended meanwhile is left out.
        if let Ok(facts) = describe(admin, &group, is_stuck).await {
            groups.push(facts);
        }
    }
    if count > GROUPS {
        tracing::warn!("the cluster has {count} groups: the first {GROUPS} are looked at");
    }
    Ok(groups)
}

async fn list(admin: &Admin) -> Fact<Vec<GroupListing>> {
    let groups = admin.list_groups().await.map_err(|error| error.to_string())?;
    let of_consumers = |group: &GroupListing| group.protocol_type == "consumer" || group.protocol_type.is_empty();
    Ok(groups.into_iter().filter(of_consumers).collect())
}

fn is_rebalancing(group: &GroupListing) -> bool {
    REBALANCING.contains(&group.state.as_str())
}

async fn describe(admin: &Admin, group: &GroupListing, is_stuck: bool) -> Result<GroupFacts, esker_client::Error> {
    let described = admin.describe_group(&group.id).await?;
    let members = described.members.len();
    // The lag of a group with members is its own affair.
    let lag = if members == 0 { lag_of(admin, &group.id).await? } else { 0 };
    Ok(GroupFacts {
        id: group.id.to_string(),
        state: described.state.to_string(),
        members,
        lag,
        rebalancing_seconds: is_stuck.then_some(SECOND_LOOK.as_secs()),
    })
}

async fn lag_of(admin: &Admin, group: &str) -> Result<i64, esker_client::Error> {
    let committed: BTreeMap<TopicPartition, i64> = committed_offsets(admin, group).await?.into_iter().collect();
    let partitions: Vec<_> = committed.keys().cloned().collect();
    let ends = existing_offsets(admin, &partitions, OffsetSpec::Latest).await;
    let lag = |(tp, offset): (&TopicPartition, &i64)| Some(ends.get(tp)?.saturating_sub(*offset).max(0));
    Ok(committed.iter().filter_map(lag).sum())
}

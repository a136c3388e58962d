//! Where partitions end that have no replica on this broker: the coordinator of a group knows what it has committed, and the leader knows
//! what there is.
//!
//! A scrape asks the leaders at once, for the partitions of all groups together; one that does not answer in time leaves its rows out.
//! Must never: hold up a scrape for longer than [`PATIENCE`], or ask in a cluster of one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::primitives::Str;
use futures_util::future::join_all;

use crate::broker::Broker;

/// How long all leaders together may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// High watermarks of partitions elsewhere.
#[derive(Debug, Default)]
pub struct Ends(HashMap<(Str, i32), i64>);

impl Ends {
    /// The high watermark of a partition, as its leader said it at the scrape.
    pub(super) fn of(&self, topic: &Str, partition: i32) -> Option<i64> {
        self.0.get(&(topic.clone(), partition)).copied()
    }

    /// Asks the leaders.
    pub(in crate::http) async fn ask_leaders(broker: &Arc<Broker>) -> Self {
        let image = broker.metadata.image();
        if image.brokers().nth(1).is_none() {
            return Self::default();
        }
        let here = Arc::clone(broker);
        let wanted = broker.node.run_blocking(move || here.groups.partitions_elsewhere(&here.replicas)).await;
        let mut by_leader: BTreeMap<i32, Vec<(Str, i32)>> = BTreeMap::new();
        for (topic, partition) in wanted.unwrap_or_else(|_| BTreeSet::new()) {
            let partitions = image.topic(&topic).map(|topic| &topic.partitions);
            let found = partitions.zip(usize::try_from(partition).ok()).and_then(|(all, index)| all.get(index));
            if let Some(found) = found.filter(|found| found.leader >= 0 && found.leader != broker.node_id) {
                by_leader.entry(found.leader).or_default().push((topic, partition));
            }
        }
        let asked = by_leader.into_iter().map(|(node_id, partitions)| async move {
            let answer = broker.offset_links.high_watermarks(node_id, partitions, PATIENCE).await;
            answer.unwrap_or_else(|error| {
                tracing::debug!(%error, "lags of groups are not known");
                Vec::new()
            })
        });
        Self(join_all(asked).await.into_iter().flatten().collect())
    }
}

//! Reads the layout of the cluster, from what it answers to any client.

use std::collections::{BTreeMap, BTreeSet};

use async_recursion::async_recursion as boxed;
use esker_client::admin::Reassignment;
use esker_client::{Admin, Client, Error, TopicPartition};
use esker_core::plan::{BrokerState, Layout, NodeFacts, PartitionState};

use super::nodes::are_cordoned;
use super::quorum::describe_quorum;

/// See the module.
#[derive(Debug)]
pub struct Survey {
    /// Brokers and partitions; a partition that is being reassigned has the replicas that it will have.
    pub layout: Layout,
    /// Reassignments in progress.
    pub reassignments: Vec<Reassignment>,
    /// Replicas of each node, those that leave it among them.
    replicas: BTreeMap<i32, usize>,
    voters: BTreeSet<i32>,
}

impl Survey {
    /// Reads everything. A broker that does not answer counts as not alive.
    #[boxed]
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let admin = Admin::new(client);
        // Reassignments first: one that completes meanwhile shows the same replicas.
        let reassignments = admin.list_reassignments().await?;
        let topics = admin.topics().await?;
        let quorum = describe_quorum(client).await?;
        let (mut brokers, mut sizes) = (BTreeMap::new(), BTreeMap::new());
        for registered in admin.registered_brokers().await? {
            let id = registered.broker.id;
            let dirs = if registered.fenced { None } else { admin.describe_log_dirs(id, None).await.ok() };
            let state = BrokerState {
                rack: registered.broker.rack.unwrap_or_default(),
                alive: dirs.is_some(),
                cordoned: dirs.as_deref().is_some_and(are_cordoned),
            };
            brokers.insert(id, state);
            for (tp, bytes) in dirs.into_iter().flatten().flat_map(|dir| dir.replicas) {
                let most: &mut u64 = sizes.entry(tp).or_default();
                *most = bytes.max(*most);
            }
        }
        let removing: BTreeMap<&TopicPartition, &[i32]> =
            reassignments.iter().map(|found| (&found.partition, found.removing.as_slice())).collect();
        let (mut partitions, mut replicas) = (Vec::new(), BTreeMap::new());
        for topic in &topics {
            for found in &topic.partitions {
                let tp = TopicPartition::new(topic.name.clone(), found.id);
                let leaving = removing.get(&tp).copied().unwrap_or_default();
                for replica in &found.replicas {
                    *replicas.entry(*replica).or_default() += 1;
                }
                partitions.push(PartitionState {
                    topic: topic.name.clone(),
                    partition: found.id,
                    replicas: found.replicas.iter().copied().filter(|id| !leaving.contains(id)).collect(),
                    bytes: sizes.get(&tp).copied().unwrap_or_default(),
                });
            }
        }
        let voters = quorum.current_voters.iter().map(|voter| voter.replica_id).collect();
        Ok(Self { layout: Layout { brokers, partitions }, reassignments, replicas, voters })
    }

    /// What is known of a node.
    pub fn facts(&self, node_id: i32) -> NodeFacts {
        let broker = self.layout.brokers.get(&node_id);
        NodeFacts {
            registered: broker.is_some(),
            alive: broker.is_some_and(|broker| broker.alive),
            cordoned: broker.is_some_and(|broker| broker.cordoned),
            replicas: self.replicas.get(&node_id).copied().unwrap_or_default(),
            voter: self.voters.contains(&node_id),
        }
    }

    /// Bytes of one replica of a partition.
    pub fn bytes(&self, tp: &TopicPartition) -> u64 {
        let found = self.layout.partitions.iter().find(|one| one.topic == tp.topic && one.partition == tp.partition);
        found.map(|found| found.bytes).unwrap_or_default()
    }
}

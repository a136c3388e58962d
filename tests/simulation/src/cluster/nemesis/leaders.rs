//! Faults of leaders right after their election: their followers take up the new leader epoch, and have not fetched in it yet.

use std::sync::Arc;
use std::time::Duration;

use esker_core::metadata::{MetadataImage, PartitionId};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Nemesis;
use crate::cluster::net::nodes;
use crate::cluster::node::Crash;
use crate::cluster::world::brokers;

/// How long a leader is waited for.
const ELECTED_WITHIN_MS: i64 = 1000;

/// A partition's leader (an index of a node) and leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Led {
    id: PartitionId,
    pub node: usize,
    epoch: i32,
}

impl Nemesis {
    /// The newest image of a node that serves.
    pub(super) fn image(&self) -> Option<Arc<MetadataImage>> {
        brokers(&self.members).iter().map(|broker| broker.metadata.image()).max_by_key(|image| image.offset())
    }

    fn leader_of(&self, id: PartitionId) -> Option<Led> {
        let image = self.image()?;
        let partition = image.partition(id)?;
        let node = usize::try_from(partition.leader - 1).ok()?;
        Some(Led { id, node, epoch: partition.leader_epoch })
    }

    /// Some partition with a leader.
    pub(super) fn draw_led(&mut self) -> Option<Led> {
        let image = self.image()?;
        let partitions = image.topics().flat_map(|topic| topic.partitions.iter());
        let ids: Vec<PartitionId> = partitions
            .filter(|partition| partition.leader > 0)
            .map(|partition| PartitionId { topic: partition.topic_id, partition: partition.partition })
            .collect();
        let id = *ids.get(self.rng.below(ids.len()))?;
        self.leader_of(id)
    }

    /// Waits until a batch is acknowledged, or for `most_ms`.
    pub(super) async fn await_acknowledgment(&self, most_ms: i64) {
        let acknowledged = || self.lab.model.lock().unwrap().counts.acknowledged;
        let (before, deadline) = (acknowledged(), self.lab.ms() + most_ms);
        while acknowledged() == before && self.lab.ms() < deadline {
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn await_election(&self, before: Led) -> Option<Led> {
        let deadline = self.lab.ms() + ELECTED_WITHIN_MS;
        while self.lab.ms() < deadline {
            if let Some(led) = self.leader_of(before.id).filter(|led| led.epoch > before.epoch) {
                return Some(led);
            }
            sleep(Duration::from_millis(1)).await;
        }
        None
    }

    /// A leader goes, and the next ones soon after they were elected.
    pub(super) async fn strike_new_leaders(&mut self) {
        let Some(mut led) = self.draw_led() else { return };
        let mut returns = JoinSet::new();
        // Otherwise leaderships move by themselves, to the preferred leaders.
        if self.rng.chance(80) {
            let gates: Vec<_> =
                (0..nodes()).filter(|to| *to != led.node).map(|to| self.lab.net.gate(led.node, to)).collect();
            if self.rng.chance(60) {
                // Followers know of a high watermark that is far below what was acknowledged.
                let slow_ms = self.rng.between(10, 150);
                gates.iter().for_each(|gate| gate.set_delay(slow_ms));
                self.pass(50, 400).await;
            }
            self.await_acknowledgment(300).await;
            self.pass(0, 2).await;
            self.depose(led.node, &mut returns);
            gates.iter().for_each(|gate| gate.set_delay(0));
        }
        for _ in 0..1 + self.rng.below(3) {
            let Some(next) = self.await_election(led).await else { break };
            let most = [0, 3, 12, 60][self.rng.below(4)];
            self.pass(0, most).await;
            self.count("new leader", &format!("{} of {:?} in leader epoch {}", next.node, next.id, next.epoch));
            self.depose(next.node, &mut returns);
            led = next;
        }
        while returns.join_next().await.is_some() {}
        self.await_brokers().await;
    }

    /// A node leads no longer: it is down, or cut off. It comes back by itself, sooner or later.
    fn depose(&mut self, node: usize, returns: &mut JoinSet<()>) {
        let longest = [10, 80, 700, 1500][self.rng.below(4)];
        let away = Duration::from_millis(self.rng.between(1, longest) as u64);
        let gates = match self.rng.below(8) {
            0..=3 => {
                let crash = if self.power_cuts { Crash::PowerCut } else { Crash::Kill };
                self.with(node, |member, net| member.crash(net, crash));
                Vec::new()
            }
            4 => {
                self.with(node, |member, net| member.crash(net, Crash::Kill));
                Vec::new()
            }
            5 => self.lab.net.gates_of(node, true),
            6 => self.lab.net.gates_of(node, false),
            _ => {
                let other = (node + 1 + self.rng.below(nodes() - 1)) % nodes();
                vec![self.lab.net.gate(node, other), self.lab.net.gate(other, node)]
            }
        };
        self.lab.note(&format!("nemesis: {node} is away for {away:?}, {} links are cut", gates.len()));
        gates.iter().for_each(|gate| gate.shut());
        let (lab, members) = (self.lab.clone(), Arc::clone(&self.members));
        returns.spawn(async move {
            sleep(away).await;
            gates.iter().for_each(|gate| gate.open());
            let member = &mut members.lock().unwrap()[node];
            if !member.is_up() {
                lab.note(&format!("node {node} starts"));
                member.start(&lab.net, super::super::world::START_MS + lab.ms());
            }
        });
    }
}

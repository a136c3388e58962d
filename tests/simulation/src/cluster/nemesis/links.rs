//! Links that fail in one direction, for clients alone, again and again, or for single connections.
//!
//! TCP neither reorders nor repeats bytes. Single connections are slow, so that requests of two connections overtake each other, and connections are
//! reset, so that clients and nodes send requests again that were carried out.

use super::Nemesis;
use crate::cluster::net::{clients, nodes};

impl Nemesis {
    pub(super) async fn strike_links(&mut self) {
        let node = self.rng.below(nodes());
        let other = (node + 1 + self.rng.below(nodes() - 1)) % nodes();
        let net = self.lab.net.clone();
        let last = nodes() + usize::from(self.rng.chance(50));
        let others = (0..last).filter(|other| *other != node);
        match self.rng.below(6) {
            0 => {
                self.count("deaf node", &node.to_string());
                self.cut(others.map(|other| net.gate(other, node)).collect()).await;
            }
            1 => {
                self.count("mute node", &node.to_string());
                self.cut(others.map(|other| net.gate(node, other)).collect()).await;
            }
            2 => {
                self.count("node cut off from clients", &node.to_string());
                self.cut(vec![net.gate(node, clients()), net.gate(clients(), node)]).await;
            }
            3 => {
                self.count("flapping links", &node.to_string());
                let gates = net.gates_of(node, last > nodes());
                for _ in 0..1 + self.rng.below(12) {
                    gates.iter().for_each(|gate| gate.shut());
                    self.pass(1, 250).await;
                    gates.iter().for_each(|gate| gate.open());
                    self.pass(1, 100).await;
                }
            }
            4 => self.reset_connections(node, other).await,
            _ => self.slow_connections(node).await,
        }
    }

    async fn reset_connections(&mut self, node: usize, other: usize) {
        let other = if self.rng.chance(30) { clients() } else { other };
        self.count("connections reset", &format!("of {node} and {other}"));
        for _ in 0..1 + self.rng.below(6) {
            let percent = [30, 100][self.rng.below(2)];
            let rng = &mut self.rng;
            self.lab.net.each_cable(|from, to, cable| {
                if [(from, to), (to, from)].contains(&(node, other)) && rng.chance(percent) {
                    cable.reset();
                }
            });
            self.pass(1, 120).await;
        }
    }

    async fn slow_connections(&mut self, node: usize) {
        self.count("slow connections", &node.to_string());
        for _ in 0..1 + self.rng.below(4) {
            let rng = &mut self.rng;
            self.lab.net.each_cable(|from, to, cable| {
                let slow_ms = if rng.chance(50) { rng.between(1, 300) } else { 0 };
                if from == node || to == node {
                    cable.set_delay(slow_ms);
                }
            });
            self.pass(20, 600).await;
        }
        self.lab.net.each_cable(|_, _, cable| cable.set_delay(0));
    }
}

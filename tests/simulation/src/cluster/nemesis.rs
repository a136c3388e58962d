//! The faults of a run, drawn from the seed: crashes, cut links, slow links, nodes that hang, slow and failing disks.
//!
//! Seeds draw from one of two repertoires. The first one is in this file: one node is down at a time, or all go down at once; links are cut beside
//! that in any way. The second one ([`second`]) has all of it and more. Must never leave a fault behind after [`Nemesis::stop`].

mod leaders;
mod links;
mod machines;
mod members;
pub mod second;
mod several;

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use self::second::Focus;
use super::client::Lab;
use super::net::{Net, nodes};
use super::node::{Crash, Member};
use super::world::Members;
use crate::disk::Fault;
use crate::network::Gate;
use crate::rng::Rng;

/// Kinds of faults of the first repertoire.
pub const ALL_KINDS: [&str; 10] = [
    "power cut",
    "kill",
    "hang",
    "node cut off",
    "node cut off from nodes",
    "one-way cut",
    "pair cut",
    "slow links",
    "crash of all",
    "crash of a start",
];
/// Needs power cuts.
pub const FAILING_DISK: &str = "failing disk";

/// See the module.
pub struct Nemesis {
    pub lab: Lab,
    pub members: Members,
    pub rng: Rng,
    /// Whether what was not flushed may be lost.
    pub power_cuts: bool,
    /// Of a run with the second repertoire.
    pub focus: Option<Focus>,
}

impl Nemesis {
    fn count(&self, kind: &'static str, what: &str) {
        self.lab.note(&format!("nemesis: {kind} {what}"));
        *self.lab.model.lock().unwrap().counts.faults.entry(kind.to_owned()).or_default() += 1;
    }

    async fn pass(&mut self, low: i64, high: i64) {
        sleep(Duration::from_millis(self.rng.between(low, high) as u64)).await;
    }

    fn with<R>(&self, node: usize, act: impl FnOnce(&mut Member, &Net) -> R) -> R {
        act(&mut self.members.lock().unwrap()[node], &self.lab.net)
    }

    async fn crash(&mut self, node: usize, crash: Crash) {
        self.with(node, |member, net| member.crash(net, crash));
        self.pass(1, 2500).await;
        self.start(node);
        while self.rng.chance(30) {
            // Again, while it starts or has just started.
            self.count("crash of a start", &format!("{node} {crash:?}"));
            self.pass(1, 150).await;
            self.with(node, |member, net| member.crash(net, crash));
            self.pass(1, 150).await;
            self.start(node);
        }
        // The next node goes down only once this one is back.
        for _ in 0..600 {
            if self.with(node, |member, _| member.broker().is_some()) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn start(&mut self, node: usize) {
        let now_ms = super::world::START_MS + self.lab.ms();
        self.lab.note(&format!("node {node} starts"));
        self.with(node, |member, net| member.start(net, now_ms));
    }

    /// Links are shut for a while; sometimes a crash falls into that time.
    async fn cut(&mut self, gates: Vec<std::sync::Arc<Gate>>) {
        gates.iter().for_each(|gate| gate.shut());
        self.pass(20, 2500).await;
        if self.rng.chance(20) {
            let node = self.rng.below(nodes());
            self.count("kill", &format!("{node} beside a cut"));
            self.with(node, |member, net| member.crash(net, Crash::Kill));
            self.pass(1, 500).await;
            self.start(node);
            self.pass(1, 500).await;
        }
        gates.iter().for_each(|gate| gate.open());
    }

    async fn strike(&mut self) {
        let node = self.rng.below(nodes());
        let other = (node + 1 + self.rng.below(nodes() - 1)) % nodes();
        let net = self.lab.net.clone();
        match self.rng.below(13) {
            0..=1 if self.power_cuts => {
                self.count("power cut", &node.to_string());
                self.crash(node, Crash::PowerCut).await;
            }
            0..=3 => {
                self.count("kill", &node.to_string());
                self.crash(node, Crash::Kill).await;
            }
            4 => {
                self.count("hang", &node.to_string());
                self.cut(net.gates_of(node, true)).await;
            }
            5 => {
                self.count("node cut off", &node.to_string());
                self.cut(net.gates_of(node, true)).await;
            }
            6 => {
                self.count("node cut off from nodes", &node.to_string());
                self.cut(net.gates_of(node, false)).await;
            }
            7 => {
                self.count("one-way cut", &format!("{node} to {other}"));
                self.cut(vec![net.gate(node, other)]).await;
            }
            8 => {
                self.count("pair cut", &format!("{node} and {other}"));
                self.cut(vec![net.gate(node, other), net.gate(other, node)]).await;
            }
            9 => {
                self.count("slow links", &node.to_string());
                let slow_ms = self.rng.between(5, 400);
                let gates = net.gates_of(node, false);
                gates.iter().for_each(|gate| gate.set_delay(slow_ms));
                self.pass(100, 2000).await;
                gates.iter().for_each(|gate| gate.set_delay(0));
            }
            10 if self.power_cuts => self.fail_disk(node).await,
            11 => self.crash_all().await,
            _ => {
                self.count("slow disk", &node.to_string());
                let slower = self.rng.between(20, 900) as u64;
                self.with(node, |member, _| member.slower_ms.store(slower, Ordering::Relaxed));
                self.pass(100, 2000).await;
                self.with(node, |member, _| member.slower_ms.store(0, Ordering::Relaxed));
            }
        }
    }

    /// All nodes go down at once, and come back one after the other.
    async fn crash_all(&mut self) {
        let crash = if self.power_cuts { Crash::PowerCut } else { Crash::Kill };
        self.count("crash of all", &format!("{crash:?}"));
        for node in 0..nodes() {
            self.with(node, |member, net| member.crash(net, crash));
        }
        let first = self.rng.below(nodes());
        for node in (first..first + nodes()).map(|node| node % nodes()) {
            self.pass(1, 800).await;
            self.start(node);
        }
        self.await_brokers().await;
    }

    /// Waits until all nodes serve, or a while.
    async fn await_brokers(&self) {
        for _ in 0..600 {
            if (0..nodes()).all(|node| self.with(node, |member, _| member.broker().is_some())) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Operations fail with EIO; the node goes on for a while, and loses power then.
    async fn fail_disk(&mut self, node: usize) {
        self.count(FAILING_DISK, &node.to_string());
        let operations: &'static [&'static str] =
            [&["write"][..], &["sync"], &["sync", "write", "create"]][self.rng.below(3)];
        let fault = Fault { operations, place: "", after: self.rng.below(40), times: 1 + self.rng.below(3) };
        self.with(node, |member, _| member.disk.set_faults(vec![fault]));
        self.pass(50, 1500).await;
        self.crash(node, Crash::PowerCut).await;
    }

    /// Faults until `ms` of the run.
    pub async fn run(&mut self, ms: i64) {
        while self.lab.ms() < ms && self.lab.model.lock().unwrap().violation.is_none() {
            self.pass(1, 700).await;
            match self.focus {
                None => self.strike().await,
                Some(focus) => self.strike_widely(focus).await,
            }
        }
        self.stop();
    }

    fn stop(&mut self) {
        self.lab.note("nemesis: the end");
        self.lab.net.heal();
        for node in 0..nodes() {
            self.with(node, |member, _| member.slower_ms.store(0, Ordering::Relaxed));
            if !self.with(node, |member, _| member.is_up()) {
                self.start(node);
            }
        }
    }
}

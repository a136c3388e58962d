//! Faults of one machine: a disk that is full for a while, and a clock that jumps.

use std::sync::atomic::Ordering;

use super::Nemesis;
use crate::cluster::net::nodes;
use crate::cluster::node::{CAPACITY, Crash};
use crate::faults::needs_restart;

impl Nemesis {
    /// A disk is full for a while. What only a restart mends is restarted then.
    pub(super) async fn fill_disk(&mut self) {
        let node = self.rng.below(nodes());
        let room = [0, 1500, 6000, 40_000][self.rng.below(4)];
        self.count("full disk", &format!("{node} has {room} bytes left"));
        let before = self.with(node, |member, _| {
            member.disk.set_capacity(member.disk.used() + room);
            member.disk.failed().len()
        });
        self.pass(50, 2000).await;
        let crash = if self.power_cuts { Crash::PowerCut } else { Crash::Kill };
        if self.rng.chance(20) {
            // It may start on a full disk.
            self.with(node, |member, net| member.crash(net, Crash::Kill));
            self.pass(1, 300).await;
            self.start(node);
            self.pass(1, 600).await;
        }
        let (failed, failure) = self.with(node, |member, _| {
            member.disk.set_capacity(CAPACITY);
            (member.disk.failed(), member.failure())
        });
        if failure.is_some() || failed.iter().skip(before).any(|what| needs_restart(what)) {
            self.lab.note(&format!("nemesis: {node} needs a restart after its disk was full: {failure:?}"));
            self.crash(node, crash).await;
        }
    }

    /// A clock jumps forwards or backwards, and sometimes back again.
    pub(super) async fn jump_clock(&mut self) {
        let node = self.rng.below(nodes());
        let most = [30, 2000, 120_000, 3_600_000][self.rng.below(4)];
        let jump = self.rng.between(-most, most);
        self.count("clock jump", &format!("{node} by {jump} ms"));
        self.with(node, |member, _| member.clock_ms.fetch_add(jump, Ordering::Relaxed));
        self.pass(20, 1200).await;
        if self.rng.chance(50) {
            self.with(node, |member, _| member.clock_ms.fetch_sub(jump, Ordering::Relaxed));
        }
    }
}

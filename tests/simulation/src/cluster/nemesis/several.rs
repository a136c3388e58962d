//! Several nodes go down at once, right after records were acknowledged. Disks that answer nothing for a while before that show a broker that
//! acknowledges records which are not flushed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Nemesis;
use crate::cluster::net::nodes;
use crate::cluster::node::Crash;

impl Nemesis {
    /// All nodes in an order drawn from the seed.
    fn shuffle(&mut self) -> Vec<usize> {
        let mut shuffled: Vec<usize> = (0..nodes()).collect();
        for at in (1..nodes()).rev() {
            shuffled.swap(at, self.rng.below(at + 1));
        }
        shuffled
    }

    /// Two or three nodes go down at once, and come back in any order.
    pub(super) async fn crash_several(&mut self) {
        self.count("crash of several", "");
        self.await_acknowledgment(300).await;
        self.pass(0, 4).await;
        self.crash_now().await;
    }

    async fn crash_now(&mut self) {
        let crash = if self.power_cuts { Crash::PowerCut } else { Crash::Kill };
        let mut nodes = self.shuffle();
        nodes.truncate([2, 3, 3, 3, 3][self.rng.below(5)]);
        self.lab.note(&format!("nemesis: {crash:?} of {nodes:?}"));
        let most = [0, 0, 5][self.rng.below(3)];
        for node in &nodes {
            self.with(*node, |member, net| member.crash(net, crash));
            self.pass(0, most).await;
        }
        for node in self.shuffle() {
            if !self.with(node, |member, _| member.is_up()) {
                let most = [5, 300, 1000][self.rng.below(3)];
                self.pass(1, most).await;
                self.start(node);
            }
        }
        self.await_brokers().await;
    }

    /// The disk of one node, or of two, answers nothing for a while.
    pub(super) async fn stall_disks(&mut self) {
        let mut nodes = self.shuffle();
        nodes.truncate(1 + self.rng.below(2));
        let crashes = self.rng.chance(80);
        let kind = if crashes { "stalled disk and crash" } else { "stalled disk" };
        // A follower waits a second for a flush before it reports its log end without it.
        let ms = if self.rng.chance(30) { self.rng.between(100, 1000) } else { self.rng.between(1100, 3000) };
        self.count(kind, &format!("{nodes:?} for {ms} ms"));
        let end = Instant::now() + Duration::from_millis(ms as u64);
        for node in nodes {
            self.with(node, |member, _| member.stall.set(Some(end)));
        }
        if crashes {
            self.pass(1, ms / 2).await;
            // With all replicas in sync nothing is acknowledged before the stall ends.
            let rest = end.saturating_duration_since(Instant::now()).as_millis() as i64;
            self.await_acknowledgment(rest + 50).await;
            self.pass(0, 4).await;
            self.crash_now().await;
        }
        tokio::time::sleep_until(end).await;
        sleep(Duration::from_millis(1)).await;
    }
}

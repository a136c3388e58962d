//! Evens out the load of the brokers that may take replicas.
//!
//! First replicas go to racks that their partitions lack. Then a replica moves from a broker to one with less load, as long as that evens the two
//! out; then leaderships do, by the order of replicas alone. No step makes the largest load larger, or the smallest smaller. Steps are repeated
//! until none is left, so that a second plan is empty. Brokers that are not alive, or are cordoned, neither give nor take.

use std::collections::{BTreeMap, BTreeSet};

use super::drain::exchange;
use super::layout::{Layout, Move};
use super::load::Loads;

/// Loads within this share of the mean load are even: moving data costs more than it gains.
const TOLERANCE_PERCENT: u128 = 10;

/// The moves that even the load out.
pub fn plan_rebalance(layout: &Layout) -> Vec<Move> {
    let mut state = Rebalance::new(layout);
    state.spread_over_racks();
    while state.move_replica() || state.move_leadership() {}
    layout.moves_to(&state.layout)
}

struct Rebalance {
    layout: Layout,
    loads: Loads,
    /// Brokers that give and take.
    brokers: Vec<i32>,
    /// Places of the partitions of each broker.
    held: BTreeMap<i32, BTreeSet<usize>>,
}

impl Rebalance {
    fn new(layout: &Layout) -> Self {
        let mut held: BTreeMap<i32, BTreeSet<usize>> = BTreeMap::new();
        for (at, partition) in layout.partitions.iter().enumerate() {
            for broker in &partition.replicas {
                held.entry(*broker).or_default().insert(at);
            }
        }
        Self { layout: layout.clone(), loads: Loads::of(layout), brokers: layout.eligible().collect(), held }
    }

    fn change(&mut self, at: usize, to: Vec<i32>) {
        let Some(partition) = self.layout.partitions.get_mut(at) else { return };
        self.loads.change(partition, &to);
        for broker in &partition.replicas {
            self.held.entry(*broker).or_default().remove(&at);
        }
        for broker in &to {
            self.held.entry(*broker).or_default().insert(at);
        }
        partition.replicas = to;
    }

    /// Moves replicas that share a rack to racks without a replica of their partition.
    fn spread_over_racks(&mut self) {
        for at in 0..self.layout.partitions.len() {
            while let Some(to) = self.more_racks(at) {
                self.change(at, to);
            }
        }
    }

    fn more_racks(&self, at: usize) -> Option<Vec<i32>> {
        let partition = self.layout.partitions.get(at)?;
        let rack = |broker: &i32| self.layout.rack(*broker);
        let used: Vec<&str> = partition.replicas.iter().map(rack).collect();
        let free = self.brokers.iter().filter(|broker| !used.contains(&rack(broker)));
        let to = free.min_by_key(|broker| (self.loads.weight(**broker), **broker))?;
        let is_double = |broker: &&i32| used.iter().filter(|used| **used == rack(broker)).count() > 1;
        // A follower rather than the preferred leader, of the broker with the largest load.
        let followers = partition.replicas.iter().skip(1).filter(is_double);
        let from = followers.max_by_key(|broker| (self.loads.weight(**broker), **broker))?;
        Some(exchange(&partition.replicas, *from, *to))
    }

    /// Moves one replica from a broker with more load to one with less.
    fn move_replica(&mut self) -> bool {
        let found = self.find_replica();
        if let Some((at, to)) = found {
            self.change(at, to);
            return true;
        }
        false
    }

    fn find_replica(&self) -> Option<(usize, Vec<i32>)> {
        let mut order: Vec<(u128, i32)> = self.brokers.iter().map(|id| (self.loads.weight(*id), *id)).collect();
        order.sort_unstable();
        let mean = order.iter().map(|(weight, _)| weight).sum::<u128>() / u128::try_from(order.len().max(1)).ok()?;
        for (high, from) in order.iter().rev() {
            for (low, to) in &order {
                let gap = high.saturating_sub(*low);
                if gap.saturating_mul(100) <= mean.saturating_mul(TOLERANCE_PERCENT) {
                    break;
                }
                let found = self.best_between(*from, *to, gap);
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// The replica of `from` whose move to `to` evens their loads out best.
    fn best_between(&self, from: i32, to: i32, gap: u128) -> Option<(usize, Vec<i32>)> {
        let held = self.held.get(&from)?;
        let fits = held.iter().filter_map(|at| {
            let partition = self.layout.partitions.get(*at)?;
            let weight = self.loads.replica_weight(partition.bytes);
            (weight < gap && !partition.replicas.contains(&to)).then_some((gap.abs_diff(2 * weight), *at))
        });
        let mut fits: Vec<(u128, usize)> = fits.collect();
        fits.sort_unstable();
        fits.into_iter().find_map(|(_, at)| Some((at, self.exchange(at, from, to)?)))
    }

    /// The replicas with `to` in the place of `from`, if neither racks nor leaderships are spread worse by it.
    fn exchange(&self, at: usize, from: i32, to: i32) -> Option<Vec<i32>> {
        let before = &self.layout.partitions.get(at)?.replicas;
        let mut after = exchange(before, from, to);
        if self.layout.rack_count(&after) < self.layout.rack_count(before) {
            return None;
        }
        if before.first() == Some(&from) {
            let led = self.loads.leaders(from);
            let able = after.iter().enumerate().filter(|(_, id)| self.layout.is_eligible(**id));
            let (first, _) = able
                .filter(|(_, id)| self.loads.leaders(**id) < led)
                .min_by_key(|(at, id)| (self.loads.leaders(**id), *at))?;
            after.swap(0, first);
        }
        Some(after)
    }

    /// Makes another replica of one partition the preferred leader.
    fn move_leadership(&mut self) -> bool {
        let mut order: Vec<(u64, i32)> = self.brokers.iter().map(|id| (self.loads.leaders(*id), *id)).collect();
        order.sort_unstable();
        for (led, from) in order.into_iter().rev() {
            let Some(held) = self.held.get(&from) else { continue };
            let swap = |at: &usize| {
                let replicas = &self.layout.partitions.get(*at)?.replicas;
                let first = replicas.first().filter(|first| **first == from)?;
                let others =
                    replicas.iter().enumerate().filter(|(_, id)| *id != first && self.layout.is_eligible(**id));
                let (place, id) = others.min_by_key(|(place, id)| (self.loads.leaders(**id), *place))?;
                (self.loads.leaders(*id) + 1 < led).then(|| {
                    let mut to = replicas.clone();
                    to.swap(0, place);
                    (self.loads.leaders(*id), *at, to)
                })
            };
            if let Some((_, at, to)) = held.iter().filter_map(swap).min() {
                self.change(at, to);
                return true;
            }
        }
        false
    }
}

//! The second repertoire: the faults of the first one, and those of the sibling modules.
//!
//! A run has a focus, drawn from its seed: most of its faults are of one kind then.
//!
//! Two faults were planted into the broker by hand to measure it, and the first repertoire finds neither. A follower that truncates to its high
//! watermark at each leader epoch: found in 8 of 20 seeds with [`Focus::Leaders`], a fifth of all seeds. A leader that counts the log ends of
//! followers as flushed: found in 3 of 21 seeds with [`Focus::Disks`] and a long lag, a seventh of all seeds.

use super::super::SECOND_REPERTOIRE;
use super::Nemesis;
use crate::cluster::net::nodes;
use crate::rng::Rng;

/// Kinds of faults that only this repertoire has.
pub const SECOND_KINDS: [&str; 16] = [
    "new leader",
    "crash of several",
    "stalled disk",
    "stalled disk and crash",
    "full disk",
    "clock jump",
    "deaf node",
    "mute node",
    "node cut off from clients",
    "flapping links",
    "connections reset",
    "slow connections",
    "emptied disk",
    "voter removed",
    "voter added",
    "crash beside a change of members",
];

/// A kind that needs nodes without a vote.
pub const LATER_VOTE: &str = "later vote of an observer";

/// What most faults of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    /// Anything.
    Everything,
    /// New leaders.
    Leaders,
    /// Stalled disks, and the loss of several nodes.
    Disks,
    /// Emptied disks, and changes of the voters.
    Members,
}

/// What is drawn for a run beside its faults.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// `None`: the first repertoire.
    pub focus: Option<Focus>,
    /// What was not flushed may be lost in any case.
    pub power_cuts: bool,
    /// `replica.lag.time.max.ms`. Where it is short, leaders remove followers that are cut off from the ISR while the faults last; where it is
    /// long (Kafka's default is 30 s), a slow follower stays in sync.
    pub max_lag_ms: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        if seed < SECOND_REPERTOIRE {
            return Self { focus: None, power_cuts: false, max_lag_ms: 600 };
        }
        let mut rng = Rng::new(seed ^ 0xf0c5);
        let focus = [Focus::Everything, Focus::Everything, Focus::Leaders, Focus::Disks, Focus::Members][rng.below(5)];
        let (power_cuts, lags) = match focus {
            Focus::Disks => (true, [600, 2500, 30_000, 30_000]),
            _ => (false, [600, 600, 2500, 30_000]),
        };
        Self { focus: Some(focus), power_cuts, max_lag_ms: lags[rng.below(4)] }
    }

    /// How long faults strike, in ms.
    pub fn draw_duration(&self, rng: &mut Rng) -> i64 {
        match self.focus {
            None => rng.between(1500, 5000),
            Some(_) => rng.between(2500, 6500),
        }
    }
}

/// The voters of a cluster; other nodes pull the metadata log.
const VOTERS: usize = 3;

impl Nemesis {
    pub(super) async fn strike_widely(&mut self, focus: Focus) {
        if nodes() > VOTERS && self.rng.chance(8) {
            return self.give_later_vote().await;
        }
        let by_focus = self.rng.chance(65);
        match focus {
            Focus::Leaders if by_focus => self.strike_new_leaders().await,
            Focus::Disks if by_focus => match self.rng.below(4) {
                0 => self.crash_several().await,
                _ => self.stall_disks().await,
            },
            Focus::Members if by_focus => match self.rng.below(2) {
                0 => self.replace_disk().await,
                _ => self.change_voters().await,
            },
            _ => match self.rng.below(14) {
                0..=3 => self.strike().await,
                4 => self.strike_new_leaders().await,
                5 => self.crash_several().await,
                6 => self.stall_disks().await,
                7 => self.fill_disk().await,
                8 => self.jump_clock().await,
                9 => self.replace_disk().await,
                10 => self.change_voters().await,
                _ => self.strike_links().await,
            },
        }
    }
}

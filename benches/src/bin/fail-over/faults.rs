//! The faults, and one round of each: the fault, what writers saw of it, and the way back into all in-sync replicas.

use std::time::Duration;

use clap::ValueEnum;
use esker_benches::Result;
use rustix::process::Signal;

use crate::load::Load;
use crate::nodes::{NODES, Nodes, PartitionState, until};

/// Records that each partition acknowledges before a measurement, and before it ends.
const SETTLE: u64 = 20;

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// None: what the machine itself does.
    None,
    /// kill -9 of a node that leads and is not the active controller
    Kill,
    /// kill -9 of the node with the active controller
    KillController,
    /// SIGSTOP of a node that leads and is not the active controller
    Pause,
    /// SIGTERM of each node, one after the other, each restarted at once
    Rolling,
    /// Its network link is down (root only)
    Cut,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::None => "no fault",
            Self::Kill => "kill -9",
            Self::KillController => "kill -9, controller",
            Self::Pause => "SIGSTOP",
            Self::Rolling => "rolling restart",
            Self::Cut => "network cut",
        })
    }
}

/// What one round has shown.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// The longest gap of each partition that the node led.
    pub led: Vec<Duration>,
    /// The same of partitions that it only followed, or of all partitions where no single node is meant.
    pub others: Vec<Duration>,
    /// The longest gaps of all partitions while the node came back.
    pub back: Vec<Duration>,
    /// From the restart (or the end of the fault) until the node is in all in-sync replicas.
    pub in_sync: Vec<Duration>,
}

impl Fault {
    /// One round. The cluster is whole before and after it.
    pub fn run(self, nodes: &mut Nodes, load: &Load, partitions: usize) -> Result<Round> {
        nodes.elect_preferred()?;
        load.wait_for(SETTLE)?;
        match self {
            Self::None => {
                load.reset();
                load.wait_for(10 * SETTLE)?;
                Ok(Round { others: load.longest(), ..Round::default() })
            }
            Self::Rolling => roll(nodes, load, partitions),
            Self::KillController => {
                let victim = nodes.controller()?;
                self.strike_one(nodes, load, partitions, victim)
            }
            Self::Kill | Self::Pause | Self::Cut => {
                let controller = nodes.controller()?;
                self.strike_one(nodes, load, partitions, (controller + 1) % NODES)
            }
        }
    }

    fn strike_one(self, nodes: &mut Nodes, load: &Load, partitions: usize, victim: usize) -> Result<Round> {
        let id = i32::try_from(victim + 1)?;
        let before = nodes.partitions(None);
        if !before.iter().any(|partition| partition.leader == id) {
            return Err(format!("node {id} leads nothing").into());
        }
        load.reset();
        self.begin(nodes, victim)?;
        until("the node is in no in-sync replicas", || {
            let now = nodes.partitions(Some(victim));
            now.len() == partitions && now.iter().all(|p| p.leader >= 0 && !p.isr.contains(&id))
        })?;
        load.wait_for(SETTLE)?;
        let mut round = Round::default();
        for (PartitionState { leader, .. }, longest) in before.iter().zip(load.longest()) {
            if *leader == id { round.led.push(longest) } else { round.others.push(longest) }
        }
        load.reset();
        self.end(nodes, victim)?;
        round.in_sync.push(nodes.wait_in_sync(partitions)?);
        load.wait_for(SETTLE)?;
        round.back = load.longest();
        Ok(round)
    }

    fn begin(self, nodes: &mut Nodes, victim: usize) -> Result<()> {
        match self {
            Self::Pause => nodes.signal(victim, Signal::STOP),
            Self::Cut => nodes.set_connected(victim, false),
            _ => {
                nodes.signal(victim, Signal::KILL)?;
                nodes.wait_for_end(victim)
            }
        }
    }

    fn end(self, nodes: &mut Nodes, victim: usize) -> Result<()> {
        match self {
            Self::Pause => nodes.signal(victim, Signal::CONT),
            Self::Cut => nodes.set_connected(victim, true),
            _ => nodes.restart(victim),
        }
    }
}

/// Each node in turn; the gaps are over the whole of it.
fn roll(nodes: &mut Nodes, load: &Load, partitions: usize) -> Result<Round> {
    let mut round = Round::default();
    load.reset();
    for node in 0..NODES {
        nodes.signal(node, Signal::TERM)?;
        nodes.wait_for_end(node)?;
        nodes.restart(node)?;
        round.in_sync.push(nodes.wait_in_sync(partitions)?);
        load.wait_for(SETTLE)?;
    }
    round.others = load.longest();
    Ok(round)
}

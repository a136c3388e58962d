//! The metadata quorum: three voters, and observers or learners, started, submitted to, and stopped.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker_benches::Result;
use esker_broker::controller::submit;
use esker_broker::raft::{self, Begin, Metadata, QuorumView, RaftId, Seat};
use esker_core::controller::AllocateProducerIds;
use esker_storage::io::OsDisk;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::Options;
use crate::environment::{Group, Threads};
use crate::network::{Host, Network, address_of, id_of};
use crate::stub::{Stubs, node_of};

/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Voters of the quorum.
const VOTERS: usize = 3;
/// Between two looks at how far the observers are.
const LOOK: Duration = Duration::from_millis(5);
/// Between the last change of the members and the first figure.
const SETTLE: Duration = Duration::from_secs(2);

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// See the module.
pub struct Quorum {
    leader: Arc<Metadata>,
    others: Vec<Metadata>,
    /// Brokers that pull from the leader.
    observers: usize,
    /// Those that keep nothing, until they are dropped.
    _stubs: Stubs,
    /// Until it is dropped.
    _threads: [Threads; 3],
}

/// Starts one member and has it serve.
async fn start_member(threads: &Threads, network: &Network, number: usize, folder: &Path) -> Result<Metadata> {
    let (id, address) = (id_of(number)?, address_of(number));
    let (node, local) = node_of(threads, network, number)?;
    let folder = folder.join(number.to_string());
    std::fs::create_dir_all(&folder)?;
    let begin = if number == 1 { Begin::Cluster } else { Begin::Member };
    let seat = Seat { id, address: address.clone(), begin };
    let metadata = raft::start(&node, &local, Arc::new(OsDisk), folder, seat).await?;
    let host = Host { id, control: threads.control(), server: Some(Arc::clone(metadata.server())) };
    network.listen(&address, host).await?;
    Ok(metadata)
}

impl Quorum {
    /// Starts the members on empty folders (the voters' and the learners'), and waits until all have the log.
    pub async fn start(options: &Options, learners: usize, folders: (&Path, &Path)) -> Result<Self> {
        let network = Network::new(options.tcp);
        let groups = [Group::Leader, Group::Voters, Group::Learners];
        let [of_leader, of_voters, of_learners] = groups.map(Threads::start);
        let (of_leader, of_voters, of_learners) = (of_leader?, of_voters?, of_learners?);
        let leader = Arc::new(start_member(&of_leader, &network, 1, folders.0).await?);
        let mut others = Vec::new();
        for number in 2..=VOTERS {
            others.push(start_member(&of_voters, &network, number, folders.0).await?);
            leader.add_member(id_of(number)?, &address_of(number), deadline()).await?;
        }
        let mut stubs = Stubs::default();
        for number in VOTERS + 1..=VOTERS + learners {
            match (options.stub, options.push) {
                (true, true) => {
                    let host = Host { id: id_of(number)?, control: of_learners.control(), server: None };
                    network.listen(&address_of(number), host).await?;
                }
                (true, false) => stubs.start(&of_learners, &network, number)?,
                (false, _) => others.push(start_member(&of_learners, &network, number, folders.1).await?),
            }
            if options.push {
                leader.add_member(id_of(number)?, &address_of(number), deadline()).await?;
            }
        }
        // Last, since until then no other can be elected.
        let voters = (2..=VOTERS).map(id_of).collect::<Result<BTreeSet<RaftId>>>()?;
        leader.add_voters(voters, deadline()).await?;
        let observers = if options.push { 0 } else { learners };
        let threads = [of_leader, of_voters, of_learners];
        let quorum = Self { leader, others, observers, _stubs: stubs, _threads: threads };
        quorum.wait_until_even().await?;
        tokio::time::sleep(SETTLE).await;
        Ok(quorum)
    }

    /// Waits until all members have all entries.
    async fn wait_until_even(&self) -> Result<()> {
        let mut quorum = self.leader.quorum();
        let lost = |view: &QuorumView| view.leader.is_some() && !view.is_leading();
        let even = quorum.wait_for(|view| lost(view) || (view.is_leading() && lag_of(view) == 0));
        let late = |_| format!("not all members have the log within {PATIENCE:?}");
        if lost(&*timeout_at(deadline(), even).await.map_err(late)??) {
            return Err("another voter leads: the leader's heartbeats were late".into());
        }
        let until = deadline();
        while self.observer_lag() > 0 {
            if Instant::now() >= until {
                return Err(format!("not all observers have the log within {PATIENCE:?}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Entries that the slowest observer lacked at its last pull.
    fn observer_lag(&self) -> u64 {
        let (entries, quorum) = (self.leader.image().offset(), self.leader.quorum());
        // Voters have pulled before they were members.
        let is_observer = |id: RaftId| quorum.borrow().member(id).is_none();
        let pulled = self.leader.observers().into_iter().filter(|observer| is_observer(observer.id));
        let ends: Vec<u64> = pulled.map(|observer| observer.entries).collect();
        let slowest = ends.iter().min().copied().unwrap_or_default();
        let all = ends.len() >= self.observers;
        if self.observers == 0 {
            0
        } else if all {
            entries.saturating_sub(slowest)
        } else {
            entries
        }
    }

    /// Entries that the slowest member lacks.
    pub fn largest_lag(&self) -> u64 {
        lag_of(&self.leader.quorum().borrow()).max(self.observer_lag())
    }

    /// Submits `rate` requests a second, each without a wait for those before it; returns the time of each until it is committed.
    pub async fn submit_steadily(&self, rate: u32, seconds: u32) -> Result<Vec<Duration>> {
        let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut submitted = Vec::new();
        for _ in 0..rate * seconds {
            ticks.tick().await;
            let leader = Arc::clone(&self.leader);
            submitted.push(tokio::spawn(async move {
                let began = Instant::now();
                let asked = submit(leader.as_ref(), AllocateProducerIds { node_id: 1 }, deadline()).await;
                asked.map(|_| began.elapsed())
            }));
        }
        let mut latencies = Vec::new();
        for one in submitted {
            latencies.push(one.await??);
        }
        Ok(latencies)
    }

    /// Stops all members, once they have all entries: fails if the quorum did not keep its leader.
    pub async fn stop(self) -> Result<()> {
        let even = self.wait_until_even().await;
        for member in self.others.iter().chain([self.leader.as_ref()]) {
            timeout_at(deadline(), member.shutdown()).await?;
        }
        even
    }
}

fn lag_of(view: &QuorumView) -> u64 {
    let others = view.members.iter().filter(|member| Some(member.id) != view.own);
    others.map(|member| view.entries.saturating_sub(member.entries.unwrap_or_default())).max().unwrap_or_default()
}

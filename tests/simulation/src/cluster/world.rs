//! One run of a cluster: it forms, clients work while faults strike, faults stop, the cluster must become whole, and all that it has is checked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_broker::broker::Broker;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::{Client, Lab};
use super::invariants::leaders::Leaders;
use super::invariants::metadata::Images;
use super::invariants::watermarks::Watermarks;
use super::invariants::{healing, records, replicas};
use super::model::{CACHED, Counts, FLUSHED, PARTITIONS, PRODUCERS, Place};
use super::nemesis::Nemesis;
use super::nemesis::second::Plan;
use super::net::{Net, nodes, set_nodes};
use super::node::Member;
use super::{Planted, entropy, has_observers, workload};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::world::ONE_RUN;

/// Where virtual time begins.
pub const START_MS: i64 = 1_700_000_000_000;
/// A cluster without faults is whole within this time.
const HEALS_WITHIN: Duration = Duration::from_secs(5);
/// How often the roles and images of all nodes are looked at.
const SAMPLE: Duration = Duration::from_millis(5);

/// All nodes.
pub type Members = Arc<Mutex<Vec<Member>>>;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub trace: String,
    pub violation: Option<String>,
    pub counts: Counts,
}

/// Runs `seed` to its end, or to the first violation.
pub fn run(seed: u64, planted: Planted) -> Outcome {
    let _one_run = ONE_RUN.lock().unwrap_or_else(PoisonError::into_inner);
    // A thread of its own has no generator yet that another run has used.
    let ran = std::thread::spawn(move || {
        entropy::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run_in_time(seed, planted))
    });
    ran.join().unwrap()
}

async fn run_in_time(seed: u64, planted: Planted) -> Outcome {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut rng = Rng::new(seed ^ 0xc1c1_c1c1);
    set_nodes(if has_observers(seed) { 5 } else { 3 });
    let net = Net::new(Rng::new(rng.next()));
    let plan = Plan::draw(seed);
    let member = |index| Member::new(index, folder.path(), Rng::new(rng.next()), plan.max_lag_ms);
    let members: Vec<Member> = (0..nodes()).map(member).collect();
    let lab = Lab {
        net,
        trace: Trace::default(),
        rng: Arc::new(Mutex::new(Rng::new(rng.next()))),
        model: Arc::default(),
        origin: Instant::now(),
        acks: if planted == Planted::AnswerBeforeReplication { 1 } else { -1 },
    };
    let power_cuts = planted == Planted::LyingSync || plan.power_cuts || rng.chance(50);
    let world = World { lab, members: Arc::new(Mutex::new(members)), power_cuts, planted, plan };
    if let Err(what) = world.play(&mut rng).await {
        world.lab.violated(what);
    }
    world.end()
}

struct World {
    lab: Lab,
    members: Members,
    power_cuts: bool,
    planted: Planted,
    plan: Plan,
}

/// Those that serve clients.
pub fn brokers(members: &Members) -> Vec<Arc<Broker>> {
    members.lock().unwrap().iter().filter_map(Member::broker).collect()
}

impl World {
    async fn play(&self, rng: &mut Rng) -> Result<(), String> {
        for member in self.members.lock().unwrap().iter_mut() {
            if self.planted == Planted::LyingSync {
                member.lie_about_syncs();
            }
            member.start(&self.lab.net, START_MS);
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(sample(self.lab.clone(), Arc::clone(&self.members)));
        self.await_whole("the cluster does not form").await?;
        let places = self.create_topics().await?;
        let mut clients = JoinSet::new();
        for number in 0..PRODUCERS {
            let client = Client::new(&self.lab, format!("producer {number}"));
            clients.spawn(workload::produce(client, number, places.clone()));
        }
        clients.spawn(workload::consume(Client::new(&self.lab, "consumer"), places.clone()));
        tasks.spawn(workload::administer(Client::new(&self.lab, "admin")));
        let (lab, members) = (self.lab.clone(), Arc::clone(&self.members));
        let (power_cuts, focus) = (self.power_cuts, self.plan.focus);
        let mut nemesis = Nemesis { lab, members, rng: Rng::new(rng.next()), power_cuts, focus };
        let until = self.lab.ms() + self.plan.draw_duration(rng);
        nemesis.run(until).await;
        let stopped = self.lab.ms();
        self.await_service(&places).await?;
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        self.await_whole("the cluster does not heal").await?;
        clients.shutdown().await;
        self.await_rest().await?;
        let healed_ms = self.lab.ms() - stopped;
        self.lab.model.lock().unwrap().counts.slowest_heal_ms = healed_ms;
        self.verify(&places).await?;
        replicas::check(&brokers(&self.members))
    }

    fn is_over(&self) -> bool {
        self.lab.model.lock().unwrap().violation.is_some()
    }

    async fn create_topics(&self) -> Result<Vec<Place>, String> {
        let mut client = Client::new(&self.lab, "creator");
        // What is in page caches alone is lost with power.
        let topics: &[(&'static str, &'static str)] = match self.power_cuts {
            true => &[(FLUSHED, "flush")],
            false => &[(FLUSHED, "flush"), (CACHED, "page-cache")],
        };
        let mut places = Vec::new();
        for (name, durability) in topics {
            let configs = [("durability", *durability), ("min.insync.replicas", "2"), ("segment.ms", "900")];
            let mut tries = 0;
            while !workload::create_topic(&mut client, name, &configs).await {
                tries += 1;
                if tries == 100 {
                    return Err(format!("topic {name} cannot be created"));
                }
                self.lab.pause(50).await;
            }
            places.extend((0..PARTITIONS).map(|partition| (*name, partition)));
        }
        Ok(places)
    }

    /// Waits until nothing is missing.
    async fn wait(&self, what: &str, missing: impl Fn() -> Option<String>) -> Result<(), String> {
        let (deadline, mut noted) = (Instant::now() + HEALS_WITHIN, String::new());
        while let Some(missing) = missing() {
            if missing != noted {
                self.lab.note(&format!("waits: {missing}"));
                noted.clone_from(&missing);
            }
            if self.is_over() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let failures: Vec<_> = self.members.lock().unwrap().iter().filter_map(Member::failure).collect();
                return Err(format!("{what}: {missing} {failures:?}"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn await_whole(&self, what: &str) -> Result<(), String> {
        self.wait(what, || healing::missing(&brokers(&self.members))).await
    }

    async fn await_rest(&self) -> Result<(), String> {
        self.wait("the replicas do not come to rest", || healing::unsettled(&brokers(&self.members))).await
    }

    /// Waits until each partition has acknowledged a batch from now on.
    async fn await_service(&self, places: &[Place]) -> Result<(), String> {
        let batches = || -> BTreeMap<Place, usize> {
            let mut model = self.lab.model.lock().unwrap();
            places.iter().map(|place| (*place, model.ledger(*place).batches)).collect()
        };
        let before = batches();
        let silent = || {
            let now = batches();
            places.iter().find(|place| now[place] == before[place]).map(|place| format!("{place:?}"))
        };
        self.wait("a partition acknowledges nothing after the faults have stopped", silent).await
    }

    /// Reads all partitions from their leaders, and checks what is in them.
    async fn verify(&self, places: &[Place]) -> Result<(), String> {
        let mut client = Client::new(&self.lab, "checker");
        for place in places {
            let (mut log, mut failures) = (BTreeMap::new(), 0);
            loop {
                let from = log.len() as i64;
                match workload::fetch(&mut client, *place, from, 0).await {
                    Some(data) => {
                        let high_watermark = data.high_watermark;
                        log.extend(workload::values_from(data, from));
                        if log.len() as i64 >= high_watermark {
                            break;
                        }
                    }
                    None => failures += 1,
                }
                if failures == 100 || self.is_over() {
                    return Err(format!("{place:?} cannot be read"));
                }
                self.lab.pause(5).await;
            }
            let mut model = self.lab.model.lock().unwrap();
            model.counts.checked += log.len();
            records::check(*place, model.ledger(*place), &log)?;
        }
        Ok(())
    }

    fn end(self) -> Outcome {
        let panics = entropy::panics();
        if panics > 0 {
            self.lab.violated(format!("{panics} panics"));
        }
        let model = self.lab.model.lock().unwrap();
        Outcome { trace: self.lab.trace.text(), violation: model.violation.clone(), counts: model.counts.clone() }
    }
}

/// Looks at the roles and the metadata of all nodes until it is dropped.
async fn sample(lab: Lab, members: Members) {
    let (mut leaders, mut images, mut watermarks) = (Leaders::default(), Images::default(), Watermarks::default());
    let mut reaps_at = 0;
    loop {
        for broker in brokers(&members) {
            let checked = leaders.check(&broker).and_then(|()| images.check(&broker));
            if let Err(broken) = checked {
                lab.violated(broken);
                return;
            }
        }
        let synced_end = |node_id: i32, folder: &str| {
            let members = members.lock().unwrap();
            members.iter().find(|member| member.node_id() == node_id).map_or(-1, |member| member.synced_end(folder))
        };
        if let Err(broken) = watermarks.check(&brokers(&members), synced_end) {
            lab.violated(broken);
            return;
        }
        if lab.ms() >= reaps_at {
            // What a thread of the broker does elsewhere: removes deleted files when they are due.
            reaps_at = lab.ms() + 50;
            brokers(&members).iter().for_each(|broker| broker.replicas.logs().reap_due());
            let mut model = lab.model.lock().unwrap();
            model.counts.elections = leaders.count();
            model.counts.images = images.compared;
            model.counts.watermarks = watermarks.compared;
        }
        sleep(SAMPLE).await;
    }
}

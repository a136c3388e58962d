//! One run: a broker lives, loses power or is killed, and starts again over what the disk (or the kernel) kept, several times. Each life
//! has a runtime of its own, which goes with it: tasks, connections and timers end where they are. Virtual time goes on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_broker::config::{BrokerConfig, Origin, Sources};
use esker_broker::node::Node;
use esker_broker::serve::embedded::Embedded;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Client, Lab};
use crate::compaction;
use crate::deletion;
use crate::disk::{KILL, Plan, SimDisk};
use crate::environment::Simulated;
use crate::faults::{Faults, Planted};
use crate::model::{Counts, Model, PARTITIONS, Producer};
use crate::rng::Rng;
use crate::rot;
use crate::state::Image;
use crate::trace::Trace;
use crate::transactions;
use crate::workload::{self, SharedModel};

/// Where virtual time begins.
const START_MS: i64 = 1_700_000_000_000;
const PRODUCERS: usize = 3;
/// A broker whose disk is well again must acknowledge batches within this time.
const SERVES_WITHIN: Duration = Duration::from_secs(30);

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub trace: String,
    pub violation: Option<String>,
    pub counts: Counts,
}

struct World {
    root: PathBuf,
    rng: Rng,
    trace: Trace,
    model: SharedModel,
    planted: Planted,
    now_ms: i64,
    end: End,
}

/// Storage has state of the process (admission of cold reads, resident pages): one run at a time.
pub static ONE_RUN: Mutex<()> = Mutex::new(());

/// Runs `seed` to its end, or to the first violation.
pub fn run(seed: u64, planted: Planted) -> Outcome {
    let _one_run = ONE_RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let model = Model { producers: vec![Producer::default(); PRODUCERS], ..Model::default() };
    let mut world = World {
        root: folder.path().join("disk"),
        rng: Rng::new(seed),
        trace: Trace::default(),
        model: Arc::new(Mutex::new(model)),
        planted,
        now_ms: START_MS,
        end: End::PowerCut(first_image()),
    };
    let lives = 3 + world.rng.below(4);
    for life in 0..=lives {
        world.live(life, life == lives);
        if world.model.lock().unwrap().violation.is_some() {
            break;
        }
    }
    let model = world.model.lock().unwrap();
    Outcome { trace: world.trace.text(), violation: model.violation.clone(), counts: model.counts.clone() }
}

/// A formatted log dir: storage would take its ids from the machine.
fn first_image() -> Image {
    let meta = "version=1\ncluster.id=c2ltdWxhdGVkY2x1c3Rlcg\nnode.id=1\ndirectory.id=c2ltdWxhdGVkLWZvbGRlcg\n";
    Image::from([
        (PathBuf::from("data"), None),
        (PathBuf::from("data/meta.properties"), Some(meta.as_bytes().to_vec())),
    ])
}

fn config(root: &Path, rng: &mut Rng) -> BrokerConfig {
    let mut sources = Sources::default();
    let mut set = |name: &str, value: &str| sources.set(Origin::Flag("--set"), name, value);
    set("log.dirs", root.join("data").to_str().unwrap());
    set("node.id", "1");
    set("num.recovery.threads.per.data.dir", "1");
    set("offsets.topic.num.partitions", "1");
    set("transaction.state.log.num.partitions", "1");
    set("auto.create.topics.enable", "false");
    set("group.initial.rebalance.delay.ms", "0");
    set("log.retention.check.interval.ms", "300");
    set("log.cleaner.backoff.ms", "150");
    set("log.cleaner.dedupe.buffer.size", "1048576");
    // Internal topics are compacted too.
    set("log.roll.ms", "600");
    set("log.cleaner.min.cleanable.ratio", "0.1");
    // A life that closes a segment may see it scrubbed.
    set("log.scrub.interval.ms", ["200", "604800000"][rng.below(2)]);
    set("replica.high.watermark.checkpoint.interval.ms", ["50", "700", "5000"][rng.below(3)]);
    BrokerConfig::resolve(&sources).unwrap()
}

/// How a life ended, and with it what the next one finds.
enum End {
    /// The power went: what the medium has.
    PowerCut(Image),
    /// The process died: what the kernel has.
    Kill(SimDisk),
}

impl World {
    /// The disk as the life before has left it.
    fn next_disk(&mut self) -> SimDisk {
        match std::mem::replace(&mut self.end, End::PowerCut(Image::new())) {
            End::Kill(disk) => disk,
            End::PowerCut(image) => {
                let _ = std::fs::remove_dir_all(&self.root);
                std::fs::create_dir_all(&self.root).unwrap();
                let disk = SimDisk::new(&self.root, &image);
                self.trace.follow_disk(&disk);
                disk
            }
        }
    }

    fn live(&mut self, life: usize, last: bool) {
        let disk = self.next_disk();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let mut rng = Rng::new(self.rng.next());
        let config = config(&self.root, &mut rng);
        let mut faults = Faults::draw(&mut rng, &disk, last, self.planted);
        let cut_step = (!last && rng.chance(40)).then(|| {
            let most = if rng.chance(20) { 60 } else { 1200 };
            disk.steps() + rng.below(most)
        });
        disk.fail(cut_step.map(|step| Plan { steps: step..step + 1, error: KILL }));
        let elapsed = runtime.block_on(async {
            let began = Instant::now();
            let environment = Simulated::new(self.now_ms, Rng::new(rng.next()), faults.delay_ms());
            let node = Node::new(config, Arc::new(environment));
            self.trace.note(self.now_ms, &format!("life {life}"));
            if let Err(what) = self.serve(&disk, node, &mut rng, &mut faults, last).await
                && !disk.is_dead()
                && !faults.needs_restart(&disk)
            {
                self.model.lock().unwrap().violated(format!("life {life}: {what}"));
            }
            began.elapsed()
        });
        self.trace.note(self.now_ms, &format!("the disk failed: {:?}", faults.failures(&disk)));
        faults.count(&disk, &mut self.model.lock().unwrap().counts.faults);
        let dead = disk.next_process();
        drop(runtime);
        self.now_ms += elapsed.as_millis() as i64 + 1;
        if self.rng.chance(30) {
            self.trace.note(self.now_ms, "kill");
            self.end = End::Kill(dead);
        } else {
            self.trace.note(self.now_ms, "power cut");
            self.model.lock().unwrap().counts.cuts += usize::from(!last);
            self.end = End::PowerCut(dead.state().image(&mut self.rng));
        }
    }

    /// Starts the broker, checks what it has, and lets clients work until the life ends. The last one has no faults and ends once all
    /// partitions are served, and what they have is checked once more.
    async fn serve(
        &self,
        disk: &SimDisk,
        node: Node,
        rng: &mut Rng,
        faults: &mut Faults,
        last: bool,
    ) -> Result<(), String> {
        let life = Life { began: Instant::now(), disk, rng: Rng::new(rng.next()) };
        let cut_after = Duration::from_millis(rng.between(50, 1500) as u64);
        let address = SocketAddr::from(([10, 0, 0, 2], 9092));
        let started = Embedded::start(node.clone(), Arc::new(disk.clone()), address).await;
        let broker = Arc::new(started.map_err(|error| format!("the broker does not start: {error}"))?);
        let lab = Lab { broker, node, trace: self.trace.clone(), rng: Arc::new(Mutex::new(Rng::new(rng.next()))) };
        let mut checker = Client::new(&lab, "checker");
        let durability = if self.planted == Planted::AnswerBeforeFlush { "page-cache" } else { "flush" };
        workload::create_topic(&mut checker, &self.model, durability).await?;
        wait_until_durable(&lab).await?;
        self.verify(&mut checker).await?;
        let mut clients = JoinSet::new();
        for number in 0..PRODUCERS {
            let client = Client::new(&lab, format!("producer {number}"));
            clients.spawn(workload::produce(client, Arc::clone(&self.model), number));
        }
        clients.spawn(compaction::run(Client::new(&lab, "compacted"), Arc::clone(&self.model)));
        clients.spawn(deletion::trim(Client::new(&lab, "trimmed"), Arc::clone(&self.model)));
        clients.spawn(deletion::recreate(Client::new(&lab, "recreated"), Arc::clone(&self.model)));
        clients.spawn(reap(lab.clone()));
        clients.spawn(transactions::run(Client::new(&lab, "transactions"), Arc::clone(&self.model)));
        clients.spawn(workload::consume(Client::new(&lab, "consumer"), Arc::clone(&self.model)));
        if self.planted == Planted::LyingSync {
            disk.lie_about_syncs();
        }
        if last {
            self.await_service(&life).await?;
            clients.shutdown().await;
            wait_until_durable(&lab).await?;
            return self.verify(&mut checker).await;
        }
        self.pass_time(life, faults, cut_after).await
    }

    async fn verify(&self, checker: &mut Client) -> Result<(), String> {
        workload::verify(checker, &self.model).await?;
        compaction::verify(checker, &self.model).await?;
        deletion::verify(checker, &self.model).await?;
        deletion::verify_recreated(checker, &self.model).await;
        transactions::verify(checker, &self.model).await
    }

    /// Lets the clients work until the end of the life.
    async fn pass_time(&self, mut life: Life<'_>, faults: &mut Faults, cut_after: Duration) -> Result<(), String> {
        let (disk, mut cut_at) = (life.disk, Instant::now() + cut_after);
        let mut passes_at = faults.passed_at();
        loop {
            let at = life.began.elapsed();
            faults.advance(at, disk);
            if faults.rot_at.is_some_and(|due| due <= at) {
                // Until something is on disk for certain.
                faults.rot_at = (!self.rot(&mut life)).then(|| at + Duration::from_millis(50));
            }
            if disk.is_dead() {
                return Ok(());
            }
            if faults.needs_restart(disk) {
                // It goes on for a while with its log dir offline.
                passes_at = None;
                cut_at = cut_at.min(Instant::now() + Duration::from_millis(100));
            }
            if passes_at.is_some_and(|passes_at| passes_at < at) {
                passes_at = None;
                self.await_service(&life).await?;
            }
            if Instant::now() >= cut_at && passes_at.is_none() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until each partition has acknowledged a batch from now on.
    async fn await_service(&self, life: &Life<'_>) -> Result<(), String> {
        let batches = || self.model.lock().unwrap().acknowledged_batches;
        let (before, deadline) = (batches(), Instant::now() + SERVES_WITHIN);
        while before.iter().zip(batches()).any(|(before, now)| *before == now) {
            if life.disk.is_dead() || self.model.lock().unwrap().violation.is_some() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err("the broker does not serve again after its disk failed for a while".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// False if there is nothing that could rot.
    fn rot(&self, life: &mut Life<'_>) -> bool {
        let partition = life.rng.below(PARTITIONS);
        let served = self.planted == Planted::RotServed;
        let dir = self.root.join("data");
        let Some(rotten) = rot::strike(life.disk, &dir, workload::TOPIC, partition, &mut life.rng, served) else {
            return false;
        };
        let mut model = self.model.lock().unwrap();
        let offsets: Vec<i64> = rotten.keys().copied().collect();
        self.trace.note(self.now_ms, &format!("a bit flips in {}-{partition} {offsets:?}", workload::TOPIC));
        *model.counts.faults.entry("bit rot").or_default() += 1;
        model.rotten[partition].insert(offsets[0], rotten);
        true
    }
}

/// What a thread of the broker does elsewhere: removes deleted files when they are due.
async fn reap(lab: Lab) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        lab.broker.broker.replicas.logs().reap_due();
    }
}

/// What a life's steps share.
struct Life<'a> {
    began: Instant,
    disk: &'a SimDisk,
    rng: Rng,
}

/// On a slow disk the broker serves before all that a crash left is flushed, and consumers read only what is durable: what was acknowledged
/// shows once that is done. On one that fails meanwhile it never is.
async fn wait_until_durable(lab: &Lab) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let lags = || {
        let partitions = lab.broker.broker.replicas.partitions();
        partitions.iter().any(|partition| partition.log().high_watermark() < partition.log().log_end_offset())
    };
    while lags() {
        if Instant::now() > deadline {
            return Err("what a crash left is never flushed".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

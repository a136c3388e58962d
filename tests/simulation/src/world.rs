//! One run: a broker lives, loses power, and starts again over what the disk kept, several times. Each life has a runtime of its own,
//! which goes with it: tasks, connections and timers end where they are. Virtual time goes on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_broker::config::{BrokerConfig, Origin, Sources};
use esker_broker::node::Node;
use esker_broker::serve::embedded::Embedded;
use tokio::time::Instant;

use crate::client::{Client, Lab};
use crate::disk::{KILL, Plan, SimDisk};
use crate::environment::Simulated;
use crate::model::{Counts, Model, Producer};
use crate::rng::Rng;
use crate::state::Image;
use crate::trace::Trace;
use crate::workload::{self, SharedModel};

/// Where virtual time begins.
const START_MS: i64 = 1_700_000_000_000;
const PRODUCERS: usize = 3;

/// A fault that is built in, so that the checks can be seen to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The broker is sound.
    Nothing,
    /// Produce requests are answered before the flush.
    AnswerBeforeFlush,
    /// From some time on a sync does nothing.
    LyingSync,
}

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
    image: Image,
}

/// Storage has state of the process (admission of cold reads, resident pages): one run at a time.
static ONE_RUN: Mutex<()> = Mutex::new(());

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
        image: first_image(),
    };
    let lives = 3 + world.rng.below(4);
    for life in 0..=lives {
        world.live(life, life == lives);
        if world.model.lock().unwrap().violation.is_some() {
            break;
        }
    }
    let model = world.model.lock().unwrap();
    Outcome { trace: world.trace.text(), violation: model.violation.clone(), counts: model.counts }
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
    // Both hand files to a thread that removes them by the machine's clock.
    set("log.cleaner.enable", "false");
    set("log.retention.ms", "-1");
    set("replica.high.watermark.checkpoint.interval.ms", ["50", "700", "5000"][rng.below(3)]);
    BrokerConfig::resolve(&sources).unwrap()
}

impl World {
    fn live(&mut self, life: usize, last: bool) {
        let _ = std::fs::remove_dir_all(&self.root);
        std::fs::create_dir_all(&self.root).unwrap();
        let disk = SimDisk::new(&self.root, &self.image);
        self.trace.follow_disk(&disk);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let mut rng = Rng::new(self.rng.next());
        let config = config(&self.root, &mut rng);
        let cut_step = (!last && rng.chance(50)).then(|| {
            let most = if rng.chance(20) { 60 } else { 1200 };
            rng.below(most)
        });
        if let Some(step) = cut_step {
            disk.fail(Some(Plan { steps: step..step + 1, error: KILL }));
        }
        let cut_after = Duration::from_millis(rng.between(50, 1500) as u64);
        let elapsed = runtime.block_on(async {
            let began = Instant::now();
            let node = Node::new(config, Arc::new(Simulated::new(self.now_ms, Rng::new(rng.next()))));
            self.trace.note(self.now_ms, &format!("life {life}"));
            let lived = self.serve(&disk, node, &mut rng, (!last).then_some(cut_after));
            if let Err(what) = lived.await
                && !disk.is_dead()
            {
                self.model.lock().unwrap().violated(format!("life {life}: {what}"));
            }
            began.elapsed()
        });
        let dead = disk.next_process();
        drop(runtime);
        self.now_ms += elapsed.as_millis() as i64 + 1;
        self.trace.note(self.now_ms, "power cut");
        self.model.lock().unwrap().counts.cuts += usize::from(!last);
        self.image = dead.state().image(&mut self.rng);
    }

    /// Starts the broker, checks what it has, and lets clients work until the power goes. The last life is only checked.
    async fn serve(
        &self,
        disk: &SimDisk,
        node: Node,
        rng: &mut Rng,
        cut_after: Option<Duration>,
    ) -> Result<(), String> {
        let address = SocketAddr::from(([10, 0, 0, 2], 9092));
        let started = Embedded::start(node.clone(), Arc::new(disk.clone()), address).await;
        let broker = Arc::new(started.map_err(|error| format!("the broker does not start: {error}"))?);
        let lab = Lab { broker, node, trace: self.trace.clone(), rng: Arc::new(Mutex::new(Rng::new(rng.next()))) };
        let mut checker = Client::new(&lab, "checker");
        let durability = if self.planted == Planted::AnswerBeforeFlush { "page-cache" } else { "flush" };
        workload::create_topic(&mut checker, &self.model, durability).await?;
        workload::verify(&mut checker, &self.model).await?;
        let Some(cut_after) = cut_after else { return Ok(()) };
        for number in 0..PRODUCERS {
            let client = Client::new(&lab, format!("producer {number}"));
            tokio::spawn(workload::produce(client, Arc::clone(&self.model), number));
        }
        tokio::spawn(workload::consume(Client::new(&lab, "consumer"), Arc::clone(&self.model)));
        if self.planted == Planted::LyingSync {
            disk.lie_about_syncs();
        }
        let cut_at = Instant::now() + cut_after;
        while Instant::now() < cut_at && !disk.is_dead() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

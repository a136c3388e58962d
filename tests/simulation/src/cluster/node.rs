//! A node of the cluster: a broker with a disk and a clock of its own. A crash ends the use of both at once: whatever tasks of the broker are
//! left can neither write nor be heard.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use esker_broker::broker::Broker;
use esker_broker::config::{BrokerConfig, Origin, Sources};
use esker_broker::node::{Environment, Node, Stream, Work};
use esker_broker::serve::embedded::{Embedded, Starting};
use esker_storage::Env;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, select};
use tokio::sync::watch;
use tokio::time::Instant;

use super::net::{Net, address_of, index_of, nodes};
use crate::disk::SimDisk;
use crate::environment::Simulated;
use crate::rng::Rng;
use crate::state::Image;

/// Bytes of a disk.
pub const CAPACITY: u64 = 256 << 20;

/// The environment of one life of a node.
#[derive(Debug)]
struct Life {
    index: usize,
    inner: Simulated,
    clock_ms: Arc<AtomicI64>,
    stall: Arc<Stall>,
    net: Net,
    alive: Arc<AtomicBool>,
    ended: watch::Receiver<bool>,
}

impl Environment for Life {
    fn now_ms(&self) -> i64 {
        self.inner.now_ms() + self.clock_ms.load(Ordering::Relaxed)
    }

    fn random(&self) -> u128 {
        self.inner.random()
    }

    fn run_blocking(&self, work: Work) {
        let alive = Arc::clone(&self.alive);
        let work: Work = Box::new(move || {
            if alive.load(Ordering::SeqCst) {
                work();
            }
        });
        match self.stall.end() {
            None => self.inner.run_blocking(work),
            // The disk answers again then, in no particular order.
            Some(end) => self.inner.run_blocking(Box::new(move || {
                tokio::spawn(async move {
                    tokio::time::sleep_until(end).await;
                    work();
                });
            })),
        }
    }

    fn storage(&self) -> Arc<dyn Env> {
        self.inner.storage()
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (from, to, net, alive) = (self.index, index_of(address), self.net.clone(), Arc::clone(&self.alive));
        let address = address.to_owned();
        async move {
            let to = to.ok_or_else(|| io::Error::other(format!("no host {address}")))?;
            let end = net.connect(from, to).await?;
            if !alive.load(Ordering::SeqCst) {
                drop(end);
                return pending().await;
            }
            Ok(Box::new(end) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn spawn_control(&self, task: BoxFuture<'static, ()>) {
        let mut ended = self.ended.clone();
        tokio::spawn(async move {
            let ended = Box::pin(async move { drop(ended.wait_for(|ended| *ended).await) });
            select(task, ended).await;
        });
    }
}

/// A time in which a disk answers nothing: work that begins in it is done after its end.
#[derive(Debug, Default)]
pub struct Stall(Mutex<Option<Instant>>);

impl Stall {
    fn end(&self) -> Option<Instant> {
        self.0.lock().unwrap().filter(|end| *end > Instant::now())
    }

    /// From now on until `end`; `None`: it is over.
    pub fn set(&self, end: Option<Instant>) {
        *self.0.lock().unwrap() = end;
    }
}

/// How a life of a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The disk keeps what was synced, and what else the seed says.
    PowerCut,
    /// The kernel keeps what was written.
    Kill,
}

/// What runs.
struct Running {
    alive: Arc<AtomicBool>,
    end: watch::Sender<bool>,
    broker: Arc<Mutex<Option<Embedded>>>,
    failure: Arc<Mutex<Option<String>>>,
    start: tokio::task::AbortHandle,
}

/// See the module.
pub struct Member {
    index: usize,
    root: PathBuf,
    pub disk: SimDisk,
    rng: Rng,
    skew_ms: i64,
    max_lag_ms: u64,
    /// What its clock has jumped by.
    pub clock_ms: Arc<AtomicI64>,
    pub slower_ms: Arc<AtomicU64>,
    pub stall: Arc<Stall>,
    /// A sync does nothing.
    lies: bool,
    running: Option<Running>,
}

fn config(index: usize, root: &Path, max_lag_ms: u64) -> BrokerConfig {
    let mut sources = Sources::default();
    let mut set = |name: &str, value: &str| sources.set(Origin::Flag("--set"), name, value);
    let join: Vec<String> = (0..nodes()).map(|index| address_of(index).to_string()).collect();
    set("cluster.join", &join.join(","));
    set("log.dirs", root.join("data").to_str().unwrap());
    set("node.id", &(index + 1).to_string());
    set("num.recovery.threads.per.data.dir", "1");
    set("auto.create.topics.enable", "false");
    set("log.roll.ms", "900");
    set("log.cleaner.dedupe.buffer.size", "1048576");
    set("replica.high.watermark.checkpoint.interval.ms", "500");
    set("replica.lag.time.max.ms", &max_lag_ms.to_string());
    BrokerConfig::resolve(&sources).unwrap()
}

/// A disk that has nothing but the folder of the log dir.
/// First offset of a record batch (v2), the offset after its last, and the bytes after it; `None` where there is no whole one.
fn whole_batch(bytes: &[u8]) -> Option<(i64, i64, &[u8])> {
    let number = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let base = i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    let (batch, after) = bytes.split_at_checked(12 + usize::try_from(number(8)?).ok()?)?;
    let is_whole = crc32c::crc32c(batch.get(21..)?) == number(17)? as u32;
    is_whole.then_some((base, base + i64::from(number(23)?) + 1, after))
}

fn empty_image() -> Image {
    Image::from([(PathBuf::from("data"), None)])
}

fn new_disk(root: &Path, image: &Image) -> SimDisk {
    let _ = std::fs::remove_dir_all(root);
    std::fs::create_dir_all(root).unwrap();
    let disk = SimDisk::new(root, image);
    disk.set_capacity(CAPACITY);
    disk.remove_folders();
    disk
}

impl Member {
    /// A node with an empty disk that is switched off. `max_lag_ms` is its `replica.lag.time.max.ms`.
    pub fn new(index: usize, folder: &Path, mut rng: Rng, max_lag_ms: u64) -> Self {
        let root = folder.join(format!("node{index}"));
        let disk = new_disk(&root, &empty_image());
        let skew_ms = rng.between(-1500, 1500);
        let (clock_ms, slower_ms, stall) = (Arc::default(), Arc::default(), Arc::default());
        Self { index, root, disk, rng, skew_ms, max_lag_ms, clock_ms, slower_ms, stall, lies: false, running: None }
    }

    /// Replaces the disk by an empty one. The node is switched off.
    pub fn empty_disk(&mut self) {
        assert!(!self.is_up());
        self.disk = new_disk(&self.root, &empty_image());
        if self.lies {
            self.disk.lie_about_syncs();
        }
    }

    /// From now on a sync does nothing.
    pub fn lie_about_syncs(&mut self) {
        self.lies = true;
        self.disk.lie_about_syncs();
    }

    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Starts the broker; it comes into service when it can.
    pub fn start(&mut self, net: &Net, now_ms: i64) {
        let (alive, (end, ended)) = (Arc::new(AtomicBool::new(true)), watch::channel(false));
        let inner = Simulated::new(now_ms + self.skew_ms, Rng::new(self.rng.next()), Arc::clone(&self.slower_ms));
        let (clock_ms, stall) = (Arc::clone(&self.clock_ms), Arc::clone(&self.stall));
        let (index, net_of_life, alive_of_life) = (self.index, net.clone(), Arc::clone(&alive));
        let life = Life { index, inner, clock_ms, stall, net: net_of_life, alive: alive_of_life, ended };
        let node = Node::new(config(self.index, &self.root, self.max_lag_ms), Arc::new(life));
        let (broker, failure) = (Arc::<Mutex<Option<Embedded>>>::default(), Arc::<Mutex<Option<String>>>::default());
        let (disk, index, net) = (Arc::new(self.disk.clone()), self.index, net.clone());
        let (there, why) = (Arc::clone(&broker), Arc::clone(&failure));
        let start = tokio::spawn(async move {
            let started = match Starting::new(node, disk) {
                Ok(starting) => {
                    net.listen(index, starting.entrance().clone());
                    starting.run(address_of(index)).await
                }
                Err(error) => Err(error),
            };
            match started {
                Ok(embedded) => *there.lock().unwrap() = Some(embedded),
                Err(error) => *why.lock().unwrap() = Some(error.to_string()),
            }
        });
        self.running = Some(Running { alive, end, broker, failure, start: start.abort_handle() });
    }

    /// The broker, once it serves clients.
    pub fn broker(&self) -> Option<Arc<Broker>> {
        let running = self.running.as_ref()?;
        running.broker.lock().unwrap().as_ref().map(|embedded| Arc::clone(&embedded.broker))
    }

    /// Why the start failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.running.as_ref()?.failure.lock().unwrap().clone()
    }

    /// Its broker's id.
    pub fn node_id(&self) -> i32 {
        self.index as i32 + 1
    }

    /// The end of a partition's log that the disk has after a power cut now, where all that was not synced is lost; -1 if there is none.
    pub fn synced_end(&self, folder: &str) -> i64 {
        let folder = Path::new("data").join(folder);
        let image = self.disk.state().synced_image(&mut Rng::new(0));
        let logs =
            image.iter().filter(|(path, _)| path.parent() == Some(&folder) && path.extension() == Some("log".as_ref()));
        let mut end = -1;
        for batches in logs.filter_map(|(_, content)| content.as_deref()) {
            let mut rest = batches;
            while let Some((base, next, after)) = whole_batch(rest).filter(|(base, ..)| end == -1 || *base == end) {
                debug_assert!(next > base);
                (end, rest) = (next, after);
            }
        }
        end
    }

    /// Ends this life.
    pub fn crash(&mut self, net: &Net, crash: Crash) {
        let Some(running) = self.running.take() else { return };
        let next = self.disk.next_process();
        running.alive.store(false, Ordering::SeqCst);
        match crash {
            Crash::PowerCut => net.silence(self.index),
            Crash::Kill => net.refuse(self.index),
        }
        running.start.abort();
        let _ = running.end.send(true);
        drop(running.broker.lock().unwrap().take());
        self.slower_ms.store(0, Ordering::Relaxed);
        let stalled = self.stall.end().is_some();
        self.stall.set(None);
        next.set_faults(Vec::new());
        self.disk = match crash {
            Crash::Kill => next,
            // A disk that answers nothing writes nothing.
            Crash::PowerCut if stalled => new_disk(&self.root, &next.state().synced_image(&mut self.rng)),
            Crash::PowerCut => new_disk(&self.root, &next.state().image(&mut self.rng)),
        };
        if self.lies {
            self.disk.lie_about_syncs();
        }
    }
}

//! The environment of a simulated broker: the clock is the runtime's virtual one, randomness comes from the seed, and blocking work
//! runs in the only thread after a random delay. The delay is where a power cut falls between a write and its sync.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use esker_broker::node::{Environment, Stream, Work};
use esker_storage::{Env, ThreadBody};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::rng::Rng;

/// See the module. One serves one life of the broker.
#[derive(Debug)]
pub struct Simulated {
    base_ms: i64,
    started: Instant,
    rng: Mutex<Rng>,
    /// The longest delay of blocking work.
    slowest_ms: i64,
    /// What a slow disk adds to it.
    slower_ms: Arc<AtomicU64>,
}

impl Simulated {
    /// The clock starts at `base_ms`. Needs a runtime with paused time.
    pub fn new(base_ms: i64, mut rng: Rng, slower_ms: Arc<AtomicU64>) -> Self {
        let slowest_ms = [0, 3, 20][rng.below(3)];
        Self { base_ms, started: Instant::now(), rng: Mutex::new(rng), slowest_ms, slower_ms }
    }
}

impl Environment for Simulated {
    fn now_ms(&self) -> i64 {
        self.base_ms + self.started.elapsed().as_millis() as i64
    }

    fn random(&self) -> u128 {
        let mut rng = self.rng.lock().unwrap();
        u128::from(rng.next()) << 64 | u128::from(rng.next())
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let address = address.to_owned();
        async move { Err(io::Error::new(io::ErrorKind::ConnectionRefused, address)) }.boxed()
    }

    fn spawn_control(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn storage(&self) -> Arc<dyn Env> {
        let rng = Rng::new(self.rng.lock().unwrap().next());
        Arc::new(SimulatedStorage { started: self.started, slept: AtomicU64::new(0), rng: Mutex::new(rng) })
    }

    fn run_blocking(&self, work: Work) {
        let most = self.slowest_ms + self.slower_ms.load(Ordering::Relaxed) as i64;
        let delay = self.rng.lock().unwrap().between(0, most) as u64;
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            work();
        });
    }
}

/// What storage takes from outside: the same clock, which a pause moves on, and no threads.
#[derive(Debug)]
struct SimulatedStorage {
    started: Instant,
    /// Milliseconds of all pauses.
    slept: AtomicU64,
    rng: Mutex<Rng>,
}

impl Env for SimulatedStorage {
    fn now(&self) -> Duration {
        self.started.elapsed() + Duration::from_millis(self.slept.load(Ordering::Relaxed))
    }

    fn random(&self) -> u128 {
        let mut rng = self.rng.lock().unwrap();
        u128::from(rng.next()) << 64 | u128::from(rng.next())
    }

    fn sleep(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        self.slept.fetch_add(ms, Ordering::Relaxed);
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn spawn(&self, name: &str, _stack_bytes: Option<usize>, _body: ThreadBody) -> io::Result<JoinHandle<()>> {
        Err(io::Error::other(format!("a thread {name} in a simulation")))
    }
}

//! The node: its configuration, and what comes to it from outside of the program: time, randomness, threads for work that blocks.
//!
//! The bottom of the broker: every module may know it, and it knows none. A simulation replaces the [`Environment`], and with it
//! each of these seams. Must never: hold state of the cluster.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use esker_core::config::Statics;
use esker_core::trace::SampleRatio;
use esker_protocol::primitives::Uuid;
use esker_storage::{Env, MachineEnv, ThreadBody};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Runtime, RuntimeMetrics};

use crate::blocking;
use crate::config::BrokerConfig;
use crate::trace::Tracer;

/// Work for a thread that may block.
pub type Work = Box<dyn FnOnce() + Send>;

/// A byte stream to another node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where time, randomness, threads and connections to other nodes come from.
pub trait Environment: fmt::Debug + Send + Sync {
    /// The wall clock in milliseconds since 1970, as Kafka's timestamps are.
    fn now_ms(&self) -> i64;

    /// 128 random bits.
    fn random(&self) -> u128;

    /// Runs `work` where it may block.
    fn run_blocking(&self, work: Work);

    /// What storage takes from outside: a monotonic clock, randomness, threads.
    fn storage(&self) -> Arc<dyn Env>;

    /// Connects to another node, `host:port`.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;

    /// Runs a task of the cluster's control (the metadata quorum, heartbeats) where no load of clients delays it.
    fn spawn_control(&self, task: BoxFuture<'static, ()>);

    /// What is known of the threads of the cluster's control.
    fn control_metrics(&self) -> Option<RuntimeMetrics> {
        None
    }

    /// Bytes of files in the resident set; `None` where nothing is known of it. Never waits for a disk.
    fn resident_file_bytes(&self) -> Option<u64> {
        None
    }
}

/// The machine that the broker runs on.
#[derive(Debug, Default)]
pub struct Machine {
    control: OnceLock<Option<Runtime>>,
}

impl Machine {
    /// A runtime of one thread beside that of the clients: the scheduler of the kernel, not a queue of tasks, says when it runs.
    fn control(&self) -> Option<&Runtime> {
        let start = || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(1).max_blocking_threads(4).thread_name("control").enable_all();
            let built = builder.on_thread_start(prefer_this_thread).build();
            built.inspect_err(|error| tracing::error!(%error, "no thread for the metadata quorum: it shares those of the clients")).ok()
        };
        self.control.get_or_init(start).as_ref()
    }
}

/// The nice value of the threads of the cluster's control.
const CONTROL_NICE: i32 = -10;

/// Has the kernel prefer this thread to those that serve clients. A machine with more work than cores may otherwise let it wait for longer than the
/// quorum waits for a leader. Without the privilege (CAP_SYS_NICE, or RLIMIT_NICE) the thread stays as it is.
fn prefer_this_thread() {
    // On Linux it is the calling thread that is meant.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, CONTROL_NICE) {
        tracing::debug!(%error, "the threads of the cluster's control run at the priority of all others");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The last handle may go on an async worker, which must not wait for the runtime's end.
        if let Some(Some(control)) = self.control.take() {
            control.shutdown_background();
        }
    }
}

impl Environment for Machine {
    #[allow(clippy::disallowed_methods)]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    #[allow(clippy::disallowed_methods)]
    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }

    #[allow(clippy::disallowed_methods)]
    fn run_blocking(&self, work: Work) {
        drop(tokio::task::spawn_blocking(work));
    }

    fn storage(&self) -> Arc<dyn Env> {
        Arc::new(MachineStorage(MachineEnv::default()))
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let address = address.to_owned();
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn spawn_control(&self, task: BoxFuture<'static, ()>) {
        match self.control() {
            Some(control) => drop(control.spawn(task)),
            None => drop(tokio::spawn(task)),
        }
    }

    fn control_metrics(&self) -> Option<RuntimeMetrics> {
        self.control().map(|control| control.metrics())
    }

    fn resident_file_bytes(&self) -> Option<u64> {
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = statm.split_whitespace().nth(2)?.parse().ok()?;
        Some(pages.saturating_mul(rustix::param::page_size() as u64))
    }
}

/// The machine under storage, whose callers may be async workers.
#[derive(Debug)]
struct MachineStorage(MachineEnv);

impl Env for MachineStorage {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn random(&self) -> u128 {
        self.0.random()
    }

    fn sleep(&self, time: Duration) {
        self.0.sleep(time);
    }

    fn run_blocking(&self, step: &mut dyn FnMut()) {
        blocking::run(step);
    }

    fn spawn(&self, name: &str, stack_bytes: Option<usize>, body: ThreadBody) -> io::Result<JoinHandle<()>> {
        self.0.spawn(name, stack_bytes, body)
    }
}

/// Blocking work ended in a panic, or was never run because the runtime is shutting down.
#[derive(Debug, Error)]
#[error("blocking work did not end: {reason}")]
pub struct BlockingError {
    /// The panic's message.
    reason: String,
}

/// See the module. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Node {
    config: Arc<BrokerConfig>,
    environment: Arc<dyn Environment>,
    storage: Arc<dyn Env>,
    /// `None` where requests are not traced.
    tracer: Option<Arc<Tracer>>,
}

impl Node {
    /// A node in `environment`.
    pub fn new(config: BrokerConfig, environment: Arc<dyn Environment>) -> Self {
        let seed = || (environment.random() >> 64) as u64;
        let ratio = config.tracing_sample_ratio;
        let is_traced = config.otlp_endpoint.is_some() && ratio > 0.0;
        let tracer = is_traced.then(|| Arc::new(Tracer::new(SampleRatio::new(ratio), seed())));
        Self { config: Arc::new(config), storage: environment.storage(), environment, tracer }
    }

    /// The same node under the id that its cluster has given it.
    #[must_use]
    pub fn with_id(&self, node_id: i32) -> Self {
        let mut config = BrokerConfig::clone(&self.config);
        config.node_id = node_id;
        let mut statics = Statics::clone(&config.statics);
        statics.0.insert("node.id".to_owned(), node_id.to_string());
        config.statics = Arc::new(statics);
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// `node.id`.
    pub fn id(&self) -> i32 {
        self.config.node_id
    }

    /// What the broker was started with.
    pub fn config(&self) -> &Arc<BrokerConfig> {
        &self.config
    }

    /// What traces requests; `None` where they are not traced.
    pub fn tracer(&self) -> Option<&Arc<Tracer>> {
        self.tracer.as_ref()
    }

    /// Milliseconds since 1970 by the wall clock.
    pub fn now_ms(&self) -> i64 {
        self.environment.now_ms()
    }

    /// A random (version 4) id.
    pub fn random_id(&self) -> Uuid {
        Uuid(*uuid::Builder::from_random_bytes(self.environment.random().to_be_bytes()).into_uuid().as_bytes())
    }

    /// As [`Self::random_id`], in text of 36 characters: the end of a member id that the broker makes.
    pub fn random_text(&self) -> String {
        uuid::Uuid::from_bytes(self.random_id().0).to_string()
    }

    /// 64 random bits.
    pub fn random_u64(&self) -> u64 {
        (self.environment.random() >> 64) as u64
    }

    /// What storage takes from outside.
    pub fn storage(&self) -> &Arc<dyn Env> {
        &self.storage
    }

    /// Connects to another node, `host:port`.
    pub async fn connect(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        self.environment.connect(address).await
    }

    /// Runs a task of the cluster's control where no load of clients delays it.
    pub fn spawn_control(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.environment.spawn_control(task.boxed());
    }

    /// As [`Self::spawn_control`], and waits for what the task returns; `None` if the runtime ends before.
    pub async fn run_control<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (done, ended) = tokio::sync::oneshot::channel();
        self.spawn_control(async move {
            // The caller may have been dropped.
            let _ = done.send(task.await);
        });
        ended.await.ok()
    }

    /// Runs a task of the cluster's control for as long as `make` makes ones that panic; one that returns has ended.
    pub fn keep_control<F, T>(&self, name: &'static str, make: F)
    where
        F: Fn() -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        self.spawn_control(async move {
            while let Err(panic) = AssertUnwindSafe(make()).catch_unwind().await {
                let why = panic_message(panic.as_ref());
                tracing::error!(
                    task = name,
                    why,
                    "a fault of this broker: a task of the cluster's control starts again"
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }

    /// What is known of the threads of the cluster's control.
    pub fn control_metrics(&self) -> Option<RuntimeMetrics> {
        self.environment.control_metrics()
    }

    /// Bytes of files in the resident set, if known.
    pub fn resident_file_bytes(&self) -> Option<u64> {
        self.environment.resident_file_bytes()
    }

    /// The clock alone, for what needs nothing else.
    pub fn clock(&self) -> impl Fn() -> i64 + Send + Sync + Clone + 'static {
        let environment = Arc::clone(&self.environment);
        move || environment.now_ms()
    }

    /// Starts `work` on a thread that may block; the future gives what it returns. Dropping the future does not stop the work.
    pub fn run_blocking<R, F>(&self, work: F) -> impl Future<Output = Result<R, BlockingError>> + Send + use<R, F>
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        let (done, ended) = tokio::sync::oneshot::channel();
        self.environment.run_blocking(Box::new(move || {
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        }));
        async move {
            match ended.await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(panic)) => Err(BlockingError { reason: panic_message(panic.as_ref()) }),
                Err(_) => Err(BlockingError { reason: "the runtime is shutting down".to_owned() }),
            }
        }
    }

    /// Runs `work` on a thread that may block; the caller does not wait for its end.
    pub fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.environment.run_blocking(Box::new(work));
    }
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[tokio::test]
    async fn blocking_work_gives_its_result_and_a_panic_is_an_error() {
        let node = Node::new(BrokerConfig::resolve(&Sources::default()).unwrap(), Arc::new(Machine::default()));
        assert_eq!(node.run_blocking(|| 7).await.unwrap(), 7);
        let (sender, receiver) = std::sync::mpsc::channel();
        let not_awaited = node.run_blocking(move || sender.send(7).unwrap());
        assert_eq!(receiver.recv(), Ok(7), "it starts at once");
        drop(not_awaited);
        let failed = node.run_blocking(|| -> i32 { panic!("a fault") }).await;
        assert!(failed.unwrap_err().to_string().contains("a fault"));
        assert_eq!(node.run_blocking(|| 8).await.unwrap(), 8);
    }

    #[test]
    fn ids_differ() {
        let node = Node::new(BrokerConfig::resolve(&Sources::default()).unwrap(), Arc::new(Machine::default()));
        assert_ne!(node.random_id(), node.random_id());
        let text = node.random_text();
        assert!(text.len() == 36 && text != node.random_text(), "{text}");
        assert_eq!(text.parse::<uuid::Uuid>().unwrap().get_version_num(), 4);
        assert!(node.now_ms() > 1_700_000_000_000);
        if cfg!(target_os = "linux") {
            assert!(node.resident_file_bytes().unwrap() > 0);
        }
    }
}

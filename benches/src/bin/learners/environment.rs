//! The environment of a member: the machine, with the threads of its group.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use esker_benches::Result;
use esker_broker::node::{Environment, Machine, Stream, Work};
use esker_storage::{Env, MachineEnv, ThreadBody};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::network::Network;

/// Added to the niceness of threads that must delay no others.
const NICE: i32 = 19;

/// Members whose CPU time is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The voter that leads.
    Leader,
    /// The other voters.
    Voters,
    /// All learners.
    Learners,
}

impl Group {
    /// The name of its threads; the kernel keeps 15 characters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "raft-leader",
            Self::Voters => "raft-voters",
            Self::Learners => "raft-learners",
        }
    }

    fn is_nice(self) -> bool {
        self == Self::Learners
    }
}

/// A runtime of one thread.
pub fn start_runtime(name: &str, nice: bool) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    // A thread that ends takes its CPU time along.
    builder.worker_threads(1).thread_name(name).thread_keep_alive(Duration::from_secs(3600)).enable_all();
    if nice {
        builder.on_thread_start(lower_priority);
    }
    builder.build()
}

/// Of the calling thread: on Linux niceness is a thread's.
fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICE) {
        eprintln!("learners: a thread keeps its priority: {error}");
    }
}

/// The threads of one group. Its tasks end with it.
pub struct Threads {
    group: Group,
    control: Handle,
    /// Until it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts them.
    pub fn start(group: Group) -> Result<Self> {
        let runtime = start_runtime(group.name(), group.is_nice())?;
        Ok(Self { group, control: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// The environment of a member of the group.
    pub fn environment(&self, network: &Network) -> Arc<dyn Environment> {
        let (group, control) = (self.group, self.control());
        Arc::new(Member { group, control, network: network.clone(), machine: Machine::default() })
    }

    /// Where tasks of the group run.
    pub fn control(&self) -> Handle {
        self.control.clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // An async task must not wait for the end of a runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Debug)]
struct Member {
    group: Group,
    control: Handle,
    network: Network,
    machine: Machine,
}

impl Environment for Member {
    fn now_ms(&self) -> i64 {
        self.machine.now_ms()
    }

    fn random(&self) -> u128 {
        self.machine.random()
    }

    fn run_blocking(&self, work: Work) {
        drop(self.control.spawn_blocking(work));
    }

    fn storage(&self) -> Arc<dyn Env> {
        Arc::new(Storage { group: self.group, machine: MachineEnv::default() })
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (network, address) = (self.network.clone(), address.to_owned());
        async move { network.connect(&address).await }.boxed()
    }

    fn spawn_control(&self, task: BoxFuture<'static, ()>) {
        drop(self.control.spawn(task));
    }
}

/// The machine under a member's log, whose thread counts for the group.
#[derive(Debug)]
struct Storage {
    group: Group,
    machine: MachineEnv,
}

impl Env for Storage {
    fn now(&self) -> Duration {
        self.machine.now()
    }

    fn random(&self) -> u128 {
        self.machine.random()
    }

    fn sleep(&self, time: Duration) {
        self.machine.sleep(time);
    }

    fn spawn(&self, _: &str, stack_bytes: Option<usize>, body: ThreadBody) -> io::Result<JoinHandle<()>> {
        let nice = self.group.is_nice();
        let run = move || {
            if nice {
                lower_priority();
            }
            body();
        };
        self.machine.spawn(self.group.name(), stack_bytes, Box::new(run))
    }
}

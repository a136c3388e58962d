//! The threads that load cold data into memory.
//!
//! Separate from the runtime's blocking threads, since they run with a higher nice value: loading a gigabyte costs a good part of a
//! core in the kernel, and on a busy machine producers and tail consumers must not wait for the CPU behind it. An unprivileged
//! thread cannot lower its nice value again. Must never run a job that others wait for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use esker_storage::Env;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::node::Node;

/// The nice increment of these threads: beside a thread that is always runnable they get about a thirtieth of a CPU.
const NICE_INCREMENT: i32 = 15;

type Job = Box<dyn FnOnce() + Send>;

/// See the module. The threads begin at the first job and end with this.
#[derive(Debug)]
pub(super) struct ColdThreads {
    node: Node,
    count: usize,
    jobs: OnceLock<Sender<Job>>,
}

impl ColdThreads {
    pub(super) fn new(node: &Node, count: usize) -> Self {
        Self { node: node.clone(), count, jobs: OnceLock::new() }
    }

    /// Runs `job` and returns its result; `None` if it panicked, or no thread could be started.
    pub(super) async fn run_job<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The request may have been dropped: disconnected clients must not leave work behind that delays pending requests.
            if !answer.is_closed() {
                let _ = answer.send(job());
            }
        });
        if self.node.storage().has_threads() {
            self.jobs.get_or_init(|| start_threads(self.node.storage().as_ref(), self.count)).send(job).ok()?;
        } else {
            self.node.spawn_blocking(job);
        }
        answered.await.ok()
    }
}

fn start_threads(env: &dyn Env, count: usize) -> Sender<Job> {
    let (sender, receiver) = channel();
    let jobs = Arc::new(Mutex::new(receiver));
    for number in 0..count {
        let jobs = Arc::clone(&jobs);
        let thread = env.spawn(&format!("cold-read-{number}"), None, Box::new(move || run_jobs(&jobs)));
        if let Err(error) = thread {
            tracing::warn!(%error, "fewer threads than meant bring in cold data");
        }
    }
    sender
}

fn run_jobs(jobs: &Mutex<Receiver<Job>>) {
    // On Linux this affects only this thread. If it fails, the thread runs at normal priority.
    let _ = rustix::process::nice(NICE_INCREMENT);
    loop {
        let job = jobs.lock().recv();
        let Ok(job) = job else { return };
        // A panic must not end the thread: it would be missing until the broker stops.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::test_support::node;

    #[tokio::test]
    async fn jobs_run_on_threads_with_a_higher_nice_value() {
        let threads = ColdThreads::new(&node(), 2);
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let own = niceness();
        for _ in 0..5 {
            let (name, nice) =
                threads.run_job(move || (std::thread::current().name().map(str::to_owned), niceness())).await.unwrap();
            assert!(name.unwrap().starts_with("cold-read-"));
            assert_eq!(nice, (own + NICE_INCREMENT).min(19));
        }
        assert_eq!(niceness(), own);
        for _ in 0..4 {
            assert_eq!(
                threads
                    .run_job(|| if true {
                        panic!("meant")
                    })
                    .await,
                None,
                "a panic is reported"
            );
        }
        assert_eq!(threads.run_job(|| 7).await, Some(7), "and no thread is lost");
    }

    #[tokio::test]
    async fn a_job_without_a_waiter_is_not_run() {
        let threads = ColdThreads::new(&node(), 1);
        let (go, wait) = channel::<()>();
        let (done, told) = channel();
        let mut first = Box::pin(threads.run_job(move || wait.recv().is_ok()));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(threads.run_job(move || done.send(())));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(second);
        go.send(()).unwrap();
        assert_eq!(first.await, Some(true));
        assert_eq!(threads.run_job(|| 7).await, Some(7));
        assert!(told.recv().is_err(), "its request was dropped");
    }
}

//! The environment of storage besides files: time, randomness, threads.
//!
//! A [`LogManager`](crate::LogManager) carries one [`Env`], and everything below uses that one: two brokers in one process share
//! nothing here, and a simulation replaces it. Must never: add a clock read to an append or a read that had none.

use std::{fmt::Debug, io, thread, time::Duration};

use crate::Uuid;

/// The body of a thread.
pub type ThreadBody = Box<dyn FnOnce() + Send>;

/// The environment of the logs of one broker.
pub trait Env: Debug + Send + Sync {
    /// Monotonic time since a moment before the first call.
    fn now(&self) -> Duration;

    /// 128 random bits.
    fn random(&self) -> u128;

    /// Pauses the calling thread. On return `now` is that much later: loops that wait for a moment end only so.
    fn sleep(&self, time: Duration);

    /// Runs a step of an append that may wait for the disk, although the caller may be an async worker.
    fn run_blocking(&self, step: &mut dyn FnMut()) {
        step();
    }

    /// Whether there are threads beside the callers'. Without them deleted files are removed by
    /// [`LogManager::reap_due`](crate::LogManager::reap_due), and the metadata log is written by the call that changes it.
    fn has_threads(&self) -> bool {
        true
    }

    /// Starts a thread. Never called where `has_threads` is false. `stack_bytes`: `None` is the system's default.
    fn spawn(&self, name: &str, stack_bytes: Option<usize>, body: ThreadBody) -> io::Result<thread::JoinHandle<()>>;
}

/// The machine's own clock, randomness and threads.
#[derive(Debug)]
pub struct MachineEnv {
    began: std::time::Instant,
}

impl Default for MachineEnv {
    #[allow(clippy::disallowed_methods)]
    fn default() -> Self {
        Self { began: std::time::Instant::now() }
    }
}

impl Env for MachineEnv {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    #[allow(clippy::disallowed_methods)]
    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }

    #[allow(clippy::disallowed_methods)]
    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }

    #[allow(clippy::disallowed_methods)]
    fn spawn(&self, name: &str, stack_bytes: Option<usize>, body: ThreadBody) -> io::Result<thread::JoinHandle<()>> {
        let builder = thread::Builder::new().name(name.to_owned());
        match stack_bytes {
            Some(bytes) => builder.stack_size(bytes).spawn(body),
            None => builder.spawn(body),
        }
    }
}

/// A random (version 4) id, not one that begins with '-' in text: as Kafka makes them.
pub(crate) fn random_uuid(env: &dyn Env) -> Uuid {
    loop {
        let id = Uuid(*version_4(env).as_bytes());
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

pub(crate) fn version_4(env: &dyn Env) -> uuid::Uuid {
    uuid::Builder::from_random_bytes(env.random().to_be_bytes()).into_uuid()
}

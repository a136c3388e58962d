//! Runs the steps of an append that may block on the disk where the caller may be an async worker.
//!
//! Nearly every append is one short write into the page cache, so it runs on the caller's thread. Some steps block: on the writer's
//! lock, while a truncation or a move between log dirs holds it for I/O; on the creation of a new segment's files; on the
//! reservation of disk space. Such steps go through [`Env::run_blocking`] (the broker's implementation hands the worker's other
//! tasks to another thread).
//!
//! Must never: be used for a step of every append, since each use costs some microseconds.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::Env;

/// How long the caller waits for a lock on its own thread: other appends hold the lock for less time.
const PATIENCE: Duration = Duration::from_micros(200);

/// Runs `step`, which may wait for the disk.
pub(crate) fn run<R>(env: &dyn Env, mut step: impl FnMut() -> R) -> R {
    let mut result = None;
    env.run_blocking(&mut || result = Some(step()));
    result.unwrap_or_else(step)
}

/// Takes a lock that another thread may hold while it waits for the disk.
pub(crate) fn lock<'a, T>(env: &dyn Env, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
    mutex.try_lock_for(PATIENCE).unwrap_or_else(|| run(env, || mutex.lock()))
}

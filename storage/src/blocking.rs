//! Steps of an append that may wait for the disk, although the caller may be an async worker.
//!
//! Nearly every append is one short write into the page cache, so it runs where the caller is. Some wait: for the writer's lock, while a
//! truncation or a move between log dirs holds it for I/O; for a new segment's files; for space that is reserved
//! ahead. Such steps go through [`Env::run_blocking`] (the broker's hands the worker's other tasks to
//! another thread).
//!
//! Must never: be used for what every append does. Such a step costs some microseconds.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::Env;

/// How long a lock is waited for in place: other appends hold it for less.
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

//! Tasks of the runtime.
//!
//! The runtime's half of a task is compiled for each type of future, twice: some 2,000 lines of LLVM's language. In a box, all futures with
//! one output are one type. It costs an allocation for each task and a jump for each poll: must never be used for each produce or fetch.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Spawns a task on the runtime of the caller, as `tokio::spawn` does.
#[track_caller]
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let future: BoxFuture<'static, T> = future.boxed();
    tokio::spawn(future)
}

/// As [`spawn`]; dropped when `stop` is cancelled.
#[track_caller]
pub fn spawn_until(stop: CancellationToken, future: impl Future<Output = ()> + Send + 'static) {
    let future: BoxFuture<'static, ()> = future.boxed();
    drop(tokio::spawn(stop.run_until_cancelled_owned(future)));
}

//! Tasks of the runtime.
//!
//! The runtime's half of a task is compiled for each type of future, twice: some 2,000 lines of LLVM's language. A box makes it one type for
//! each output, and a task is spawned once where its future is polled often. Must never be used for a record or a request of a client.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Spawns a task on the runtime of the caller, as `tokio::spawn` does.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let future: BoxFuture<'static, T> = future.boxed();
    tokio::spawn(future)
}

/// As [`spawn`]; dropped when `stop` is cancelled.
pub fn spawn_until(stop: CancellationToken, future: impl Future<Output = ()> + Send + 'static) {
    let future = future.boxed();
    drop(spawn(async move { stop.run_until_cancelled_owned(future).await }));
}

//! An environment without threads whose clock advances only in `sleep`.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    thread::JoinHandle,
    time::Duration,
};

use crate::{Env, ThreadBody};

#[derive(Debug, Default)]
pub(crate) struct ManualEnv {
    nanos: AtomicU64,
    drawn: AtomicU64,
}

impl Env for ManualEnv {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }

    fn random(&self) -> u128 {
        let drawn = self.drawn.fetch_add(1, Ordering::SeqCst);
        u128::from(drawn + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    fn sleep(&self, time: Duration) {
        self.nanos.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn spawn(&self, name: &str, _stack_bytes: Option<usize>, _body: ThreadBody) -> io::Result<JoinHandle<()>> {
        panic!("a thread {name} is started in an environment without threads");
    }
}

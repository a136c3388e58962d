//! A disk that blocks chosen operations until the gate opens.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{
    hooked::{Doing, HookedDisk, Hooks},
    io::Disk,
};

#[derive(Debug, Default)]
struct State {
    closed: bool,
    waiting: usize,
}

/// See the module: while the gate is closed, operations that `matches` selects block.
#[derive(Debug)]
pub(crate) struct Gate {
    matches: fn(Doing<'_>) -> bool,
    state: Mutex<State>,
    moved: Condvar,
}

impl Hooks for Gate {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        if (self.matches)(doing) {
            let mut state = self.state.lock();
            state.waiting += 1;
            self.moved.notify_all();
            self.moved.wait_while(&mut state, |state| state.closed);
            state.waiting -= 1;
        }
        Ok(())
    }
}

impl Gate {
    pub(crate) fn new(matches: fn(Doing<'_>) -> bool) -> Arc<Self> {
        Arc::new(Self { matches, state: Mutex::default(), moved: Condvar::new() })
    }

    pub(crate) fn disk(self: &Arc<Self>) -> Arc<dyn Disk> {
        let hooks: Arc<dyn Hooks> = Arc::<Self>::clone(self);
        Arc::new(HookedDisk(hooks))
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().closed = false;
        self.moved.notify_all();
    }

    /// Waits until an operation is blocked.
    pub(crate) fn wait_for_blocked_call(&self) {
        let mut state = self.state.lock();
        let deadline = Instant::now() + Duration::from_secs(60);
        while state.waiting == 0 {
            assert!(!self.moved.wait_until(&mut state, deadline).timed_out(), "no operation was blocked");
        }
    }
}

pub(crate) fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

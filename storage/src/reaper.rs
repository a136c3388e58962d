//! Removes deleted files in the background: folders of partitions, and segments after `file.delete.delay.ms`.
//!
//! Every pending file has a name that a start removes, so a stop drops the queue. On a nearly full disk the delay does not apply:
//! before producers are refused, pending files are removed at once.

use std::{
    any::Any,
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use parking_lot::Mutex;

use crate::{Env, io::Disk, reserve::is_short};

/// How often the free space is checked while files are pending.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A file or folder to remove, its file system, and the due time.
#[derive(Debug)]
struct PendingRemoval {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    folder: bool,
    /// By the clock of the environment.
    due: Duration,
}

impl PendingRemoval {
    /// `roomy`: dirs that had enough free space in this round.
    fn is_due(&self, now: Duration, roomy: &mut HashSet<PathBuf>) -> bool {
        let Some(dir) = self.path.parent().filter(|dir| !roomy.contains(*dir)) else {
            return self.due <= now;
        };
        let short = is_short(self.disk.as_ref(), dir);
        if !short {
            roomy.insert(dir.to_path_buf());
        }
        short || self.due <= now
    }

    fn remove(&self) {
        let removed = match self.folder {
            true => self.disk.remove_dir_all(&self.path),
            false => self.disk.remove_file(&self.path),
        };
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove what was deleted; it is tried again at the next start");
        }
    }
}

/// The pending removals.
#[derive(Debug)]
enum Queue {
    /// Sent to a thread; `None` once it must end.
    Thread { sender: Mutex<Option<mpsc::Sender<PendingRemoval>>>, thread: Mutex<Option<thread::JoinHandle<()>>> },
    /// Kept until the owner calls [`Reaper::reap_due`].
    Owner(Mutex<Vec<PendingRemoval>>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reaper {
    env: Arc<dyn Env>,
    line: Queue,
}

impl Reaper {
    pub(crate) fn start(env: Arc<dyn Env>) -> Self {
        if !env.has_threads() {
            return Self { env, line: Queue::Owner(Mutex::default()) };
        }
        let (sender, receiver) = mpsc::channel::<PendingRemoval>();
        let of_thread = Arc::clone(&env);
        let thread = env.spawn("esker-log-reaper", None, Box::new(move || run(of_thread.as_ref(), &receiver)));
        let line = Queue::Thread { sender: Mutex::new(Some(sender)), thread: Mutex::new(thread.ok()) };
        Self { env, line }
    }

    /// Removes a folder after `delay_ms`.
    pub(crate) fn remove_folder(&self, disk: &Arc<dyn Disk>, path: PathBuf, delay_ms: i64) {
        self.enqueue(disk, path, true, delay_ms);
    }

    /// Removes a file after `delay_ms`.
    pub(crate) fn remove_file(&self, disk: &Arc<dyn Disk>, path: PathBuf, delay_ms: i64) {
        self.enqueue(disk, path, false, delay_ms);
    }

    fn enqueue(&self, disk: &Arc<dyn Disk>, path: PathBuf, folder: bool, delay_ms: i64) {
        let delay = Duration::from_millis(u64::try_from(delay_ms).unwrap_or_default());
        let due = self.env.now().saturating_add(delay);
        let removal = PendingRemoval { disk: Arc::clone(disk), path, folder, due };
        match &self.line {
            Queue::Thread { sender, .. } => {
                if let Some(sender) = sender.lock().as_ref() {
                    // Without the thread the file stays until the next start.
                    let _ = sender.send(removal);
                }
            }
            Queue::Owner(waiting) => waiting.lock().push(removal),
        }
    }

    /// Removes due files, if there is no thread for it. Blocks on the disk.
    pub(crate) fn reap_due(&self) {
        if let Queue::Owner(waiting) = &self.line {
            remove_due(self.env.as_ref(), &mut waiting.lock());
        }
    }

    /// Waits until all due files are removed; the rest stays until the next start.
    pub(crate) fn finish(&self) {
        let Queue::Thread { sender, thread } = &self.line else { return self.reap_due() };
        sender.lock().take();
        if let Some(thread) = thread.lock().take() {
            let outcome: Result<(), Box<dyn Any + Send>> = thread.join();
            if outcome.is_err() {
                tracing::warn!("the thread that removes deleted files has failed");
            }
        }
    }
}

fn run(env: &dyn Env, receiver: &mpsc::Receiver<PendingRemoval>) {
    let mut waiting: Vec<PendingRemoval> = Vec::new();
    loop {
        let received = match waiting.iter().map(|removal| removal.due).min() {
            None => receiver.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(due) => receiver.recv_timeout(due.saturating_sub(env.now()).min(LOOK_EVERY)),
        };
        let ends = matches!(received, Err(mpsc::RecvTimeoutError::Disconnected));
        waiting.extend(received);
        waiting.extend(receiver.try_iter());
        remove_due(env, &mut waiting);
        if ends {
            return;
        }
    }
}

/// Removes due files.
fn remove_due(env: &dyn Env, waiting: &mut Vec<PendingRemoval>) {
    // A disk with enough free space is checked once in a round; a nearly full one after each removal, until it has space again.
    let mut roomy = HashSet::new();
    waiting.retain(|removal| {
        let due = removal.is_due(env.now(), &mut roomy);
        if due {
            removal.remove();
        }
        !due
    });
}

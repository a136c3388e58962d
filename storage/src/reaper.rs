//! What was deleted goes in the background: folders of partitions, and segments that `file.delete.delay.ms` lets lie for a while.
//!
//! Everything that waits here has a name that a start removes, so a stop forgets it. Whoever needs the room on a disk does not
//! wait for a delay: once producers are about to be refused, what waits goes at once.

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

/// How often the room on the disk is looked at while something waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A file or folder that is to go, the file system it is on, and when.
#[derive(Debug)]
struct Doomed {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    folder: bool,
    /// By the clock of the environment.
    due: Duration,
}

impl Doomed {
    /// `roomy`: dirs that were seen to have room.
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

/// Where files wait for their removal.
#[derive(Debug)]
enum Line {
    /// On their way to a thread; `None` once that is to end.
    Thread { sender: Mutex<Option<mpsc::Sender<Doomed>>>, thread: Mutex<Option<thread::JoinHandle<()>>> },
    /// Until the owner calls [`Reaper::reap_due`].
    Owner(Mutex<Vec<Doomed>>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reaper {
    env: Arc<dyn Env>,
    line: Line,
}

impl Reaper {
    pub(crate) fn start(env: Arc<dyn Env>) -> Self {
        if !env.has_threads() {
            return Self { env, line: Line::Owner(Mutex::default()) };
        }
        let (sender, receiver) = mpsc::channel::<Doomed>();
        let of_thread = Arc::clone(&env);
        let thread = env.spawn("esker-log-reaper", None, Box::new(move || run(of_thread.as_ref(), &receiver)));
        let line = Line::Thread { sender: Mutex::new(Some(sender)), thread: Mutex::new(thread.ok()) };
        Self { env, line }
    }

    /// Removes a folder after `delay_ms`.
    pub(crate) fn remove_folder(&self, disk: &Arc<dyn Disk>, path: PathBuf, delay_ms: i64) {
        self.send(disk, path, true, delay_ms);
    }

    /// Removes a file after `delay_ms`.
    pub(crate) fn remove_file(&self, disk: &Arc<dyn Disk>, path: PathBuf, delay_ms: i64) {
        self.send(disk, path, false, delay_ms);
    }

    fn send(&self, disk: &Arc<dyn Disk>, path: PathBuf, folder: bool, delay_ms: i64) {
        let delay = Duration::from_millis(u64::try_from(delay_ms).unwrap_or_default());
        let due = self.env.now().saturating_add(delay);
        let doomed = Doomed { disk: Arc::clone(disk), path, folder, due };
        match &self.line {
            Line::Thread { sender, .. } => {
                if let Some(sender) = sender.lock().as_ref() {
                    // Without the thread it stays until the next start.
                    let _ = sender.send(doomed);
                }
            }
            Line::Owner(waiting) => waiting.lock().push(doomed),
        }
    }

    /// Removes what is due, where there is no thread for it. Blocks for the disk.
    pub(crate) fn reap_due(&self) {
        if let Line::Owner(waiting) = &self.line {
            reap(self.env.as_ref(), &mut waiting.lock());
        }
    }

    /// Waits until all that is due is removed; the rest stays until the next start.
    pub(crate) fn finish(&self) {
        let Line::Thread { sender, thread } = &self.line else { return self.reap_due() };
        sender.lock().take();
        if let Some(thread) = thread.lock().take() {
            let outcome: Result<(), Box<dyn Any + Send>> = thread.join();
            if outcome.is_err() {
                tracing::warn!("the thread that removes deleted files has failed");
            }
        }
    }
}

fn run(env: &dyn Env, receiver: &mpsc::Receiver<Doomed>) {
    let mut waiting: Vec<Doomed> = Vec::new();
    loop {
        let received = match waiting.iter().map(|doomed| doomed.due).min() {
            None => receiver.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(due) => receiver.recv_timeout(due.saturating_sub(env.now()).min(LOOK_EVERY)),
        };
        let ends = matches!(received, Err(mpsc::RecvTimeoutError::Disconnected));
        waiting.extend(received);
        waiting.extend(receiver.try_iter());
        reap(env, &mut waiting);
        if ends {
            return;
        }
    }
}

/// Removes what is due.
fn reap(env: &dyn Env, waiting: &mut Vec<Doomed>) {
    // A disk with room is asked once a turn; one that is short after each removal, until it has room again.
    let mut roomy = HashSet::new();
    waiting.retain(|doomed| {
        let due = doomed.is_due(env.now(), &mut roomy);
        if due {
            doomed.remove();
        }
        !due
    });
}

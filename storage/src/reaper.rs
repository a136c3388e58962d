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
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{io::Disk, reserve::is_short};

/// How often the room on the disk is looked at while something waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A file or folder that is to go, the file system it is on, and when.
#[derive(Debug)]
struct Doomed {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    folder: bool,
    due: Instant,
}

impl Doomed {
    /// `roomy`: dirs that were seen to have room.
    fn is_due(&self, roomy: &mut HashSet<PathBuf>) -> bool {
        let Some(dir) = self.path.parent().filter(|dir| !roomy.contains(*dir)) else {
            return self.due <= Instant::now();
        };
        let short = is_short(self.disk.as_ref(), dir);
        if !short {
            roomy.insert(dir.to_path_buf());
        }
        short || self.due <= Instant::now()
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

/// See the module.
#[derive(Debug)]
pub(crate) struct Reaper {
    sender: Mutex<Option<mpsc::Sender<Doomed>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Reaper {
    pub(crate) fn start() -> Self {
        let (sender, receiver) = mpsc::channel::<Doomed>();
        let thread = thread::Builder::new().name("esker-log-reaper".to_owned()).spawn(move || run(&receiver));
        Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(thread.ok()) }
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
        // Past what the clock can name: never, but for a disk that is short.
        let far = Duration::from_secs(10 * 365 * 24 * 3600);
        let now = Instant::now();
        let due = now.checked_add(delay.min(far)).unwrap_or(now);
        if let Some(sender) = self.sender.lock().as_ref() {
            // Without the thread it stays until the next start.
            let _ = sender.send(Doomed { disk: Arc::clone(disk), path, folder, due });
        }
    }

    /// Waits until all that is due is removed; the rest stays until the next start.
    pub(crate) fn finish(&self) {
        self.sender.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            let outcome: Result<(), Box<dyn Any + Send>> = thread.join();
            if outcome.is_err() {
                tracing::warn!("the thread that removes deleted files has failed");
            }
        }
    }
}

fn run(receiver: &mpsc::Receiver<Doomed>) {
    let mut waiting: Vec<Doomed> = Vec::new();
    loop {
        let received = match waiting.iter().map(|doomed| doomed.due).min() {
            None => receiver.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(due) => receiver.recv_timeout(due.saturating_duration_since(Instant::now()).min(LOOK_EVERY)),
        };
        let ends = matches!(received, Err(mpsc::RecvTimeoutError::Disconnected));
        waiting.extend(received);
        waiting.extend(receiver.try_iter());
        // A disk with room is asked once a turn; one that is short after each removal, until it has room again.
        let mut roomy = HashSet::new();
        waiting.retain(|doomed| {
            let due = doomed.is_due(&mut roomy);
            if due {
                doomed.remove();
            }
            !due
        });
        if ends {
            return;
        }
    }
}

//! All logs of one broker over its log dirs: locks, formatting, loading, checkpoints, deletion.

mod claim;
mod folder;
mod journal_folder;
mod load;
mod meta;
mod mover;
mod parallel;
mod progress;
#[cfg(test)]
mod tests;

pub use folder::{Folder, FolderIdentity};
pub use meta::node_id_of;
pub use mover::Move;
pub use progress::{LoadProgress, Progress};

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parallel::in_parallel;
use parking_lot::{Mutex, RwLock};

use crate::{
    ColdReadStats, Env, Journal, Log, LogConfig, LogError, OpenError, OpenFileStats, RetentionOutcome, Uuid,
    dir::{LogDir, LogDirListener},
    error::FileError,
    files::{self, CLEAN_SHUTDOWN, STRAY},
    io::Context,
    journal::JournaledLog,
    log::Load,
    open_files::OpenFiles,
    reaper::Reaper,
    throttle::Throttle,
};

/// How to open the log dirs.
#[derive(Debug, Clone)]
pub struct LogManagerConfig {
    /// Log dirs; created if missing. At least one.
    pub dirs: Vec<PathBuf>,
    /// `node.id`.
    pub node_id: i32,
    /// The cluster it must belong to; `None` accepts the id of the dirs, or creates one for new dirs.
    pub cluster_id: Option<String>,
    /// Threads that load logs at start; 0 = one a core. With 1 a clean stop closes one log after the other, too.
    pub load_threads: usize,
    /// `log.journal.bytes`: the most that the journal of a log dir takes of its disk; 0 for none.
    pub journal_bytes: u64,
    /// `log.journal.dir`: the folders of the journals, in the order of `dirs`; empty where each lies in its log dir.
    pub journal_dirs: Vec<PathBuf>,
    /// Configuration of logs found at start, until `update_config`.
    pub default_config: LogConfig,
    /// Progress counters while the dirs are opened.
    pub progress: Arc<LoadProgress>,
}

/// Facts of one log dir for DescribeLogDirs.
#[derive(Debug, Clone)]
pub struct LogDirInfo {
    /// The folder.
    pub path: PathBuf,
    /// `directory.id` of its `meta.properties`.
    pub directory_id: Uuid,
    /// After a disk error nothing is written to it any more.
    pub offline: bool,
    /// No new replicas are placed in it.
    pub cordoned: bool,
    /// Size of its file system in bytes, -1 if unknown.
    pub total_bytes: i64,
    /// Free bytes of that, -1 if unknown.
    pub usable_bytes: i64,
}

/// Logs closed at once at a clean stop: they wait for the disk, and one journal commit serves many.
const STOP_THREADS: usize = 16;

/// With more unflushed logs than this at a clean stop, one sync of the whole file system is cheaper than a sync of each file.
const SYNCED_ONE_BY_ONE: usize = 32;

/// Renames a closed log's folder and flushes the name.
fn rename_folder(log: &Log, to: &Path) -> Result<(), LogError> {
    let home = log.home();
    home.record_failure(home.disk.rename(log.dir(), to).context("rename", log.dir()))?;
    Ok(home.record_failure(home.disk.sync_dir(&home.path).context("sync", &home.path))?)
}

type Logs = HashMap<Arc<str>, HashMap<i32, Arc<Log>>>;

/// All logs of the log dirs. Functions that may block on the disk say so; `get` and `logs` do not.
#[derive(Debug)]
pub struct LogManager {
    dirs: Vec<Arc<LogDir>>,
    cluster_id: String,
    was_clean: bool,
    stop_threads: usize,
    logs: RwLock<Logs>,
    /// Held while a folder is created or renamed, so that two calls never change the same folder.
    changing: Mutex<()>,
    reaper: Arc<Reaper>,
    files: Arc<OpenFiles>,
    cordoned: RwLock<HashSet<PathBuf>>,
    /// Byte rate of moves, and whether they must stop.
    moves: Arc<(Throttle, AtomicBool)>,
    unfinished: Mutex<Vec<(Uuid, i32, PathBuf)>>,
    /// Released last: another process may open the dirs then.
    _locks: Vec<Box<dyn Debug + Send + Sync>>,
}

impl LogManager {
    /// The cluster id of the dirs (made at the first open of new dirs).
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// True if the last stop was clean (or the dirs are new).
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// The log of a partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Log>> {
        self.logs.read().get(topic)?.get(&partition).cloned()
    }

    /// Creates the log of a partition (in the dir with the fewest logs), or returns the existing one with the same topic id (a log
    /// without an id gets this one). Blocks shortly: creates a folder. The first flush makes the folder's name durable: a power cut
    /// before loses only an unflushed log.
    pub fn create(
        &self,
        topic: &str,
        partition: i32,
        topic_id: Uuid,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Arc<Log>, LogError> {
        let _changing = self.changing.lock();
        if let Some(log) = self.get(topic, partition) {
            if !log.adopt_topic_id(topic_id)? {
                return Err(LogError::TopicIdMismatch { topic: topic.to_owned(), partition });
            }
            return Ok(log);
        }
        let log_dir = self.find_emptiest_dir()?;
        let dir = log_dir.path.join(files::partition_dir(topic, partition));
        let create = || -> Result<Log, OpenError> {
            // Checkpoint rows of an earlier partition of that name must not apply to this one.
            log_dir.lower_checkpoints((topic, partition), None)?;
            log_dir.journal.void((topic_id, partition), i64::MIN)?;
            log_dir.disk.create_dir_all(&dir).context("create", &dir)?;
            files::write_partition_metadata(log_dir.disk.as_ref(), &dir, topic_id)?;
            Load {
                log_dir: Arc::clone(&log_dir),
                topic: topic.into(),
                partition,
                topic_id,
                dir: dir.clone(),
                config,
                recovery_point: 0,
                log_start: 0,
                high_watermark: 0,
                clean: true,
                created_now: true,
                cleaned: -1,
                progress: Arc::default(),
                now_ms,
                journal: Vec::new(),
                journaled: 0,
            }
            .open()
        };
        let there = log_dir.disk.list(&dir).is_ok();
        let created = create();
        if created.is_err() && !there {
            // A retry may choose another log dir. A folder that cannot be removed is a stray at the next start.
            let _ = log_dir.disk.remove_dir_all(&dir);
        }
        let log = created.map_err(|error| match error {
            OpenError::File(error) => log_dir.classify_error(error),
            other => FileError {
                action: "create the log in",
                path: dir.clone(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, other),
            },
        })?;
        let log = Arc::new(log);
        self.logs.write().entry(Arc::clone(log.topic())).or_default().insert(partition, Arc::clone(&log));
        Ok(log)
    }

    /// `cordoned.log.dirs`: no new replicas are placed in these from now on.
    pub fn cordon(&self, dirs: HashSet<PathBuf>) {
        *self.cordoned.write() = dirs;
    }

    /// `replica.alter.log.dirs.io.max.bytes.per.second`: all moves together; at once, also for those under way.
    pub fn limit_moves(&self, bytes_per_second: f64) {
        self.moves.0.set_rate(bytes_per_second);
    }

    fn find_emptiest_dir(&self) -> Result<Arc<LogDir>, LogError> {
        let cordoned = self.cordoned.read();
        let online = || self.dirs.iter().filter(|dir| !dir.is_offline() && !cordoned.contains(&dir.path));
        let mut counts: HashMap<*const LogDir, usize> = HashMap::new();
        if online().nth(1).is_some() {
            for log in self.logs() {
                *counts.entry(Arc::as_ptr(log.home())).or_default() += 1;
            }
        }
        let emptiest = online().min_by_key(|dir| counts.get(&Arc::as_ptr(dir)).copied().unwrap_or_default());
        let any = || self.dirs.first().map(|dir| dir.path.clone()).unwrap_or_default();
        emptiest.cloned().ok_or_else(|| LogError::Offline { dir: any() })
    }

    /// Renames the log's folder for deletion; its files are removed in the background after `file.delete.delay.ms`. Slices of
    /// readers stay valid. Blocks shortly.
    pub fn delete(&self, topic: &str, partition: i32) -> Result<(), LogError> {
        let _changing = self.changing.lock();
        let log = self.take_log(topic, partition)?;
        log.close();
        let renamed = log.home().path.join(files::deleted_dir(log.home().env(), topic, partition));
        rename_folder(&log, &renamed)?;
        self.reaper.remove_folder(&log.home().disk, renamed, log.config().file_delete_delay_ms);
        Ok(())
    }

    /// Closes a log that is not this broker's and renames its folder to a `-stray` name, which is returned. The folder is kept: it
    /// may be from another cluster. Blocks shortly.
    pub fn rename_to_stray(&self, topic: &str, partition: i32) -> Result<PathBuf, LogError> {
        let _changing = self.changing.lock();
        let log = self.take_log(topic, partition)?;
        log.close_clean(true)?;
        log.close();
        let renamed = log.home().path.join(files::unique_dir(log.home().env(), topic, partition, STRAY));
        rename_folder(&log, &renamed)?;
        Ok(renamed)
    }

    /// Removes a log from the list and closes it.
    fn take_log(&self, topic: &str, partition: i32) -> Result<Arc<Log>, LogError> {
        let mut logs = self.logs.write();
        let unknown = || LogError::Unknown { topic: topic.to_owned(), partition };
        let partitions = logs.get_mut(topic).ok_or_else(unknown)?;
        let log = partitions.remove(&partition).ok_or_else(unknown)?;
        if partitions.is_empty() {
            logs.remove(topic);
        }
        Ok(log)
    }

    /// Bounds how many segments may have their files open and mapped (up to three maps each); those past the bound are closed now.
    pub fn limit_open_segments(&self, segments: usize) {
        self.files.set_limit(segments);
    }

    /// Statistics of open files.
    pub fn open_files(&self) -> OpenFileStats {
        self.files.stats()
    }

    /// The environment of these logs: time, randomness and threads.
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.files.env
    }

    /// Number of maps of data and index files, including maps that only slices hold.
    pub fn open_maps(&self) -> usize {
        self.files.maps()
    }

    /// Advances the clock of the residency table: call it about four times a second.
    pub fn age_residency(&self) {
        self.files.residency.advance_clock();
    }

    /// Removes deleted files that are due. For an environment without threads; otherwise a thread does it, and this does nothing.
    /// Blocks.
    pub fn reap_due(&self) {
        self.reaper.reap_due();
    }

    /// Statistics of cold reads.
    pub fn cold_reads(&self) -> ColdReadStats {
        self.files.cold.stats()
    }

    /// Removes all mapped pages from this process's resident memory. They stay in the page cache, and slices stay valid; the next
    /// read touches them again. Does not wait for the disk.
    pub fn release_memory(&self) {
        self.files.all().iter().for_each(|opened| opened.release());
    }

    /// Replaces the configuration of all logs of a topic on this broker.
    pub fn update_config(&self, topic: &str, config: LogConfig) {
        if let Some(partitions) = self.logs.read().get(topic) {
            partitions.values().for_each(|log| log.update_config(config.clone()));
        }
    }

    /// All logs, by topic and partition.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        let mut logs: Vec<Arc<Log>> =
            self.logs.read().values().flat_map(|partitions| partitions.values().cloned()).collect();
        logs.sort_unstable_by(|a, b| (a.topic(), a.partition()).cmp(&(b.topic(), b.partition())));
        logs
    }

    /// Number of offline log dirs. Costs one atomic load for each dir.
    pub fn offline_dirs(&self) -> usize {
        self.dirs.iter().filter(|dir| dir.is_offline()).count()
    }

    /// The id of each log dir, and whether it is offline. Does not touch the disk.
    pub fn dir_states(&self) -> impl Iterator<Item = (Uuid, bool)> {
        self.dirs.iter().map(|dir| (dir.directory_id, dir.is_offline()))
    }

    /// `listener` is called when a log dir goes offline.
    pub fn watch_dirs(&self, listener: &Arc<dyn LogDirListener>) {
        self.dirs.iter().for_each(|dir| dir.set_listener(Arc::clone(listener)));
    }

    /// The log dirs. Queries the file systems for their space.
    pub fn dirs(&self) -> Vec<LogDirInfo> {
        let info = |dir: &Arc<LogDir>| {
            let space = dir.disk.space(&dir.path).ok();
            let bytes = |value: Option<u64>| value.and_then(|v| i64::try_from(v).ok()).unwrap_or(-1);
            LogDirInfo {
                path: dir.path.clone(),
                directory_id: dir.directory_id,
                offline: dir.is_offline(),
                cordoned: self.cordoned.read().contains(&dir.path),
                total_bytes: bytes(space.map(|(total, _)| total)),
                usable_bytes: bytes(space.map(|(_, usable)| usable)),
            }
        };
        self.dirs.iter().map(info).collect()
    }

    /// Flushes closed segments, saves indexes, creates segments ahead, then writes recovery points, log starts and high watermarks.
    /// Call it every few seconds on a blocking thread. A failure is logged and takes its dir offline; the other dirs continue.
    pub fn flush_checkpoints(&self) -> Result<(), LogError> {
        let logs = self.logs();
        let mut result = Ok(());
        self.dirs.iter().for_each(|dir| dir.journal.look_for_room());
        for log in &logs {
            let flushed = log.flush_closed().and_then(|_| log.save_indexes());
            // Closed segments are flushed by now, which makes freeing their reserved space cheap.
            let done = flushed.and_then(|()| log.trim_closed()).and_then(|()| log.prepare_spare_segment());
            if let Err(error) = done
                && !log.is_offline()
            {
                result = Err(error);
            }
        }
        self.write_checkpoints().and(result)
    }

    fn write_checkpoints(&self) -> Result<(), LogError> {
        let mut result = Ok(());
        for dir in self.dirs.iter().filter(|dir| !dir.is_offline()) {
            let written = dir.checkpoints.write(dir.disk.as_ref(), &dir.path, || self.logs_of(dir));
            if let Err(error) = dir.record_failure(written) {
                result = Err(error.into());
            }
        }
        result
    }

    fn logs_of(&self, dir: &Arc<LogDir>) -> Vec<Arc<Log>> {
        let mut logs = self.logs();
        logs.retain(|log| Arc::ptr_eq(log.home(), dir));
        logs
    }

    /// Flushes the log starts of these logs, so that deleted records stay deleted after a crash. (Kafka waits for the next
    /// checkpoint.) One write covers all logs of a dir, also those of concurrent callers. The first error is returned when all dirs were tried.
    /// Blocks.
    pub fn flush_log_starts(&self, moved: &[Arc<Log>]) -> Result<(), LogError> {
        let flush = |dir: &Arc<LogDir>| {
            let of_it: Vec<&Log> = moved.iter().filter(|log| Arc::ptr_eq(log.home(), dir)).map(AsRef::as_ref).collect();
            if of_it.is_empty() {
                return Ok(());
            }
            dir.check_online()?;
            let written = dir.checkpoints.write_starts(dir.disk.as_ref(), &dir.path, &of_it, || self.logs_of(dir));
            Ok(dir.record_failure(written)?)
        };
        let flushed: Vec<Result<(), LogError>> = self.dirs.iter().map(flush).collect();
        flushed.into_iter().collect()
    }

    /// Makes these logs durable by the journal of the first one's log dir, where that is cheaper. For the others, whose indexes are
    /// returned in order, the segments must be synced ([`Log::flush`]). Blocks on the disk. A failed write or sync takes the log
    /// dir offline.
    pub fn flush_by_journal(logs: &[Arc<Log>]) -> Result<Vec<usize>, LogError> {
        let Some(dir) = logs.first().map(|log| log.home()) else { return Ok(Vec::new()) };
        dir.check_online()?;
        let in_dir = |log: &Arc<Log>| Arc::ptr_eq(log.home(), dir).then(|| Arc::clone(log) as Arc<dyn JournaledLog>);
        let flushed = dir.journal.flush(&logs.iter().map(in_dir).collect::<Vec<_>>());
        Ok(dir.record_failure(flushed)?)
    }

    /// The journals of all log dirs.
    pub fn journals(&self) -> impl Iterator<Item = (&Path, &Journal)> {
        self.dirs.iter().map(|dir| (dir.path(), &dir.journal))
    }

    /// Runs a retention pass over all logs. Blocks. Failures are logged.
    pub fn retention_pass(&self, now_ms: i64) -> RetentionOutcome {
        let mut total = RetentionOutcome::default();
        for log in self.logs() {
            match log.retention_pass(now_ms) {
                Ok(outcome) => {
                    total.segments += outcome.segments;
                    total.bytes += outcome.bytes;
                }
                Err(error) => {
                    tracing::warn!(topic = %log.topic(), partition = log.partition(), %error, "retention failed");
                }
            }
        }
        total
    }

    /// Flushes all logs, writes checkpoints and clean-shutdown markers, and closes the logs. Blocks. A dir with a failure gets no
    /// marker, so that its logs are checked at the next start.
    pub fn shutdown_clean(&self) -> Result<(), LogError> {
        self.moves.1.store(true, Ordering::Release);
        let logs = self.logs();
        let failures = Mutex::new(Vec::new());
        let unflushed = logs.iter().filter(|log| log.needs_flush()).count();
        let one_by_one = unflushed <= SYNCED_ONE_BY_ONE;
        in_parallel(self.stop_threads, &logs, |log| {
            if let Err(error) = log.close_clean(one_by_one) {
                tracing::warn!(topic = %log.topic(), partition = log.partition(), %error, "cannot close a log cleanly");
                failures.lock().push((Arc::clone(log.home()), error));
            }
        });
        let failures = failures.into_inner();
        for dir in self.dirs.iter().filter(|dir| !one_by_one && !dir.is_offline()) {
            if dir.record_failure(dir.disk.sync_all(&dir.path).context("sync", &dir.path)).is_ok() {
                logs.iter().filter(|log| Arc::ptr_eq(log.home(), dir)).for_each(|log| log.mark_flushed());
            }
        }
        let mut result = self.write_checkpoints();
        for dir in &self.dirs {
            if dir.is_offline() || failures.iter().any(|(failed, _)| Arc::ptr_eq(failed, dir)) || result.is_err() {
                continue;
            }
            if let Err(error) = dir.record_failure(dir.journal.retire()) {
                result = Err(error.into());
                continue;
            }
            let path = dir.path.join(CLEAN_SHUTDOWN);
            let marker = br#"{"version":0,"brokerEpoch":-1}"#;
            if let Err(error) = dir.record_failure(dir.disk.replace(&path, marker, true).context("write", &path)) {
                result = Err(error.into());
            }
        }
        self.reaper.finish();
        failures.into_iter().next().map_or(result, |(_, error)| Err(error))
    }
}

//! Opens the log dirs: lock, identity, then every partition's log on several threads.

use std::{
    collections::HashMap,
    fmt::Debug,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::{Mutex, RwLock};

use super::{
    LogManager, LogManagerConfig, Logs, STOP_THREADS,
    claim::{create_dir, lock},
    journal_folder::LogDirParts,
    meta::Meta,
    parallel::in_parallel,
};
use crate::{
    Env, Log, MachineEnv, OpenError, Uuid,
    dir::LogDir,
    env::random_uuid,
    error::FileError,
    files::{
        self, CLEAN_SHUTDOWN, CLEANER_OFFSETS, DELETED, FUTURE, HIGH_WATERMARKS, LOG_STARTS, MOVED, RECOVERY_POINTS,
        parse_partition_dir,
    },
    io::{Context, Disk, OsDisk},
    journal::{self, Entry},
    log::Load,
    open_files::OpenFiles,
    reaper::Reaper,
    throttle::Throttle,
};

/// The journal takes at most this part of a file system.
const JOURNAL_SHARE: u64 = 32;
/// With less space a journal is not used.
const LEAST_JOURNAL: u64 = 1 << 20;

/// The folder of a partition.
struct Found {
    log_dir: Arc<LogDir>,
    dir: PathBuf,
    topic: Arc<str>,
    partition: i32,
    recovery_point: i64,
    log_start: i64,
    high_watermark: i64,
    /// -1 if it was never compacted.
    cleaned: i64,
    clean: bool,
    /// Its entries in the journal.
    journal: Vec<Entry>,
}

impl LogManager {
    /// Locks the dirs, reads or writes `meta.properties`, loads all logs in parallel, recovers after a crash. Blocks.
    pub fn open(config: LogManagerConfig, now_ms: i64) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(OsDisk), config, now_ms)
    }

    /// As `open`, over another file system.
    pub fn open_on(disk: Arc<dyn Disk>, config: LogManagerConfig, now_ms: i64) -> Result<Self, OpenError> {
        Self::open_in(Arc::new(MachineEnv::default()), disk, config, now_ms)
    }

    /// As `open_on`, with time, randomness and threads of `env`.
    pub fn open_in(
        env: Arc<dyn Env>,
        disk: Arc<dyn Disk>,
        config: LogManagerConfig,
        now_ms: i64,
    ) -> Result<Self, OpenError> {
        open(env, &disk, config, now_ms)
    }
}

fn open(
    env: Arc<dyn Env>,
    disk: &Arc<dyn Disk>,
    config: LogManagerConfig,
    now_ms: i64,
) -> Result<LogManager, OpenError> {
    let mut locks: Vec<Box<dyn Debug + Send + Sync>> = Vec::new();
    for dir in &config.dirs {
        create_dir(disk.as_ref(), dir)?;
        locks.push(lock(disk.as_ref(), dir)?);
    }
    let (cluster_id, directory_ids) = check_identity(env.as_ref(), disk.as_ref(), &config)?;
    let reaper = Arc::new(Reaper::start(Arc::clone(&env)));
    let files = Arc::new(OpenFiles::new(env));
    let (mut dirs, mut found, mut was_clean) = (Vec::new(), Vec::new(), true);
    let mut journals = Vec::new();
    for (number, (path, directory_id)) in config.dirs.iter().zip(directory_ids).enumerate() {
        // Before the marker of a clean stop is removed: afterwards a start would replay the entries of the journal.
        let clean = files::read_optional(disk.as_ref(), &path.join(CLEAN_SHUTDOWN))?.is_some();
        let parts = LogDirParts { disk: disk.as_ref(), env: files.env.as_ref(), path, directory_id, clean };
        let configured = config.journal_dirs.get(number).map(PathBuf::as_path);
        let (folder, lock) = parts.journal_folder(configured, config.journal_bytes > 0)?;
        locks.extend(lock);
        let bytes = journal_bytes(disk.as_ref(), &folder, config.journal_bytes)?;
        let (journal, in_journal) = journal::open(disk, &files, &folder, directory_id, bytes, clean)?;
        let (disk, files, reaper_of_it) = (Arc::clone(disk), Arc::clone(&files), Arc::clone(&reaper));
        let log_dir = Arc::new(LogDir::new(path.clone(), directory_id, disk, files, reaper_of_it, journal));
        was_clean &= scan_dir(&log_dir, &reaper, &mut found)?;
        dirs.push(log_dir);
        journals.push((in_journal, bytes > 0));
    }
    let mut unfinished = Vec::new();
    for log_dir in &dirs {
        unfinished.extend(remove_future_folders(log_dir, &reaper)?);
    }
    let found = drop_moved_folders(found, &reaper)?;
    let mut found = found;
    for one in &mut found {
        let index = dirs.iter().position(|dir| Arc::ptr_eq(dir, &one.log_dir));
        let journal = index.and_then(|index| journals.get(index)).map(|(found, _)| found);
        let Some(journal) = journal.filter(|found| !found.logs.is_empty()) else { continue };
        if let Some(id) = files::read_partition_metadata(one.log_dir.disk.as_ref(), &one.dir)? {
            one.journal = journal.logs.get(&(id, one.partition)).cloned().unwrap_or_default();
        }
    }
    let logs = load_all(&config, found, now_ms)?;
    for (dir, (journal, wanted)) in dirs.iter().zip(journals) {
        start_journal(dir, &journal, &logs)?;
        if !wanted {
            let (disk, env, directory_id) = (dir.disk.as_ref(), dir.env(), dir.directory_id);
            LogDirParts { disk, env, path: &dir.path, directory_id, clean: true }.forget_journal_folder()?;
        }
    }
    for log_dir in &dirs {
        log_dir.clear_failed_sync()?;
    }
    Ok(LogManager {
        dirs,
        cluster_id,
        was_clean,
        stop_threads: if config.load_threads == 1 { 1 } else { STOP_THREADS },
        logs: RwLock::new(logs),
        changing: Mutex::new(()),
        reaper,
        files,
        cordoned: RwLock::default(),
        moves: Arc::new((Throttle::new(f64::MAX), AtomicBool::new(false))),
        unfinished: Mutex::new(unfinished),
        _locks: locks,
    })
}

/// The maximum size of a dir's journal: on a small disk less than configured, on a very small one 0.
fn journal_bytes(disk: &dyn Disk, dir: &Path, configured: u64) -> Result<u64, FileError> {
    let (total, _) = disk.space(dir).context("look at", dir)?;
    let bytes = configured.min(total / JOURNAL_SHARE);
    Ok(if bytes < configured && bytes < LEAST_JOURNAL { 0 } else { bytes })
}

/// Starts the journal of a dir once its logs are open.
fn start_journal(dir: &LogDir, found: &journal::Found, logs: &Logs) -> Result<(), OpenError> {
    let of_dir = || -> Vec<Arc<Log>> {
        let all = logs.values().flat_map(HashMap::values).filter(|log| std::ptr::eq(&**log.home(), dir));
        all.cloned().collect()
    };
    let mut by_key = HashMap::new();
    if !found.logs.is_empty() {
        by_key.extend(of_dir().into_iter().map(|log| (log.key(), log)));
    }
    let log_of = |key: &_| by_key.get(key).map(|log| Arc::clone(log) as _);
    let note_synced = || dir.checkpoints.write(dir.disk.as_ref(), dir.path(), of_dir);
    let begun = dir.journal.begin(found, dir.had_failed_sync(), log_of, note_synced);
    Ok(dir.record_failure(begun)?)
}

/// Checks that a folder was formatted for this cluster and this node.
pub(super) fn check(meta: &Meta, dir: &Path, cluster_id: &str, node_id: i32) -> Result<(), OpenError> {
    let dir = dir.to_owned();
    if meta.cluster_id != cluster_id {
        return Err(OpenError::ClusterId { dir, found: meta.cluster_id.clone(), expected: cluster_id.to_owned() });
    }
    if meta.node_id != node_id {
        return Err(OpenError::NodeId { dir, found: meta.node_id, expected: node_id });
    }
    Ok(())
}

/// Checks the dirs' `meta.properties` against the config and each other; writes the missing ones.
fn check_identity(env: &dyn Env, disk: &dyn Disk, config: &LogManagerConfig) -> Result<(String, Vec<Uuid>), OpenError> {
    let mut cluster_id = config.cluster_id.clone();
    let mut metas = Vec::new();
    for dir in &config.dirs {
        let meta = Meta::read(disk, dir)?;
        if let Some(meta) = &meta {
            let expected = cluster_id.get_or_insert_with(|| meta.cluster_id.clone());
            check(meta, dir, expected, config.node_id)?;
        }
        metas.push(meta);
    }
    let cluster_id = cluster_id.unwrap_or_else(|| random_uuid(env).to_string());
    let mut ids = Vec::new();
    for (dir, meta) in config.dirs.iter().zip(metas) {
        let id = match meta.and_then(|meta| meta.directory_id) {
            Some(id) => id,
            None => {
                let id = random_uuid(env);
                let cluster_id = cluster_id.clone();
                Meta { cluster_id, node_id: config.node_id, directory_id: Some(id) }.write(disk, dir)?;
                id
            }
        };
        ids.push(id);
    }
    Ok((cluster_id, ids))
}

/// Lists a dir's partitions, hands deleted ones to the reaper; returns whether the dir was closed cleanly (or is new).
fn scan_dir(log_dir: &Arc<LogDir>, reaper: &Reaper, found: &mut Vec<Found>) -> Result<bool, OpenError> {
    let (disk, path) = (&log_dir.disk, &log_dir.path);
    log_dir.detect_failed_sync()?;
    let marker = path.join(CLEAN_SHUTDOWN);
    let marked = files::read_optional(disk.as_ref(), &marker)?.is_some();
    let offsets = |name: &str| -> Result<HashMap<(String, i32), i64>, OpenError> {
        let read = files::read_offsets(disk.as_ref(), &path.join(name));
        let rows = read.or_else(|error| match error {
            // The log can be opened without these rows: recovery scans more, or the leader sends the offset.
            OpenError::Malformed { path, what } => {
                tracing::warn!(path = %path.display(), what, "ignoring a damaged checkpoint");
                Ok(Vec::new())
            }
            other => Err(other),
        })?;
        Ok(rows.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset.max(0))).collect())
    };
    let rows = [offsets(RECOVERY_POINTS)?, offsets(LOG_STARTS)?, offsets(HIGH_WATERMARKS)?, offsets(CLEANER_OFFSETS)?];
    log_dir.checkpoints.read(&rows);
    let [recovery_points, log_starts, high_watermarks, cleaned] = rows;
    let mut partitions = 0;
    for (name, size) in disk.list(path).context("list", path)? {
        if size.is_some() {
            continue;
        }
        let dir = path.join(&name);
        if name.ends_with(DELETED) {
            reaper.remove_folder(disk, dir, 0);
        } else if let Some((topic, partition)) = parse_partition_dir(&name) {
            let key = (topic.to_owned(), partition);
            let at = |offsets: &HashMap<(String, i32), i64>| offsets.get(&key).copied().unwrap_or_default();
            found.push(Found {
                log_dir: Arc::clone(log_dir),
                dir,
                topic: topic.into(),
                partition,
                recovery_point: at(&recovery_points),
                log_start: at(&log_starts),
                high_watermark: at(&high_watermarks),
                cleaned: cleaned.get(&key).copied().unwrap_or(-1),
                clean: marked,
                journal: Vec::new(),
            });
            partitions += 1;
        }
    }
    // From now on the next start must detect an unclean stop.
    disk.remove_file(&marker).context("remove", &marker)?;
    if marked {
        disk.sync_dir(path).context("sync", path)?;
    } else if partitions > 0 {
        tracing::info!(dir = %path.display(), partitions, "the last stop was not clean: checking what was written since the recovery points");
    }
    Ok(marked || partitions == 0)
}

/// Removes the destination folders of interrupted moves, which start again. Returns topic id, partition and log dir of each.
fn remove_future_folders(log_dir: &Arc<LogDir>, reaper: &Reaper) -> Result<Vec<(Uuid, i32, PathBuf)>, OpenError> {
    let (disk, path) = (&log_dir.disk, &log_dir.path);
    let mut moves = Vec::new();
    for (name, _) in disk.list(path).context("list", path)? {
        if !name.ends_with(FUTURE) {
            continue;
        }
        let dir = path.join(&name);
        // Without its metadata the move had hardly begun.
        if let (Ok(Some(id)), Some(partition)) =
            (files::read_partition_metadata(disk.as_ref(), &dir), files::partition_of_unique(&name))
        {
            moves.push((id, partition, path.clone()));
        }
        reaper.remove_folder(disk, dir, 0);
    }
    Ok(moves)
}

/// Removes the folder with the moved marker if a partition has two folders: the stop came between the two renames of a move.
fn drop_moved_folders(found: Vec<Found>, reaper: &Reaper) -> Result<Vec<Found>, OpenError> {
    let mut times: HashMap<(Arc<str>, i32), usize> = HashMap::new();
    for one in &found {
        *times.entry((Arc::clone(&one.topic), one.partition)).or_default() += 1;
    }
    let mut kept = Vec::with_capacity(found.len());
    for one in found {
        let twice = times.get(&(Arc::clone(&one.topic), one.partition)).is_some_and(|times| *times > 1);
        let marker = one.dir.join(MOVED);
        if twice && files::read_optional(one.log_dir.disk.as_ref(), &marker)?.is_some() {
            let doomed = one.log_dir.path.join(files::deleted_dir(one.log_dir.env(), &one.topic, one.partition));
            one.log_dir.disk.rename(&one.dir, &doomed).context("rename", &one.dir)?;
            reaper.remove_folder(&one.log_dir.disk, doomed, 0);
        } else {
            kept.push(one);
        }
    }
    Ok(kept)
}

fn load_all(config: &LogManagerConfig, found: Vec<Found>, now_ms: i64) -> Result<Logs, OpenError> {
    let logs: Mutex<Logs> = Mutex::default();
    let failure: Mutex<Option<OpenError>> = Mutex::new(None);
    config.progress.add_partitions(found.len());
    in_parallel(config.load_threads, &found, |found| {
        if failure.lock().is_some() {
            return;
        }
        match load_one(config, found, &logs, now_ms) {
            Ok(()) => {}
            Err(error) => *failure.lock() = Some(error),
        }
    });
    match failure.into_inner() {
        Some(error) => Err(error),
        None => Ok(logs.into_inner()),
    }
}

fn load_one(config: &LogManagerConfig, found: &Found, logs: &Mutex<Logs>, now_ms: i64) -> Result<(), OpenError> {
    let disk = found.log_dir.disk.as_ref();
    let topic_id = files::read_partition_metadata(disk, &found.dir)?;
    let log = Load {
        log_dir: Arc::clone(&found.log_dir),
        topic: Arc::clone(&found.topic),
        partition: found.partition,
        topic_id: topic_id.unwrap_or(Uuid([0; 16])),
        dir: found.dir.clone(),
        config: config.default_config.clone(),
        recovery_point: found.recovery_point,
        log_start: found.log_start,
        high_watermark: found.high_watermark,
        clean: found.clean,
        created_now: false,
        cleaned: found.cleaned,
        progress: Arc::clone(&config.progress),
        now_ms,
        journal: found.journal.clone(),
        journaled: 0,
    }
    .open()?;
    config.progress.count_opened();
    let mut logs = logs.lock();
    let partitions = logs.entry(Arc::clone(&found.topic)).or_default();
    if let Some(other) = partitions.insert(found.partition, Arc::new(log)) {
        return Err(OpenError::Duplicate {
            topic: found.topic.to_string(),
            partition: found.partition,
            first: Path::to_path_buf(other.dir()),
            second: found.dir.clone(),
        });
    }
    Ok(())
}

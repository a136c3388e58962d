//! Runs random operations on a log manager over a [`SimDisk`], and keeps the model in step.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use esker_protocol::{
    compression::Compression,
    records::{Batch as Parsed, BatchBuilder, EndTxnMarker, end_txn_batch},
};
use esker_storage::{
    AppendBatch, AppendError, Env, FileError, Log, LogConfig, LogError, LogManager, LogManagerConfig, MachineEnv,
    Origin, ThreadBody, Uuid,
};

use crate::{
    check::{Claim, check},
    disk::SimDisk,
    model::{Batch, COORDINATOR_EPOCH, Part},
    rng::Rng,
};

pub const NOW: i64 = 1_700_000_000_000;

pub type Key = (String, i32);
pub type Parts = BTreeMap<Key, Part>;

/// The model after an operation, and how many events the disk had seen by then.
#[derive(Debug, Clone)]
pub struct Mark {
    pub events: usize,
    pub op: String,
    pub parts: Parts,
}

/// See the module.
pub struct Driver {
    pub disk: SimDisk,
    pub manager: Option<LogManager>,
    pub config: LogConfig,
    dir: PathBuf,
    pub parts: Parts,
    pub marks: Vec<Mark>,
    rng: Rng,
    /// Slices of a slow reader: while they exist, a truncated file keeps its length.
    held: Vec<(Bytes, Vec<u8>)>,
    /// How often a partition of that name was deleted.
    deleted: HashMap<(String, i32), u8>,
    /// Partitions whose creation failed: a folder may be there.
    pub attempted: Vec<Key>,
    pub log: Vec<String>,
    /// A clean stop failed: the logs are closed.
    pub stopped: bool,
    /// The model as if the last failed operation had succeeded.
    perhaps: Option<Parts>,
    /// Rounds that the journal wrote.
    pub by_journal: u64,
}

/// The outcome of an operation on a failing disk. Every other outcome is a failed test.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Outcome {
    Done,
    Full,
    Broken,
}

fn outcome<T>(result: Result<T, LogError>) -> Result<(Outcome, Option<T>), String> {
    match result {
        Ok(done) => Ok((Outcome::Done, Some(done))),
        Err(LogError::File(error)) => Ok((file_outcome(&error), None)),
        Err(LogError::Offline { .. }) => Ok((Outcome::Broken, None)),
        Err(other) => Err(other.to_string()),
    }
}

fn file_outcome(error: &FileError) -> Outcome {
    if error.is_full() { Outcome::Full } else { Outcome::Broken }
}

pub fn config(rng: &mut Rng) -> LogConfig {
    let (segment_bytes, index_interval_bytes) = [(1500, 150), (4000, 0), (20_000, 0), (100_000, 0)][rng.below(4)];
    LogConfig {
        segment_bytes,
        index_interval_bytes,
        producer_id_expiration_ms: i64::MAX,
        retention_ms: -1,
        file_delete_delay_ms: 0,
        retention_bytes: [-1, 6000][rng.below(2)],
        ..LogConfig::default()
    }
}

pub fn open(disk: &SimDisk, dir: &Path, config: &LogConfig) -> Result<LogManager, String> {
    open_dirs(disk, &[dir.to_path_buf()], config)
}

pub fn open_dirs(disk: &SimDisk, dirs: &[PathBuf], config: &LogConfig) -> Result<LogManager, String> {
    let open = LogManagerConfig {
        dirs: dirs.to_vec(),
        node_id: 1,
        cluster_id: None,
        load_threads: 1,
        journal_bytes: JOURNAL,
        journal_dirs: Vec::new(),
        default_config: config.clone(),
        progress: Arc::default(),
    };
    let env = Arc::new(StillEnv::default());
    LogManager::open_in(env, Arc::new(disk.clone()), open, NOW).map_err(|error| error.to_string())
}

/// So small that its files are used again and again.
const JOURNAL: u64 = 80 << 10;

/// The machine's environment with a stopped clock: measured durations of the journal must not change the run of a seed.
#[derive(Debug, Default)]
struct StillEnv(MachineEnv);

impl Env for StillEnv {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn random(&self) -> u128 {
        self.0.random()
    }
    fn sleep(&self, time: Duration) {
        self.0.sleep(time);
    }
    fn spawn(&self, name: &str, stack_bytes: Option<usize>, body: ThreadBody) -> std::io::Result<JoinHandle<()>> {
        self.0.spawn(name, stack_bytes, body)
    }
}

/// A round of the journal over some logs; the other logs are synced one by one.
pub fn flush_round(logs: &[Arc<Log>]) -> Result<(), LogError> {
    for number in LogManager::flush_by_journal(logs)? {
        logs[number].flush()?;
    }
    Ok(())
}

impl Driver {
    /// On an empty disk.
    pub fn new(disk: SimDisk, root: &Path, mut rng: Rng) -> Self {
        let config = config(&mut rng);
        let dir = root.join("data");
        let (parts, marks) = (Parts::new(), Vec::new());
        Self {
            disk,
            manager: None,
            config,
            dir,
            parts,
            marks,
            rng,
            held: Vec::new(),
            deleted: HashMap::new(),
            attempted: Vec::new(),
            log: Vec::new(),
            stopped: false,
            perhaps: None,
            by_journal: 0,
        }
    }

    fn mark(&mut self, op: String) {
        self.marks.push(Mark { events: self.disk.events(), op, parts: self.parts.clone() });
    }

    fn get(&self, key: &Key) -> Result<Arc<Log>, String> {
        let manager = self.manager.as_ref().ok_or("not open")?;
        manager.get(&key.0, key.1).ok_or_else(|| format!("{key:?} is not there"))
    }

    /// Opens the log dir, and checks all logs after a clean stop.
    pub fn start(&mut self) -> Result<(), String> {
        self.mark("open".to_owned());
        self.manager = Some(open(&self.disk, &self.dir, &self.config)?);
        self.mark("opened".to_owned());
        self.check_all()?;
        if self.rng.chance(70) {
            self.keep_up()?;
        }
        self.note_flushed();
        self.mark("checked".to_owned());
        Ok(())
    }

    pub fn check_all(&self) -> Result<(), String> {
        for (key, part) in &self.parts {
            let log = self.get(key)?;
            check(&log, part, Claim::Exact).map_err(|error| format!("{key:?}: {error}"))?;
        }
        for (slice, before) in &self.held {
            if slice != before {
                return Err("a slice changed under its reader".to_owned());
            }
        }
        Ok(())
    }

    /// Records the recovery points of the logs, which they must keep.
    fn note_flushed(&mut self) {
        let Some(manager) = &self.manager else { return };
        for (key, part) in &mut self.parts {
            if let Some(log) = manager.get(&key.0, key.1) {
                part.flushed = log.durable_offset();
                let flushed = part.flushed;
                part.unacknowledged.retain(|batch| batch.base >= flushed);
            }
        }
    }

    /// Records a change that failed half way: the disk may have it or not.
    fn record_possible_change(&mut self, key: &Key, part: Option<Part>) {
        let mut parts = self.parts.clone();
        match part {
            Some(part) => drop(parts.insert(key.clone(), part)),
            None => drop(parts.remove(key)),
        }
        self.perhaps = Some(parts);
    }

    /// Marks the last operation as failed without a retry: it counts as unfinished from now on.
    pub fn mark_unfinished(&mut self) {
        let parts = self.perhaps.take().unwrap_or_else(|| self.parts.clone());
        let events = self.disk.events();
        if self.marks.last().is_some_and(|mark| mark.op.ends_with("Broken") || mark.op.ends_with("Full")) {
            self.marks.pop();
        }
        self.marks.push(Mark { events: events + 1, op: "failed".to_owned(), parts });
    }

    /// One random operation.
    pub fn step(&mut self) -> Result<Outcome, String> {
        self.parts.values_mut().for_each(|part| part.anew = false);
        let keys: Vec<Key> = self.parts.keys().cloned().collect();
        let pick = self.rng.below(100);
        if keys.is_empty() || (pick < 4 && keys.len() < 3) {
            return self.create();
        }
        let key = keys[self.rng.below(keys.len())].clone();
        let before = self.log.len();
        let outcome = match pick {
            0..40 => self.append(&key),
            40..46 => self.append_replicated(&key),
            46..50 => self.roll(&key),
            50..65 => self.flush(&key),
            65..72 => self.checkpoints(),
            72..77 => self.delete_records(&key),
            77..80 => self.retention(&key),
            80..85 => self.truncate(&key),
            85..87 => self.start_anew(&key),
            87..90 => self.new_epoch(&key),
            90..92 => self.delete(&key),
            92..94 => self.stop(),
            94..97 => self.kill(),
            _ => self.hold_slice(&key),
        }?;
        self.note_flushed();
        let op = self.log[before..].join("; ");
        self.mark(format!("{op} -> {outcome:?}"));
        Ok(outcome)
    }

    fn create(&mut self) -> Result<Outcome, String> {
        let key = (["a", "b"][self.rng.below(2)].to_owned(), self.rng.below(2) as i32);
        self.log.push(format!("create {key:?}"));
        if self.parts.contains_key(&key) {
            return Ok(Outcome::Done);
        }
        let topic_id =
            Uuid([key.0.as_bytes()[0] + key.1 as u8 * 2 + self.deleted.get(&key).copied().unwrap_or_default() * 4; 16]);
        let manager = self.manager.as_ref().ok_or("not open")?;
        let (outcome, log) = outcome(manager.create(&key.0, key.1, topic_id, self.config.clone(), NOW))?;
        match log {
            Some(_) => drop(self.parts.insert(key, Part::new(topic_id))),
            None => self.attempted.push(key),
        }
        self.mark("create".to_owned());
        Ok(outcome)
    }

    fn times(&mut self) -> Vec<i64> {
        let count = 1 + self.rng.below(4);
        let jump = if self.rng.chance(20) { self.rng.between(-50, 50) } else { 0 };
        let step = self.marks.len() as i64;
        (0..count as i64).map(|i| NOW + step + jump + i % 2).collect()
    }

    /// A batch for the log end, with or without a producer.
    fn batch(&mut self, part: &Part, base: i64) -> (Batch, Origin) {
        let times = self.times();
        let (producers, _) = part.replay(base);
        let kind = self.rng.below(10);
        let producer = if kind < 4 { -1 } else { self.rng.between(1, 4) };
        let state = producers.get(&producer);
        let open = state.is_some_and(|state| state.transaction.is_some());
        let client = Origin::Client { transaction_v2: false };
        if producer >= 0 && open && self.rng.chance(50) {
            let committed = self.rng.chance(40);
            let marker = EndTxnMarker { committed, coordinator_epoch: COORDINATOR_EPOCH };
            let bytes = end_txn_batch(producer, 0, marker, times[0]).unwrap();
            let times = vec![times[0]];
            let batch = self.placed(bytes, part, base, times, producer, -1, true, Some(committed));
            return (batch, Origin::Coordinator { transaction_v2: false });
        }
        let sequence = state.map_or(0, |state| state.last_sequence + 1);
        let transactional = producer >= 0 && (open || self.rng.chance(40));
        let codec = if self.rng.chance(20) { Compression::Lz4 } else { Compression::None };
        let mut builder = BatchBuilder::new(codec);
        if producer >= 0 {
            builder = builder.producer(producer, 0, sequence).transactional(transactional);
        }
        let size = if self.rng.chance(15) { self.rng.below(650) } else { self.rng.below(60) };
        let value: Vec<u8> = (0..size).map(|_| self.rng.next() as u8).collect();
        for (delta, time) in times.iter().enumerate() {
            builder.append(delta as i32, *time, None, Some(&value[..value.len() / (delta + 1)]), &[]);
        }
        let bytes = builder.build().unwrap();
        (self.placed(bytes, part, base, times, producer, sequence, transactional, None), client)
    }

    #[allow(clippy::too_many_arguments)]
    fn placed(
        &self,
        bytes: Bytes,
        part: &Part,
        base: i64,
        times: Vec<i64>,
        producer: i64,
        sequence: i32,
        transactional: bool,
        marker: Option<bool>,
    ) -> Batch {
        let mut bytes = bytes.to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[12..16].copy_from_slice(&part.epoch.to_be_bytes());
        let last = base + times.len() as i64 - 1;
        Batch { base, last, epoch: part.epoch, bytes: bytes.into(), times, producer, sequence, transactional, marker }
    }

    fn append(&mut self, key: &Key) -> Result<Outcome, String> {
        let part = self.parts[key].clone();
        let (batch, origin) = self.batch(&part, part.end);
        self.log.push(format!("append {key:?} {}..={} producer {}", batch.base, batch.last, batch.producer));
        let log = self.get(key)?;
        let (parsed, _) = Parsed::parse(batch.bytes.clone()).unwrap();
        let appended =
            log.append(AppendBatch { header: &parsed.header, bytes: &parsed.bytes }, origin, part.epoch, NOW);
        let outcome = self.appended(&log, key, vec![batch], appended.map(|done| (done.base_offset, done.duplicate)))?;
        if outcome == Outcome::Done && parsed.header.base_sequence >= 0 && self.rng.chance(10) {
            // Sent again: answered, not written.
            let again = AppendBatch { header: &parsed.header, bytes: &parsed.bytes };
            match log.append(again, origin, part.epoch, NOW) {
                Ok(done) if done.duplicate && done.base_offset == part.end => {}
                other => return Err(format!("{key:?}: a duplicate is answered with {other:?}")),
            }
        }
        if self.rng.chance(60) {
            let part = self.parts.get_mut(key).unwrap();
            part.high_watermark = part.high_watermark.max(log.log_end_offset());
            log.advance_high_watermark(log.log_end_offset());
        }
        Ok(outcome)
    }

    fn append_replicated(&mut self, key: &Key) -> Result<Outcome, String> {
        let mut part = self.parts[key].clone();
        let mut batches = Vec::new();
        for _ in 0..1 + self.rng.below(4) {
            let (batch, _) = self.batch(&part, part.end);
            part.end = batch.last + 1;
            if self.rng.chance(10) {
                part.epoch += 1;
            }
            let batch = Arc::new(batch);
            part.history.push(Arc::clone(&batch));
            batches.push(batch);
        }
        let bytes: Vec<u8> = batches.iter().flat_map(|batch| batch.bytes.iter().copied()).collect();
        self.log.push(format!("replicate {key:?} {} to {}", self.parts[key].end, part.end));
        let log = self.get(key)?;
        let epoch = batches.last().map_or(0, |batch| batch.epoch);
        let done = log.append_replicated(bytes.into(), NOW).map(|done| (done.base_offset, done.duplicate));
        let batches = batches.into_iter().map(|batch| Arc::into_inner(batch).or(None)).collect::<Option<Vec<_>>>();
        let batches = match batches {
            Some(batches) => batches,
            None => part.history.split_off(self.parts[key].history.len()).into_iter().map(unshare).collect(),
        };
        let outcome = self.appended(&log, key, batches, done)?;
        let own = self.parts.get_mut(key).unwrap();
        own.epoch =
            own.epoch.max(if outcome == Outcome::Done { epoch } else { own.history.last().map_or(0, |b| b.epoch) });
        Ok(outcome)
    }

    /// Adds the appended batches to the model; on an error, those before it.
    fn appended(
        &mut self,
        log: &Log,
        key: &Key,
        batches: Vec<Batch>,
        done: Result<(i64, bool), AppendError>,
    ) -> Result<Outcome, String> {
        let part = self.parts.get_mut(key).unwrap();
        let outcome = match done {
            Ok((base, false)) if base == part.end => Outcome::Done,
            Ok(other) => return Err(format!("{key:?}: appended at {other:?}, not {}", part.end)),
            Err(AppendError::DiskFull(_)) => Outcome::Full,
            Err(AppendError::Offline { .. }) => Outcome::Broken,
            Err(AppendError::File(error)) => file_outcome(&error),
            Err(other) => return Err(format!("{key:?}: {other}")),
        };
        let end = log.log_end_offset();
        for batch in batches {
            if batch.last < end {
                part.end = batch.last + 1;
                part.history.push(Arc::new(batch));
            } else if outcome == Outcome::Done {
                return Err(format!("{key:?}: {}..={} is not in", batch.base, batch.last));
            } else {
                part.unacknowledged.push(Arc::new(batch));
            }
        }
        if end == part.end { Ok(outcome) } else { Err(format!("{key:?}: the log ends at {end}, not {}", part.end)) }
    }

    fn roll(&mut self, key: &Key) -> Result<Outcome, String> {
        self.log.push(format!("roll {key:?}"));
        Ok(outcome(self.get(key)?.roll(NOW))?.0)
    }

    fn flush(&mut self, key: &Key) -> Result<Outcome, String> {
        if self.rng.chance(80) {
            return self.flush_several(key);
        }
        self.log.push(format!("flush {key:?}"));
        let (outcome, point) = outcome(self.get(key)?.flush())?;
        match point {
            Some(point) if point != self.parts[key].end => Err(format!("{key:?}: flushed only up to {point}")),
            _ => Ok(outcome),
        }
    }

    /// Prepares and frees the journal's files; otherwise no round has space.
    fn keep_up(&mut self) -> Result<(), String> {
        self.log.push("keep up".to_owned());
        self.manager.as_ref().ok_or("not open")?.journals().for_each(|(_, journal)| journal.keep_up());
        Ok(())
    }

    fn rounds(&self) -> u64 {
        let journals = self.manager.iter().flat_map(LogManager::journals);
        journals.map(|(_, journal)| journal.stats().rounds).sum()
    }

    fn flush_several(&mut self, key: &Key) -> Result<Outcome, String> {
        let mut keys: Vec<Key> = self.parts.keys().cloned().collect();
        keys.retain(|other| other == key || self.rng.chance(70));
        self.log.push(format!("flush together {keys:?}"));
        let logs: Vec<Arc<Log>> = keys.iter().map(|key| self.get(key)).collect::<Result<_, _>>()?;
        let before = self.rounds();
        let (outcome, done) = outcome(flush_round(&logs))?;
        self.by_journal += self.rounds() - before;
        if done.is_some() {
            for (key, log) in keys.iter().zip(&logs) {
                let (durable, end) = (log.durable_offset(), self.parts[key].end);
                if durable != end {
                    return Err(format!("{key:?}: durable only up to {durable}, not {end}"));
                }
            }
        }
        if self.rng.chance(60) {
            self.keep_up()?;
        }
        Ok(outcome)
    }

    fn checkpoints(&mut self) -> Result<Outcome, String> {
        self.log.push("checkpoints".to_owned());
        let (outcome, done) = outcome(self.manager.as_ref().ok_or("not open")?.flush_checkpoints())?;
        if done.is_some() && !self.offline() {
            self.parts.values_mut().for_each(|part| part.start_floor = part.start);
        }
        Ok(outcome)
    }

    pub fn offline(&self) -> bool {
        self.manager.as_ref().is_some_and(|manager| manager.dirs().iter().any(|dir| dir.offline))
    }

    fn delete_records(&mut self, key: &Key) -> Result<Outcome, String> {
        let log = self.get(key)?;
        let to = self.rng.between(self.parts[key].start, log.high_watermark().max(self.parts[key].start));
        self.log.push(format!("delete records of {key:?} below {to}"));
        let (outcome, _) = outcome(log.advance_log_start(to))?;
        self.parts.get_mut(key).unwrap().start = log.log_start_offset();
        Ok(outcome)
    }

    fn retention(&mut self, key: &Key) -> Result<Outcome, String> {
        self.log.push(format!("retention of {key:?}"));
        let log = self.get(key)?;
        let (outcome, _) = outcome(log.retention_pass(NOW))?;
        let part = self.parts.get_mut(key).unwrap();
        let start = log.log_start_offset();
        if start < part.start || start > log.high_watermark() {
            return Err(format!("{key:?}: retention moved the start from {} to {start}", part.start));
        }
        part.start = start;
        Ok(outcome)
    }

    fn truncate(&mut self, key: &Key) -> Result<Outcome, String> {
        let part = &self.parts[key];
        let batches: Vec<i64> =
            part.history.iter().map(|batch| batch.base).filter(|base| *base >= part.start).collect();
        let Some(at) = batches.get(self.rng.below(batches.len())).copied() else { return Ok(Outcome::Done) };
        self.log.push(format!("truncate {key:?} to {at}"));
        let (outcome, done) = outcome(self.get(key)?.truncate_to(at))?;
        let mut part = self.parts[key].clone();
        // Then nothing is kept, and the log restarts at that offset.
        part.anew = part.history.first().is_none_or(|batch| batch.base >= at || batch.last < part.start);
        part.truncate(at);
        match done {
            Some(()) => drop(self.parts.insert(key.clone(), part)),
            None => self.record_possible_change(key, Some(part)),
        }
        Ok(outcome)
    }

    fn start_anew(&mut self, key: &Key) -> Result<Outcome, String> {
        if self.rng.chance(50) {
            return Ok(Outcome::Done);
        }
        let at = (self.parts[key].end + self.rng.between(-20, 20)).max(0);
        self.log.push(format!("start {key:?} anew at {at}"));
        let (outcome, done) = outcome(self.get(key)?.truncate_fully_and_start_at(at))?;
        let mut part = self.parts[key].clone();
        part.history.clear();
        (part.start, part.end, part.anew) = (at, at, true);
        part.start_floor = part.start_floor.min(at);
        part.flushed = part.flushed.min(at);
        part.high_watermark = part.high_watermark.max(at);
        match done {
            Some(()) => drop(self.parts.insert(key.clone(), part)),
            None => self.record_possible_change(key, Some(part)),
        }
        Ok(outcome)
    }

    fn new_epoch(&mut self, key: &Key) -> Result<Outcome, String> {
        let epoch = self.parts[key].epoch + 1;
        self.log.push(format!("epoch {epoch} of {key:?}"));
        // A leader continues with its epoch, whether the checkpoint could be written or not.
        let (outcome, _) = outcome(self.get(key)?.begin_epoch(epoch))?;
        self.parts.get_mut(key).unwrap().epoch = epoch;
        Ok(outcome)
    }

    fn delete(&mut self, key: &Key) -> Result<Outcome, String> {
        self.log.push(format!("delete {key:?}"));
        let (outcome, done) = outcome(self.manager.as_ref().ok_or("not open")?.delete(&key.0, key.1))?;
        match done {
            Some(()) => drop(self.parts.remove(key)),
            None => self.record_possible_change(key, None),
        }
        *self.deleted.entry(key.clone()).or_default() += 1;
        Ok(outcome)
    }

    fn stop(&mut self) -> Result<Outcome, String> {
        self.log.push("clean stop".to_owned());
        self.held.clear();
        let manager = self.manager.take().ok_or("not open")?;
        let (outcome, done) = outcome(manager.shutdown_clean())?;
        if done.is_none() {
            self.stopped = true;
            return Ok(outcome);
        }
        self.manager = Some(manager);
        self.note_flushed();
        self.parts.values_mut().for_each(|part| part.start_floor = part.start);
        self.manager = None;
        self.start()?;
        let clean = self.manager.as_ref().is_some_and(LogManager::was_clean);
        if clean { Ok(outcome) } else { Err("the stop was clean and is not seen so".to_owned()) }
    }

    /// The process dies; its writes are in the page cache, and the next process finds all of them.
    pub fn kill(&mut self) -> Result<Outcome, String> {
        self.log.push("kill".to_owned());
        self.held.clear();
        self.disk = self.disk.next_process();
        self.manager = None;
        for part in self.parts.values_mut() {
            // The log start may return to that of the checkpoint.
            part.start = part.start.max(part.start_floor);
        }
        self.restart_after_kill()?;
        Ok(Outcome::Done)
    }

    fn restart_after_kill(&mut self) -> Result<(), String> {
        self.mark("open".to_owned());
        self.manager = Some(open(&self.disk, &self.dir, &self.config)?);
        self.mark("opened".to_owned());
        for (key, part) in &mut self.parts {
            let manager = self.manager.as_ref().ok_or("not open")?;
            let log = manager.get(&key.0, key.1).ok_or_else(|| format!("{key:?} is not there after a kill"))?;
            if log.log_end_offset() != part.end {
                return Err(format!("{key:?} ends at {}, not {} after a kill", log.log_end_offset(), part.end));
            }
            check(&log, part, Claim::AfterCrash).map_err(|error| format!("{key:?} after a kill: {error}"))?;
            // Records that were deleted since the last checkpoint may be back: delete them again.
            log.advance_high_watermark(part.end);
            part.high_watermark = part.end;
            let start = part.start;
            match log.advance_log_start(start) {
                Ok(_) | Err(LogError::File(_) | LogError::Offline { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if self.rng.chance(70) {
            self.keep_up()?;
        }
        self.note_flushed();
        self.mark("checked".to_owned());
        Ok(())
    }

    fn hold_slice(&mut self, key: &Key) -> Result<Outcome, String> {
        self.log.push("hold".to_owned());
        if self.rng.chance(40) {
            self.held.clear();
            return Ok(Outcome::Done);
        }
        let log = self.get(key)?;
        let info = log.read(log.log_start_offset(), 1500, i64::MAX, true).map_err(|error| error.to_string())?;
        self.held.push((info.records.clone(), info.records.to_vec()));
        Ok(Outcome::Done)
    }
}

fn unshare(batch: Arc<Batch>) -> Batch {
    Arc::into_inner(batch).unwrap()
}

//! Compaction beside all other changes of a log: appends, retention, DeleteRecords, truncations, moves between log dirs, flushes,
//! deletion, and readers that hold slices. One thread runs the operations of the model, in an order from the seed; compaction,
//! flushes and reads run beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::atomic::AtomicI64,
    thread,
    time::{Duration, Instant},
};

use super::{model::Dice, *};
use crate::{LogError, ReadError};

/// The written records by offset, as far as they are still in the log's history.
type Written = BTreeMap<i64, (String, Option<String>)>;

struct World {
    logs: LogManager,
    dirs: [PathBuf; 2],
    log: Mutex<Arc<Log>>,
    stop: AtomicBool,
    now_ms: AtomicI64,
}

impl World {
    fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log.lock())
    }
}

struct Story<'a> {
    world: &'a World,
    dice: Dice,
    written: Written,
    /// Where batches begin.
    bases: BTreeSet<i64>,
    generation: u8,
    config: LogConfig,
}

impl Story<'_> {
    fn append(&mut self, number: u64) {
        let log = self.world.log();
        let codec = [Compression::None, Compression::Lz4, Compression::Zstd][self.dice.roll(3) as usize];
        let mut builder = BatchBuilder::new(codec);
        let records: Vec<(String, Option<String>)> = (0..=self.dice.roll(4))
            .map(|i| {
                let value = (self.dice.roll(6) > 0).then(|| format!("{number}-{i}-{}", "x".repeat(150)));
                (format!("key-{}", self.dice.roll(30)), value)
            })
            .collect();
        for (delta, (key, value)) in records.iter().enumerate() {
            builder.append(delta as i32, NOW, Some(key.as_bytes()), value.as_deref().map(str::as_bytes), &[]);
        }
        let (batch, _) = Batch::parse(builder.build().unwrap()).unwrap();
        let batch = AppendBatch { header: &batch.header, bytes: &batch.bytes };
        let base = log.append(batch, CLIENT, 0, NOW).unwrap().base_offset;
        self.bases.insert(base);
        self.written.extend((base..).zip(records));
        if self.dice.roll(3) > 0 {
            log.advance_high_watermark(i64::MAX);
        }
    }

    fn step(&mut self, number: u64) {
        let log = self.world.log();
        let hw = log.high_watermark();
        match self.dice.roll(100) {
            0..75 => self.append(number),
            75..80 => {
                let start = log.log_start_offset();
                let to = start + self.dice.roll((hw - start).max(0).cast_unsigned() / 2 + 1) as i64;
                assert!(log.advance_log_start(to).unwrap() >= to);
                assert!(matches!(log.advance_log_start(hw + 1), Err(LogError::OffsetOutOfRange { .. })));
            }
            80..87 => {
                self.config.retention_bytes = [-1, 12_000, 30_000][self.dice.roll(3) as usize];
                self.config.file_delete_delay_ms = [0, 1, 60_000][self.dice.roll(3) as usize];
                self.world.logs.update_config("t", self.config.clone());
                log.retention_pass(NOW).unwrap();
            }
            87..92 => {
                // A follower may truncate, but nothing below the high watermark.
                let ends: Vec<i64> = self.bases.range(hw..).copied().chain([log.log_end_offset()]).collect();
                let to = ends[self.dice.roll(ends.len() as u64) as usize];
                log.truncate_to(to).unwrap();
                self.bases.split_off(&to);
                self.written.split_off(&to);
            }
            92 => {
                let to = log.log_end_offset() + self.dice.roll(50) as i64;
                log.truncate_fully_and_start_at(to).unwrap();
                self.written.clear();
                self.bases.clear();
            }
            93..97 => self.change_dir(&log),
            97 => {
                self.world.logs.delete("t", 0).unwrap();
                self.generation += 1;
                self.written.clear();
                self.bases.clear();
                let id = Uuid([self.generation; 16]);
                let log = self.world.logs.create("t", 0, id, self.config.clone(), NOW).unwrap();
                *self.world.log.lock() = log;
            }
            _ => {
                self.world.now_ms.fetch_add(RETENTION / 3, Ordering::AcqRel);
                log.roll(NOW).unwrap();
            }
        }
        let start = self.world.log().log_start_offset();
        self.written = self.written.split_off(&start);
    }

    fn change_dir(&mut self, log: &Arc<Log>) {
        let to = self.world.dirs.iter().find(|dir| *dir != log.log_dir()).unwrap();
        let mut moving = self.world.logs.begin_move("t", 0, to).unwrap().unwrap();
        moving.copy().unwrap();
        if self.dice.roll(4) == 0 {
            return self.world.logs.abandon_move(moving);
        }
        self.append(u64::MAX);
        log.retention_pass(NOW).unwrap();
        *self.world.log.lock() = self.world.logs.finish_move(&mut moving, NOW, |_| {}).unwrap();
    }

    /// Checks that every record of the log was written at its offset, and that the last one of each key exists.
    fn check(&self, what: &str) {
        let log = self.world.log();
        let start = log.log_start_offset();
        let found: Written = read_records(&log, false)
            .into_iter()
            .filter(|record| record.offset >= start)
            .map(|record| (record.offset, (record.key, record.value)))
            .collect();
        for (offset, record) in &found {
            assert_eq!(self.written.get(offset), Some(record), "{what}: offset {offset}");
        }
        let mut latest: BTreeMap<&str, (i64, bool)> = BTreeMap::new();
        latest.extend(self.written.iter().map(|(offset, (key, value))| (key.as_str(), (*offset, value.is_some()))));
        for (key, (offset, value)) in latest {
            assert!(found.contains_key(&offset) || !value, "{what}: the last value of {key} at {offset} is gone");
        }
    }
}

/// Reads at random offsets, and checks that the slices it holds never change.
fn hold_slices(world: &World, seed: u64) {
    let mut dice = Dice(seed ^ 0xabcd);
    let mut held: Vec<(Bytes, Vec<u8>)> = Vec::new();
    while !world.stop.load(Ordering::Acquire) {
        let log = world.log();
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let from = start + dice.roll((end - start).max(0).cast_unsigned() + 1) as i64;
        match log.read(from, 4000, i64::MAX, true) {
            Ok(info) => {
                for batch in Batches::new(info.records.clone()) {
                    batch.unwrap().verify_crc().unwrap();
                }
                held.push((info.records.clone(), info.records.to_vec()));
            }
            Err(ReadError::Closed | ReadError::OffsetOutOfRange { .. }) => {}
            Err(_) if log.is_offline() => {}
            Err(error) => panic!("seed {seed}: a read failed: {error}"),
        }
        match log.offset_for_timestamp(NOW) {
            Ok(_) => {}
            Err(_) if log.is_offline() => {}
            Err(error) => panic!("seed {seed}: a look for a time failed: {error}"),
        }
        if held.len() > 50 {
            let at = dice.roll(50) as usize;
            let (slice, copy) = held.swap_remove(at);
            assert_eq!(slice, copy, "seed {seed}");
        }
    }
    assert!(held.iter().all(|(slice, copy)| slice == copy), "seed {seed}");
}

fn race(seed: u64) -> u64 {
    let root = tempfile::tempdir().unwrap();
    let dirs = [root.path().join("a"), root.path().join("b")];
    let config = LogConfig { delete: true, retention_ms: -1, segment_bytes: 2500, ..config() };
    let open = LogManagerConfig {
        dirs: dirs.to_vec(),
        node_id: 1,
        cluster_id: None,
        load_threads: 1,
        journal_bytes: 0,
        journal_dirs: Vec::new(),
        default_config: config.clone(),
        progress: Arc::default(),
    };
    let logs = LogManager::open(open, NOW).unwrap();
    let log = Mutex::new(logs.create("t", 0, Uuid([0; 16]), config.clone(), NOW).unwrap());
    let world = World { logs, dirs, log, stop: AtomicBool::new(false), now_ms: AtomicI64::new(NOW) };
    let memory = if seed.is_multiple_of(2) { 1 << 20 } else { 20 * offset_map::SLOT_BYTES };
    let cleaner =
        Cleaner::new(CleanerConfig { threads: 2, dedupe_buffer_bytes: memory, io_bytes_per_second: f64::MAX });
    let mut story = Story {
        world: &world,
        dice: Dice(seed),
        written: Written::new(),
        bases: BTreeSet::new(),
        generation: 0,
        config,
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !world.stop.load(Ordering::Acquire) {
                    if !cleaner.run_pass(&world.logs, world.now_ms.load(Ordering::Acquire)) {
                        thread::yield_now();
                    }
                }
            });
        }
        scope.spawn(|| {
            while !world.stop.load(Ordering::Acquire) {
                world.logs.flush_checkpoints().unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        });
        scope.spawn(|| hold_slices(&world, seed));
        // The other threads must stop even after a panic.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let _stop = Stop(&world.stop);
        for number in 0..400 {
            story.step(number);
            if number % 30 == 0 {
                story.check(&format!("seed {seed}, step {number}"));
            }
        }
        // At least one compaction has run by now; otherwise wait for one.
        let began = Instant::now();
        while cleaner.stats().compactions == 0 && began.elapsed() < Duration::from_secs(20) {
            story.append(0);
            world.log().advance_high_watermark(i64::MAX);
        }
        story.check(&format!("seed {seed}, at the end"));
    });
    let stats = cleaner.stats();
    assert_eq!(stats.uncleanable_partitions, 0, "seed {seed}");
    assert!(world.logs.dirs().iter().all(|dir| !dir.offline), "seed {seed}: a log dir went offline");
    let expected = story.written.clone();
    let log = world.log();
    let end = log.log_end_offset();
    log.advance_high_watermark(i64::MAX);
    while cleaner.run_pass(&world.logs, NOW) {}
    let names = std::fs::read_dir(log.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.ends_with(".cleaned") && !name.ends_with(".swap")), "seed {seed}");
    drop(log);
    story.check(&format!("seed {seed}, compacted"));
    // The same must hold after a restart.
    world.logs.shutdown_clean().unwrap();
    let log = world.log();
    let (start, cleaned) = (log.log_start_offset(), log.cleaned_offset());
    assert!(cleaned <= end);
    let dirs = world.dirs.to_vec();
    drop((log, world));
    let open = LogManagerConfig {
        dirs,
        node_id: 1,
        cluster_id: None,
        load_threads: 1,
        journal_bytes: 0,
        journal_dirs: Vec::new(),
        default_config: super::config(),
        progress: Arc::default(),
    };
    let logs = LogManager::open(open, NOW).unwrap();
    let log = logs.get("t", 0).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.cleaned_offset()), (start, end, cleaned));
    log.advance_high_watermark(i64::MAX);
    for record in read_records(&log, false).into_iter().filter(|record| record.offset >= start) {
        assert_eq!(expected.get(&record.offset), Some(&(record.key, record.value)), "seed {seed}");
    }
    stats.compactions
}

#[test]
fn compaction_races_everything_else() {
    // More of them: ESKER_RACES=200.
    let seeds = std::env::var("ESKER_RACES").ok().and_then(|races| races.parse().ok()).unwrap_or(2);
    let compactions: u64 = (0..seeds).map(race).sum();
    assert!(compactions >= seeds, "{compactions} compactions");
}

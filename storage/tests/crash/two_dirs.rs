//! Two log dirs, and a power cut of the disk of one: the other's page cache lives. What was acknowledged in either is there, and nothing
//! of one dir's journal shows up in the other.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use esker_protocol::{compression::Compression, records::Batch as Parsed, records::BatchBuilder};
use esker_storage::{AppendBatch, Log, LogConfig, LogManager, Origin, Uuid};

use crate::{
    disk::SimDisk,
    driver::{NOW, flush_round, open_dirs},
    folder, in_parallel,
    rng::Rng,
    seeds,
    state::{Event, Image, State},
};

const DIRS: [&str; 2] = ["a", "b"];
const TOPICS: [&str; 6] = ["p", "q", "r", "s", "t", "u"];
const STEPS: usize = 70;

/// A log, with one record a batch.
#[derive(Debug, Clone, Default)]
struct Known {
    /// In which dir it lies.
    dir: usize,
    /// All bytes, and where each batch ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    acknowledged: usize,
}

struct World {
    disk: SimDisk,
    manager: LogManager,
    root: PathBuf,
    rng: Rng,
    known: BTreeMap<&'static str, Known>,
    values: u64,
    ids: u8,
}

fn dirs(root: &Path) -> Vec<PathBuf> {
    DIRS.iter().map(|name| root.join(name)).collect()
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 3000, index_interval_bytes: 300, file_delete_delay_ms: 0, ..LogConfig::default() }
}

fn content(log: &Log) -> Vec<u8> {
    let (mut at, mut all) = (log.log_start_offset(), Vec::new());
    while at < log.log_end_offset() {
        let read = log.read(at, 1 << 20, i64::MAX, true).unwrap();
        all.extend_from_slice(&read.records);
        at = read.next_offset;
    }
    all
}

impl World {
    fn new(seed: u64, root: &Path) -> Self {
        let disk = SimDisk::new(root, &Image::new());
        let manager = open_dirs(&disk, &dirs(root), &config()).unwrap();
        let known = BTreeMap::new();
        Self { disk, manager, root: root.to_path_buf(), rng: Rng::new(seed), known, values: 0, ids: 0 }
    }

    fn log(&self, topic: &str) -> Arc<Log> {
        self.manager.get(topic, 0).unwrap()
    }

    fn dir_of(&self, log: &Log) -> usize {
        dirs(&self.root).iter().position(|dir| dir == log.log_dir()).unwrap()
    }

    fn create(&mut self, topic: &'static str) {
        self.ids += 1;
        let log = self.manager.create(topic, 0, Uuid([self.ids; 16]), config(), NOW).unwrap();
        self.known.insert(topic, Known { dir: self.dir_of(&log), ..Known::default() });
    }

    fn append(&mut self, topic: &'static str) {
        let log = self.log(topic);
        for _ in 0..=self.rng.below(3) {
            self.values += 1;
            let mut value = vec![b'.'; 20 + self.rng.below(400)];
            value[..8].copy_from_slice(&self.values.to_be_bytes());
            let mut builder = BatchBuilder::new(Compression::None);
            builder.append(0, NOW, None, Some(&value), &[]);
            let (batch, _) = Parsed::parse(builder.build().unwrap()).unwrap();
            let append = AppendBatch { header: &batch.header, bytes: &batch.bytes };
            log.append(append, Origin::Client { transaction_v2: false }, 0, NOW).unwrap();
            let known = self.known.get_mut(topic).unwrap();
            known.bytes = content(&log);
            known.ends.push(known.bytes.len());
        }
    }

    /// One request for logs of both dirs.
    fn flush(&mut self) {
        let mut topics: Vec<&str> = TOPICS.into_iter().filter(|_| self.rng.chance(70)).collect();
        let at = self.rng.below(topics.len());
        topics.rotate_left(at);
        let logs: Vec<Arc<Log>> = topics.iter().map(|topic| self.log(topic)).collect();
        flush_round(&logs).unwrap();
        for topic in topics {
            let known = self.known.get_mut(topic).unwrap();
            known.acknowledged = known.bytes.len();
        }
    }

    fn truncate(&mut self, topic: &str) {
        let known = self.known.get_mut(topic).unwrap();
        let offset = self.rng.below(known.ends.len() + 1);
        self.manager.get(topic, 0).unwrap().truncate_to(offset as i64).unwrap();
        known.ends.truncate(offset);
        known.bytes.truncate(known.ends.last().copied().unwrap_or_default());
        known.acknowledged = known.acknowledged.min(known.bytes.len());
    }

    /// To the other dir: what has arrived is on disk there.
    fn relocate(&mut self, topic: &str) {
        let dir = 1 - self.known[topic].dir;
        let to = &dirs(&self.root)[dir];
        let mut moving = self.manager.begin_move(topic, 0, to).unwrap().unwrap();
        moving.copy().unwrap();
        self.manager.finish_move(&mut moving, NOW, |_| {}).unwrap();
        let known = self.known.get_mut(topic).unwrap();
        (known.dir, known.acknowledged) = (dir, known.bytes.len());
    }

    fn step(&mut self) {
        let topic = TOPICS[self.rng.below(TOPICS.len())];
        match self.rng.below(24) {
            0..=7 => (0..3).for_each(|_| {
                let topic = TOPICS[self.rng.below(TOPICS.len())];
                self.append(topic);
            }),
            8..=15 => self.flush(),
            16..=18 => self.manager.journals().for_each(|(_, journal)| journal.keep_up()),
            19 => self.manager.flush_checkpoints().unwrap(),
            20..=21 => self.truncate(topic),
            22 => self.relocate(topic),
            _ => {
                self.manager.delete(topic, 0).unwrap();
                self.create(topic);
            }
        }
    }

    /// The process dies, and dir `cut` loses what is not synced.
    fn image(&mut self, cut: usize) -> Image {
        let state: State = self.disk.state();
        let mut whole = state.clone();
        whole.apply(&Event::SyncAll);
        let (torn, whole) = (state.image(&mut self.rng), whole.image(&mut self.rng));
        let is_cut = |path: &Path| path.starts_with(DIRS[cut]);
        let kept = whole.into_iter().filter(|(path, _)| !is_cut(path));
        torn.into_iter().filter(|(path, _)| is_cut(path)).chain(kept).collect()
    }

    /// What a start finds; returns the bytes that it wrote from the journals.
    fn check(&self, image: &Image, cut: usize) -> Result<u64, String> {
        let root = folder();
        let disk = SimDisk::new(root.path(), image);
        let manager = open_dirs(&disk, &dirs(root.path()), &config())?;
        let mut replayed = 0;
        for (number, (_, journal)) in manager.journals().enumerate() {
            let stats = journal.stats();
            replayed += stats.replayed;
            if stats.damaged > 0 || (number != cut && stats.replayed > 0) {
                return Err(format!("the journal of {}: {stats:?}", DIRS[number]));
            }
        }
        for (topic, known) in &self.known {
            let found = match manager.get(topic, 0) {
                Some(log) if log.log_dir() == root.path().join(DIRS[known.dir]) => content(&log),
                Some(log) => return Err(format!("{topic} is in {:?}, not in {}", log.log_dir(), DIRS[known.dir])),
                None => Vec::new(),
            };
            let least = if known.dir == cut { known.acknowledged } else { known.bytes.len() };
            if !known.bytes.starts_with(&found) || found.len() < least {
                let (there, had) = (found.len(), known.bytes.len());
                return Err(format!("{topic} in {}: {there} bytes of {had}, acknowledged {least}", DIRS[known.dir]));
            }
        }
        Ok(replayed)
    }
}

#[test]
fn a_power_cut_of_one_log_dir_of_two_takes_nothing_that_was_acknowledged() {
    let replayed = [const { AtomicU64::new(0) }; 2];
    in_parallel(&seeds(6), |seed| {
        let root = folder();
        let mut world = World::new(seed, root.path());
        TOPICS.into_iter().for_each(|topic| world.create(topic));
        for step in 0..STEPS {
            world.step();
            let cut = world.rng.below(DIRS.len());
            let image = world.image(cut);
            match world.check(&image, cut) {
                Ok(bytes) => drop(replayed[cut].fetch_add(bytes, Ordering::Relaxed)),
                Err(error) => panic!(
                    "seed {seed}, step {step}, {} is cut: {error}\nRun it with ESKER_CRASH_SEED={seed}",
                    DIRS[cut]
                ),
            }
        }
    });
    let replayed = replayed.map(AtomicU64::into_inner);
    println!("{replayed:?} bytes written from the journal of the dir that was cut");
    assert!(replayed.iter().all(|bytes| *bytes > 0), "the journals were not put to the test");
}

//! `Log::append` beside a bare loop of `pwritev` of the same batches: same file system, same reservations, same file sizes, new
//! files each time. In CPU time, and as ratios of turns that alternate.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use esker_protocol::primitives::Uuid;
use esker_protocol::records::Batch;
use esker_storage::validate::{ValidateRules, validate};
use esker_storage::{AppendBatch, Log, LogConfig};
use rustix::fs::{FallocateFlags, fallocate};

use super::cpu::{self, CpuTime};
use super::{CLIENT, NOW, batch, open};

const SIZES: [usize; 4] = [512, 4 << 10, 64 << 10, 1 << 20];
/// A log or file is begun anew at this size, off the clock. Small batches: the same again takes long enough at less.
const LARGEST: u64 = 256 << 20;
/// Turns of each for the ratios.
const TURNS: usize = 11;
/// The log's own steps of reservation.
const RESERVE: (u64, u64) = (64 << 10, 16 << 20);

fn file_size(size: usize) -> u64 {
    if size < 16 << 10 { LARGEST / 4 } else { LARGEST }
}

/// The least that a log of these batches must do.
struct Bare {
    path: PathBuf,
    file: File,
    end: u64,
    reserved: u64,
}

impl Bare {
    fn new(path: PathBuf) -> Self {
        let file = File::create(&path).unwrap();
        Self { path, file, end: 0, reserved: 0 }
    }

    fn reset(&mut self) {
        fs::remove_file(&self.path).unwrap();
        *self = Self::new(self.path.clone());
    }

    fn append(&mut self, batch: &Batch) {
        let size = batch.bytes.len() as u64;
        if self.end + size > self.reserved {
            let up_to = (self.end + self.end.clamp(RESERVE.0, RESERVE.1)).max(self.end + size);
            fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.reserved, up_to - self.reserved).unwrap();
            self.reserved = up_to;
        }
        let (head, rest) = batch.bytes.split_at(16);
        let parts = [IoSlice::new(head), IoSlice::new(rest)];
        assert_eq!(rustix::io::pwritev(&self.file, &parts, self.end).unwrap() as u64, size);
        self.end += size;
    }
}

fn append(log: &Log, batch: &Batch) {
    let batch = AppendBatch { header: &batch.header, bytes: &batch.bytes };
    black_box(log.append(batch, CLIENT, 0, NOW).unwrap());
}

fn validate_and_append(log: &Log, batch: &Batch, rules: &ValidateRules) {
    let sound = validate(Some(batch.bytes.clone()), rules, NOW).unwrap();
    let batch = AppendBatch { header: &sound.header, bytes: &sound.bytes };
    black_box(log.append(batch, CLIENT, 0, NOW).unwrap());
}

/// Runs `append` as often as asked; `reset` whenever a file is full, off the clock. CPU time.
fn bounded<S>(times: u64, size: usize, on: &mut S, append: fn(&mut S), reset: fn(&mut S)) -> Duration {
    let (mut spent, mut left) = (Duration::ZERO, times);
    while left > 0 {
        let run = left.min(file_size(size) / size as u64);
        reset(on);
        let start = cpu::now();
        for _ in 0..run {
            append(on);
        }
        spent += cpu::now() - start;
        left -= run;
    }
    spent
}

/// All that is measured, for one size of batches.
struct Subject {
    batch: Batch,
    rules: ValidateRules,
    bare: Bare,
    log: Arc<Log>,
}

/// Name, one append, a new file.
type Way = (&'static str, fn(&mut Subject), fn(&mut Subject));

const WAYS: [Way; 3] = [
    ("bare pwritev", |s| s.bare.append(&s.batch), |s| s.bare.reset()),
    ("append", |s| append(&s.log, &s.batch), |s| s.log.truncate_fully_and_start_at(0).unwrap()),
    (
        "validate and append",
        |s| validate_and_append(&s.log, &s.batch, &s.rules),
        |s| s.log.truncate_fully_and_start_at(0).unwrap(),
    ),
];

pub fn run(c: &mut Criterion<CpuTime>) {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&dir);
    // Not when tests only try whether it runs.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let mut ratios = Vec::new();
    let mut group = c.benchmark_group("append");
    for size in SIZES {
        let batch = batch(size);
        let size = batch.bytes.len();
        let log = manager.create("append", size as i32, Uuid::ZERO, LogConfig::default(), NOW).unwrap();
        // The largest batch is over the default limit by its header.
        let rules = ValidateRules { max_message_bytes: 2 << 20, ..ValidateRules::default() };
        let bare = Bare::new(dir.path().join(format!("bare-{size}")));
        let mut subject = Subject { batch, rules, bare, log };
        group.throughput(Throughput::Bytes(size as u64));
        for (name, append, reset) in WAYS {
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter_custom(|times| bounded(times, size, &mut subject, append, reset))
            });
        }
        if measures {
            ratios.push((size, turns(&mut subject, size)));
        }
        subject.bare.reset();
        subject.log.truncate_fully_and_start_at(0).unwrap();
    }
    group.finish();
    if !measures {
        return;
    }
    println!("CPU of the bare loop, and of the log as parts of it: medians of {TURNS} turns that alternate");
    for (size, [bare, append, whole]) in ratios {
        let bare = bare * 1e9;
        println!("{size:>8} B  {bare:.3} CPU s/GB  append {append:.2}  validate and append {whole:.2}");
    }
}

/// Median of the bare loop's seconds a byte, and of the ratios of the other ways to it, turn by turn.
fn turns(subject: &mut Subject, size: usize) -> [f64; 3] {
    let times = file_size(size) / size as u64;
    let mut all: [Vec<f64>; 3] = Default::default();
    for turn in 0..TURNS {
        let mut spent = [0.0; 3];
        for index in 0..WAYS.len() {
            // The order changes, so that nobody is always the first to use what another gave back.
            let index = (index + turn) % WAYS.len();
            let (_, append, reset) = WAYS[index];
            spent[index] = bounded(times, size, subject, append, reset).as_secs_f64();
            // The space goes back before the next turn takes some.
            reset(subject);
        }
        all[0].push(spent[0] / (times * size as u64) as f64);
        all[1].push(spent[1] / spent[0]);
        all[2].push(spent[2] / spent[0]);
    }
    all.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    })
}

//! What a consumer of cold data does to everybody else: latency of paced producers and of tail consumers, without and with a
//! consumer that reads a large topic which is not in memory.
//!
//! One folder is filled once and served by each binary in turn. Phases without and with the cold consumer alternate; before each
//! cold one the topic's pages are taken out of the page cache. Figures are medians over rounds.

mod load;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use esker_benches::broker::Broker;
use esker_benches::{Result, process};

use load::Latencies;

/// Measures what a consumer of cold data does to producers and tail consumers.
#[derive(Parser, Debug, Clone)]
struct Options {
    /// An esker binary; several are measured in turn.
    #[arg(long, required = true)]
    esker: Vec<PathBuf>,
    /// GB of cold data (10^9 bytes).
    #[arg(long, default_value_t = 10.0)]
    gb: f64,
    /// Times that each binary is measured.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Seconds of a phase without the cold consumer.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Producers, each with a partition of its own.
    #[arg(long, default_value_t = 4)]
    producers: usize,
    /// Milliseconds between two batches of a producer.
    #[arg(long, default_value_t = 5)]
    pace: u64,
    /// Bytes of a batch.
    #[arg(long, default_value_t = 16 * 1024)]
    batch: usize,
    /// Only this durability (`flush` or `page-cache`).
    #[arg(long)]
    only: Option<String>,
    /// Leave the topic's pages where they are: what the same reads do where nothing is cold.
    #[arg(long)]
    warm: bool,
    /// Print each second of a phase as well.
    #[arg(long)]
    by_second: bool,
    /// Seconds in which nothing is measured, after the pages were dropped: disks of clouds have credit for bursts.
    #[arg(long, default_value_t = 0)]
    rest: u64,
    /// Folder for the data, on the disk to measure; a new folder in it is used, and removed at the end.
    #[arg(long)]
    dir: PathBuf,
}

const MODES: [&str; 2] = ["flush", "page-cache"];

/// What came out of one phase.
struct Row {
    binary: usize,
    mode: &'static str,
    cold: bool,
    produce: Latencies,
    tail: Latencies,
    cold_mb_per_second: f64,
    cpu_seconds: f64,
    stolen_seconds: f64,
}

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    let dir = options.dir.join(format!("esker-cold-reads-{}", std::process::id()));
    let result = run(&options, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cold-reads: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let first = options.esker.first().ok_or("no binary")?;
    {
        let broker = Broker::start(first, dir)?;
        load::create_topic(broker.address, "cold", 1, "page-cache")?;
        for mode in MODES {
            load::create_topic(broker.address, mode, options.producers as i32, mode)?;
        }
        eprintln!("writing {} GB", options.gb);
        load::fill(broker.address, "cold", (options.gb * 1e9) as u64)?;
    }
    let mut rows = Vec::new();
    for round in 0..options.rounds {
        for mode in MODES.into_iter().filter(|mode| options.only.as_ref().is_none_or(|only| only == mode)) {
            // Who comes first changes.
            let count = options.esker.len();
            for binary in (0..count).map(|i| (i + round) % count) {
                let Some(path) = options.esker.get(binary) else { continue };
                let broker = Broker::start(path, dir)?;
                for cold in [false, true, false, true] {
                    rows.push(phase(options, &broker, dir, binary, mode, cold)?);
                    if let Some(row) = rows.last() {
                        print(options, row);
                    }
                }
            }
        }
    }
    println!("\nmedians:");
    for binary in 0..options.esker.len() {
        for mode in MODES {
            for cold in [false, true] {
                let of: Vec<&Row> =
                    rows.iter().filter(|r| r.binary == binary && r.mode == mode && r.cold == cold).collect();
                let median = |value: &dyn Fn(&Row) -> f64| load::median(of.iter().map(|row| value(row)).collect());
                print(
                    options,
                    &Row {
                        binary,
                        mode,
                        cold,
                        produce: Latencies::median(of.iter().map(|row| &row.produce)),
                        tail: Latencies::median(of.iter().map(|row| &row.tail)),
                        cold_mb_per_second: median(&|row| row.cold_mb_per_second),
                        cpu_seconds: median(&|row| row.cpu_seconds),
                        stolen_seconds: median(&|row| row.stolen_seconds),
                    },
                );
            }
        }
    }
    Ok(())
}

fn print(options: &Options, row: &Row) {
    let name = options.esker.get(row.binary).and_then(|path| path.file_name()).unwrap_or_default();
    println!(
        "{:<12} {:<10} {:<8} produce ms p50 {:>6.2} p99 {:>7.2} max {:>7.1}   tail ms p50 {:>6.2} p99 {:>7.2}   cold MB/s {:>6.0}   cpu s {:>5.2} stolen s {:>5.2}",
        name.to_string_lossy(),
        row.mode,
        if row.cold { "cold" } else { "without" },
        row.produce.p50,
        row.produce.p99,
        row.produce.max,
        row.tail.p50,
        row.tail.p99,
        row.cold_mb_per_second,
        row.cpu_seconds,
        row.stolen_seconds,
    );
}

fn phase(options: &Options, broker: &Broker, dir: &Path, binary: usize, mode: &'static str, cold: bool) -> Result<Row> {
    if cold && !options.warm {
        drop_pages(dir)?;
    }
    std::thread::sleep(Duration::from_secs(options.rest));
    let cpu = process::cpu_seconds(broker.pid())?;
    let least = Duration::from_secs(options.seconds);
    let outcome = load::run(options, broker.address, mode, cold, least)?;
    if options.by_second {
        for (number, second) in outcome.by_second.iter().enumerate() {
            let Latencies { p50, p99, max } = second.produce;
            println!(
                "{number:>5} s  produce ms p50 {p50:>6.2} p99 {p99:>7.2} max {max:>7.1}   cold MB {:>6.0}   stolen s {:>5.2}",
                second.read as f64 / 1e6,
                second.stolen,
            );
        }
    }
    Ok(Row {
        binary,
        mode,
        cold,
        produce: outcome.produce,
        tail: outcome.tail,
        cold_mb_per_second: outcome.cold_bytes as f64 / 1e6 / outcome.cold_seconds.max(1e-9),
        cpu_seconds: process::cpu_seconds(broker.pid())? - cpu,
        stolen_seconds: outcome.by_second.iter().map(|second| second.stolen).sum(),
    })
}

/// Takes the cold topic's data and indexes out of the page cache.
fn drop_pages(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir.join("cold-0"))? {
        let file = std::fs::File::open(entry?.path())?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

//! Apache Kafka and Esker, in turn, under the same load: throughput, CPU, memory, time to the first answer.
//!
//! The load comes from one generator for both: plain sockets, batches encoded once, several requests in flight. What is reported
//! of the broker is what the kernel says about its process. Each round starts fresh brokers on empty folders, one after the other, and
//! the order changes from round to round; figures are medians over rounds, so that a busy moment of the machine does not decide.

mod coordinators;
mod durability;
mod load;
mod peers;
mod report;
mod start_up;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use esker_benches::Result;

use load::{Acks, Cell, Direction};
use peers::Peer;
use report::Report;

/// Measures Apache Kafka and Esker side by side.
#[derive(Parser, Debug, Clone)]
struct Options {
    /// Small sizes and one round: shows that it works, measures nothing.
    #[arg(long)]
    quick: bool,
    /// Times that each broker is started and measured.
    #[arg(long)]
    rounds: Option<usize>,
    /// MB of record batches a row (10^6 bytes).
    #[arg(long)]
    mb: Option<u64>,
    /// Times that a row which reads has the bytes of one that writes: it is several times faster, and CPU time is counted in
    /// ticks of 10 ms
    #[arg(long, default_value_t = 5)]
    consume_times: u64,
    /// MB of load before anything is measured: a JVM needs it.
    #[arg(long)]
    warmup_mb: Option<u64>,
    /// Connections that produce, and that consume.
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// Produce requests in flight on a connection (Kafka's clients: 5).
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// Bytes of a batch on the topic with one partition.
    #[arg(long, default_value_t = 64 * 1024)]
    batch: usize,
    /// Bytes of a batch on the topic with 100 partitions, of which a request carries ten (Kafka's clients: 16384).
    #[arg(long, default_value_t = 16 * 1024)]
    small_batch: usize,
    /// Only rows whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Measure starts only: after kill -9 with `--mb` written to 50 partitions, and after a clean stop with many partitions
    #[arg(long)]
    start_up: bool,
    /// Measure durable acknowledgements only: 64 producers that wait for each batch
    #[arg(long)]
    durability: bool,
    /// Measure coordinators only: one large group, many small groups, transactions
    #[arg(long)]
    coordinators: bool,
    /// Groups of two members that coordinators are measured with
    #[arg(long, default_value_t = 5000)]
    groups: usize,
    /// Members of the large group
    #[arg(long, default_value_t = 1000)]
    group_members: usize,
    /// Partitions of the start after a clean stop; a multiple of 1000
    #[arg(long, default_value_t = 10_000)]
    start_up_partitions: i32,
    /// Only this peer: "esker" or "kafka".
    #[arg(long)]
    peer: Option<String>,
    /// The esker binary; by default the one built beside this program.
    #[arg(long)]
    esker: Option<PathBuf>,
    /// More arguments for `esker serve`.
    #[arg(long)]
    esker_arg: Vec<String>,
    /// Folder with Kafka's jars; by default they come from Maven into the cache folder once.
    #[arg(long)]
    kafka_libs: Option<PathBuf>,
    /// Folder for the brokers' data, on the disk to measure.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Options {
    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    fn bytes(&self) -> u64 {
        self.mb.unwrap_or(if self.quick { 20 } else { 1000 }) * 1_000_000
    }

    fn warmup(&self) -> u64 {
        self.warmup_mb.unwrap_or(if self.quick { 5 } else { 1500 }) * 1_000_000
    }

    /// Each topic shape and size is produced to with both kinds of acks, and consumed from.
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for partitions in [1, 100] {
            for value_bytes in [100, 1024] {
                for direction in [Direction::Produce(Acks::Leader), Direction::Produce(Acks::All), Direction::Consume] {
                    cells.push(Cell { partitions, value_bytes, direction });
                }
            }
        }
        cells.retain(|cell| self.only.as_ref().is_none_or(|only| cell.to_string().contains(only)));
        cells
    }
}

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("head-to-head: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let dir = options
        .dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("esker-head-to-head-{}", std::process::id())));
    let mut peers = peers::prepare(options)?;
    touch_page_cache(&dir, 4 * options.bytes())?;
    if options.start_up {
        return start_up::run(options, &dir, &mut peers);
    }
    if options.coordinators {
        return coordinators::run(options, &dir, &mut peers);
    }
    if options.durability {
        return durability::run(options, &dir, peers);
    }
    let mut report = Report::new(options.cells());
    for round in 0..options.rounds() {
        for peer in &peers {
            eprintln!("round {}: {}", round + 1, peer.name());
            let folder = dir.join(peer.name());
            let result = measure(options, peer, &folder, &mut report);
            let _ = std::fs::remove_dir_all(&folder);
            result.map_err(|error| format!("{}: {error}", peer.name()))?;
        }
        peers.reverse();
    }
    let _ = std::fs::remove_dir(&dir);
    report.print(options);
    Ok(())
}

/// Writes a file of `bytes` and deletes it: the first to use a virtual machine's memory pays for the host's faults, and that should
/// be neither broker.
fn touch_page_cache(dir: &Path, bytes: u64) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("scratch");
    let mut file = std::fs::File::create(&path)?;
    let block = vec![1; 1 << 20];
    for _ in 0..bytes.div_ceil(block.len() as u64) {
        file.write_all(&block)?;
    }
    Ok(std::fs::remove_file(path)?)
}

/// One broker's turn: start, warm up, all cells, stop.
fn measure(options: &Options, peer: &Peer, folder: &Path, report: &mut Report) -> Result<()> {
    let broker = peer.start(folder)?;
    let name = peer.name();
    report.start(name, broker.first_answer);
    // What it takes when nobody wants anything from it.
    let settle = Duration::from_secs(if options.quick { 1 } else { 3 });
    std::thread::sleep(settle);
    report.idle(name, broker.memory()?);
    // No connection without a partition: it would have nothing to read.
    let partitions = i32::try_from(options.connections)?.max(10);
    for (index, value_bytes) in [100, 1024].into_iter().enumerate() {
        let topic = format!("warm-up-{index}");
        load::create_topic(broker.address, &topic, partitions)?;
        let warm = Cell { partitions, value_bytes, direction: Direction::Produce(Acks::All) };
        load::run(options, &broker, &topic, warm, options.warmup() / 2)?;
        load::run(options, &broker, &topic, Cell { direction: Direction::Consume, ..warm }, options.warmup() / 2)?;
        load::delete_topic(broker.address, &topic)?;
    }
    let mut topic = String::new();
    let mut shape = None;
    for (index, cell) in report.cells().to_vec().into_iter().enumerate() {
        // Consuming reads what the row before it produced.
        let fresh =
            matches!(cell.direction, Direction::Produce(_)) || shape != Some((cell.partitions, cell.value_bytes));
        if fresh {
            if !topic.is_empty() {
                load::delete_topic(broker.address, &topic)?;
            }
            topic = format!("load-{index}");
            load::create_topic(broker.address, &topic, cell.partitions)?;
            shape = Some((cell.partitions, cell.value_bytes));
            if cell.direction == Direction::Consume {
                let fill = Cell { direction: Direction::Produce(Acks::Leader), ..cell };
                load::run(options, &broker, &topic, fill, options.bytes())?;
            }
        }
        let times = if cell.direction == Direction::Consume { options.consume_times } else { 1 };
        let outcome = load::run(options, &broker, &topic, cell, options.bytes() * times)?;
        eprintln!("  {cell:<32} {:8.1} MB/s  {:6.3} CPU s/GB", outcome.mb_per_second(), outcome.cpu_per_gb());
        report.add(name, index, outcome);
    }
    // What it keeps once the load is over.
    std::thread::sleep(settle);
    report.loaded(name, broker.memory()?);
    broker.stop()
}

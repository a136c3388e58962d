//! Fail-over: three nodes, a topic that is written to, and for each partition the longest time without an acknowledgement around a fault.
//!
//! A writer a partition sends one record after the other with `acks=all`; it looks for the leader again after an error or a silent broker,
//! and tries again every 5 ms, so that what is measured is the cluster's time and not a client's patience. Esker and Apache Kafka run with
//! their own defaults. On a machine that is busy otherwise the figures mean nothing: the row without a fault shows that.

mod client;
mod faults;
mod load;
mod network;
mod nodes;
mod peers;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use esker_benches::Result;

use faults::Fault;
use load::Load;
use nodes::Nodes;
use peers::Peer;
use report::Report;

/// Measures how long partitions of a cluster of three take no records around a fault.
#[derive(Parser, Debug)]
struct Options {
    /// "esker" or "kafka"
    #[arg(long, default_value = "esker")]
    peer: String,
    /// The esker binary; by default the one built beside this program.
    #[arg(long)]
    esker: Option<PathBuf>,
    /// More arguments for `esker serve`.
    #[arg(long, allow_hyphen_values = true)]
    esker_arg: Vec<String>,
    /// Folder with Kafka's jars; by default they come from Maven into the cache folder once.
    #[arg(long)]
    kafka_libs: Option<PathBuf>,
    /// Times that each fault is caused.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The faults; `cut` needs root
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [
        Fault::None, Fault::Kill, Fault::KillController, Fault::Pause, Fault::Rolling,
    ])]
    faults: Vec<Fault>,
    /// Partitions of the topic; each node leads a third of them.
    #[arg(long, default_value_t = 12)]
    partitions: i32,
    /// Configs of the topic, `name=value` each.
    #[arg(long)]
    topic_config: Vec<String>,
    /// A broker that does not acknowledge within so many ms counts as silent: the writer looks for the leader again.
    #[arg(long, default_value_t = 100)]
    answer_ms: u64,
    /// Folder for the nodes' data; a new folder in it is used, and removed at the end.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    let dir = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = dir.join(format!("esker-fail-over-{}", std::process::id()));
    match run(&options, &dir) {
        Ok(()) => {
            nodes::remove(&dir);
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("fail-over: {error}; the nodes' logs are in {}", dir.display());
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, dir: &Path) -> Result<()> {
    let peer = Peer::of(options)?;
    let mut report = Report::default();
    let (cut, others): (Vec<Fault>, Vec<Fault>) = options.faults.iter().partition(|fault| **fault == Fault::Cut);
    let measured = [(others, false), (cut, true)].into_iter().filter(|(faults, _)| !faults.is_empty());
    let mut result = Ok(());
    for (faults, network) in measured {
        let folder = dir.join(if network { "network" } else { "loopback" });
        result = measure(options, &peer, &folder, &faults, network, &mut report);
        if result.is_err() {
            break;
        }
    }
    // Rounds before a failure are measured.
    report.print(&options.peer);
    result
}

/// All rounds of some faults, on one cluster.
fn measure(
    options: &Options,
    peer: &Peer,
    folder: &Path,
    faults: &[Fault],
    network: bool,
    report: &mut Report,
) -> Result<()> {
    let config = |text: &String| {
        let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| format!("--topic-config takes name=value, not {text:?}"))
    };
    let configs = options.topic_config.iter().map(config).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut nodes = Nodes::start(peer, folder, network)?;
    nodes.create_topic(options.partitions, &configs)?;
    let answer = Duration::from_millis(options.answer_ms);
    let load = Load::start(&nodes.addresses()?, options.partitions, answer)?;
    let partitions = usize::try_from(options.partitions)?;
    for round in 0..options.rounds {
        for fault in faults {
            let figures = fault.run(&mut nodes, &load, partitions).map_err(|error| format!("{fault}: {error}"))?;
            let worst = figures.led.iter().chain(&figures.others).max().copied().unwrap_or_default();
            eprintln!("round {} of {}: {fault}: the longest gap {} ms", round + 1, options.rounds, worst.as_millis());
            report.add(*fault, figures);
        }
    }
    Ok(())
}

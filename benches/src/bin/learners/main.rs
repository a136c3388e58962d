//! What brokers beside the voters cost the metadata quorum: three voters, and observers that pull the log from the leader, all in this process.
//!
//! Each node is the broker's own raft adapter (openraft, log files, private messages) without a broker around it. The leader, the other
//! voters and the observers have a runtime of one thread each, as a broker's control has; CPU time is counted by thread. Observers are on other
//! machines in a real cluster: here their threads have the lowest priority, so that they delay the voters as little as may be. With `--stub`
//! observers keep nothing of what they are sent: then the leader's part is all that is left. With `--push` the same nodes are members of the quorum
//! without a vote, to which the leader sends the log.

mod cpu;
mod environment;
mod network;
mod quorum;
mod report;
mod stub;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use esker_benches::Result;

use cpu::Cpu;
use quorum::Quorum;
use report::{Report, Round};

/// Measures commits of the metadata log, and the controller's CPU time, by the number of observers.
#[derive(Parser, Debug, Clone)]
struct Options {
    /// Observers (with `--push`: learners) beside the three voters; a row each.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 50, 200])]
    learners: Vec<usize>,
    /// Requests to the controller a second; each commits a small record.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Seconds of requests.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Seconds before them without any.
    #[arg(long, default_value_t = 10)]
    idle_seconds: u32,
    /// Times that each row is measured, on new members each time.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Observers, or learners, keep nothing.
    #[arg(long)]
    stub: bool,
    /// The nodes beside the voters are learners: members to which the leader sends the log.
    #[arg(long)]
    push: bool,
    /// Members reach each other by TCP on loopback, and not in memory.
    #[arg(long)]
    tcp: bool,
    /// Folder for the voters' logs, on the disk to measure; by default all logs are in memory (/dev/shm), as the learners' are.
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
}

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    let name = format!("esker-learners-{}", std::process::id());
    let memory = Path::new("/dev/shm").join(&name);
    let voters = options.dir.as_ref().map_or_else(|| memory.clone(), |dir| dir.join(&name));
    let mut report = Report::default();
    let result = run(&options, &voters, &memory, &mut report);
    report.print();
    for folder in [&memory, &voters] {
        // They may be the same, or not be there.
        let _ = std::fs::remove_dir_all(folder);
    }
    match result {
        Ok(()) if report.is_whole() => std::process::ExitCode::SUCCESS,
        Ok(()) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("learners: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, voters: &Path, learners: &Path, report: &mut Report) -> Result<()> {
    let clients = environment::start_runtime("clients", false)?;
    for number in 0..options.rounds {
        for count in &options.learners {
            let folder = format!("{number}-{count}");
            let folders = (voters.join(&folder), learners.join(&folder));
            // A quorum whose leader changes has no figures; the next one may.
            let measured = clients.block_on(measure_or_stop(options, *count, (&folders.0, &folders.1)));
            for folder in [&folders.0, &folders.1] {
                let _ = std::fs::remove_dir_all(folder);
            }
            match measured? {
                Ok(round) => {
                    eprintln!("round {}, {count} learners: {round}", number + 1);
                    report.add(*count, round);
                }
                Err(error) => {
                    eprintln!("round {}, {count} learners: {error}", number + 1);
                    report.add_failure(*count);
                }
            }
        }
    }
    Ok(())
}

/// One row, once; an error of the outer kind ends this program.
async fn measure_or_stop(options: &Options, learners: usize, folders: (&Path, &Path)) -> Result<Result<Round>> {
    tokio::select! {
        measured = measure(options, learners, folders) => Ok(measured),
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

/// One row, once.
async fn measure(options: &Options, learners: usize, folders: (&Path, &Path)) -> Result<Round> {
    let quorum = Quorum::start(options, learners, folders).await?;
    let idle_time = Duration::from_secs(options.idle_seconds.into());
    let (began, before) = (Instant::now(), Cpu::now()?);
    tokio::time::sleep(idle_time).await;
    let idle = Cpu::now()?.since(&before).over(began.elapsed());
    let (began, before) = (Instant::now(), Cpu::now()?);
    let latencies = quorum.submit_steadily(options.rate, options.seconds).await?;
    let lag = quorum.largest_lag();
    let busy = Cpu::now()?.since(&before).over(began.elapsed());
    quorum.stop().await?;
    Round::new(idle, busy, f64::from(options.rate), latencies, lag)
}

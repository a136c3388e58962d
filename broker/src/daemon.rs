//! `esker serve`: flags, signals, and the one line on standard output.
//!
//! Configuration is checked as a whole before anything is touched. A wrong one ends with exit code 2 and a message that
//! names the remedy; any other error that keeps a broker from starting, or from stopping cleanly, with 1.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::build::BUILD;
use crate::config::{BrokerConfig, ConfigError, ConfigErrors, Origin, Sources};
use crate::serve::{self, Running};
use crate::service_manager;
use crate::task::spawn;
use crate::telemetry::{LogFormat, LogLevel, init_logging};

/// Flags of a broker. Any config of Kafka's can be given with --set, in a file with --config, or as ESKER_* in the
/// environment (ESKER_NUM_PARTITIONS is num.partitions; KAFKA_NUM_PARTITIONS, too, as in Kafka's container image);
/// flags win over the environment, and that over the file.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Folder for data (log.dirs) [default: esker-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address for Kafka clients; port 0 picks one (listeners) [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address for metrics, health and version; port 0 picks one (http.listen) [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Nodes of the cluster to join, or to form with them (cluster.join) [default: none: a cluster of its own]
    #[arg(long, value_name = "HOST:PORT,...")]
    join: Option<String>,
    /// This broker's id in the cluster (node.id) [default: 1; with --join, the cluster gives one]
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// A server.properties file, as Kafka's
    #[arg(long, value_name = "FILE", env = "ESKER_CONFIG")]
    config: Option<PathBuf>,
    /// One config of Kafka's; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Refuse configs of plug-ins (unknown names with a prefix of their own), which are only warned about otherwise
    #[arg(long, env = "ESKER_STRICT")]
    strict: bool,
    /// A broker for tests: random ports, a temporary folder that is removed at the end
    #[arg(long, env = "ESKER_EPHEMERAL")]
    ephemeral: bool,
    /// How log lines look
    #[arg(long, value_enum, default_value_t, env = "ESKER_LOG_FORMAT")]
    log_format: LogFormat,
    /// The least important lines of the log; ESKER_LOG has levels of single modules (info,esker_broker::raft=debug)
    #[arg(long, value_enum)]
    log_level: Option<LogLevel>,
}

/// Exit code for wrong usage or configuration, as clap's own.
const USAGE: u8 = 2;
/// How long what runs on blocking threads may take to end when all else has stopped.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// Threads for blocking calls end when they had nothing to do for so long.
const BLOCKING_IDLE: Duration = Duration::from_secs(2);

/// Runs a broker until a signal stops it.
pub fn run(args: &ServeArgs) -> ExitCode {
    let fail = |code, message: &str| fail(args.log_format, code, message);
    if let Err(error) = init_logging(args.log_format, args.log_level) {
        return fail(USAGE, &error.to_string());
    }
    let ephemeral = match args.ephemeral.then(|| tempfile::Builder::new().prefix("esker-").tempdir()).transpose() {
        Ok(folder) => folder,
        Err(error) => return fail(1, &format!("cannot make a temporary folder: {error}")),
    };
    let folder = ephemeral.as_ref().map(|folder| folder.path().to_owned());
    let configured = sources(args, folder, std::env::vars()).map_err(ConfigErrors::from).and_then(|sources| {
        let config = BrokerConfig::resolve(&sources)?;
        let durability = sources.value("log.durability").unwrap_or("flush");
        let (version, commit, sources_of_config) = (BUILD.version, BUILD.commit, sources.origins().join(", "));
        tracing::info!(version, commit, config = sources_of_config, durability, "esker starts");
        let (idle, foreign) = (sources.configs_without_effect(), sources.foreign());
        if !idle.is_empty() {
            tracing::info!(configs = idle.join(", "), "accepted, without effect in Esker");
        }
        if !foreign.is_empty() {
            let configs = foreign.join(", ");
            tracing::warn!(configs, "configs of plug-ins have no effect: Esker loads none; --strict refuses them");
        }
        if !sources.ignored_variables().is_empty() {
            let variables = sources.ignored_variables().join(", ");
            tracing::warn!(variables, "environment variables that name no config of Kafka have no effect");
        }
        Ok(config)
    });
    let config = match configured {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("esker")
        .thread_keep_alive(BLOCKING_IDLE)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start: {error}")),
    };
    let ended = runtime.block_on(serve_until_stopped(config, args.log_format));
    runtime.shutdown_timeout(LEFTOVERS);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(1, &message),
    }
}

fn fail(format: LogFormat, code: u8, message: &str) -> ExitCode {
    let line = match format {
        LogFormat::Text => format!("esker: {message}"),
        LogFormat::Json => json!({ "level": "ERROR", "fields": { "message": message } }).to_string(),
    };
    // A failed write to standard error cannot be reported anywhere.
    let _ = writeln!(std::io::stderr(), "{line}");
    ExitCode::from(code)
}

/// Everything that was given, from the weakest source to the strongest.
fn sources(
    args: &ServeArgs,
    ephemeral: Option<PathBuf>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Sources, ConfigError> {
    let mut sources = Sources::default();
    if args.strict {
        sources.refuse_plugin_configs();
    }
    if let Some(file) = &args.config {
        sources.file(file)?;
    }
    sources.environment(environment);
    if let Some(folder) = &ephemeral {
        let flag = Origin::Flag("--ephemeral");
        sources.set(flag.clone(), "log.dirs", &folder.display().to_string());
        sources.set(flag.clone(), "listeners", "PLAINTEXT://127.0.0.1:0");
        sources.set(flag.clone(), "http.listen", "127.0.0.1:0");
        // What is removed at the end need not reach the disk.
        sources.set(flag.clone(), "log.durability", "page-cache");
        sources.set(flag, "log.recovery.max.bytes", &i64::MAX.to_string());
    }
    for pair in &args.set {
        sources.pair(pair);
    }
    let data_dir = args.data_dir.as_ref().map(|folder| folder.display().to_string());
    for (flag, name, value) in [
        ("--data-dir", "log.dirs", &data_dir),
        ("--listen", "listeners", &args.listen),
        ("--http", "http.listen", &args.http),
        ("--node-id", "node.id", &args.node_id),
        ("--join", "cluster.join", &args.join),
    ] {
        if let Some(value) = value {
            sources.set(Origin::Flag(flag), name, value);
        }
    }
    Ok(sources)
}

/// Connections and segments are open files: the usual limit of 1024 is for other programs.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files; see ulimit -n");
    }
}

async fn serve_until_stopped(config: BrokerConfig, format: LogFormat) -> Result<(), String> {
    let data = config.log_dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(",");
    let mut stop = StopSignals::new().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let started = tokio::select! {
        started = serve::start(config) => started,
        // Nothing was promised to anybody yet: what is on disk is as after a crash, and that is sound.
        _ = stop.wait() => return Ok(()),
    };
    let running = started.map_err(|error| error.to_string())?;
    announce(&running, &data, format).map_err(|error| format!("cannot write to standard output: {error}"))?;
    // Ready comes first: a unit that is not active yet has no watchdog to feed.
    service_manager::notify_ready(&format!("serves Kafka clients at {}", running.kafka));
    spawn(service_manager::feed_watchdog());
    let mut requests = StopRequests::default();
    let signal = tokio::select! {
        signal = stop.wait() => signal,
        // As Kafka does. Nothing can be written any more, so no clean stop: in a cluster other brokers lead at once.
        () = all_log_dirs_failed(&running) => {
            return Err(format!("all log dirs have failed ({data}): start the broker again once the disks are sound"));
        }
    };
    requests.next(Instant::now());
    tracing::info!(signal, "stopping");
    service_manager::notify_stopping();
    tokio::select! {
        stopped = running.stop() => stopped.map_err(|error| error.to_string()),
        signal = at_once(&mut stop, &mut requests) => {
            Err(format!("another {signal}: ended without waiting; the next start checks the logs"))
        }
    }
}

/// Waits until no log dir is online.
async fn all_log_dirs_failed(running: &Running) {
    let logs = running.broker.replicas.logs();
    while logs.dir_states().any(|(_, is_offline)| !is_offline) {
        tokio::time::sleep(LOOK_AT_LOG_DIRS).await;
    }
}

/// Waits until a further signal requests an exit without a clean stop.
async fn at_once(stop: &mut StopSignals, requests: &mut StopRequests) -> &'static str {
    loop {
        let signal = stop.wait().await;
        match requests.next(Instant::now()) {
            StopRequest::AtOnce => return signal,
            StopRequest::Clean | StopRequest::Repeated => tracing::info!(signal, "already stopping"),
        }
    }
}

/// The request of one signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopRequest {
    /// A clean stop.
    Clean,
    /// The same as the first: supervisors and `timeout` send two in a row.
    Repeated,
    /// The end, without waiting.
    AtOnce,
}

/// How often the log dirs are looked at.
const LOOK_AT_LOG_DIRS: Duration = Duration::from_secs(1);

/// How long a second signal counts as the first.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// The signals so far.
#[derive(Debug, Default)]
struct StopRequests {
    first: Option<Instant>,
    repeated: bool,
}

impl StopRequests {
    fn next(&mut self, now: Instant) -> StopRequest {
        let Some(first) = self.first else {
            self.first = Some(now);
            return StopRequest::Clean;
        };
        if !self.repeated && now.saturating_duration_since(first) <= ONE_REQUEST {
            self.repeated = true;
            return StopRequest::Repeated;
        }
        StopRequest::AtOnce
    }
}

/// The one line on standard output.
fn announce(running: &Running, data: &str, format: LogFormat) -> std::io::Result<()> {
    let (kafka, http) = (running.kafka, running.http);
    let (node, cluster) = (running.broker.node_id, &running.broker.cluster_id);
    let line = match format {
        LogFormat::Text => format!("esker ready kafka={kafka} http={http} data={data} node={node} cluster={cluster}"),
        LogFormat::Json => json!({
            "message": "esker ready",
            "kafka": kafka.to_string(),
            "http": http.to_string(),
            "data": data,
            "node": node,
            "cluster": cluster.as_str(),
        })
        .to_string(),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The signals that request a stop. A closed terminal sends SIGHUP.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where the process was started to ignore it (`nohup`).
    hangup: Option<Signal>,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: (!ignores_hangup(&status)).then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hangup => "SIGHUP",
        }
    }
}

/// Whether SIGHUP is ignored, by a `/proc/PID/status`: bit 0 of the mask `SigIgn`.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &ServeArgs, ephemeral: Option<&str>, environment: &[(&str, &str)]) -> BrokerConfig {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sources = sources(args, ephemeral.map(PathBuf::from), environment.collect::<Vec<_>>().into_iter()).unwrap();
        BrokerConfig::resolve(&sources).unwrap()
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.properties");
        std::fs::write(&file, "node.id=2\nnum.partitions=2\nlog.dirs=file\n").unwrap();
        let mut args = ServeArgs { config: Some(file), ..ServeArgs::default() };
        let now = config(&args, None, &[]);
        assert_eq!((now.node_id, now.num_partitions, now.log_dirs[0].to_str()), (2, 2, Some("file")));
        let environment = [("ESKER_NODE_ID", "3"), ("ESKER_NUM_PARTITIONS", "3"), ("ESKER_DATA_DIR", "environment")];
        let now = config(&args, None, &environment);
        assert_eq!((now.node_id, now.num_partitions, now.log_dirs[0].to_str()), (3, 3, Some("environment")));
        args.set = vec!["num.partitions=4".to_owned(), "log.dirs=set".to_owned()];
        args.node_id = Some("4".to_owned());
        args.data_dir = Some("flag".into());
        let now = config(&args, None, &environment);
        assert_eq!((now.node_id, now.num_partitions, now.log_dirs[0].to_str()), (4, 4, Some("flag")));
    }

    #[test]
    fn an_ephemeral_broker_takes_no_place_that_is_known() {
        let environment = [("ESKER_DATA_DIR", "precious"), ("ESKER_LISTEN", "127.0.0.1:9092")];
        let now = config(&ServeArgs::default(), Some("/tmp/x"), &environment);
        assert_eq!((now.log_dirs[0].to_str(), now.listeners[0].port), (Some("/tmp/x"), 0));
        assert_eq!(now.http_listen, "127.0.0.1:0");
        assert_eq!(now.recovery_max_bytes, i64::MAX.unsigned_abs(), "nothing is recovered");
    }

    #[test]
    fn two_signals_within_a_second_are_one_request() {
        use StopRequest::{AtOnce, Clean, Repeated};
        for (at_ms, expected) in [
            (&[0][..], &[Clean][..]),
            (&[0, 1], &[Clean, Repeated]),
            (&[0, 1000], &[Clean, Repeated]),
            (&[0, 1001], &[Clean, AtOnce]),
            (&[0, 1, 2], &[Clean, Repeated, AtOnce]),
            (&[0, 1, 5000], &[Clean, Repeated, AtOnce]),
        ] {
            let (start, mut requests) = (Instant::now(), StopRequests::default());
            let answers = at_ms.iter().map(|ms| requests.next(start + Duration::from_millis(*ms)));
            assert_eq!(answers.collect::<Vec<_>>(), expected, "{at_ms:?}");
        }
    }

    #[test]
    fn an_ignored_hangup_is_left_alone() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n") && !ignores_hangup(""));
    }
}

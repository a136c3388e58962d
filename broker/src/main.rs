//! The `esker` command: a broker when started without a subcommand.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use esker_broker::config::{BrokerConfig, ConfigError, Sources};
use esker_broker::serve::{self, Running};
use esker_broker::telemetry::{LogFormat, init_logging};

/// A Kafka-compatible event log broker. Without a subcommand it starts a broker on 127.0.0.1:9092.
#[derive(Debug, Parser)]
#[command(name = "esker", version, about, long_about = None, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a broker (what `esker` does without a subcommand).
    Serve(ServeArgs),
}

/// Flags of a broker. Any config of Kafka's can be given with --set, in a file with --config, or as ESKER_* in the
/// environment; later ones win, flags last.
#[derive(Debug, Clone, Args)]
struct ServeArgs {
    /// Folder for data (log.dirs).
    #[arg(long, value_name = "DIR", env = "ESKER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Address for Kafka clients; port 0 picks one (listeners).
    #[arg(long, value_name = "HOST:PORT", env = "ESKER_LISTEN")]
    listen: Option<String>,
    /// Address for HTTP: metrics, health, version; port 0 picks one.
    #[arg(long, value_name = "HOST:PORT", env = "ESKER_HTTP")]
    http: Option<String>,
    /// This broker's id in the cluster (node.id).
    #[arg(long, value_name = "N")]
    node_id: Option<i32>,
    /// A server.properties file, as Kafka's.
    #[arg(long, value_name = "FILE", env = "ESKER_CONFIG")]
    config: Option<PathBuf>,
    /// One config of Kafka's; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A broker for tests: random ports, a temporary folder that is removed at the end.
    #[arg(long)]
    ephemeral: bool,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t, env = "ESKER_LOG_FORMAT")]
    log_format: LogFormat,
}

/// Exit code for wrong usage or configuration, as clap's own.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let args = match cli.command {
        Some(Command::Serve(args)) => args,
        None => cli.serve,
    };
    init_logging(args.log_format);
    let ephemeral = match args.ephemeral.then(|| tempfile::Builder::new().prefix("esker-").tempdir()).transpose() {
        Ok(folder) => folder,
        Err(error) => return fail(1, &format!("cannot make a temporary folder: {error}")),
    };
    let config = match configuration(&args, ephemeral.as_ref().map(|folder| folder.path().to_owned())) {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start: {error}")),
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(1, &message),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "esker: {message}");
    ExitCode::from(code)
}

fn configuration(args: &ServeArgs, ephemeral: Option<PathBuf>) -> Result<BrokerConfig, ConfigError> {
    let mut sources = Sources::default();
    if let Some(file) = &args.config {
        sources.file(file)?;
    }
    sources.environment(std::env::vars());
    for pair in &args.set {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        sources.set("--set", name.trim(), value.trim());
    }
    if let Some(folder) = &ephemeral {
        sources.set("--ephemeral", "log.dirs", &folder.display().to_string());
        sources.set("--ephemeral", "listeners", "PLAINTEXT://127.0.0.1:0");
        sources.set("--ephemeral", "http.listen", "127.0.0.1:0");
    }
    if let Some(folder) = &args.data_dir {
        sources.set("--data-dir", "log.dirs", &folder.display().to_string());
    }
    if let Some(listen) = &args.listen {
        let list = if listen.contains("://") { listen.clone() } else { format!("PLAINTEXT://{listen}") };
        sources.set("--listen", "listeners", &list);
    }
    if let Some(http) = &args.http {
        sources.set("--http", "http.listen", http);
    }
    if let Some(id) = args.node_id {
        sources.set("--node-id", "node.id", &id.to_string());
    }
    let config = BrokerConfig::resolve(sources.check()?)?;
    let idle = sources.without_effect();
    if !idle.is_empty() {
        tracing::info!(configs = idle.join(", "), "accepted, without effect in Esker");
    }
    Ok(config)
}

async fn run(config: BrokerConfig) -> Result<(), String> {
    let data = config.log_dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(",");
    let mut stop = StopSignals::new().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let running = serve::start(config).await.map_err(|error| error.to_string())?;
    announce(&running, &data).map_err(|error| format!("cannot write to stdout: {error}"))?;
    stop.wait().await;
    tracing::info!("stopping");
    running.stop().await.map_err(|error| error.to_string())
}

/// The one line on stdout.
fn announce(running: &Running, data: &str) -> std::io::Result<()> {
    let broker = &running.broker;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "esker ready kafka={} http={} data={data} node={} cluster={}",
        running.kafka, running.http, broker.node_id, broker.cluster_id
    )?;
    out.flush()
}

struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

//! The two brokers: how each is found, started on an empty folder, and stopped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use esker_protocol::messages::api_versions::ApiVersionsRequest;

use crate::{Options, Result};
use esker_benches::client::Connection;
use esker_benches::kafka;
use esker_benches::process::{self, Memory};

/// Deleted topics give their memory back to the page cache at once, in both: left for a minute (the default), they would make the rows
/// after them write to memory that a virtual machine has to fetch from its host first, which shows as CPU time of the broker.
const DELETE_DELAY: &str = "log.segment.delete.delay.ms=500";

/// A broker that can be started.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Apache Kafka, from a folder of jars.
    Kafka {
        /// The folder.
        libs: PathBuf,
        /// More lines for its `server.properties`.
        properties: Vec<String>,
    },
    /// Esker.
    Esker {
        /// The program.
        binary: PathBuf,
        /// More arguments.
        args: Vec<String>,
    },
}

/// A broker that runs. It is stopped when dropped.
pub struct Broker {
    /// Where it listens.
    pub address: SocketAddr,
    /// From exec to its first answer.
    pub first_answer: Duration,
    start: Instant,
    child: Child,
}

/// Finds both brokers (or the one asked for), with Kafka's jars from Maven where they are not there yet.
pub fn prepare(options: &Options) -> Result<Vec<Peer>> {
    let wanted = |name: &str| options.peer.as_ref().is_none_or(|peer| peer == name);
    let mut peers = Vec::new();
    if wanted("kafka") {
        let libs = match &options.kafka_libs {
            Some(libs) => libs.clone(),
            None => kafka::libs()?,
        };
        peers.push(Peer::Kafka { libs, properties: Vec::new() });
    }
    if wanted("esker") {
        let beside = std::env::current_exe()?.with_file_name("esker");
        let binary = options.esker.clone().unwrap_or(beside);
        if !binary.is_file() {
            let binary = binary.display();
            return Err(
                format!("{binary} is not there: `cargo build --release` makes it, or name one with --esker").into()
            );
        }
        peers.push(Peer::Esker { binary: fs::canonicalize(binary)?, args: options.esker_arg.clone() });
    }
    if peers.is_empty() { Err("--peer takes \"esker\" or \"kafka\"".into()) } else { Ok(peers) }
}

impl Peer {
    /// How it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kafka { .. } => "kafka",
            Self::Esker { .. } => "esker",
        }
    }

    /// The same with more configs, `name=value` each.
    pub fn with(&self, configs: &[&str]) -> Self {
        let mut other = self.clone();
        match &mut other {
            Self::Kafka { properties, .. } => properties.extend(configs.iter().map(|config| (*config).to_owned())),
            Self::Esker { args, .. } => {
                args.extend(configs.iter().flat_map(|config| ["--set".to_owned(), (*config).to_owned()]));
            }
        }
        other
    }

    /// Starts it on an empty folder and waits for its first answer.
    pub fn start(&self, folder: &Path) -> Result<Broker> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let port = free_port()?;
        if let Self::Kafka { libs, properties } = self {
            kafka_format(libs, properties, folder, port)?;
        }
        self.run(folder, port)
    }

    /// Starts it on the folder that a broker of the kind left, and waits for its first answer.
    pub fn start_again(&self, folder: &Path, port: u16) -> Result<Broker> {
        self.run(folder, port)
    }

    fn run(&self, folder: &Path, port: u16) -> Result<Broker> {
        let mut command = match self {
            Self::Kafka { libs, .. } => kafka::command(libs, folder),
            Self::Esker { binary, args } => {
                let mut command = Command::new(binary);
                command.args(["serve", "--http", "127.0.0.1:0", "--listen"]).arg(format!("127.0.0.1:{port}"));
                command.arg("--data-dir").arg(folder.join("data")).args(["--set", DELETE_DELAY]).args(args);
                command
            }
        };
        let log = File::create(folder.join("broker.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(folder);
        let start = Instant::now();
        let child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut broker = Broker { address, first_answer: Duration::ZERO, start, child };
        while ask(address).is_err() {
            if let Some(status) = broker.child.try_wait()? {
                return Err(format!("it ended at once ({status}): {}", tail(folder)).into());
            }
            if start.elapsed() > Duration::from_secs(120) {
                return Err(format!("no answer in 120 s: {}", tail(folder)).into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        broker.first_answer = start.elapsed();
        Ok(broker)
    }
}

/// One question that every broker answers.
fn ask(address: SocketAddr) -> Result<()> {
    Connection::open(address)?.call(0, &ApiVersionsRequest::default()).map(drop)
}

fn tail(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("broker.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Formats a folder for one node, with the values of Kafka's own server.properties; only ports, paths and replication factors differ.
fn kafka_format(libs: &Path, more: &[String], folder: &Path, port: u16) -> Result<()> {
    let controller = free_port()?;
    let (properties, data) = (folder.join("server.properties"), folder.join("data"));
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             inter.broker.listener.name=PLAINTEXT\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
             socket.receive.buffer.bytes=102400\nsocket.request.max.bytes=104857600\nlog.dirs={}\nnum.partitions=1\n\
             num.recovery.threads.per.data.dir=2\noffsets.topic.replication.factor=1\n\
             share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             log.retention.hours=168\nlog.segment.bytes=1073741824\nlog.retention.check.interval.ms=300000\n{DELETE_DELAY}\n{}\n",
            data.display(),
            more.join("\n")
        ),
    )?;
    kafka::write_log_config(folder)?;
    let class_path = format!("{}/*", libs.display());
    let formatted = Command::new("java")
        .args(["-Xmx256M", "-cp", &class_path, "kafka.tools.StorageTool", "format", "--standalone"])
        .args(["-t", "esker-head-to-head-0000A", "-c"])
        .arg(&properties)
        .output()
        .map_err(|error| format!("cannot run java: {error}"))?;
    if !formatted.status.success() {
        return Err(format!("Kafka could not format its folder: {}", String::from_utf8_lossy(&formatted.stderr)).into());
    }
    Ok(())
}

impl Broker {
    /// CPU seconds used so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.child.id())
    }

    /// Resident memory now.
    pub fn memory(&self) -> Result<Memory> {
        process::memory(self.child.id())
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.start
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, and waits.
    pub fn stop(mut self) -> Result<()> {
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.child.id())?) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err("it does not stop within 60 s".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Gone already after `stop`; else something failed and it must not outlive this program.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The two brokers as clusters of three nodes: how a node of each is configured and started.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use esker_benches::{Result, kafka};

use crate::Options;
use crate::network::Network;

/// Where a node is, and who it is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its id; nodes are counted from 1.
    pub id: usize,
    /// Its host.
    pub host: String,
    /// The port for clients, and between brokers.
    pub port: u16,
    /// The port between Kafka's controllers.
    pub controller_port: u16,
    /// Its data, configs and log.
    pub folder: PathBuf,
}

impl Place {
    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A broker that can be started.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Apache Kafka, from a folder of jars.
    Kafka(PathBuf),
    /// Esker: the program, and more arguments.
    Esker(PathBuf, Vec<String>),
}

impl Peer {
    /// The one that was asked for.
    pub fn of(options: &Options) -> Result<Self> {
        match options.peer.as_str() {
            "kafka" => Ok(Self::Kafka(match &options.kafka_libs {
                Some(libs) => libs.clone(),
                None => kafka::libs()?,
            })),
            "esker" => {
                let beside = std::env::current_exe()?.with_file_name("esker");
                let binary = options.esker.clone().unwrap_or(beside);
                let found = fs::canonicalize(&binary)
                    .map_err(|_| format!("{} is not there: build it, or name one with --esker", binary.display()))?;
                Ok(Self::Esker(found, options.esker_arg.clone()))
            }
            other => Err(format!("--peer takes \"esker\" or \"kafka\", not {other:?}").into()),
        }
    }

    /// Prepares empty folders for all nodes.
    pub fn format(&self, places: &[Place]) -> Result<()> {
        for place in places {
            fs::create_dir_all(&place.folder)?;
        }
        match self {
            Self::Kafka(libs) => places.iter().try_for_each(|place| format_kafka(libs, place, places)),
            Self::Esker(..) => Ok(()),
        }
    }

    /// Starts one node on its folder.
    pub fn start(&self, place: &Place, places: &[Place], network: Option<&Network>) -> Result<Child> {
        let command = match self {
            Self::Kafka(libs) => kafka::command(libs, &place.folder),
            Self::Esker(binary, arguments) => {
                let join: Vec<String> = places.iter().map(Place::address).collect();
                let mut command = Command::new(binary);
                command.args(["serve", "--http", "127.0.0.1:0", "--node-id", &place.id.to_string()]);
                command.args(["--listen", &place.address(), "--join", &join.join(",")]);
                command.arg("--data-dir").arg(place.folder.join("data")).args(arguments);
                command
            }
        };
        let mut command = network.map(|network| network.command(place.id - 1, &command)).unwrap_or(command);
        let log = File::options().create(true).append(true).open(place.folder.join("broker.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&place.folder);
        Ok(command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?)
    }
}

/// The directory ids of controllers are in the first voters of each: they are chosen here.
fn directory(id: usize) -> String {
    format!("fail-over-directory-{id}A")
}

/// The values of Kafka's own server.properties; only ports, paths, replication factors and `min.insync.replicas` differ.
fn format_kafka(libs: &Path, place: &Place, places: &[Place]) -> Result<()> {
    let list = |entry: &dyn Fn(&Place) -> String| places.iter().map(entry).collect::<Vec<_>>().join(",");
    let controllers = list(&|p| format!("{}:{}", p.host, p.controller_port));
    let voters = list(&|p| format!("{}@{}:{}:{}", p.id, p.host, p.controller_port, directory(p.id)));
    let listeners = format!("PLAINTEXT://{},CONTROLLER://{}:{}", place.address(), place.host, place.controller_port);
    let properties = place.folder.join("server.properties");
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\nnode.id={}\ncontroller.quorum.bootstrap.servers={controllers}\n\
             listeners={listeners}\nadvertised.listeners={listeners}\n\
             inter.broker.listener.name=PLAINTEXT\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
             socket.receive.buffer.bytes=102400\nsocket.request.max.bytes=104857600\nlog.dirs={}\nnum.partitions=1\n\
             num.recovery.threads.per.data.dir=2\noffsets.topic.replication.factor=3\n\
             share.coordinator.state.topic.replication.factor=3\nshare.coordinator.state.topic.min.isr=2\n\
             transaction.state.log.replication.factor=3\ntransaction.state.log.min.isr=2\n\
             default.replication.factor=3\nmin.insync.replicas=2\n\
             log.retention.hours=168\nlog.segment.bytes=1073741824\nlog.retention.check.interval.ms=300000\n",
            place.id,
            place.folder.join("data").display(),
        ),
    )?;
    kafka::write_log_config(&place.folder)?;
    let formatted = Command::new("java")
        .args(["-Xmx256M", "-cp", &format!("{}/*", libs.display()), "kafka.tools.StorageTool", "format"])
        .args(["-t", "esker-fail-over-00000A", "--initial-controllers", &voters, "-c"])
        .arg(&properties)
        .output()
        .map_err(|error| format!("cannot run java: {error}"))?;
    if !formatted.status.success() {
        return Err(format!("Kafka could not format its folder: {}", String::from_utf8_lossy(&formatted.stderr)).into());
    }
    Ok(())
}

//! What the broker is started with: defaults, then `server.properties`, then the environment, then flags; later ones win.
//!
//! Names and rules are those of `esker_core::config`'s table. An unknown name, a value that is not allowed, or a protection
//! that is not served stops the start before any data is touched, with all mistakes at once. Configs of Kafka's that only
//! tune and have no effect in Esker are accepted, and one log line names them.

mod cordoned_dirs;
mod error;
mod journal_dirs;
mod kafka_variables;
mod listeners;
mod live;
mod otlp;
mod replication;
mod sources;
#[cfg(test)]
mod tests;
mod values;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use esker_core::config::{Statics, list_items};
use esker_protocol::primitives::Str;

pub use error::{ConfigError, ConfigErrors, Origin};
pub use listeners::{Listener, ListenerError};
pub use live::{LiveConfig, connection_limits};
pub use otlp::{InvalidEndpoint, OtlpEndpoint};
pub use replication::ReplicationConfig;
pub use sources::Sources;
use values::text;

/// The configuration, typed. Names and units are Kafka's.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct BrokerConfig {
    pub statics: Arc<Statics>,
    pub node_id: i32,
    /// `node.id` is given; a node that joins a cluster is given one otherwise.
    pub node_id_given: bool,
    /// `cluster.join` (Esker's own), or `controller.quorum.bootstrap.servers`: nodes of the cluster to join or to form.
    pub join: Vec<Str>,
    /// Whether the node may be a voter of the metadata quorum: `process.roles` has `controller`, or is not set.
    pub may_vote: bool,
    /// `controller.quorum.size` (Esker's own): nodes that become voters by themselves.
    pub quorum_size: usize,
    pub broker_heartbeat_interval: Duration,
    pub broker_session_timeout: Duration,
    pub rack: Option<Str>,
    pub listeners: Vec<Listener>,
    /// Listeners for other nodes only (`controller.listener.names`).
    pub controllers: Vec<Listener>,
    pub advertised: Vec<Listener>,
    /// The name of the listener at which other nodes call this one (`inter.broker.listener.name`).
    pub inter_broker_listener: Str,
    pub http_listen: String,
    pub http_changes: HttpChanges,
    pub log_dirs: Vec<PathBuf>,
    /// `cordoned.log.dirs` of the own configuration: log dirs, or `*`.
    pub cordoned_log_dirs: Vec<String>,
    pub metadata_log_dir: Option<PathBuf>,
    pub recovery_threads: usize,
    pub open_files_max: usize,
    pub socket_request_max_bytes: usize,
    /// `queued.max.request.bytes`; `None` where it is not set.
    pub queued_max_request_bytes: Option<i64>,
    pub socket_buffers: SocketBuffers,
    pub connections_max_idle: Option<Duration>,
    pub num_partitions: i32,
    pub default_replication_factor: i16,
    pub auto_create_topics: bool,
    pub delete_topic_enable: bool,
    pub fetch_max_bytes: i32,
    pub fetch_session_slots: usize,
    /// `replica.*`.
    pub replication: ReplicationConfig,
    pub max_request_partition_size_limit: i32,
    pub retention_check_interval: Duration,
    pub checkpoint_interval: Duration,
    /// `log.recovery.max.bytes` (Esker's own).
    pub recovery_max_bytes: u64,
    /// `log.journal.bytes` (Esker's own).
    pub journal_bytes: u64,
    /// `log.journal.dir` (Esker's own): empty, or a folder for each log dir.
    pub journal_dirs: Vec<PathBuf>,
    pub flush_scheduler_interval: Duration,
    pub cleaner_enable: bool,
    pub log_dir_move_threads: Option<usize>,
    pub group_initial_rebalance_delay_ms: i64,
    /// `group.rebalance.history.size` (Esker's own).
    pub group_rebalance_history_size: usize,
    pub group_min_session_timeout_ms: i32,
    pub group_max_session_timeout_ms: i32,
    pub group_max_size: usize,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: i64,
    pub offsets_retention_check_interval: Duration,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout: Duration,
    pub offsets_topic_partitions: i32,
    pub offsets_topic_replication_factor: i16,
    pub offsets_topic_segment_bytes: i32,
    /// `otlp.endpoint` (Esker's own).
    pub otlp_endpoint: Option<OtlpEndpoint>,
    /// `tracing.sample.ratio` (Esker's own).
    pub tracing_sample_ratio: f64,
    /// `telemetry.max.bytes`.
    pub telemetry_max_bytes: usize,
    /// `add.partitions.to.txn.retry.backoff.max.ms`.
    pub transaction_add_max_wait: Duration,
    pub transaction_max_timeout_ms: i32,
    pub transactional_id_expiration_ms: i64,
    pub transaction_abort_interval_ms: i64,
    pub transaction_expiry_interval_ms: i64,
    pub transaction_verification: bool,
    pub transaction_topic_partitions: i32,
    pub transaction_topic_replication_factor: i16,
    pub transaction_topic_min_isr: i32,
    pub transaction_topic_segment_bytes: i32,
}

/// Who may change the cluster over HTTP (`http.changes`, Esker's own).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HttpChanges {
    /// Requests to a loopback address.
    #[default]
    Loopback,
    /// Requests to any address.
    Any,
    /// None.
    None,
}

impl HttpChanges {
    /// The table allows no other value.
    fn parse(text: &str) -> Self {
        match text {
            "any" => Self::Any,
            "none" => Self::None,
            _ => Self::Loopback,
        }
    }
}

/// Bytes that the system may hold for a connection; `None` lets it choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketBuffers {
    /// To be sent (`socket.send.buffer.bytes`).
    pub send: Option<usize>,
    /// Not yet read (`socket.receive.buffer.bytes`).
    pub receive: Option<usize>,
}

impl BrokerConfig {
    /// Holds what was given against the table, and reads the typed view from it.
    pub fn resolve(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut mistakes = Vec::new();
        let statics = sources.check(&mut mistakes);
        let text = |name: &str| text(&statics, name);
        let long = |name: &str| text(name).and_then(|v| v.parse::<i64>().ok()).unwrap_or_default();
        let int = |name: &str| i32::try_from(long(name)).unwrap_or(i32::MAX);
        let size = |name: &str| usize::try_from(long(name)).unwrap_or(usize::MAX);
        let flag = |name: &str| text(name).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let duration = |name: &str| Duration::from_millis(u64::try_from(long(name)).unwrap_or_default());
        let listeners = listeners::parse(sources, &statics, &mut mistakes);
        let roles = text("process.roles").unwrap_or_default();
        let has_role = |wanted: &str| roles.is_empty() || list_items(&roles).any(|role| role == wanted);
        if !has_role("broker") {
            let expected = "every node of Esker is a broker: broker must be among the roles";
            mistakes.push(sources.invalid_value("process.roles", expected));
        }
        let node_id = statics.0.get("node.id").or_else(|| statics.0.get("broker.id"));
        let dirs = text("log.dirs").filter(|dirs| !dirs.is_empty()).or_else(|| text("log.dir")).unwrap_or_default();
        let log_dirs: Vec<_> = list_items(&dirs).map(PathBuf::from).collect();
        if log_dirs.is_empty() {
            mistakes.push(sources.invalid_value("log.dirs", "at least one folder is needed"));
        }
        let cordoned_log_dirs: Vec<_> =
            list_items(&text("cordoned.log.dirs").unwrap_or_default()).map(str::to_owned).collect();
        if let Err(expected) = cordoned_dirs::check(&cordoned_log_dirs, &log_dirs) {
            mistakes.push(sources.invalid_value("cordoned.log.dirs", &expected));
        }
        let metadata_log_dir = text("metadata.log.dir").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let journal_dirs: Vec<_> =
            list_items(&text("log.journal.dir").unwrap_or_default()).map(PathBuf::from).collect();
        if let Err(expected) = journal_dirs::check(&journal_dirs, &log_dirs, metadata_log_dir.as_deref()) {
            mistakes.push(sources.invalid_value("log.journal.dir", &expected));
        }
        let selector = text("replica.selector.class").unwrap_or_default();
        let is_rack_aware = replication::is_rack_aware(&selector).unwrap_or_else(|expected| {
            mistakes.push(sources.invalid_value("replica.selector.class", &expected));
            false
        });
        let http_listen = text("http.listen").unwrap_or_default();
        if let Err(error) = listeners::host_and_port(&http_listen) {
            mistakes.push(sources.invalid_value("http.listen", &error.to_string()));
        }
        let otlp_endpoint = text("otlp.endpoint").filter(|endpoint| !endpoint.is_empty());
        let otlp_endpoint = otlp_endpoint.and_then(|endpoint| {
            let invalid =
                |error: InvalidEndpoint| mistakes.push(sources.invalid_value("otlp.endpoint", &error.to_string()));
            endpoint.parse::<OtlpEndpoint>().map_err(invalid).ok()
        });
        sources::report(mistakes)?;
        Ok(Self {
            node_id_given: node_id.is_some(),
            node_id: node_id.and_then(|id| id.parse().ok()).unwrap_or(1),
            join: join_list(&text),
            may_vote: has_role("controller"),
            quorum_size: size("controller.quorum.size"),
            broker_heartbeat_interval: duration("broker.heartbeat.interval.ms"),
            broker_session_timeout: duration("broker.session.timeout.ms"),
            rack: text("broker.rack").filter(|rack| !rack.is_empty()).map(Str::from),
            listeners: listeners.open,
            controllers: listeners.controllers,
            advertised: listeners.advertised,
            inter_broker_listener: listeners.inter_broker,
            http_listen,
            http_changes: HttpChanges::parse(&text("http.changes").unwrap_or_default()),
            log_dirs,
            cordoned_log_dirs,
            metadata_log_dir,
            recovery_threads: size("num.recovery.threads.per.data.dir"),
            open_files_max: size("log.open.files.max"),
            socket_request_max_bytes: size("socket.request.max.bytes"),
            queued_max_request_bytes: text("queued.max.request.bytes").and_then(|bytes| bytes.parse().ok()),
            socket_buffers: SocketBuffers {
                send: usize::try_from(long("socket.send.buffer.bytes")).ok(),
                receive: usize::try_from(long("socket.receive.buffer.bytes")).ok(),
            },
            connections_max_idle: Some(duration("connections.max.idle.ms"))
                .filter(|_| long("connections.max.idle.ms") > 0),
            num_partitions: int("num.partitions"),
            default_replication_factor: i16::try_from(long("default.replication.factor")).unwrap_or(1),
            auto_create_topics: flag("auto.create.topics.enable"),
            delete_topic_enable: flag("delete.topic.enable"),
            fetch_max_bytes: int("fetch.max.bytes"),
            fetch_session_slots: size("max.incremental.fetch.session.cache.slots"),
            replication: ReplicationConfig::read(long, is_rack_aware),
            max_request_partition_size_limit: int("max.request.partition.size.limit"),
            retention_check_interval: duration("log.retention.check.interval.ms"),
            checkpoint_interval: duration("replica.high.watermark.checkpoint.interval.ms"),
            recovery_max_bytes: u64::try_from(long("log.recovery.max.bytes")).unwrap_or_default(),
            journal_bytes: u64::try_from(long("log.journal.bytes")).unwrap_or_default(),
            journal_dirs,
            flush_scheduler_interval: duration("log.flush.scheduler.interval.ms"),
            cleaner_enable: flag("log.cleaner.enable"),
            log_dir_move_threads: text("num.replica.alter.log.dirs.threads").and_then(|n| n.parse().ok()),
            group_initial_rebalance_delay_ms: long("group.initial.rebalance.delay.ms"),
            group_rebalance_history_size: size("group.rebalance.history.size"),
            group_min_session_timeout_ms: int("group.min.session.timeout.ms"),
            group_max_session_timeout_ms: int("group.max.session.timeout.ms"),
            group_max_size: size("group.max.size"),
            offset_metadata_max_bytes: size("offset.metadata.max.bytes"),
            offsets_retention_ms: long("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check_interval: duration("offsets.retention.check.interval.ms"),
            offsets_commit_timeout: duration("offsets.commit.timeout.ms"),
            offsets_topic_partitions: int("offsets.topic.num.partitions"),
            offsets_topic_replication_factor: i16::try_from(long("offsets.topic.replication.factor")).unwrap_or(1),
            offsets_topic_segment_bytes: int("offsets.topic.segment.bytes"),
            otlp_endpoint,
            tracing_sample_ratio: text("tracing.sample.ratio").and_then(|v| v.trim().parse().ok()).unwrap_or_default(),
            telemetry_max_bytes: size("telemetry.max.bytes"),
            transaction_add_max_wait: duration("add.partitions.to.txn.retry.backoff.max.ms"),
            transaction_max_timeout_ms: int("transaction.max.timeout.ms"),
            transactional_id_expiration_ms: long("transactional.id.expiration.ms"),
            transaction_abort_interval_ms: long("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
            transaction_expiry_interval_ms: long("transaction.remove.expired.transaction.cleanup.interval.ms"),
            transaction_verification: flag("transaction.partition.verification.enable"),
            transaction_topic_partitions: int("transaction.state.log.num.partitions"),
            transaction_topic_replication_factor: i16::try_from(long("transaction.state.log.replication.factor"))
                .unwrap_or(1),
            transaction_topic_min_isr: int("transaction.state.log.min.isr"),
            transaction_topic_segment_bytes: int("transaction.state.log.segment.bytes"),
            statics: Arc::new(statics),
        })
    }
}

/// The addresses to join: Esker's own config, else what a Kafka config calls the bootstrap servers, or the voters, of the quorum.
fn join_list(text: &impl Fn(&str) -> Option<String>) -> Vec<Str> {
    let list = |name: &str| text(name).map(|list| list_items(&list).map(Str::copy).collect::<Vec<_>>());
    let address = |voter: Str| voter.rsplit_once('@').map_or(voter.clone(), |(_, address)| Str::copy(address));
    let names = ["cluster.join", "controller.quorum.bootstrap.servers", "controller.quorum.voters"];
    let lists = names.iter().filter_map(|name| list(name));
    lists
        .map(|list| list.into_iter().map(address).collect::<Vec<_>>())
        .find(|list| !list.is_empty())
        .unwrap_or_default()
}

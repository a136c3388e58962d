//! What is read off the broker's state when somebody scrapes.

use esker_storage::LoadProgress;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::Metrics;
use crate::broker::Broker;

impl Metrics {
    /// All metrics in Prometheus' text format.
    pub fn scrape(&self, broker: &Broker) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(state(broker)?);
        encode(&families)
    }
}

/// Kafka's states of a broker, as far as one that answers HTTP can be in them.
const RECOVERY: usize = 2;
const RUNNING: usize = 3;
const STATE: (&str, &str) = ("kafka_server_kafkaserver_brokerstate", "2: its logs are being opened; 3: running");

/// What there is to tell before the logs are open.
pub fn scrape_loading(loading: &LoadProgress) -> Result<String, prometheus::Error> {
    let gauges = Gauges(Registry::new());
    gauges.one(STATE.0, STATE.1, RECOVERY)?;
    gauges.one(
        "kafka_log_logmanager_remaininglogstorecover",
        "Logs that are not open yet",
        loading.partitions().left(),
    )?;
    gauges.one(
        "kafka_log_logmanager_remainingsegmentstorecover",
        "Segments to be walked after a crash, of the logs looked at so far",
        loading.segments().left(),
    )?;
    super::process::register(&gauges.0)?;
    encode(&gauges.0.gather())
}

fn encode(families: &[MetricFamily]) -> Result<String, prometheus::Error> {
    let mut text = Vec::new();
    TextEncoder::new().encode(families, &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

struct Gauges(Registry);

impl Gauges {
    fn one(&self, name: &str, help: &str, value: usize) -> Result<(), prometheus::Error> {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.0.register(Box::new(gauge))
    }

    fn many(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }
}

fn state(broker: &Broker) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let gauges = Gauges(Registry::new());
    gauges.one(STATE.0, STATE.1, RUNNING)?;
    let partitions = broker.replicas.partitions();
    let leaders = partitions.iter().filter(|p| p.role().leads).count();
    gauges.one("kafka_server_replicamanager_partitioncount", "Partitions on this broker", partitions.len())?;
    gauges.one("kafka_server_replicamanager_leadercount", "Partitions that this broker leads", leaders)?;
    let image = broker.metadata.image();
    gauges.one("kafka_controller_kafkacontroller_globaltopiccount", "Topics in the cluster", image.topic_count())?;
    let all = image.topics().map(|t| t.partitions.len()).sum();
    gauges.one("kafka_controller_kafkacontroller_globalpartitioncount", "Partitions in the cluster", all)?;
    gauges.one(
        "kafka_controller_kafkacontroller_activebrokercount",
        "Brokers that may lead",
        image.live_brokers().count(),
    )?;
    gauges.one("kafka_controller_kafkacontroller_activecontrollercount", "1 on the active controller", 1)?;
    let (sessions, session_partitions, evictions) = broker.fetch_sessions.lock().counts();
    gauges.one("kafka_server_fetchsessioncache_numincrementalfetchsessions", "Fetch sessions", sessions)?;
    gauges.one(
        "kafka_server_fetchsessioncache_numincrementalfetchpartitionscached",
        "Partitions in fetch sessions",
        session_partitions,
    )?;
    let evictions = usize::try_from(evictions).unwrap_or(usize::MAX);
    gauges.one("esker_fetch_session_evictions", "Fetch sessions given up for others", evictions)?;
    let size = gauges.many("kafka_log_log_size", "Bytes of a partition's log", &["topic", "partition"])?;
    let start = gauges.many("kafka_log_log_logstartoffset", "First offset of a log", &["topic", "partition"])?;
    let end = gauges.many("kafka_log_log_logendoffset", "Next offset of a log", &["topic", "partition"])?;
    let damaged = gauges.many(
        "esker_log_damaged_ranges",
        "Ranges of a log that were on disk and cannot be read any more; partitions without any have no row",
        &["topic", "partition"],
    )?;
    let (mut all_damaged, mut offline) = (0, 0);
    for partition in &partitions {
        let (log, index) = (partition.log(), partition.index().to_string());
        let labels = [partition.topic(), &index];
        size.with_label_values(&labels).set(i64::try_from(log.size_bytes()).unwrap_or(i64::MAX));
        start.with_label_values(&labels).set(log.log_start_offset());
        end.with_label_values(&labels).set(log.log_end_offset());
        let ranges = log.damaged_ranges().len();
        if ranges > 0 {
            damaged.with_label_values(&labels).set(i64::try_from(ranges).unwrap_or(i64::MAX));
        }
        all_damaged += ranges;
        offline += usize::from(log.is_offline());
    }
    let dirs = broker.replicas.logs().dirs().iter().filter(|dir| dir.offline).count();
    gauges.one(
        "kafka_log_logmanager_offlinelogdirectorycount",
        "Log dirs that failed: more than 0 calls for somebody",
        dirs,
    )?;
    gauges.one(
        "kafka_server_replicamanager_offlinereplicacount",
        "Replicas here that lie on a failed log dir",
        offline,
    )?;
    gauges.one("esker_damaged_ranges", "Damaged ranges of all logs: more than 0 calls for somebody", all_damaged)?;
    let offsets = gauges.many(
        "kafka_consumergroup_current_offset",
        "Committed offset of a group",
        &["consumergroup", "topic", "partition"],
    )?;
    let lag = gauges.many(
        "kafka_consumergroup_lag",
        "Records between a group's committed offset and the high watermark",
        &["consumergroup", "topic", "partition"],
    )?;
    for row in broker.groups.lags(&broker.replicas) {
        let labels = [row.group.as_str(), row.topic.as_str(), &row.partition.to_string()];
        offsets.with_label_values(&labels).set(row.committed);
        if let Some(behind) = row.lag {
            lag.with_label_values(&labels).set(behind);
        }
    }
    let groups = gauges.many("esker_groups", "Groups by state", &["state"])?;
    for (state, count) in broker.groups.count_by_state() {
        groups.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    if let Some(cleaner) = &broker.cleaner {
        let stats = cleaner.stats();
        let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let recopied = stats.last.bytes_written.saturating_mul(100).checked_div(stats.last.bytes_read);
        let since = broker.now_ms().saturating_sub(stats.last_look_ms).max(0).cast_unsigned();
        let uncleanable = count(stats.uncleanable_partitions);
        let (clean_time, delay) = (stats.last_seconds.round() as usize, count(stats.max_delay_seconds));
        for (name, help, value) in [
            (
                "logcleaner_cleaner_recopy_percent",
                "Part of what was read that stayed",
                count(recopied.unwrap_or_default()),
            ),
            ("logcleaner_max_clean_time_secs", "Seconds that the last compaction took", clean_time),
            ("logcleaner_max_compaction_delay_secs", "Seconds past max.compaction.lag.ms", delay),
            ("logcleanermanager_uncleanable_partitions_count", "Logs that cannot be compacted", uncleanable),
            ("logcleanermanager_max_dirty_percent", "Dirty part of the dirtiest log", count(stats.max_dirty_percent)),
            ("logcleanermanager_time_since_last_run_ms", "Since compaction last looked", count(since)),
        ] {
            gauges.one(&format!("kafka_log_{name}"), help, value)?;
        }
        gauges.one("esker_log_compactions", "Compactions since the start", count(stats.compactions))?;
    }
    let scrub = broker.scrubber.stats();
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    for (name, help, value) in [
        ("bytes", "Bytes of closed segments that the scrub has checked", count(scrub.bytes)),
        ("segments", "Closed segments that the scrub has checked", count(scrub.segments)),
        ("findings", "Damaged ranges that the scrub has found: more than 0 calls for somebody", count(scrub.findings)),
        ("rounds", "Rounds over all closed segments that came to their end", count(scrub.rounds)),
        (
            "last_round_ms",
            "When the last of them ended, ms since 1970",
            count(scrub.last_round_ms.max(0).cast_unsigned()),
        ),
    ] {
        gauges.one(&format!("esker_scrub_{name}"), help, value)?;
    }
    files(broker, &gauges)?;
    super::process::register(&gauges.0)?;
    Ok(gauges.0.gather())
}

/// Open files, maps, and what was not in memory when it was asked for.
fn files(broker: &Broker, gauges: &Gauges) -> Result<(), prometheus::Error> {
    let (open, cold) = (broker.replicas.logs().open_files(), broker.replicas.logs().cold_reads());
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    for (name, help, value) in [
        ("log_open_files", "Data files of segments that are open", open.files),
        ("log_open_segments", "Segments whose files and maps are kept open", open.segments),
        (
            "log_open_segments_limit",
            "Segments that may be (log.open.files.max, as far as the system allows)",
            open.limit,
        ),
        ("log_maps", "Maps of files", esker_storage::open_maps()),
        ("log_segments_opened", "Times that a segment was opened since the start", count(open.opened)),
        ("log_segments_evicted", "Times that one was let go for another since the start", count(open.evicted)),
        ("cold_reads", "Reads whose data was not in memory since the start", count(cold.reads)),
        ("cold_read_bytes", "Bytes brought into memory for them since the start", count(cold.bytes)),
        ("cold_held_bytes", "Bytes of these that are still held", count(cold.held_bytes)),
    ] {
        gauges.one(&format!("esker_{name}"), help, value)?;
    }
    Ok(())
}

//! What a scrape reads off the state of the broker: partitions, disks, sessions, lags, compaction, the scrub, open files.

use std::sync::Arc;

use esker_core::health::StartStep;
use esker_storage::{JournalStats, LoadProgress};
use prometheus::proto::MetricFamily;

use super::ages::Ages;
use super::encode::encode;
use super::gauges::Gauges;
use super::{cluster, groups, transactions};
use crate::broker::Broker;
use crate::replica::Partition;
use crate::telemetry::register_process;

/// Kafka's states of a broker, as far as one that answers HTTP can be in them.
const STARTING: usize = 1;
const RECOVERY: usize = 2;
const RUNNING: usize = 3;
const STATE: (&str, &str) = (
    "kafka_server_kafkaserver_brokerstate",
    "1: on its way into the cluster; 2: its logs are being opened; 3: running",
);

/// The metrics that exist before the broker works.
pub(in crate::http) fn scrape_start(step: StartStep, loading: &LoadProgress) -> Result<String, prometheus::Error> {
    let gauges = Gauges::default();
    gauges.set_one(STATE.0, STATE.1, if step == StartStep::OpeningLogs { RECOVERY } else { STARTING })?;
    gauges.set_one("esker_broker_fenced", "1: a broker that starts leads nothing", 1)?;
    gauges.set_one(
        "kafka_log_logmanager_remaininglogstorecover",
        "Logs that are not open yet",
        loading.partitions().left(),
    )?;
    gauges.set_one(
        "kafka_log_logmanager_remainingsegmentstorecover",
        "Segments to be walked after a crash, of the logs looked at so far",
        loading.segments().left(),
    )?;
    register_process(gauges.registry())?;
    encode(&gauges.gather())
}

fn purgatory(gauges: &Gauges, partitions: &[Arc<Partition>], on_sessions: usize) -> Result<(), prometheus::Error> {
    let size = gauges.many(
        "kafka_server_delayedoperationpurgatory_purgatorysize",
        "Places of requests that wait, one for each partition that they wait for; an incremental fetch has one for its session",
        &["delayedOperation"],
    )?;
    let pending = partitions.iter().map(|partition| partition.pending_requests());
    let (fetches, produces) = pending.fold((on_sessions, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    for (operation, places) in [("Fetch", fetches), ("Produce", produces)] {
        size.with_label_values(&[operation]).set(i64::try_from(places).unwrap_or(i64::MAX));
    }
    Ok(())
}

pub(super) fn state(broker: &Broker, step: StartStep, ages: &Ages) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let gauges = Gauges::default();
    gauges.set_one(STATE.0, STATE.1, if step == StartStep::Serving { RUNNING } else { STARTING })?;
    let partitions = broker.replicas.partitions();
    cluster::register(broker, &partitions, &gauges)?;
    let (sessions, session_partitions, evictions) = broker.fetch_sessions.counts();
    let followers = broker.follower_sessions.counts();
    let (sessions, session_partitions) = (sessions + followers.0, session_partitions + followers.1);
    let evictions = evictions + followers.2;
    gauges.set_one("kafka_server_fetchsessioncache_numincrementalfetchsessions", "Fetch sessions", sessions)?;
    gauges.set_one(
        "kafka_server_fetchsessioncache_numincrementalfetchpartitionscached",
        "Partitions in fetch sessions",
        session_partitions,
    )?;
    let evictions = usize::try_from(evictions).unwrap_or(usize::MAX);
    gauges.set_one("esker_fetch_session_evictions", "Fetch sessions given up for others", evictions)?;
    let memory = &broker.request_memory;
    for (name, help, value) in [
        ("in_flight", "Bytes reserved for requests that are read or worked on", memory.in_flight()),
        ("limit", "Bytes that there may be of them (queued.max.request.bytes)", memory.limit()),
    ] {
        gauges.set_one(&format!("esker_request_bytes_{name}"), help, value)?;
    }
    gauges.set_one(
        "esker_request_memory_waiting",
        "Connections that wait for memory for a request",
        memory.waiting(),
    )?;
    let size = gauges.many("kafka_log_log_size", "Bytes of a partition's log", &["topic", "partition"])?;
    let start = gauges.many("kafka_log_log_logstartoffset", "First offset of a log", &["topic", "partition"])?;
    let end = gauges.many("kafka_log_log_logendoffset", "Next offset of a log", &["topic", "partition"])?;
    let segments = gauges.many("kafka_log_log_numlogsegments", "Segments of a log", &["topic", "partition"])?;
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
        segments.with_label_values(&labels).set(i64::try_from(log.segment_count()).unwrap_or(i64::MAX));
        let ranges = log.damaged_ranges().len();
        if ranges > 0 {
            damaged.with_label_values(&labels).set(i64::try_from(ranges).unwrap_or(i64::MAX));
        }
        all_damaged += ranges;
        offline += usize::from(log.is_offline());
    }
    let parked = broker.fetch_sessions.parked_fetches() + broker.follower_sessions.parked_fetches();
    purgatory(&gauges, &partitions, parked)?;
    let offline_dir = gauges.many("kafka_log_logmanager_logdirectoryoffline", "1 if it failed", &["logDirectory"])?;
    let dirs = broker.replicas.logs().dirs();
    for dir in &dirs {
        offline_dir.with_label_values(&[&dir.path.to_string_lossy()]).set(i64::from(dir.offline));
    }
    let dirs = dirs.iter().filter(|dir| dir.offline).count();
    gauges.set_one(
        "kafka_log_logmanager_offlinelogdirectorycount",
        "Log dirs that failed: more than 0 calls for somebody",
        dirs,
    )?;
    gauges.set_one(
        "kafka_server_replicamanager_offlinereplicacount",
        "Replicas here that lie on a failed log dir",
        offline,
    )?;
    gauges.set_one(
        "esker_damaged_ranges",
        "Damaged ranges of all logs: more than 0 calls for somebody",
        all_damaged,
    )?;
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
    let seconds = gauges.fine(
        "kafka_consumergroup_lag_seconds",
        "How old the first record is that a group has not consumed; 0 if there is none",
        &["consumergroup", "topic", "partition"],
    )?;
    let rows = broker.groups.lags(&broker.replicas);
    let ages = ages.of(&rows, &broker.replicas, broker.now_ms());
    for (row, age) in rows.iter().zip(ages) {
        let labels = [row.group.as_str(), row.topic.as_str(), &row.partition.to_string()];
        offsets.with_label_values(&labels).set(row.committed);
        if let Some(behind) = row.lag {
            lag.with_label_values(&labels).set(behind);
        }
        if let Some(ms) = age {
            seconds.with_label_values(&labels).set(ms as f64 / 1000.0);
        }
    }
    let groups = gauges.many("esker_groups", "Groups by state", &["state"])?;
    for (state, count) in broker.groups.count_by_state() {
        groups.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    compaction(broker, &gauges)?;
    broker.metrics.flushes.quantiles(&gauges.many(
        "kafka_log_logflushstats_logflushrateandtimems",
        "Rounds of syncs that acknowledgements waited for, in ms, since the start; from the buckets of the histogram",
        &["quantile"],
    )?);
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
        gauges.set_one(&format!("esker_scrub_{name}"), help, value)?;
    }
    groups::register(broker, &gauges)?;
    transactions::register(broker, &gauges)?;
    files(broker, &gauges)?;
    journals(broker, &gauges)?;
    register_process(gauges.registry())?;
    Ok(gauges.gather())
}

/// Compaction: what the last pass did, and how far those are that run.
fn compaction(broker: &Broker, gauges: &Gauges) -> Result<(), prometheus::Error> {
    let Some(cleaner) = &broker.cleaner else { return Ok(()) };
    let stats = cleaner.stats();
    let recopied = stats.last.bytes_written.saturating_mul(100).checked_div(stats.last.bytes_read);
    let since = broker.now_ms().saturating_sub(stats.last_look_ms).max(0).cast_unsigned();
    for (name, help, value) in [
        (
            "kafka_log_logcleaner_cleaner_recopy_percent",
            "Part of what was read that stayed",
            recopied.unwrap_or_default(),
        ),
        (
            "kafka_log_logcleaner_max_clean_time_secs",
            "Seconds that the last compaction took",
            stats.last_seconds.round() as u64,
        ),
        (
            "kafka_log_logcleaner_max_compaction_delay_secs",
            "Seconds past max.compaction.lag.ms",
            stats.max_delay_seconds,
        ),
        (
            "kafka_log_logcleaner_max_buffer_utilization_percent",
            "How full the last compaction's share of log.cleaner.dedupe.buffer.size was",
            stats.last.map_percent,
        ),
        (
            "kafka_log_logcleaner_deadthreadcount",
            "Threads of compaction that have ended: more than 0 calls for somebody",
            broker.cleaner_threads.dead() as u64,
        ),
        (
            "kafka_log_logcleanermanager_uncleanable_partitions_count",
            "Logs that cannot be compacted",
            stats.uncleanable_partitions,
        ),
        ("kafka_log_logcleanermanager_uncleanable_bytes", "Bytes of these", stats.uncleanable_bytes),
        ("kafka_log_logcleanermanager_max_dirty_percent", "Dirty part of the dirtiest log", stats.max_dirty_percent),
        ("kafka_log_logcleanermanager_time_since_last_run_ms", "Since compaction last looked", since),
        ("esker_log_compactions", "Compactions since the start", stats.compactions),
        ("esker_log_compactions_running", "Compactions under way", stats.running.passes),
        ("esker_log_compactions_running_bytes", "Bytes that these have read", stats.running.bytes),
        (
            "esker_log_compactions_running_bytes_in_all",
            "Bytes that they will have read, as far as that is known: what is dirty twice",
            stats.running.bytes_in_all,
        ),
        ("esker_log_compactions_running_records", "Records in what they have read", stats.running.records),
    ] {
        gauges.set_one(name, help, usize::try_from(value).unwrap_or(usize::MAX))?;
    }
    Ok(())
}

/// The journals of the log dirs.
fn journals(broker: &Broker, gauges: &Gauges) -> Result<(), prometheus::Error> {
    type Row = (&'static str, &'static str, fn(&JournalStats) -> u64);
    let rows: [Row; 8] = [
        ("rounds", "Rounds of flushes that the journal took since the start", |stats| stats.rounds),
        ("bytes_written", "Bytes written to the journal since the start", |stats| stats.bytes),
        ("without_room", "Rounds that synced segments because the journal had no room, since the start", |stats| {
            stats.without_room
        }),
        ("damaged", "Places in which the last start found the journal damaged", |stats| stats.damaged),
        ("replayed_bytes", "Bytes that the last start wrote from the journal to segments", |stats| stats.replayed),
        ("prepared_bytes", "Bytes of the journal's files", |stats| stats.prepared),
        ("used_bytes", "Bytes of these that are needed until segments are synced past them", |stats| stats.used),
        ("behind_bytes", "Bytes of these in files that are full and wait for syncs of segments", |stats| stats.behind),
    ];
    for (name, help, value) in rows {
        let gauge = gauges.many(&format!("esker_journal_{name}"), help, &["log_dir"])?;
        for (dir, journal) in broker.replicas.logs().journals() {
            let value = i64::try_from(value(&journal.stats())).unwrap_or(i64::MAX);
            gauge.with_label_values(&[&dir.display().to_string()]).set(value);
        }
    }
    Ok(())
}

/// Open files, maps, and reads of pages that were not in memory.
fn files(broker: &Broker, gauges: &Gauges) -> Result<(), prometheus::Error> {
    let (open, cold) = (broker.replicas.logs().open_files(), broker.replicas.logs().cold_reads());
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let partitions = broker.replicas.partitions();
    let unflushed = partitions.iter().filter_map(|partition| partition.log().unflushed()).map(|(bytes, _)| bytes).sum();
    for (name, help, value) in [
        ("log_open_files", "Data files of segments that are open", open.files),
        ("log_open_segments", "Segments whose files and maps are kept open", open.segments),
        (
            "log_open_segments_limit",
            "Segments that may be (log.open.files.max, as far as the system allows)",
            open.limit,
        ),
        ("log_maps", "Maps of files", broker.replicas.logs().open_maps()),
        (
            "log_maps_unguarded",
            "Maps of files beyond what the SIGBUS handler knows: a file cut by another process ends the broker",
            esker_storage::unguarded_maps(),
        ),
        ("log_segments_opened", "Times that a segment was opened since the start", count(open.opened)),
        ("log_segments_evicted", "Times that one was let go for another since the start", count(open.evicted)),
        (
            "log_unflushed_bytes",
            "Bytes past the recovery points, which a crash would leave to check (log.recovery.max.bytes)",
            count(unflushed),
        ),
        ("cold_reads", "Reads whose data was not in memory since the start", count(cold.reads)),
        ("cold_read_bytes", "Bytes brought into memory for them since the start", count(cold.bytes)),
        ("cold_held_bytes", "Bytes of these that are still held", count(cold.held_bytes)),
    ] {
        gauges.set_one(&format!("esker_{name}"), help, value)?;
    }
    Ok(())
}

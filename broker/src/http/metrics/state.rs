//! What a scrape reads off the state of the broker: disks, sessions, requests that wait, compaction, the scrub, open files.

use std::sync::Arc;

use esker_core::health::StartStep;
use esker_storage::{JournalStats, LoadProgress, LogDirInfo};

use super::scraper::Scraper;
use super::{clients, cluster, groups, network, partitions, transactions};
use crate::broker::Broker;
use crate::build::BUILD;
use crate::replica::Partition;
use crate::telemetry::{Kind, Page, write_process};

/// Kafka's states of a broker, as far as one that answers HTTP can be in them.
const STARTING: usize = 1;
const RECOVERY: usize = 2;
const RUNNING: usize = 3;
const CONTROLLED_SHUTDOWN: usize = 6;

/// Where the broker is between its start and its stop.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Stage {
    pub(in crate::http) step: StartStep,
    pub(in crate::http) is_stopping: bool,
}

impl Stage {
    fn write(self, loading: &LoadProgress, page: &mut Page) {
        let state = match self.step {
            _ if self.is_stopping => CONTROLLED_SHUTDOWN,
            StartStep::Serving => RUNNING,
            StartStep::OpeningLogs => RECOVERY,
            _ => STARTING,
        };
        let help =
            "1: on its way into the cluster; 2: its logs are being opened; 3: running; 6: handing over before its stop";
        page.gauge("kafka_server_kafkaserver_brokerstate", help, state);
        let (logs, segments) = (loading.partitions(), loading.segments());
        for (name, help, value) in [
            ("kafka_log_logmanager_remaininglogstorecover", "Logs that are not open yet", logs.left()),
            (
                "kafka_log_logmanager_remainingsegmentstorecover",
                "Segments to be walked after a crash, of the logs looked at so far",
                segments.left(),
            ),
            ("esker_recovery_logs", "Logs that the start has to open", logs.all),
            ("esker_recovery_logs_done", "Of these, those that are open", logs.done),
            (
                "esker_recovery_segments",
                "Segments that the start has to walk after a crash, as far as it is known",
                segments.all,
            ),
            ("esker_recovery_segments_done", "Of these, those that are walked", segments.done),
        ] {
            page.gauge(name, help, value);
        }
        let labels = ["commit", "version"];
        let mut rows = page.family("esker_build_info", Kind::Gauge, &labels, "1, with the version of this broker");
        rows.add(&[BUILD.commit, BUILD.version], 1_i64);
    }
}

/// The metrics that exist before the broker works.
pub(in crate::http) fn write_start(stage: Stage, loading: &LoadProgress, page: &mut Page) {
    stage.write(loading, page);
    page.gauge("esker_broker_fenced", "1 while the controller has fenced this broker: it leads nothing", 1_i64);
    write_process(page);
}

/// Everything that is read off the state.
pub(super) fn write(broker: &Broker, (stage, loading): (Stage, &LoadProgress), scraper: &Scraper, page: &mut Page) {
    stage.write(loading, page);
    let here = broker.replicas.partitions();
    cluster::write(broker, &here, scraper, page);
    broker.peers.write(page, tokio::time::Instant::now());
    network::write(broker, scraper, page);
    write_sessions(broker, &here, page);
    partitions::write(broker, &here, broker.metadata.raft_status().is_leading, page);
    write_dirs(broker, page);
    groups::write(broker, scraper, page);
    transactions::write(broker, &here, page);
    clients::write(broker, page);
    write_compaction(broker, page);
    write_scrub(broker, page);
    write_files(broker, &here, page);
    write_journals(broker, page);
    write_process(page);
}

/// Fetch sessions, and requests that wait.
fn write_sessions(broker: &Broker, partitions: &[Arc<Partition>], page: &mut Page) {
    let (clients, followers) = (broker.fetch_sessions.counts(), broker.follower_sessions.counts());
    let cache = |name: &str| format!("kafka_server_fetchsessioncache_{name}");
    page.gauge(&cache("numincrementalfetchsessions"), "Fetch sessions", clients.0 + followers.0);
    let help = "Partitions in fetch sessions";
    page.gauge(&cache("numincrementalfetchpartitionscached"), help, clients.1 + followers.1);
    let help = "Fetch sessions given up for others";
    page.counter(&cache("incrementalfetchsessionevictions_total"), help, clients.2 + followers.2);
    let name = "kafka_server_delayedoperationpurgatory_purgatorysize";
    let help = "Places of requests that wait, one for each partition that they wait for; an incremental fetch has one for its session";
    let mut rows = page.family(name, Kind::Gauge, &["delayedOperation"], help);
    let on_sessions = broker.fetch_sessions.parked_fetches() + broker.follower_sessions.parked_fetches();
    let pending = partitions.iter().map(|partition| partition.pending_requests());
    let (fetches, produces) = pending.fold((on_sessions, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    let deletions = partitions.iter().map(|partition| partition.pending_deletions()).sum();
    for (operation, places) in [("Fetch", fetches), ("Produce", produces), ("DeleteRecords", deletions)] {
        rows.add(&[operation], places);
    }
}

/// Queries the file systems, which a network file system that hangs makes wait: the scrape has a thread of its own.
fn write_dirs(broker: &Broker, page: &mut Page) {
    let dirs = broker.replicas.logs().dirs();
    type Row = (&'static str, &'static str, fn(&LogDirInfo) -> i64);
    let rows: [Row; 2] = [
        ("total", "Size of the file system of a log dir", |dir| dir.total_bytes),
        ("usable", "Bytes of it that are free to this broker; several log dirs may share them", |dir| dir.usable_bytes),
    ];
    for (name, help, value) in rows {
        let mut rows = page.family(&format!("esker_log_dir_{name}_bytes"), Kind::Gauge, &["log_dir"], help);
        for dir in dirs.iter().filter(|dir| value(dir) >= 0) {
            rows.add(&[&dir.path.display().to_string()], value(dir));
        }
    }
    let name = "kafka_log_logmanager_logdirectoryoffline";
    let mut rows = page.family(name, Kind::Gauge, &["logDirectory"], "1 if it failed");
    for dir in &dirs {
        rows.add(&[&dir.path.to_string_lossy()], dir.offline);
    }
    drop(rows);
    let offline = dirs.iter().filter(|dir| dir.offline).count();
    let help = "Log dirs that failed: more than 0 calls for an operator";
    page.gauge("kafka_log_logmanager_offlinelogdirectorycount", help, offline);
}

fn write_scrub(broker: &Broker, page: &mut Page) {
    let scrub = broker.scrubber.stats();
    for (name, help, value) in [
        ("bytes", "Bytes of closed segments that the scrub has checked", scrub.bytes),
        ("segments", "Closed segments that the scrub has checked", scrub.segments),
        ("findings", "Damaged ranges that the scrub has found: more than 0 calls for an operator", scrub.findings),
        ("rounds", "Rounds over all closed segments that came to their end", scrub.rounds),
        ("last_round_ms", "When the last of them ended, ms since 1970", scrub.last_round_ms.max(0).cast_unsigned()),
    ] {
        page.gauge(&format!("esker_scrub_{name}"), help, value);
    }
}

/// Compaction: what the last pass did, and how far those are that run.
fn write_compaction(broker: &Broker, page: &mut Page) {
    // Without compaction the metrics are there, too, and show that nothing runs.
    let stats = broker.cleaner.as_ref().map(|cleaner| cleaner.stats()).unwrap_or_default();
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
            "Threads of compaction that have ended: more than 0 calls for an operator",
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
        page.gauge(name, help, value);
    }
}

/// The journals of the log dirs.
fn write_journals(broker: &Broker, page: &mut Page) {
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
        let mut rows = page.family(&format!("esker_journal_{name}"), Kind::Gauge, &["log_dir"], help);
        for (dir, journal) in broker.replicas.logs().journals() {
            rows.add(&[&dir.display().to_string()], value(&journal.stats()));
        }
    }
}

/// Open files, maps, and reads of pages that were not in memory.
fn write_files(broker: &Broker, partitions: &[Arc<Partition>], page: &mut Page) {
    let (open, cold) = (broker.replicas.logs().open_files(), broker.replicas.logs().cold_reads());
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
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
        page.gauge(&format!("esker_{name}"), help, value);
    }
}

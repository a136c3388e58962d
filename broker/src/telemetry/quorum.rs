//! What the metadata quorum and the active controller count: commits, elections, refused and late requests, fail-overs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker_protocol::messages::describe_quorum::FailOver;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::durations::{Durations, micros};
use super::page::{Kind, Page};

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Stands for "none so far".
const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub struct QuorumMetrics {
    commits: Durations,
    elections: Durations,
    queue: Durations,
    last_election_us: AtomicU64,
    last_fail_over_us: AtomicU64,
    last_fail_over: Mutex<Option<FailOver>>,
    fail_overs: AtomicU64,
    timed_out: AtomicU64,
    errors: AtomicU64,
    load_errors: AtomicU64,
    timed_out_heartbeats: AtomicU64,
    unclean_elections: AtomicU64,
    eligible_elections: AtomicU64,
}

impl QuorumMetrics {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            commits: Durations::new(now),
            elections: Durations::new(now),
            queue: Durations::new(now),
            last_election_us: AtomicU64::new(NEVER),
            last_fail_over_us: AtomicU64::new(NEVER),
            last_fail_over: Mutex::new(None),
            fail_overs: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            load_errors: AtomicU64::new(0),
            timed_out_heartbeats: AtomicU64::new(0),
            unclean_elections: AtomicU64::new(0),
            eligible_elections: AtomicU64::new(0),
        }
    }

    /// An entry was committed and applied.
    pub fn record_commit(&self, took: Duration) {
        self.commits.record(took, Instant::now());
    }

    /// This node sees a leader again after so long without one.
    pub fn record_election(&self, took: Duration) {
        self.elections.record(took, Instant::now());
        self.last_election_us.store(micros(took), Ordering::Relaxed);
    }

    /// A request to the controller was decided after so long in its queue.
    pub fn record_queued(&self, took: Duration) {
        self.queue.record(took, Instant::now());
    }

    /// A request to the controller was not answered by its deadline.
    pub fn record_timed_out(&self) {
        self.timed_out.fetch_add(1, Ordering::Relaxed);
    }

    /// A decision panicked, or its records cannot be written.
    pub fn record_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// A record of the metadata log cannot be read.
    pub fn record_load_error(&self) {
        self.load_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Leaders were elected that may lack committed records, and leaders out of eligible leader replicas (KIP-966).
    pub fn record_elections(&self, unclean: u64, eligible: u64) {
        self.unclean_elections.fetch_add(unclean, Ordering::Relaxed);
        self.eligible_elections.fetch_add(eligible, Ordering::Relaxed);
    }

    /// A broker whose session ended is fenced, so long after its last sign of life: others lead from here on.
    pub fn record_fail_over(&self, node_id: i32, at_ms: i64, took: Duration) {
        self.timed_out_heartbeats.fetch_add(1, Ordering::Relaxed);
        self.fail_overs.fetch_add(1, Ordering::Relaxed);
        self.last_fail_over_us.store(micros(took), Ordering::Relaxed);
        let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        *self.last_fail_over.lock() = Some(FailOver { node_id, at_ms, took_ms });
    }

    /// The last fail-over that this node has carried out as the active controller.
    pub fn last_fail_over(&self) -> Option<FailOver> {
        *self.last_fail_over.lock()
    }

    /// Writes all of them.
    pub fn write(&self, page: &mut Page, now: Instant) {
        let controller = |name: &str| format!("kafka_controller_kafkacontroller_{name}");
        for (name, help, counter) in [
            (
                "metadataerrorcount",
                "Decisions of the controller that failed: more than 0 is a fault of Esker",
                &self.errors,
            ),
            (
                "timedoutbrokerheartbeatcount",
                "Brokers that this controller fenced because their session ended",
                &self.timed_out_heartbeats,
            ),
            (
                "eventqueueoperationstimedoutcount",
                "Requests to the controller that were not decided by their deadline",
                &self.timed_out,
            ),
        ] {
            page.gauge(&controller(name), help, load(counter));
        }
        let errors = "Records of the metadata log that cannot be read: more than 0 stops the node's metadata";
        page.gauge("kafka_server_brokermetadatametrics_metadata_load_error_count", errors, load(&self.load_errors));
        for (name, help, counter) in [
            (
                "uncleanleaderelections",
                "Leaders elected by this controller that may lack committed records",
                &self.unclean_elections,
            ),
            (
                "electionfromeligibleleaderreplicas",
                "Leaders elected by this controller out of eligible leader replicas",
                &self.eligible_elections,
            ),
        ] {
            page.counter(&format!("kafka_controller_controllerstats_{name}_total"), help, load(counter));
        }
        let name = "kafka_controller_controllereventmanager_eventqueuetimems";
        let help = "Time that requests to the controller wait to be decided, ms";
        self.queue.write_summary(&mut page.family(name, Kind::Summary, &[], help), &[], now);
        self.write_raft(page, now);
    }

    fn write_raft(&self, page: &mut Page, now: Instant) {
        let (commit_mean, commit_max) = self.commits.mean_and_max_ms(now);
        let (election_mean, election_max) = self.elections.mean_and_max_ms(now);
        for (name, help, value) in [
            (
                "commit_latency_avg",
                "Mean time to commit an entry of the metadata log, ms, of the last minutes",
                commit_mean,
            ),
            ("commit_latency_max", "The longest of these", commit_max),
            (
                "election_latency_avg",
                "Mean time without a leader of the quorum, ms, of the last minutes",
                election_mean,
            ),
            ("election_latency_max", "The longest of these", election_max),
        ] {
            page.gauge(&format!("kafka_server_raftmetrics_{name}"), help, value);
        }
        let help = "Time to commit an entry of the metadata log on the node that leads, ms";
        self.commits.write_summary(&mut page.family("esker_raft_commit_ms", Kind::Summary, &[], help), &[], now);
        for (name, help, counter) in [
            (
                "esker_raft_last_election_seconds",
                "How long this node saw no leader of the quorum the last time; no row before",
                &self.last_election_us,
            ),
            (
                "esker_last_failover_seconds",
                "From the last sign of life of the broker that this controller fenced last to its partitions' new leaders; no row before",
                &self.last_fail_over_us,
            ),
        ] {
            let mut rows = page.family(name, Kind::Gauge, &[], help);
            let micros = load(counter);
            if micros != NEVER {
                rows.add(&[], micros as f64 / 1e6);
            }
        }
        let help = "Brokers fenced by this controller whose session ended";
        page.counter("esker_failovers_total", help, load(&self.fail_overs));
    }
}

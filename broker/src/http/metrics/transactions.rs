//! Metrics of transactions: how many, in which state, and which hang.
//!
//! An open transaction holds back every read-committed consumer behind it. One that lasts longer than the largest transaction
//! time-out hangs: `kafka-transactions.sh find-hanging` shows its producer, and `abort` ends it.

use std::sync::Arc;

use crate::broker::Broker;
use crate::replica::Partition;
use crate::telemetry::{Kind, Page};

/// Past `transaction.max.timeout.ms`, a transaction is late by so much more: its coordinator had time to abort it (as Kafka's).
const LATE_AFTER_MS: i64 = 5 * 60 * 1000;

pub(super) fn write(broker: &Broker, partitions: &[Arc<Partition>], page: &mut Page) {
    let now = broker.now_ms();
    let late_after = i64::from(broker.config.transaction_max_timeout_ms).saturating_add(LATE_AFTER_MS);
    let help = "Since the producer of the oldest open transaction last wrote; partitions without any have no row";
    let mut age = page.family("esker_log_open_transaction_seconds", Kind::Gauge, &["partition", "topic"], help);
    let (mut late, mut producers, mut oldest) = (0, 0, 0);
    for partition in partitions {
        let log = partition.log();
        producers += log.producer_count();
        let Some(open) = log.oldest_open_transaction() else { continue };
        let quiet_ms = now.saturating_sub(open.last_timestamp).max(0);
        age.add(&[&partition.index().to_string(), partition.topic()], quiet_ms / 1000);
        oldest = oldest.max(quiet_ms / 1000);
        late += usize::from(quiet_ms > late_after);
    }
    drop(age);
    let help =
        "Partitions whose oldest transaction is open for longer than any may be: it hangs, and calls for an operator";
    page.gauge("kafka_server_replicamanager_partitionswithlatetransactionscount", help, late);
    page.gauge("kafka_server_replicamanager_produceridcount", "Producers that logs know, one per log", producers);
    page.gauge("esker_oldest_open_transaction_seconds", "The largest esker_log_open_transaction_seconds", oldest);
    let help = "Transactional ids that this broker coordinates";
    let mut states = page.family("esker_transactions", Kind::Gauge, &["state"], help);
    for (state, count) in broker.transactions.count_by_state() {
        states.add(&[state], count);
    }
    drop(states);
    let help = "Partitions of __transaction_state that this broker leads; the log of a failed one cannot be read whole";
    let mut counted = page.family("esker_transaction_coordinator_partitions", Kind::Gauge, &["state"], help);
    let shards = broker.transactions.shards();
    for state in ["loading", "active", "failed"] {
        counted.add(&[state], shards.iter().filter(|shard| shard.state() == Some(state)).count());
    }
    drop(counted);
    let queues = broker.transactions.marker_queues();
    for (name, help, value) in [
        ("unknowndestination", "Markers of transactions whose partition has no leader", queues.leaderless()),
        ("logappendretry", "Transactions whose end could not be recorded yet", queues.unrecorded()),
    ] {
        page.gauge(
            &format!("kafka_coordinator_transaction_transactionmarkerchannelmanager_{name}queuesize"),
            help,
            value,
        );
    }
}

//! Metrics of transactions: how many, in which state, and which hang.
//!
//! An open transaction holds back every read-committed consumer behind it. One that lasts longer than the largest transaction
//! time-out hangs: `kafka-transactions.sh find-hanging` shows its producer, and `abort` ends it.

use super::gauges::Gauges;
use crate::broker::Broker;

/// Past `transaction.max.timeout.ms`, a transaction is late by so much more: its coordinator had time to abort it (as Kafka's).
const LATE_AFTER_MS: i64 = 5 * 60 * 1000;

pub(super) fn register(broker: &Broker, gauges: &Gauges) -> Result<(), prometheus::Error> {
    let now = broker.now_ms();
    let late_after = i64::from(broker.config.transaction_max_timeout_ms).saturating_add(LATE_AFTER_MS);
    let age = gauges.many(
        "esker_log_open_transaction_seconds",
        "Since the producer of the oldest open transaction last wrote; partitions without any have no row",
        &["topic", "partition"],
    )?;
    let (mut late, mut producers, mut oldest) = (0, 0, 0);
    for partition in broker.replicas.partitions() {
        let log = partition.log();
        producers += log.producer_count();
        let Some(open) = log.oldest_open_transaction() else { continue };
        let quiet_ms = now.saturating_sub(open.last_timestamp).max(0);
        age.with_label_values(&[partition.topic(), &partition.index().to_string()]).set(quiet_ms / 1000);
        oldest = oldest.max(quiet_ms / 1000);
        late += usize::from(quiet_ms > late_after);
    }
    gauges.set_one(
        "kafka_server_replicamanager_partitionswithlatetransactionscount",
        "Partitions whose oldest transaction is open for longer than any may be: it hangs, and calls for somebody",
        late,
    )?;
    gauges.set_one(
        "kafka_server_replicamanager_produceridcount",
        "Producers that logs know, one per log",
        producers,
    )?;
    let oldest = usize::try_from(oldest).unwrap_or(usize::MAX);
    gauges.set_one(
        "esker_oldest_open_transaction_seconds",
        "The largest esker_log_open_transaction_seconds",
        oldest,
    )?;
    let states = gauges.many("esker_transactions", "Transactional ids that this broker coordinates", &["state"])?;
    for (state, count) in broker.transactions.count_by_state() {
        states.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let help = "Partitions of __transaction_state that this broker leads; the log of a failed one cannot be read whole";
    let partitions = gauges.many("esker_transaction_coordinator_partitions", help, &["state"])?;
    let shards = broker.transactions.shards();
    for state in ["loading", "active", "failed"] {
        let count = shards.iter().filter(|shard| shard.state() == Some(state)).count();
        partitions.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    Ok(())
}

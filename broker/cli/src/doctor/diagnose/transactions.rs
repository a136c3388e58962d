//! The check of transactions that do not end (KIP-664).

use super::super::facts::{Facts, OpenTransaction, Transaction, TransactionFacts};
use super::super::finding::{Check, Finding};
use esker_records::units::show_count;

const CHECK: Check = Check::Transactions;
/// How long after its timeout a coordinator may take to abort a transaction.
const GRACE_MS: i64 = 60_000;
/// States in which a transaction holds back consumers that read committed records.
const OPEN: [&str; 4] = ["Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"];

/// Transactions that outlive their timeout, and those that no coordinator knows.
pub(super) fn check_transactions(facts: &Facts) -> Vec<Finding> {
    let known = match &facts.transactions {
        Ok(known) => known,
        Err(why) => return vec![Finding::skipped(CHECK, why.clone())],
    };
    let late = known.transactions.iter().filter_map(|transaction| judge(transaction, facts.now_ms));
    let mut findings: Vec<_> = late.collect();
    let hanging = known.open.iter().filter(|open| is_hanging(open, known, facts.now_ms));
    findings.extend(hanging.map(describe_hanging));
    if findings.is_empty() {
        let open = known.transactions.iter().filter(|transaction| is_open(transaction)).count();
        let left_out = match known.partitions_left_out {
            0 => String::new(),
            count => format!("; {} not looked at", show_count(count, "partition was", "partitions were")),
        };
        let open = show_count(open, "open transaction", "open transactions");
        let text = format!("none of {open} hangs{left_out}");
        findings.push(Finding::ok(CHECK, text));
    }
    findings
}

fn is_open(transaction: &Transaction) -> bool {
    OPEN.contains(&transaction.state.as_str())
}

fn judge(transaction: &Transaction, now_ms: i64) -> Option<Finding> {
    let age = now_ms.saturating_sub(transaction.started_ms?);
    let late = is_open(transaction) && age > transaction.timeout_ms.saturating_add(GRACE_MS);
    late.then(|| {
        let Transaction { id, state, timeout_ms, .. } = transaction;
        let text = format!(
            "transaction '{id}' is {state} for {} s, and its timeout is {} s: consumers of committed records wait",
            age / 1000,
            timeout_ms / 1000
        );
        let advice = format!("see `esker txn describe {id}`; `esker txn abort {id}` aborts an ongoing one");
        Finding::error(CHECK, text, advice)
    })
}

/// Whether a transaction is open in a partition, older than any transaction may be, and not in the hands of a coordinator.
fn is_hanging(open: &OpenTransaction, known: &TransactionFacts, now_ms: i64) -> bool {
    let age = now_ms.saturating_sub(open.last_timestamp_ms);
    let coordinated = known.transactions.iter().any(|transaction| {
        transaction.producer_id == open.producer_id
            && is_open(transaction)
            && transaction.partitions.contains(&open.partition)
    });
    age > known.max_timeout_ms.saturating_add(GRACE_MS) && !coordinated
}

fn describe_hanging(open: &OpenTransaction) -> Finding {
    let OpenTransaction { partition, producer_id, start_offset, .. } = open;
    let text = format!(
        "a transaction of producer {producer_id} hangs in {partition} since offset {start_offset}: no coordinator knows \
         it, and consumers of committed records wait"
    );
    let advice = format!(
        "abort it with Kafka's tool: kafka-transactions.sh --bootstrap-server HOST:PORT abort --topic {} --partition {} \
         --start-offset {start_offset}",
        partition.topic, partition.partition
    );
    Finding::error(CHECK, text, advice)
}

#[cfg(test)]
mod tests {
    use esker_client::TopicPartition;

    use super::super::super::finding::Severity;
    use super::super::test_facts::{assert_worst, healthy};
    use super::*;

    const MAX: i64 = 900_000;

    fn facts_with(transactions: Vec<Transaction>, open: Vec<OpenTransaction>, now_ms: i64) -> Facts {
        let mut facts = healthy();
        facts.now_ms = now_ms;
        let known = TransactionFacts { transactions, open, max_timeout_ms: MAX, partitions_left_out: 0 };
        facts.transactions = Ok(known);
        facts
    }

    fn transaction(state: &str) -> Transaction {
        Transaction {
            id: "id".to_owned(),
            state: state.to_owned(),
            producer_id: 4,
            started_ms: Some(0),
            timeout_ms: 60_000,
            partitions: vec![TopicPartition::new("t", 0)],
        }
    }

    fn open() -> OpenTransaction {
        OpenTransaction {
            partition: TopicPartition::new("t", 0),
            producer_id: 4,
            start_offset: 9,
            last_timestamp_ms: 0,
        }
    }

    #[test]
    fn transactions_past_their_timeout() {
        for (state, now_ms, severity) in [
            ("Ongoing", 60_000 + GRACE_MS, Severity::Ok),
            ("Ongoing", 60_001 + GRACE_MS, Severity::Error),
            ("PrepareCommit", 60_001 + GRACE_MS, Severity::Error),
            ("CompleteCommit", 60_001 + GRACE_MS, Severity::Ok),
            ("Empty", 60_001 + GRACE_MS, Severity::Ok),
        ] {
            let facts = facts_with(vec![transaction(state)], Vec::new(), now_ms);
            assert_worst(&check_transactions(&facts), severity, &[]);
        }
    }

    #[test]
    fn transactions_that_no_coordinator_knows() {
        let old = MAX + GRACE_MS + 1;
        let hangs = facts_with(Vec::new(), vec![open()], old);
        assert_worst(
            &check_transactions(&hangs),
            Severity::Error,
            &["producer 4 hangs in t-0 since offset 9", "--topic t"],
        );
        let young = facts_with(Vec::new(), vec![open()], old - 1);
        assert_worst(&check_transactions(&young), Severity::Ok, &[]);
        let ended = facts_with(vec![transaction("CompleteAbort")], vec![open()], old);
        assert_worst(&check_transactions(&ended), Severity::Error, &["hangs in t-0"]);
        let mut ongoing = transaction("Ongoing");
        ongoing.started_ms = None;
        let coordinated = facts_with(vec![ongoing.clone()], vec![open()], old);
        assert_worst(&check_transactions(&coordinated), Severity::Ok, &["none of 1 open"]);
        ongoing.partitions.clear();
        let elsewhere = facts_with(vec![ongoing], vec![open()], old);
        assert_worst(&check_transactions(&elsewhere), Severity::Error, &[]);
    }
}

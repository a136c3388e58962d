//! What is written in each phase, and what must be there after it: records in all codecs, a compacted topic, offsets of a group, transactions, configs.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use esker_protocol::Request;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::ProduceRequest;
use esker_protocol::records::BatchBuilder;
use esker_tests::cluster::find;
use esker_tests::wire::{Wire, produce_request, produced};

use super::nodes::Nodes;

/// Records of each topic and phase.
const RECORDS: usize = 60;
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// The transactional id, and the topic that it writes to.
const ID: &str = "ledger-writer";
const LEDGER: &str = "ledger";
/// The version of Produce that adds partitions to the transaction.
const ADDS_PARTITIONS: i16 = 12;
const ANSWER: Duration = Duration::from_secs(5);

fn values(phase: usize) -> impl Iterator<Item = String> {
    (0..RECORDS).map(move |n| format!("phase {phase} record {n}"))
}

/// Writes the records, offsets, transactions and configs of a phase.
pub fn write(nodes: &Nodes, phase: usize) {
    let factor = nodes.count().min(3).to_string();
    let create = ["topic", "create", "--if-not-exists", "-r", &factor];
    if phase == 0 {
        nodes.cli(&[&create[..], &["plain", "-p", "3", "-c", "segment.bytes=1048576"]].concat(), "");
        nodes.cli(&[&create[..], &["latest", "-p", "1", "-c", "cleanup.policy=compact"]].concat(), "");
        nodes.cli(&[&create[..], &[LEDGER, "-p", "1"]].concat(), "");
        nodes.cli(&[&create[..], &["gone", "-p", "2"]].concat(), "");
        nodes.cli(&["produce", "gone"], "one\ntwo\n");
        nodes.cli(&["topic", "delete", "gone"], "");
    }
    let lines: String = values(phase).map(|value| format!("{value}\n")).collect();
    nodes.cli(&["produce", "plain", "-z", CODECS[phase % CODECS.len()], "-H", "phase=yes"], &lines);
    let keyed: String = (0..RECORDS).map(|n| format!("key {}={phase}\n", n % 7)).collect();
    nodes.cli(&["produce", "latest", "-k", "="], &keyed);
    // The group reads on where it stopped in the phase before.
    let read = nodes.cli(&["consume", "plain", "-g", "readers", "-o", "start", "-n", &RECORDS.to_string()], "");
    assert_eq!(read.lines().map(str::to_owned).collect::<BTreeSet<_>>(), values(phase).collect(), "phase {phase}");
    for (commits, value) in [(true, "kept"), (false, "aborted")] {
        transaction(nodes, commits, &format!("{value} {phase}"));
    }
    nodes.cli(&["config", "set", "topic", "plain", &format!("retention.ms={}", 1_000_000_000 + phase)], "");
    nodes.cli(&["config", "set", "broker", "default", &format!("log.cleaner.threads={}", 1 + phase % 3)], "");
    nodes.cli(&["config", "set", "group", "readers", &format!("consumer.session.timeout.ms={}", 50_000 + phase)], "");
}

/// Finds all that the phases wrote.
pub fn verify(nodes: &Nodes, phases: Range<usize>) {
    let last = phases.end - 1;
    let lines = |arguments: &[&str]| nodes.cli(arguments, "").lines().map(str::to_owned).collect::<Vec<_>>();
    let mut found = lines(&["consume", "plain", "-e"]);
    let mut written: Vec<String> = phases.clone().flat_map(values).collect();
    found.sort();
    written.sort();
    assert_eq!(found, written);
    let latest: BTreeSet<String> = lines(&["consume", "latest", "-e", "-f", "%k=%s\n"]).into_iter().collect();
    assert!((0..7).all(|key| latest.contains(&format!("key {key}={last}"))), "{latest:?}");
    let kept: Vec<String> = phases.clone().map(|phase| format!("kept {phase}")).collect();
    assert_eq!(lines(&["consume", LEDGER, "-e", "--read-committed"]), kept);
    let all: Vec<String> = phases.flat_map(|phase| [format!("kept {phase}"), format!("aborted {phase}")]).collect();
    assert_eq!(lines(&["consume", LEDGER, "-e"]), all);
    assert_eq!(lines(&["topic", "list"]).iter().filter(|line| line.contains("gone")).count(), 0);
    for (kind, name, key, value) in [
        ("topic", "plain", "retention.ms", 1_000_000_000 + last),
        ("broker", "default", "log.cleaner.threads", 1 + last % 3),
        ("group", "readers", "consumer.session.timeout.ms", 50_000 + last),
    ] {
        let config = nodes.cli(&["config", "get", kind, name, key], "");
        assert!(config.contains(&value.to_string()), "{kind} {name}: {config}");
    }
    let described = nodes.cli(&["group", "describe", "readers", "--json"], "");
    assert!(described.contains("\"lag\": 0") && !described.contains("\"lag\": 1"), "{described}");
}

/// One record in a transaction of its own.
fn transaction(nodes: &Nodes, committed: bool, value: &str) {
    let init = InitProducerIdRequest {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    let (producer_id, producer_epoch) = find("a producer id", || {
        let answer = ask_coordinator(nodes, 5, &init)?;
        (answer.error_code == ErrorCode::NONE).then_some((answer.producer_id, answer.producer_epoch))
    });
    let mut batch = BatchBuilder::new(Compression::None).producer(producer_id, producer_epoch, 0).transactional(true);
    batch.append(0, 1, None, Some(value.as_bytes()), &[]);
    let batch = batch.build().unwrap();
    let request = ProduceRequest { transactional_id: Some(ID.into()), ..produce_request(LEDGER, 0, -1, batch) };
    // All but the leader refuse it.
    find("an acknowledgement", || {
        nodes.addresses().iter().find_map(|address| {
            let answer = Wire::new(*address, ANSWER).ask(ADDS_PARTITIONS, &request).ok()?;
            (produced(&answer).error_code == ErrorCode::NONE).then_some(())
        })
    });
    let end = EndTxnRequest { transactional_id: ID.into(), producer_id, producer_epoch, committed };
    find("the end of a transaction", || (ask_coordinator(nodes, 5, &end)?.error_code == ErrorCode::NONE).then_some(()));
}

fn ask_coordinator<R: Request>(nodes: &Nodes, version: i16, request: &R) -> Option<R::Response> {
    let lookup =
        FindCoordinatorRequest { key_type: 1, coordinator_keys: vec![ID.into()], ..FindCoordinatorRequest::default() };
    let found = nodes.addresses().iter().find_map(|address| Wire::new(*address, ANSWER).ask(4, &lookup).ok())?;
    let found = found.coordinators.into_iter().next().filter(|found| !found.error_code.is_error())?;
    let address = format!("{}:{}", found.host, found.port).parse().ok()?;
    Wire::new(address, ANSWER).ask(version, request).ok()
}

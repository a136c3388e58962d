//! The command line against a real broker: what it prints, and the exit codes that scripts rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::io::Write;
use std::process::{Command, Output, Stdio};

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::{Esker, ask, binary};

/// Runs `esker ARGUMENTS` with `input` on standard input.
fn run(esker: &Esker, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(binary())
        .args(arguments)
        .args(["--bootstrap", &esker.kafka.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What it prints when all goes well.
fn good(esker: &Esker, arguments: &[&str], input: &str) -> String {
    let output = run(esker, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn topics_are_made_changed_and_deleted() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    good(&esker, &["topic", "create", "t", "-p", "3", "-c", "retention.ms=100000"], "");
    assert!(good(&esker, &["topic", "list"], "").lines().any(|line| line.split_whitespace().next() == Some("t")));
    let described = good(&esker, &["topic", "describe", "t"], "");
    assert!(described.contains("retention.ms") && described.contains("100000"), "{described}");
    good(&esker, &["topic", "alter", "t", "-p", "5", "-d", "retention.ms"], "");
    let described: serde_json::Value =
        serde_json::from_str(&good(&esker, &["topic", "describe", "t", "--json"], "")).unwrap();
    assert!(described.to_string().contains("\"partition\":4"), "{described}");
    assert!(!described.to_string().contains("100000"), "{described}");
    let again = run(&esker, &["topic", "create", "t"], "");
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exist"), "it says why");
    good(&esker, &["topic", "delete", "t"], "");
    assert_eq!(run(&esker, &["topic", "describe", "t"], "").status.code(), Some(1));
    assert_eq!(run(&esker, &["topic", "create"], "").status.code(), Some(2), "wrong usage");
    assert_eq!(run(&esker, &["topic", "create", "u", "-c", "retention.mss=1"], "").status.code(), Some(1));
    let broker = good(&esker, &["broker"], "");
    assert!(broker.contains(&esker.kafka.port().to_string()), "{broker}");
}

#[test]
fn several_topics_at_once() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    good(&esker, &["topic", "create", "a", "b", "-p", "2"], "");
    let again = run(&esker, &["topic", "create", "a", "c", "-p", "1"], "");
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(String::from_utf8(again.stdout).unwrap(), "created c\n", "the others are created");
    assert_eq!(good(&esker, &["topic", "create", "a", "d", "--if-not-exists"], ""), "exists a\ncreated d\n");
    let described = |names: &[&str]| -> serde_json::Value {
        serde_json::from_str(&good(&esker, &[&["topic", "describe", "--json"], names].concat(), "")).unwrap()
    };
    assert_eq!(described(&[]).as_array().unwrap().len(), 4);
    assert_eq!(described(&["b", "a"])[0]["name"], "b");
    assert_eq!(described(&["b"])["name"], "b");
    assert_eq!(run(&esker, &["topic", "describe", "a", "none"], "").status.code(), Some(1));
    assert_eq!(run(&esker, &["topic", "delete", "none", "a"], "").status.code(), Some(1));
    let deleted = good(&esker, &["topic", "delete", "a", "b", "--if-exists", "--json"], "");
    let deleted: serde_json::Value = serde_json::from_str(&deleted).unwrap();
    assert_eq!((&deleted[0]["outcome"], &deleted[1]["outcome"]), (&"missing".into(), &"deleted".into()));
}

#[test]
fn offsets_are_listed_and_records_deleted() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    good(&esker, &["topic", "create", "t", "-p", "1"], "");
    good(&esker, &["topic", "create", "wide", "-p", "2"], "");
    good(&esker, &["produce", "t"], "one\ntwo\nthree\n");
    let offsets = |more: &[&str]| -> serde_json::Value {
        let printed = good(&esker, &[&["topic", "offsets", "t", "--json"], more].concat(), "");
        let rows: serde_json::Value = serde_json::from_str(&printed).unwrap();
        rows[0].clone()
    };
    assert_eq!((&offsets(&[])["start_offset"], &offsets(&[])["end_offset"]), (&0.into(), &3.into()));
    assert_eq!(offsets(&["-t", "-1h"])["offset"], 0);
    assert!(offsets(&["-t", "2199-01-01"])["offset"].is_null(), "no record is that late");
    assert!(good(&esker, &["topic", "offsets", "t"], "").starts_with("PARTITION  START  END\n0          0      3\n"));
    assert_eq!(run(&esker, &["topic", "offsets", "t", "-t", "soon"], "").status.code(), Some(2));
    let delete = |more: &[&str]| run(&esker, &[&["topic", "delete-records"], more].concat(), "");
    let planned = delete(&["t", "--to", "2", "--json"]);
    let planned: serde_json::Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!((&planned["dry_run"], &planned["partitions"][0]["deleted_offsets"]), (&true.into(), &2.into()));
    assert_eq!(offsets(&[])["start_offset"], 0, "nothing is deleted without --yes");
    assert!(delete(&["t", "--to", "2", "--yes"]).status.success());
    assert_eq!(offsets(&[])["start_offset"], 2);
    assert!(delete(&["t", "--to", "latest", "-p", "0", "--yes"]).status.success());
    assert_eq!(offsets(&[])["start_offset"], 3);
    for wrong in [&["t", "--to", "9"][..], &["t", "--to", "x"], &["wide", "--to", "0"], &["t", "--to", "0", "-p", "7"]]
    {
        assert_eq!(delete(wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert!(delete(&["wide", "--to", "latest", "--yes"]).status.success());
}

#[test]
fn configs_of_all_kinds_are_set_and_unset() {
    let esker = Esker::spawn(&["serve", "--ephemeral", "--node-id", "1"]);
    good(&esker, &["topic", "create", "t", "-p", "1"], "");
    let get = |more: &[&str]| -> serde_json::Value {
        let printed = good(&esker, &[&["config", "get", "--json"], more].concat(), "");
        serde_json::from_str(&printed).unwrap()
    };
    for (kind, name, config) in [
        ("topic", "t", "retention.ms=100000"),
        ("group", "g", "consumer.session.timeout.ms=50000"),
        ("broker", "1", "log.retention.ms=200000"),
        ("broker", "default", "log.retention.ms=300000"),
        ("client-metrics", "m", "interval.ms=60000"),
        ("broker-logger", "1", "esker_broker::raft=DEBUG"),
    ] {
        let (key, value) = config.split_once('=').unwrap();
        good(&esker, &["config", "set", kind, name, config], "");
        let row = &get(&[kind, name, key])[0];
        assert_eq!((&row["name"], &row["value"]), (&key.into(), &value.into()), "{kind}");
        assert!(row["source"].as_str().unwrap().starts_with("DYNAMIC_"), "{row}");
        let set = good(&esker, &["config", "get", kind, name], "");
        assert!(set.contains(key), "{set}");
        good(&esker, &["config", "unset", kind, name, key], "");
        let left = get(&[kind, name]).to_string();
        assert!(!left.contains(&format!("\"{value}\"")), "{left}");
    }
    assert!(get(&["topic", "t", "--all"]).as_array().unwrap().len() > 10);
    let refused = |arguments: &[&str]| run(&esker, &[&["config"], arguments].concat(), "").status.code();
    assert_eq!(refused(&["get", "topic", "none"]), Some(1));
    assert_eq!(refused(&["get", "topic", "t", "retention.mss"]), Some(1));
    assert_eq!(refused(&["set", "topic", "t", "retention.ms=x"]), Some(1));
    assert_eq!(refused(&["set", "topic", "t", "retention.ms"]), Some(2));
    assert_eq!(refused(&["get", "broker", "x"]), Some(2));
    assert_eq!(refused(&["get", "shelf", "x"]), Some(2));
}

#[test]
fn lines_go_in_and_come_out_as_asked() {
    let esker = Esker::spawn(&["serve", "--ephemeral", "--set", "group.initial.rebalance.delay.ms=0"]);
    good(&esker, &["topic", "create", "t", "-p", "1"], "");
    let produce = ["produce", "t", "-k", ":", "-H", "from=test", "-z", "lz4", "-Z"];
    good(&esker, &produce, "a:one\nb:two\na:\n");
    let consume = |more: &[&str]| good(&esker, &[&["consume", "t", "-e"], more].concat(), "");
    assert_eq!(consume(&["-o", "start"]), "one\ntwo\n\n");
    assert_eq!(consume(&["-o", "1", "-f", "%t/%p/%o %k=%s %h\\n", "-n", "1"]), "t/0/1 b=two from=test\n");
    assert_eq!(consume(&["-o", "-1", "-f", "%o\\n"]), "2\n");
    assert_eq!(consume(&["-o", "end"]), "");
    assert_eq!(consume(&["-o", "@0", "-n", "2"]), "one\ntwo\n");
    assert_eq!(consume(&["-o", "@99999999999999"]), "", "nothing is as new as that");
    assert_eq!(consume(&[]), "one\ntwo\n\n", "with -e it begins at the start");
    assert_eq!(consume(&["-o", "-1h", "-n", "1"]), "one\n");
    assert_eq!(consume(&["-o", "2020-01-01T00:00:00Z", "-n", "1"]), "one\n");
    assert_eq!(consume(&["-o", "2199-01-01"]), "");
    let unknown = run(&esker, &["consume", "t", "-e", "-f", "%x"], "");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("%T time"), "it lists the known ones");
    let rows: Vec<serde_json::Value> =
        consume(&["-o", "start", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["key"], &rows[0]["value"]), (3, &"a".into(), &"one".into()));
    assert!(rows[2]["value"].is_null(), "a tombstone");
    assert_eq!(consume(&["-g", "g", "-o", "start"]).lines().count(), 3);
    good(&esker, &["produce", "t"], "late\n");
    assert_eq!(consume(&["-g", "g"]), "late\n", "the group goes on where it was");
    assert!(good(&esker, &["group", "list"], "").contains('g'));
    let group = good(&esker, &["group", "describe", "g"], "");
    assert!(group.contains('t') && group.contains('4'), "{group}");
    assert_eq!(run(&esker, &["consume", "none", "-e"], "").status.code(), Some(1));
    assert_eq!(run(&esker, &["consume", "t", "-o", "sideways"], "").status.code(), Some(2));
}

#[test]
fn a_bad_line_is_named_and_loses_no_other() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    good(&esker, &["topic", "create", "c", "-p", "1", "-c", "cleanup.policy=compact"], "");
    // A compacted topic refuses records without keys; all lines are one batch.
    let produced = run(&esker, &["produce", "c", "-k", r"\t", "--json"], "a\tone\nkeyless\nb\ttwo\n");
    assert_eq!(produced.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&produced.stderr);
    assert!(stderr.contains("line 2: ") && stderr.contains("1 of 3 records"), "{stderr}");
    let summary: serde_json::Value = serde_json::from_slice(&produced.stdout).unwrap();
    assert_eq!((&summary["records"], &summary["failed"]), (&2.into(), &1.into()));
    assert_eq!(summary["partitions"][0]["last_offset"], 1);
    assert_eq!(good(&esker, &["consume", "c", "-e", "-f", "%k=%s\\n"], ""), "a=one\nb=two\n");
    let produced = run(&esker, &["produce", "c", "-k", r"\x3d"], "c=three\n");
    let stderr = String::from_utf8_lossy(&produced.stderr);
    assert!(stderr.contains("produced 1 record to c: partition 0 offsets 2 to 2"), "{stderr}");
    assert_eq!(run(&esker, &["produce", "c", "-k", r"\q"], "").status.code(), Some(2));
    let missing = run(&esker, &["produce", "c", "-p", "9", "-k", ":"], "d:four\n");
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("line 1: "));
}

/// What may be read ends at the last stable offset: a reader of committed records gets no further while a transaction is open.
#[test]
fn a_reader_of_committed_records_ends_before_an_open_transaction() {
    let esker = Esker::spawn(&["serve", "--ephemeral", "--set", "transaction.state.log.num.partitions=1"]);
    good(&esker, &["topic", "create", "t", "-p", "1"], "");
    let mut stream = esker.connect();
    let find = FindCoordinatorRequest { key: "id".into(), key_type: 1, ..FindCoordinatorRequest::default() };
    while ask(&mut stream, 3, &find).error_code.is_error() {}
    let init = InitProducerIdRequest {
        transactional_id: Some("id".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    let identity = loop {
        // Its partition of the state topic may still be loading.
        let answer = ask(&mut stream, 5, &init);
        if answer.error_code == ErrorCode::NONE {
            break (answer.producer_id, answer.producer_epoch);
        }
    };
    let mut write = |(id, epoch): (i64, i16), value: &str| {
        let mut batch = BatchBuilder::new(Compression::None).producer(id, epoch, 0).transactional(true);
        batch.append(0, 1, None, Some(value.as_bytes()), &[]);
        let records = Some(batch.build().unwrap());
        let topic = TopicProduceData {
            name: "t".into(),
            partition_data: vec![PartitionProduceData { index: 0, records }],
            ..TopicProduceData::default()
        };
        let transactional_id = Some("id".into());
        let request = ProduceRequest { transactional_id, acks: -1, timeout_ms: 10_000, topic_data: vec![topic] };
        loop {
            let code = ask(&mut stream, 12, &request).responses[0].partition_responses[0].error_code;
            if code == ErrorCode::NONE {
                break;
            }
            assert_eq!(code, ErrorCode::CONCURRENT_TRANSACTIONS, "the transaction before has all its markers soon");
        }
    };
    write(identity, "committed");
    let (producer_id, producer_epoch) = identity;
    let end = EndTxnRequest { transactional_id: "id".into(), producer_id, producer_epoch, committed: true };
    let ended = ask(&mut esker.connect(), 5, &end);
    assert_eq!(ended.error_code, ErrorCode::NONE);
    write((ended.producer_id, ended.producer_epoch), "open");
    let consume = |more: &[&str]| good(&esker, &[&["consume", "t", "-e", "--read-committed", "-o"], more].concat(), "");
    assert_eq!(consume(&["start"]), "committed\n");
    assert_eq!(consume(&["-1"]), "", "the last stable record is a marker");
    assert_eq!(consume(&["end"]), "");
    assert_eq!(consume(&["start", "-g", "g"]), "committed\n");
    assert_eq!(good(&esker, &["consume", "t", "-e", "-o", "start"], ""), "committed\nopen\n");

    // The open transaction is listed, described and aborted.
    let listed: serde_json::Value =
        serde_json::from_str(&good(&esker, &["txn", "list", "--state", "Ongoing", "--json"], "")).unwrap();
    assert_eq!((&listed[0]["transactional_id"], &listed[0]["state"]), (&"id".into(), &"Ongoing".into()));
    let described = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&good(&esker, &[arguments, &["--json"]].concat(), "")).unwrap()
    };
    let transaction = described(&["txn", "describe", "id"]);
    assert_eq!((&transaction["partitions"][0]["topic"], &transaction["timeout_ms"]), (&"t".into(), &60_000.into()));
    assert_eq!(described(&["txn", "abort", "id"])["dry_run"], true);
    assert_eq!(described(&["txn", "describe", "id"])["state"], "Ongoing", "nothing is aborted without --yes");
    assert_ne!(described(&["txn", "abort", "id", "--yes"])["state"], "Ongoing");
    good(&esker, &["produce", "t"], "later\n");
    assert_eq!(consume(&["start"]), "committed\nlater\n", "the aborted record is gone, and holds nothing back");
    assert_eq!(run(&esker, &["txn", "abort", "id", "--yes"], "").status.code(), Some(1), "nothing is open");
    assert_eq!(run(&esker, &["txn", "describe", "none"], "").status.code(), Some(1));
    assert_eq!(run(&esker, &["txn", "list", "--state", "Sideways"], "").status.code(), Some(2));
}

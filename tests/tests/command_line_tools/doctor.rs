//! `esker doctor`.

use std::net::SocketAddr;

use esker_tests::Esker;
use esker_tests::cluster::{Cluster, find, wait_until};
use serde_json::Value;

use super::{good, produce, run, stderr};

/// The report, and the exit code.
fn examine(at: SocketAddr, flags: &[&str]) -> (Value, i32) {
    let output = run(at, &[&["doctor", "--json"], flags].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    (report, output.status.code().unwrap())
}

/// Severity and text of the findings of a check.
fn findings<'a>(report: &'a Value, check: &str) -> Vec<(&'a str, &'a str)> {
    let all = report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    all.map(|finding| (finding["severity"].as_str().unwrap(), finding["text"].as_str().unwrap())).collect()
}

#[track_caller]
fn assert_found(report: &Value, check: &str, severity: &str, part: &str) {
    let found = findings(report, check);
    assert!(found.iter().any(|(s, text)| *s == severity && text.contains(part)), "{check}: {found:?}");
}

/// The exit code that the counts of the report stand for: the disk and the limits of the host are not the test's.
fn expected_code(report: &Value) -> i32 {
    match (report["errors"].as_u64().unwrap(), report["warnings"].as_u64().unwrap()) {
        (0, 0) => 0,
        (0, _) => 3,
        _ => 1,
    }
}

#[test]
fn a_healthy_broker_passes_every_check() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let at = esker.kafka;
    good(at, &["topic", "create", "t", "-p", "2", "-c", "durability=page-cache"]);
    let http = esker.http.to_string();
    let (report, code) = examine(at, &["--http", &http, "--sample", "100ms"]);
    assert_eq!(code, expected_code(&report));
    for check in ["addresses", "replication", "voters", "groups", "transactions", "clocks"] {
        assert_found(&report, check, "ok", "");
    }
    assert_found(&report, "racks", "skipped", "broker.rack");
    assert_found(&report, "durability", "warning", "t-0, t-1");
    assert!(findings(&report, "disks").iter().all(|(_, text)| text.contains('%')), "{report}");
    assert!(findings(&report, "files").iter().all(|(severity, _)| *severity != "skipped"), "{report}");
    let (report, _) = examine(at, &["--http", "127.0.0.1:1"]);
    assert_found(&report, "clocks", "skipped", "127.0.0.1:1");
    let (report, _) = examine(at, &[]);
    assert_found(&report, "files", "skipped", "--http");
    assert!(String::from_utf8_lossy(&run(at, &["doctor"]).stdout).contains("ok       addresses"));
    for wrong in [&["--http", "node"][..], &["--sample", "x"], &["--timeout", "0s"]] {
        assert_eq!(run(at, &[&["doctor"], wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn addresses_that_clients_cannot_use_are_named() {
    for (advertised, part) in
        [("PLAINTEXT://127.0.0.1:1", "no connection"), ("PLAINTEXT://no-such-host.invalid:9092", "cannot resolve")]
    {
        let set = format!("advertised.listeners={advertised}");
        let esker = Esker::spawn(&["serve", "--ephemeral", "--set", &set]);
        let (report, code) = examine(esker.kafka, &["--timeout", "2s"]);
        assert_eq!(code, 1, "{report}");
        assert_found(&report, "addresses", "error", part);
        assert_found(&report, "groups", "skipped", "cannot be reached");
    }
}

#[test]
fn a_lost_node_is_explained() {
    let mut cluster = Cluster::start_steady(3);
    let at = cluster.address(0);
    good(at, &["topic", "create", "t", "-p", "3", "-r", "3"]);
    good(at, &["topic", "create", "alone", "-p", "1", "-r", "1"]);
    cluster.wait_in_sync("t");
    produce(at, "t", "1\n2\n");
    good(at, &["consume", "t", "-g", "idle", "-o", "start", "-n", "1"]);
    let expected = [
        ("addresses", "ok", "3 of 3 brokers"),
        ("voters", "ok", "1 may fail"),
        ("replication", "warning", "alone"),
        ("groups", "warning", "idle (lag 1)"),
    ];
    wait_until("the report of a whole cluster", || {
        let (report, _) = examine(at, &[]);
        expected.iter().all(|(check, severity, part)| {
            findings(&report, check).iter().any(|(found, text)| found == severity && text.contains(part))
        })
    });
    let lost = cluster.node_id(2);
    cluster.kill(2);
    let fenced = format!("broker {lost} is fenced");
    let is_explained = |report: &Value| {
        findings(report, "replication").iter().any(|(_, text)| text.contains(&fenced) && text.contains("t-0"))
            && findings(report, "voters").iter().any(|(_, text)| text.contains("one more loss"))
    };
    let report = find("the lost node in the report", || {
        let (report, code) = examine(at, &[]);
        (is_explained(&report) && code == 1).then_some(report)
    });
    assert_found(&report, "voters", "warning", &format!("voter {lost}"));
    cluster.restart(2);
    wait_until("all well again", || {
        let (report, _) = examine(at, &[]);
        findings(&report, "voters").iter().all(|(severity, _)| *severity == "ok") && !is_explained(&report)
    });
}

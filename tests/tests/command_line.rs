//! The command line against a real broker: what it prints, and the exit codes that scripts rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::io::Write;
use std::process::{Command, Output, Stdio};

use esker_tests::{Esker, binary};

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

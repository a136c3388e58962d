//! `esker bench`.

use esker_tests::Esker;

use super::{good, json, refused};

#[test]
fn records_are_produced_and_consumed_and_counted() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let at = esker.kafka;
    let text = refused(at, &["bench", "produce", "load", "--duration", "1s"], 1);
    assert!(text.contains("--partitions"), "{text}");
    let flags =
        ["bench", "produce", "load", "--partitions", "3", "--rate", "500", "--size", "200", "--concurrency", "2"];
    let flags = [&flags[..], &["--duration", "1s", "--warm-up", "200ms", "-z", "lz4"]].concat();
    // A process that stands still for the whole of its second counts nothing.
    let mut runs = (0..10).map(|_| json(at, &flags));
    let run = runs.find(|run| run["records"].as_u64() != Some(0)).unwrap();
    let records = run["records"].as_u64().unwrap();
    // Each of the two counts what was due in the second and up to 2 ms before it: a record that is not later counts when it is sent.
    assert!((1..=510).contains(&records), "the rate is kept: {run}");
    assert_eq!((&run["bytes"], &run["failed"]), (&(records * 200).into(), &0.into()));
    let latency = &run["latency_ms"];
    assert!(latency["p50"].as_f64().unwrap() <= latency["max"].as_f64().unwrap(), "{run}");
    assert_eq!(run["settings"]["compression"], "lz4");
    let read = json(at, &["bench", "consume", "load", "--concurrency", "2", "--duration", "30s"]);
    let offsets = json(at, &["topic", "offsets", "load"]);
    let written: u64 = offsets.as_array().unwrap().iter().map(|row| row["end_offset"].as_u64().unwrap()).sum();
    assert_eq!(read["records"], written, "it ends at the end of the topic");
    assert!(read["seconds"].as_f64().unwrap() < 30.0);
    let table = good(at, &["bench", "produce", "load", "--duration", "300ms", "--warm-up", "0s", "--acks", "1"]);
    assert!(table.contains("RECORDS/S") && table.contains("P99.9"), "{table}");
}

#[test]
fn wrong_flags_are_refused() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let at = esker.kafka;
    for wrong in [
        &["produce", "t", "--acks", "2"][..],
        &["produce", "t", "--duration", "0s"],
        &["produce", "t", "--rate", "0"],
        &["produce", "t", "-z", "zip"],
        &["produce", "t", "--concurrency", "0"],
        &["consume", "t", "--from", "middle"],
        &["consume", "t", "--max-wait", "x"],
    ] {
        refused(at, &[&["bench"], wrong].concat(), 2);
    }
    assert!(refused(at, &["bench", "consume", "none"], 1).contains("none"));
}

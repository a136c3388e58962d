//! Metrics as operators know them: each name of Kafka's dashboards and alerts is served or has a reason why not, and the table of all metrics
//! is that of the broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use esker_protocol::messages::api_versions::ApiVersionsRequest;
use esker_tests::{Esker, ask};

/// The metrics that operators know, with their labels.
const NAMES: &str = include_str!("names.tsv");
/// Where the table lies.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/METRICS.md");

/// Names in the first column of a table's part, with the third column.
fn rows_of(part: &str) -> BTreeMap<String, Vec<String>> {
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (name, rest) = row.split_once('`').expect("a name");
        let labels = rest.split(" | ").nth(2).unwrap_or_default();
        (name.to_owned(), labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect())
    })
    .collect()
}

/// A row of a scrape: its name, and its labels without their values.
fn parse_row(line: &str) -> (&str, Vec<String>) {
    let end = line.find(['{', ' ']).expect("a name");
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    while let Some((label, value)) = rest.strip_prefix(['{', ',']).and_then(|rest| rest.split_once("=\"")) {
        labels.push(label.to_owned());
        let mut escaped = false;
        let ends = |c: char| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        };
        let end = value.find(ends).expect("the end of a value");
        rest = &value[end + 1..];
    }
    (name, labels)
}

#[test]
fn each_metric_is_in_the_table_and_each_of_the_table_is_served() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    ask(&mut esker.connect(), 0, &ApiVersionsRequest::default());
    let table = esker.http_get("/metrics/table");
    let known = std::fs::read_to_string(TABLE).unwrap_or_default();
    assert!(
        table == known,
        "deploy/METRICS.md is not what this broker serves: curl http://{}/metrics/table > deploy/METRICS.md",
        esker.http
    );
    let (served, _) = table.split_once("## Not served").expect("both parts");
    let documented = rows_of(served);
    let scrape = esker.http_get("/metrics");
    let kinds: BTreeMap<&str, &str> =
        scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let names: BTreeSet<&str> = documented.keys().map(String::as_str).collect();
    assert_eq!(kinds.keys().copied().collect::<BTreeSet<_>>(), names);
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = parse_row(line);
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let family = name.strip_suffix(suffix)?;
            kinds.get(family).is_some_and(|kind| ["summary", "histogram"].contains(kind)).then_some(family)
        });
        let family = family.unwrap_or(name);
        let expected = documented.get(family).unwrap_or_else(|| panic!("{line} is of no metric of the table"));
        let found: Vec<&String> = labels.iter().filter(|label| !["le", "quantile"].contains(&label.as_str())).collect();
        // A row without labels may be the sum of the others.
        assert!(found.is_empty() || found.into_iter().eq(expected), "{line}: expected {expected:?}");
    }
}

#[test]
fn each_name_that_dashboards_read_is_served_or_has_a_reason() {
    let table = std::fs::read_to_string(TABLE).expect("deploy/METRICS.md");
    let (served, not_served) = table.split_once("## Not served").expect("both parts");
    let (served, not_served) = (rows_of(served), rows_of(not_served));
    let mut missing = Vec::new();
    for line in NAMES.lines().filter(|line| !line.starts_with('#')) {
        let [_, name, labels] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let labels: Vec<&str> = labels.split(',').filter(|label| !label.is_empty() && *label != "quantile").collect();
        match served.get(name) {
            Some(found) if *found == labels => {}
            Some(found) => missing.push(format!("{name} has labels {found:?}, not {labels:?}")),
            None if not_served.contains_key(name) => {}
            None => missing.push(format!("{name} is neither served nor explained")),
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_scrape_is_compressed_for_a_scraper_that_takes_it() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let mut stream = TcpStream::connect(esker.http).expect("the HTTP port is open");
    let request = "GET /metrics HTTP/1.1\r\nHost: esker\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("an end of the head");
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert_eq!(answer[end + 4..end + 6], [0x1f, 0x8b]);
    assert!(answer.len() * 3 < esker.http_get("/metrics").len());
}

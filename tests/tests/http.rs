//! `/v1` of a real broker: every operation of its OpenAPI document, what it refuses, and that it costs nothing before it is used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::http::{HttpAnswer, change, get, send};
use esker_tests::{Esker, PATIENCE, ask, binary};
use serde_json::{Value, json};

const FEW: [&str; 8] = [
    "serve",
    "--ephemeral",
    "--set",
    "transaction.state.log.num.partitions=1",
    "--set",
    "offsets.topic.num.partitions=1",
    "--set",
    "group.initial.rebalance.delay.ms=0",
];

/// What a request answers once what it needs is there.
fn eventually(what: &str, mut look: impl FnMut() -> HttpAnswer, is_it: impl Fn(&HttpAnswer) -> bool) -> HttpAnswer {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = look();
        if is_it(&answer) {
            return answer;
        }
        assert!(Instant::now() < until, "{what}: {answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A change that must succeed.
fn good(esker: &Esker, method: &str, path: &str, body: &Value) -> Value {
    let answer = change(esker.http, method, path, body);
    assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    answer.json()
}

/// A problem with a status and the name of Kafka's error code.
fn assert_problem(answer: &HttpAnswer, status: u16, error_name: Option<&str>) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["error_name"].as_str(), error_name, "{problem}");
    assert_eq!(problem["error_code"].is_null(), error_name.is_none(), "{problem}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
}

fn command_line(esker: &Esker, arguments: &[&str]) -> Value {
    let output =
        Command::new(binary()).args(arguments).args(["--bootstrap", &esker.kafka.to_string()]).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn produce(esker: &Esker, topic: &str, records: i32) {
    let mut builder = BatchBuilder::new(Compression::None);
    for delta in 0..records {
        builder.append(delta, 1, None, Some(b"v"), &[]);
    }
    send_batch(esker, topic, None, builder);
}

fn send_batch(esker: &Esker, topic: &str, transactional_id: Option<&'static str>, mut builder: BatchBuilder) {
    let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
    let topic = TopicProduceData { name: topic.to_owned().into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest {
        transactional_id: transactional_id.map(Into::into),
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic],
    };
    let answer = ask(&mut esker.connect(), 12, &request);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE, "{answer:?}");
}

#[test]
fn what_is_served_is_in_the_document_and_the_other_way_around() {
    let esker = Esker::spawn(&FEW);
    let document = get(esker.http, "/v1/openapi.json").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{document}");
    let paths = document["paths"].as_object().unwrap();
    let index = get(esker.http, "/").json();
    let listed = |path: &str| index["paths"].as_array().unwrap().iter().find(|entry| entry["path"] == path).cloned();
    for (path, item) in paths {
        let entry = listed(path).unwrap_or_else(|| panic!("{path} is not in the list: {index}"));
        let filled = path.replace("{kind}", "topic").replace("{id}", "77").replace(['{', '}'], "");
        for method in ["GET", "POST", "PATCH", "DELETE", "PUT"] {
            let documented = item.get(method.to_lowercase()).is_some();
            let is_listed = entry["methods"].as_array().unwrap().contains(&method.into());
            assert_eq!(documented, is_listed, "{method} {path}");
            // A field that no request has: nothing is changed.
            let answer = change(esker.http, method, &filled, &json!({"no_such_field": 1}));
            assert_eq!(answer.status != 405, documented, "{method} {path}: {answer:?}");
            assert!(answer.status < 500, "{method} {path}: {answer:?}");
            assert!(!answer.body.contains("no such path"), "{method} {path}: {answer:?}");
        }
    }
    let unknown = get(esker.http, "/v1/nothing");
    assert_problem(&unknown, 404, None);
    let refused = change(esker.http, "PUT", "/v1/topics", &json!({}));
    assert_problem(&refused, 405, None);
    assert!(refused.header("Allow").unwrap().contains("POST"), "{refused:?}");
    let page = send(esker.http, "GET", "/", &[("Host", "localhost"), ("Accept", "text/html,*/*")], "").unwrap();
    assert!(page.body.contains("<a href=\"/v1/topics\">") && page.head.contains("text/html"), "{page:?}");
}

#[test]
fn topics_and_configs_are_read_and_changed() {
    let esker = Esker::spawn(&FEW);
    let body = json!({"name": "t", "partitions": 3, "configs": {"retention.ms": "100000"}});
    let mut dry = body.clone();
    dry["dry_run"] = true.into();
    assert_eq!(good(&esker, "POST", "/v1/topics", &dry)["outcome"], "valid");
    assert_problem(&get(esker.http, "/v1/topics/t"), 404, Some("UNKNOWN_TOPIC_OR_PARTITION"));
    let created = change(esker.http, "POST", "/v1/topics", &body);
    assert_eq!((created.status, created.header("Location")), (201, Some("/v1/topics/t")), "{created:?}");
    assert_eq!(created.json()["partitions"], 3);
    assert_problem(&change(esker.http, "POST", "/v1/topics", &body), 409, Some("TOPIC_ALREADY_EXISTS"));
    let bad = json!({"name": "a b"});
    assert_problem(&change(esker.http, "POST", "/v1/topics", &bad), 400, Some("INVALID_TOPIC_EXCEPTION"));
    let bad = json!({"name": "u", "configs": {"retention.mss": "1"}});
    assert_problem(&change(esker.http, "POST", "/v1/topics", &bad), 400, Some("INVALID_CONFIG"));

    let topic = get(esker.http, "/v1/topics/t").json();
    assert_eq!(topic["configs"], json!({"retention.ms": "100000"}), "{topic}");
    good(&esker, "PATCH", "/v1/topics/t", &json!({"partitions": 5}));
    assert_eq!(get(esker.http, "/v1/topics/t").json()["partitions"], 5);
    let fewer = change(esker.http, "PATCH", "/v1/topics/t", &json!({"partitions": 5}));
    assert_problem(&fewer, 400, Some("INVALID_PARTITIONS"));

    produce(&esker, "t", 4);
    let page = get(esker.http, "/v1/topics/t/partitions?limit=2").json();
    assert_eq!((&page["next"], page["partitions"].as_array().unwrap().len()), (&1.into(), 2), "{page}");
    let first = &page["partitions"][0];
    assert_eq!((&first["leader"], &first["end_offset"], &first["elr"]), (&1.into(), &4.into(), &json!([])), "{first}");
    assert!(first["sizes"][0]["bytes"].as_u64().unwrap() > 0, "{first}");
    let last = get(esker.http, "/v1/topics/t/partitions?limit=9&after=3").json();
    assert_eq!((&last["next"], &last["partitions"][0]["partition"]), (&Value::Null, &4.into()), "{last}");
    // The fields of the command line have the same names.
    let described = command_line(&esker, &["topic", "describe", "t", "--json"]);
    for (name, value) in described["partitions"][0].as_object().unwrap() {
        assert_eq!(&first[name], value, "{name}");
    }

    for name in ["a", "b", "c"] {
        good(&esker, "POST", "/v1/topics", &json!({"name": name}));
    }
    let page = get(esker.http, "/v1/topics?limit=2&after=a").json();
    assert_eq!((&page["topics"][0]["name"], &page["next"]), (&"b".into(), &"c".into()), "{page}");
    assert_eq!(get(esker.http, "/v1/topics?after=c").json()["topics"][0]["name"], "t");

    let change_configs = |body: &Value| change(esker.http, "PATCH", "/v1/configs/topic/t", body);
    let changed = change_configs(&json!({"set": {"max.message.bytes": "2000"}, "unset": ["retention.ms"]}));
    assert_eq!((changed.status, &changed.json()["outcome"]), (200, &"changed".into()), "{changed:?}");
    let configs = get(esker.http, "/v1/configs/topic/t").json();
    assert_eq!(configs["configs"], command_line(&esker, &["config", "get", "topic", "t", "--json"]));
    assert!(configs.to_string().contains("\"2000\""), "{configs}");
    assert!(get(esker.http, "/v1/configs/topic/t?all=true").body.contains("DEFAULT_CONFIG"));
    assert_problem(&change_configs(&json!({"set": {"max.message.bytes": "x"}})), 400, Some("INVALID_CONFIG"));
    assert_problem(&change_configs(&json!({})), 400, None);
    assert_problem(&get(esker.http, "/v1/configs/table/t"), 400, None);
    assert_problem(&get(esker.http, "/v1/configs/broker/x"), 400, None);
    assert!(get(esker.http, "/v1/configs/broker/1?all=true").body.contains("http.changes"));

    good(&esker, "DELETE", "/v1/topics/t", &Value::Null);
    let again = change(esker.http, "DELETE", "/v1/topics/t", &Value::Null);
    assert_problem(&again, 404, Some("UNKNOWN_TOPIC_OR_PARTITION"));
}

#[test]
fn groups_are_read_set_to_other_offsets_and_deleted() {
    let esker = Esker::spawn(&FEW);
    good(&esker, "POST", "/v1/topics", &json!({"name": "t", "partitions": 2}));
    produce(&esker, "t", 10);
    assert_problem(&get(esker.http, "/v1/groups/g%2Fx"), 404, Some("GROUP_ID_NOT_FOUND"));
    let seek = |body: Value| change(esker.http, "POST", "/v1/groups/g/offsets", &body);
    let dry = seek(json!({"topic": "t", "to": "latest", "dry_run": true})).json();
    assert_eq!((&dry["dry_run"], &dry["offsets"][0]["new_committed"]), (&true.into(), &10.into()), "{dry}");
    assert_eq!(get(esker.http, "/v1/groups").json()["groups"], json!([]), "nothing is changed");
    let offsets = json!([{"topic": "t", "partition": 0, "offset": 4}, {"topic": "t", "partition": 1, "offset": 0}]);
    assert_eq!(seek(json!({"offsets": offsets})).status, 200);
    let group = get(esker.http, "/v1/groups/g").json();
    let first = &group["offsets"][0];
    assert_eq!((&first["committed"], &first["end"], &first["lag"]), (&4.into(), &10.into(), &6.into()), "{group}");
    assert_eq!((&group["state"], &group["coordinator"]), (&"Empty".into(), &1.into()), "{group}");
    for (name, value) in command_line(&esker, &["group", "describe", "g", "--json"]).as_object().unwrap() {
        assert_eq!(&group[name], value, "{name}");
    }
    let page = get(esker.http, "/v1/groups/g?limit=1").json();
    assert_eq!((&page["next"], page["offsets"].as_array().unwrap().len()), (&"t-0".into(), 1), "{page}");
    let page = get(esker.http, "/v1/groups/g?limit=1&after=t-0").json();
    assert_eq!((&page["next"], &page["offsets"][0]["partition"]), (&Value::Null, &1.into()), "{page}");
    assert_eq!(get(esker.http, "/v1/groups").json()["groups"], command_line(&esker, &["group", "list", "--json"]));

    assert_eq!(seek(json!({"to": "earliest"})).json()["offsets"][0]["new_committed"], 0);
    assert_eq!(seek(json!({"timestamp": 1_i64 << 50})).json()["offsets"][0]["new_committed"], 10);
    let outside = seek(json!({"offsets": [{"topic": "t", "partition": 0, "offset": 11}]}));
    assert_problem(&outside, 400, None);
    assert!(outside.body.contains("from 0 to 10"), "{outside:?}");
    assert_problem(&seek(json!({"to": "earliest", "timestamp": 1})), 400, None);
    assert_problem(&seek(json!({"to": "nowhere"})), 400, None);
    assert_problem(&seek(json!({"topic": "none", "to": "latest"})), 404, Some("UNKNOWN_TOPIC_OR_PARTITION"));

    assert_eq!(get(esker.http, "/v1/groups/g/rebalances").json()["rebalances"], json!([]));
    assert_problem(&get(esker.http, "/v1/groups/none/rebalances"), 404, None);
    good(&esker, "DELETE", "/v1/groups/g", &Value::Null);
    let again = change(esker.http, "DELETE", "/v1/groups/g", &Value::Null);
    assert_problem(&again, 404, Some("GROUP_ID_NOT_FOUND"));
}

#[test]
fn transactions_are_read_and_aborted() {
    let esker = Esker::spawn(&FEW);
    good(&esker, "POST", "/v1/topics", &json!({"name": "t"}));
    let init = InitProducerIdRequest {
        transactional_id: Some("id".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    let until = Instant::now() + PATIENCE;
    let producer = loop {
        // The coordinator is found, and its topic created, by the first request to it.
        let described = get(esker.http, "/v1/transactions/id");
        assert_problem(&described, 404, Some("TRANSACTIONAL_ID_NOT_FOUND"));
        let answer = ask(&mut esker.connect(), 4, &init);
        if answer.error_code == ErrorCode::NONE {
            break answer;
        }
        assert!(answer.error_code.is_retriable() && Instant::now() < until, "{}", answer.error_code);
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut builder = BatchBuilder::new(Compression::None)
        .producer(producer.producer_id, producer.producer_epoch, 0)
        .transactional(true);
    builder.append(0, 1, None, Some(b"v"), &[]);
    send_batch(&esker, "t", Some("id"), builder);

    let listed = get(esker.http, "/v1/transactions?state=Ongoing").json();
    assert_eq!(listed["transactions"], command_line(&esker, &["txn", "list", "--state", "Ongoing", "--json"]));
    assert_eq!(listed["transactions"][0]["transactional_id"], "id");
    assert_problem(&get(esker.http, "/v1/transactions?state=Sideways"), 400, None);
    let transaction = get(esker.http, "/v1/transactions/id").json();
    assert_eq!(transaction, command_line(&esker, &["txn", "describe", "id", "--json"]));
    assert_eq!(transaction["partitions"], json!([{"topic": "t", "partition": 0}]), "{transaction}");
    let abort = |body: Value| change(esker.http, "POST", "/v1/transactions/id/abort", &body);
    let dry = abort(json!({"dry_run": true})).json();
    assert_eq!((&dry["dry_run"], &dry["state"]), (&true.into(), &"Ongoing".into()));
    let aborted = abort(json!({}));
    assert_eq!((aborted.status, &aborted.json()["dry_run"]), (200, &false.into()), "{aborted:?}");
    assert_ne!(aborted.json()["state"], "Ongoing");
    eventually("nothing is open", || abort(json!({})), |answer| answer.status == 409);
}

#[test]
fn the_cluster_and_its_node_are_read() {
    let esker = Esker::spawn(&FEW);
    let cluster = get(esker.http, "/v1/cluster").json();
    assert_eq!((&cluster["controller"], &cluster["nodes"][0]["quorum"]), (&1.into(), &"leader".into()), "{cluster}");
    assert_eq!(cluster.get("last_fail_over"), Some(&Value::Null), "{cluster}");
    let document = get(esker.http, "/v1/openapi.json").json();
    let fields = &document["components"]["schemas"]["FailOverReport"]["properties"];
    assert!(["node_id", "at_ms", "took_ms"].iter().all(|field| fields[field].is_object()), "{fields}");
    let status = command_line(&esker, &["cluster", "status", "--json"]);
    assert_eq!(cluster["cluster_id"], status["cluster_id"]);
    let nodes = get(esker.http, "/v1/nodes").json();
    assert_eq!((&nodes["nodes"][0]["id"], &nodes["nodes"][0]["fenced"]), (&1.into(), &false.into()), "{nodes}");
    let node = get(esker.http, "/v1/nodes/1").json();
    assert_eq!((&node["cordoned"], &node["log_dirs"][0]["offline"]), (&false.into(), &false.into()), "{node}");
    assert_problem(&get(esker.http, "/v1/nodes/9"), 404, None);
    assert_problem(&get(esker.http, "/v1/nodes/one"), 404, None);
    assert_eq!(get(esker.http, "/v1/reassignments").json(), json!({"reassignments": [], "next": null}));
    assert_eq!(good(&esker, "POST", "/v1/reassignments/cancel", &json!({}))["cancelled"], 0);
    let drained = change(esker.http, "POST", "/v1/nodes/9/drain", &json!({}));
    assert_problem(&drained, 404, None);
}

#[test]
fn requests_that_make_no_sense_or_are_too_large_are_refused() {
    let esker = Esker::spawn(&FEW);
    let host = ("Host", "localhost");
    let json = ("Content-Type", "application/json");
    let post = |headers: &[(&str, &str)], body: &str| send(esker.http, "POST", "/v1/topics", headers, body).unwrap();
    for body in ["", "{", "[]", "{\"name\": 1}", "{\"name\": \"t\", \"partition\": 1}"] {
        assert_problem(&post(&[host, json], body), 400, None);
    }
    let unknown = post(&[host, json], "{\"name\": \"t\", \"partition\": 1}");
    assert!(unknown.body.contains("unknown field `partition`"), "{unknown:?}");
    assert_problem(&post(&[host], "{\"name\": \"t\"}"), 415, None);
    assert_problem(&post(&[host, ("Content-Type", "text/plain")], "{\"name\": \"t\"}"), 415, None);
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(2 << 20));
    assert_problem(&post(&[host, json], &large), 413, None);
    for (headers, status) in [
        (vec![("Host", "evil.example"), json], 421),
        (vec![host, json, ("Origin", "http://evil.example")], 403),
        (vec![host, json, ("Sec-Fetch-Site", "cross-site")], 403),
        (vec![json], 400),
    ] {
        assert_eq!(post(&headers, "{\"name\": \"t\"}").status, status, "{headers:?}");
    }
    for path in ["/v1/topics?limit=0", "/v1/topics?limit=10001", "/v1/topics?limit=x", "/v1/topics?page=2"] {
        assert_problem(&get(esker.http, path), 400, None);
    }
    assert_problem(&get(esker.http, "/v1/groups/g?after=nothing"), 400, None);
    assert_eq!(get(esker.http, "/v1/topics").json()["topics"], json!([]), "nothing is created");
}

#[test]
fn changes_are_for_loopback_unless_they_are_allowed() {
    let body = json!({"name": "t"});
    for (listens, changes, expected) in
        [("127.0.0.1:0", "none", 403), ("0.0.0.0:0", "loopback", 403), ("0.0.0.0:0", "any", 201)]
    {
        let esker =
            Esker::spawn(&["serve", "--ephemeral", "--http", listens, "--set", &format!("http.changes={changes}")]);
        let answer = change(esker.http, "POST", "/v1/topics", &body);
        assert_eq!(answer.status, expected, "{listens} {changes}: {answer:?}");
        assert_eq!(get(esker.http, "/v1/topics").status, 200, "reads are served");
        if expected == 403 {
            assert!(answer.json()["detail"].as_str().unwrap().contains("http.changes"), "{answer:?}");
        }
    }
}

#[test]
fn no_client_connects_before_the_first_request() {
    let esker = Esker::spawn(&FEW);
    let accepted = || esker.metric("esker_connections_accepted_total");
    let before = accepted();
    for path in ["/", "/health/ready", "/version", "/v1/openapi.json"] {
        assert_eq!(get(esker.http, path).status, 200, "{path}");
    }
    assert!((accepted() - before).abs() < 0.5);
}

/// Any client may hold the places where changes are taken from all that reach the port.
#[test]
fn a_bounded_number_of_requests_is_served_at_a_time() {
    for changes in ["loopback", "any"] {
        let listens = if changes == "any" { "0.0.0.0:0" } else { "127.0.0.1:0" };
        let flags = ["--http", listens, "--set", &format!("http.changes={changes}")];
        hold_all_places(&Esker::spawn(&[&FEW[..], &flags].concat()));
    }
}

fn hold_all_places(esker: &Esker) {
    // Their bodies do not come.
    let head =
        "POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n";
    let open = || {
        let mut stream = TcpStream::connect(esker.http).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut pending: Vec<TcpStream> = (0..16).map(|_| open()).collect();
    let look = || {
        // The request below may have taken the place of one of them.
        pending.push(open());
        get(esker.http, "/v1/topics")
    };
    let refused = eventually("one more is refused", look, |answer| answer.status == 429);
    assert_problem(&refused, 429, None);
    assert_eq!(refused.header("Retry-After"), Some("1"), "{refused:?}");
    assert!(refused.json()["detail"].as_str().unwrap().contains("16 requests"), "{refused:?}");
    assert_problem(&change(esker.http, "POST", "/v1/topics", &json!({"name": "late"})), 429, None);
    assert_eq!(get(esker.http, "/health/ready").status, 200, "health is no part of them");
    assert_eq!(get(esker.http, "/metrics").status, 200, "nor are metrics");
    // One that goes on is answered, and its place is free.
    let is_created = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut status = [0; 12];
        // One that came too late was refused.
        stream.write_all(b"{\"name\": \"t\"}").and_then(|()| stream.read_exact(&mut status)).is_ok()
            && &status == b"HTTP/1.1 201"
    };
    assert!(pending.iter_mut().any(is_created));
    drop(pending);
    eventually("requests are served again", || get(esker.http, "/v1/topics"), |answer| answer.status == 200);
    assert_eq!(get(esker.http, "/v1/topics").json()["topics"].as_array().unwrap().len(), 1, "only what was complete");
}

//! The log: its first line, JSON throughout where that is chosen, and levels that change while the broker runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_protocol::messages::list_config_resources::ListConfigResourcesRequest;
use esker_tests::cluster::wait_until;
use esker_tests::{Esker, ask, binary};
use serde_json::Value;

const BROKER_LOGGER: i8 = 8;
const SET: i8 = 0;
const DELETE: i8 = 1;

#[test]
fn json_is_json_throughout_and_the_first_line_says_what_starts() {
    let mut command = Command::new(binary());
    command.args(["serve", "--ephemeral", "--log-format", "json", "--set", "num.partitions=3"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap_or_else(|error| panic!("{error}: {ready:?}, {log}"));
    assert_eq!(ready["message"], "esker ready");
    assert!(ready["kafka"].as_str().unwrap().starts_with("127.0.0.1:"), "{ready}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &lines[0]["fields"];
    assert_eq!(first["message"], "esker starts");
    assert_eq!(first["durability"], "page-cache");
    for field in ["version", "commit"] {
        assert!(first[field].as_str().is_some_and(|value| !value.is_empty()), "{first}");
    }
    assert_eq!(first["config"], "flag --ephemeral, flag --set");
}

#[test]
fn a_mistake_is_json_too() {
    let mut command = Command::new(binary());
    command.args(["serve", "--ephemeral", "--log-format", "json", "--set", "num.partitions=none"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8(output.stderr).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert!(last["fields"]["message"].as_str().unwrap().contains("num.partitions"), "{last}");
    let refused = Command::new(binary()).args(["serve", "--ephemeral"]).env("ESKER_LOG", "openraft=loud").output();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("ESKER_LOG"));
}

/// Changes the level of a logger.
fn change(esker: &Esker, broker: &str, logger: &str, operation: i8, value: &str) -> ErrorCode {
    let config = AlterableConfig {
        name: logger.to_owned().into(),
        config_operation: operation,
        value: Some(value.to_owned().into()),
    };
    let resource = AlterConfigsResource {
        resource_type: BROKER_LOGGER,
        resource_name: broker.to_owned().into(),
        configs: vec![config],
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    ask(&mut esker.connect(), 1, &request).responses[0].error_code
}

fn level(esker: &Esker, logger: &str) -> String {
    let resource = DescribeConfigsResource {
        resource_type: BROKER_LOGGER,
        resource_name: esker.ready_field("node").to_owned().into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let result = ask(&mut esker.connect(), 4, &request).results.remove(0);
    assert_eq!(result.error_code, ErrorCode::NONE);
    let config = result.configs.into_iter().find(|config| *config.name == *logger).expect("the logger");
    assert_eq!(config.config_source, 6);
    config.value.expect("a level").to_string()
}

#[test]
fn levels_change_while_the_broker_runs() {
    let esker = Esker::spawn(&["serve", "--ephemeral", "--log-level", "warn"]);
    let node = esker.ready_field("node").to_owned();
    let server = "esker_broker::server";
    assert_eq!((level(&esker, "root"), level(&esker, server)), ("WARN".to_owned(), "WARN".to_owned()));
    assert!(!esker.log().contains("INFO"), "{}", esker.log());
    assert_eq!(change(&esker, &node, server, SET, "DEBUG"), ErrorCode::NONE);
    assert_eq!((level(&esker, "root"), level(&esker, server)), ("WARN".to_owned(), "DEBUG".to_owned()));
    wait_until("a line of the new level", || {
        drop(esker.connect());
        esker.log().contains("DEBUG")
    });
    assert!(!esker.log().contains("INFO"), "{}", esker.log());
    assert_eq!(change(&esker, &node, server, DELETE, ""), ErrorCode::NONE);
    assert_eq!(level(&esker, server), "WARN");
    for (broker, logger, operation, value, code) in [
        (node.as_str(), "kafka.server.KafkaApis", SET, "DEBUG", ErrorCode::INVALID_CONFIG),
        (&node, "root", SET, "LOUD", ErrorCode::INVALID_CONFIG),
        (&node, "root", DELETE, "", ErrorCode::INVALID_REQUEST),
        (&node, "root", 2, "DEBUG", ErrorCode::INVALID_REQUEST),
        ("77", "root", SET, "DEBUG", ErrorCode::INVALID_REQUEST),
    ] {
        assert_eq!(change(&esker, broker, logger, operation, value), code, "{broker} {logger} {operation} {value}");
    }
    assert_eq!(level(&esker, "root"), "WARN");
}

#[test]
fn loggers_are_listed_by_their_brokers() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let list = |kinds: &[i8]| {
        let request = ListConfigResourcesRequest { resource_types: kinds.to_vec() };
        let answer = ask(&mut esker.connect(), 1, &request);
        let rows = answer.config_resources.iter().map(|one| (one.resource_type, one.resource_name.to_string()));
        (answer.error_code, rows.collect::<Vec<_>>())
    };
    let own = |kind| (kind, esker.ready_field("node").to_owned());
    assert_eq!(list(&[BROKER_LOGGER]), (ErrorCode::NONE, vec![own(BROKER_LOGGER)]));
    assert_eq!(list(&[]), (ErrorCode::NONE, vec![own(4), own(BROKER_LOGGER)]));
    assert_eq!(list(&[BROKER_LOGGER, 99]), (ErrorCode::UNSUPPORTED_VERSION, vec![]));
}

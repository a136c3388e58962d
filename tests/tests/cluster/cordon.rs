//! `esker cluster cordon`: a node whose log dirs are cordoned (KIP-1066) serves what it has, and gets nothing new.

use std::time::Duration;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_tests::cluster::{Cluster, wait_until};
use esker_tests::wire::Wire;

use super::moves::{create, nodes_with_replicas, sorted};
use super::reassign::{configs, ids};
use super::voters::run;

const ANSWER: Duration = Duration::from_secs(20);

fn add_partitions(cluster: &Cluster, name: &'static str, count: i32) -> ErrorCode {
    let topic = CreatePartitionsTopic { name: name.into(), count, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
    let answer = cluster.insist(3, &request, |answer| !answer.results[0].error_code.is_retriable());
    answer.results[0].error_code
}

/// Whether the log dirs of a node are cordoned, as the node answers.
fn is_cordoned(cluster: &Cluster, at: usize) -> bool {
    let answer = Wire::new(cluster.address(at), ANSWER).ask(5, &DescribeLogDirsRequest { topics: Some(vec![]) });
    answer.unwrap().results.iter().all(|dir| dir.is_cordoned)
}

#[test]
fn a_node_that_is_started_with_cordoned_log_dirs_gets_nothing_new() {
    let flags: &[&str] = &["--set", "cordoned.log.dirs=*"];
    let mut cluster = Cluster::start_with(&[&[], &[], flags]);
    let [a, b, c] = ids(&cluster);
    assert!(is_cordoned(&cluster, 2) && !is_cordoned(&cluster, 0));
    assert_eq!(create(&cluster, "wide", 3), ErrorCode::INVALID_REPLICATION_FACTOR);
    assert_eq!(create(&cluster, "new", 2), ErrorCode::NONE);
    assert_eq!(nodes_with_replicas(&cluster, "new"), sorted(vec![a, b]));
    // The controller is another one after it: what is registered is in the metadata log.
    let controller = cluster.controller();
    cluster.kill(controller);
    cluster.restart(controller);
    cluster.wait_in_sync("new");
    assert_eq!(create(&cluster, "wide", 3), ErrorCode::INVALID_REPLICATION_FACTOR);
    // A dynamic config counts instead.
    wait_until("it is uncordoned", || run(&cluster, &["uncordon", &c.to_string()]).is_ok());
    wait_until("it takes replicas", || create(&cluster, "wide", 3) == ErrorCode::NONE);
    assert_eq!(nodes_with_replicas(&cluster, "wide"), sorted(vec![a, b, c]));
}

#[test]
fn a_cordoned_node_serves_and_gets_nothing_new() {
    let mut cluster = Cluster::start_steady(3);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned("old", &[&[c, a, b]], &configs("100"));
    let id = c.to_string();
    wait_until("it is cordoned", || run(&cluster, &["cordon", &id]).is_ok());
    wait_until("its log dirs are cordoned", || is_cordoned(&cluster, 2));
    assert!(!is_cordoned(&cluster, 0));
    assert_eq!(create(&cluster, "wide", 3), ErrorCode::INVALID_REPLICATION_FACTOR);
    assert_eq!(add_partitions(&cluster, "old", 2), ErrorCode::INVALID_REPLICATION_FACTOR);
    assert_eq!(create(&cluster, "new", 2), ErrorCode::NONE);
    assert_eq!(nodes_with_replicas(&cluster, "new"), sorted(vec![a, b]));
    assert_eq!(cluster.leader("old", 0), 2, "it leads what it led");
    // As in Kafka, a client that names the node gets it.
    assert_eq!(cluster.reassign("new", &[(0, Some(&[c, a]))]), [ErrorCode::NONE]);
    wait_until("it is moved there", || nodes_with_replicas(&cluster, "new") == sorted(vec![a, b, c]));
    cluster.kill(2);
    cluster.restart(2);
    cluster.wait_in_sync("old");
    wait_until("it is cordoned after a restart", || is_cordoned(&cluster, 2));
    assert_eq!(create(&cluster, "wide", 3), ErrorCode::INVALID_REPLICATION_FACTOR);
    // Also of a node that does not run.
    cluster.kill(2);
    wait_until("it is uncordoned", || run(&cluster, &["uncordon", &id]).is_ok());
    cluster.restart(2);
    wait_until("it takes replicas again", || create(&cluster, "wide", 3) == ErrorCode::NONE);
    assert!(!is_cordoned(&cluster, 2));
    wait_until("there is no such broker", || {
        run(&cluster, &["cordon", "99"]).is_err_and(|error| error.contains("no broker 99"))
    });
}

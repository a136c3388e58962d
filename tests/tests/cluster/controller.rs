//! The active controller dies, or is alone; and what it decides is the same on all nodes.

use std::time::{Duration, Instant};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use esker_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_protocol::messages::describe_quorum::{DescribeQuorumRequest, PartitionData, TopicData};
use esker_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use esker_tests::PATIENCE;
use esker_tests::cluster::{Cluster, find, wait_until};
use esker_tests::topics::{create_by, new_topic};
use esker_tests::wire::Wire;

#[test]
fn topics_are_created_after_the_active_controller_is_killed() {
    let mut cluster = Cluster::start(3);
    let controller = cluster.controller();
    let survivor = cluster.live().find(|at| *at != controller).unwrap();
    cluster.kill(controller);
    let killed = Instant::now();
    let mut wire = Wire::new(cluster.address(survivor), Duration::from_secs(20));
    let code = create_by(new_topic("t", 3, 2, &[]), |_, request| wire.ask(5, request).ok());
    let took = killed.elapsed();
    println!("created {} ms after the controller was killed", took.as_millis());
    assert_eq!(code, ErrorCode::NONE);
    assert!(took < PATIENCE, "it took {took:?}");
    assert_ne!(cluster.controller(), controller);
}

#[test]
fn a_controller_that_stops_hands_over() {
    let mut cluster = Cluster::start_steady(3);
    let controller = cluster.controller();
    let log = cluster.node(controller).log_reader();
    assert!(cluster.terminate(controller).success());
    // Without it the others would have waited for an election time-out.
    assert!(!log().contains("the metadata quorum elects another leader"), "{}", log());
    assert_ne!(cluster.controller(), controller);
}

#[test]
fn a_controller_without_a_majority_answers_nothing_from_its_past() {
    let mut cluster = Cluster::start_steady(3);
    let controller = cluster.controller();
    let others: Vec<usize> = cluster.live().filter(|at| *at != controller).collect();
    let mut wire = Wire::new(cluster.address(controller), Duration::from_secs(20));
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("nope".into()), ..DeleteTopicState::default() }],
        timeout_ms: 1000,
        ..DeleteTopicsRequest::default()
    };
    let deleted = |wire: &mut Wire| wire.ask(6, &delete).unwrap().responses[0].error_code;
    let list = ListPartitionReassignmentsRequest { timeout_ms: 1000, ..Default::default() };
    assert_eq!(deleted(&mut wire), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(wire.ask(0, &list).unwrap().error_code, ErrorCode::NONE);
    others.iter().for_each(|at| cluster.pause(*at));
    // Others may have elected a leader, and created the topic.
    let code = deleted(&mut wire);
    assert!([ErrorCode::NOT_CONTROLLER, ErrorCode::REQUEST_TIMED_OUT].contains(&code), "{code}");
    assert_ne!(wire.ask(0, &list).unwrap().error_code, ErrorCode::NONE);
    let topic = TopicData { topic_name: "__cluster_metadata".into(), partitions: vec![PartitionData::default()] };
    let quorum = wire.ask(2, &DescribeQuorumRequest { topics: vec![topic] }).unwrap();
    assert_eq!(quorum.topics[0].partitions[0].leader_id, -1);
    others.iter().for_each(|at| cluster.resume(*at));
    wait_until("a majority confirms the answers again", || deleted(&mut wire) == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn all_nodes_have_the_minimum_of_the_cluster() {
    // The files of the nodes disagree, as during a change of them.
    let flags: [&[&str]; 3] = [&["--set", "min.insync.replicas=2"], &["--set", "min.insync.replicas=1"], &[]];
    let cluster = Cluster::start_with(&flags);
    let code = create_by(new_topic("t", 1, 3, &[]), |turn, request| cluster.ask_one(turn, 5, request));
    assert_eq!(code, ErrorCode::NONE);
    let minimum = |at: usize| {
        let mut wire = Wire::new(cluster.address(at), Duration::from_secs(20));
        let resource =
            DescribeConfigsResource { resource_type: 2, resource_name: "t".into(), configuration_keys: None };
        let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
        find("the node knows the topic", || {
            let configs = wire.ask(4, &request).ok()?.results.pop()?.configs;
            let minimum = configs.iter().find(|config| &*config.name == "min.insync.replicas")?;
            minimum.value.as_ref().map(ToString::to_string)
        })
    };
    let minima: Vec<String> = (0..3).map(minimum).collect();
    assert!(minima.iter().all(|one| *one == minima[0]), "{minima:?}");
}

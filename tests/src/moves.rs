//! Requests of administrators to a cluster under test: configs, reassignments.

use std::collections::BTreeMap;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use esker_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, OngoingPartitionReassignment,
};

use crate::cluster::{ANSWER, Cluster};
use crate::wire::Wire;

const TIMEOUT_MS: i32 = 10_000;
/// Kafka's number for brokers.
const BROKER: i8 = 4;
/// Sources of values that are set on a topic, and on a broker while it runs.
const SET: [i8; 2] = [1, 2];

impl Cluster {
    /// Sets a config of a topic (kind 2) or a broker (kind 4).
    pub fn set_config(&self, kind: i8, resource: &str, name: &str, value: &str) {
        let config =
            AlterableConfig { name: name.to_owned().into(), config_operation: 0, value: Some(value.to_owned().into()) };
        let resource = AlterConfigsResource {
            resource_type: kind,
            resource_name: resource.to_owned().into(),
            configs: vec![config],
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = self.insist(1, &request, |answer| !answer.responses[0].error_code.is_retriable());
        assert_eq!(answer.responses[0].error_code, ErrorCode::NONE, "{name}={value}: {answer:?}");
    }

    /// Names of the configs that are set on a topic (kind 2) or a broker (kind 4).
    pub fn dynamic_configs(&self, kind: i8, resource: &str) -> Vec<String> {
        self.config_values(kind, resource).into_keys().collect()
    }

    /// The configs that are set on a topic (kind 2) or a broker (kind 4), and their values.
    pub fn config_values(&self, kind: i8, resource: &str) -> BTreeMap<String, String> {
        let resource = DescribeConfigsResource {
            resource_type: kind,
            resource_name: resource.to_owned().into(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
        let at =
            |at: usize| kind != BROKER || self.node_id(at).to_string() == request.resources[0].resource_name.as_str();
        let at = self.live().find(|node| at(*node)).expect("a node that knows them");
        let answer = Wire::new(self.address(at), ANSWER).ask(4, &request).expect("the node answers");
        let configs = answer.results.into_iter().flat_map(|result| result.configs);
        let own = configs.filter(|config| SET.contains(&config.config_source));
        own.filter_map(|config| Some((config.name.to_string(), config.value?.to_string()))).collect()
    }

    /// Begins reassignments of a topic's partitions, or cancels them where no replicas are given. Returns a code for each.
    pub fn reassign(&self, topic: &str, targets: &[(i32, Option<&[i32]>)]) -> Vec<ErrorCode> {
        let partition = |(partition, replicas): &(i32, Option<&[i32]>)| ReassignablePartition {
            partition_index: *partition,
            replicas: replicas.map(<[i32]>::to_vec),
        };
        let topic =
            ReassignableTopic { name: topic.to_owned().into(), partitions: targets.iter().map(partition).collect() };
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: TIMEOUT_MS,
            topics: vec![topic],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let answer = self.insist(1, &request, |answer| !answer.error_code.is_retriable());
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
        answer.responses.into_iter().flat_map(|topic| topic.partitions).map(|found| found.error_code).collect()
    }

    /// The reassignments in progress by topic, if all live nodes know the same.
    pub fn reassignments(&self) -> Option<Vec<(String, OngoingPartitionReassignment)>> {
        let of_node = |at: usize| {
            let request = ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: None };
            let answer = Wire::new(self.address(at), ANSWER).ask(0, &request).ok()?;
            let topics = answer.topics.into_iter();
            let all =
                topics.flat_map(|topic| topic.partitions.into_iter().map(move |found| (topic.name.to_string(), found)));
            Some(all.collect::<Vec<_>>())
        };
        let mut answers = self.live().map(of_node);
        let first = answers.next()??;
        answers.all(|answer| answer.as_ref() == Some(&first)).then_some(first)
    }
}

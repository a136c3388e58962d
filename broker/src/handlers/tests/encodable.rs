//! Answers in versions that lack a field. A field that Kafka's definition does not call ignorable must then hold its
//! default, or the answer cannot be written and its connection is closed.

use esker_protocol::schema::{Kind, Schema, Versions};

use super::*;

/// Every field of an answer that some version served here lacks although it may not be dropped silently. Each of them is
/// left at its default in those versions, or belongs to a request that only newer versions can send. To add a field, set it
/// by version, and add its errors to the tests of the handler.
const LACKING: &[&str] = &[
    "Produce responses.partition_responses.current_leader",
    "Produce node_endpoints",
    "Fetch session_id",
    "Fetch responses.partitions.diverging_epoch",
    "Fetch responses.partitions.current_leader",
    "Fetch responses.partitions.snapshot_id",
    "Fetch responses.partitions.preferred_read_replica",
    "Fetch node_endpoints",
    "ListOffsets topics.partitions.old_style_offsets",
    "ListOffsets topics.partitions.timestamp",
    "ListOffsets topics.partitions.offset",
    "ListOffsets topics.partitions.leader_epoch",
    "Metadata topics.name (null)",
    "Metadata topics.topic_authorized_operations",
    "Metadata cluster_authorized_operations",
    "OffsetFetch topics",
    "OffsetFetch groups",
    "FindCoordinator error_code",
    "FindCoordinator node_id",
    "FindCoordinator host",
    "FindCoordinator port",
    "FindCoordinator coordinators",
    "JoinGroup protocol_name (null)",
    "JoinGroup skip_assignment",
    "LeaveGroup members",
    "DescribeGroups groups.error_message",
    "DescribeGroups groups.authorized_operations",
    "DeleteTopics responses.name (null)",
    "InitProducerId ongoing_txn_producer_id",
    "InitProducerId ongoing_txn_producer_epoch",
    "AddPartitionsToTxn results_by_transaction",
    "AddPartitionsToTxn results_by_topic_v3_and_below",
    "DescribeConfigs results.configs.is_default",
    "ElectLeaders error_code",
    "DescribeQuorum topics.partitions.current_voters.replica_directory_id",
    "DescribeQuorum topics.partitions.observers.replica_directory_id",
    "DescribeQuorum nodes",
    "DescribeCluster endpoint_type",
    "DescribeCluster brokers.is_fenced",
    "CreateDelegationToken token_requester_principal_type",
    "CreateDelegationToken token_requester_principal_name",
    "DescribeDelegationToken tokens.token_requester_principal_type",
    "DescribeDelegationToken tokens.token_requester_principal_name",
];

fn collect(api: &str, path: &str, schema: &Schema, served: Versions, found: &mut Vec<String>) {
    for field in schema.fields {
        let lacks = (served.first..=served.last).any(|version| !field.versions.contains(version));
        if lacks && !field.ignorable {
            found.push(format!("{api} {path}{}", field.name));
        }
        let holds = |version: &i16| field.versions.contains(*version);
        let nullable = |version: &i16| field.nullable.contains(*version);
        let all = || (served.first..=served.last).filter(holds);
        if all().any(|version| nullable(&version)) && !all().all(|version| nullable(&version)) {
            found.push(format!("{api} {path}{} (null)", field.name));
        }
        let mut kind = field.kind;
        while let Kind::Array(item) = kind {
            kind = *item;
        }
        let there =
            Versions { first: served.first.max(field.versions.first), last: served.last.min(field.versions.last) };
        if let Kind::Struct(inner) = kind {
            collect(api, &format!("{path}{}.", field.name), inner, there, found);
        }
    }
}

#[test]
fn every_field_that_a_served_version_lacks_is_known() {
    let mut found = Vec::new();
    for route in ROUTES {
        let served = Versions { first: route.min_version, last: route.max_version };
        collect(route.key.name(), "", route.response, served, &mut found);
    }
    assert_eq!(found, LACKING);
}

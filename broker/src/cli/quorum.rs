//! The metadata quorum, as DescribeQuorum has it.

use esker_client::{Client, Error, Target};
use esker_protocol::messages::describe_quorum::{DescribeQuorumRequest, PartitionData, PartitionDataResult, TopicData};

/// Voters, observers, leader. The leader alone knows how far the others are: `controller`, if it is known, is asked.
pub(super) async fn describe_quorum(client: &Client, controller: Option<i32>) -> Result<PartitionDataResult, Error> {
    let partition = PartitionData { partition_index: 0 };
    let request = DescribeQuorumRequest {
        topics: vec![TopicData { topic_name: "__cluster_metadata".into(), partitions: vec![partition] }],
    };
    let quorum = client.request(controller.map_or(Target::Any, Target::Node), request).await?;
    Ok(quorum.topics.into_iter().flat_map(|topic| topic.partitions).next().unwrap_or_default())
}

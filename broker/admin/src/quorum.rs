//! The metadata quorum as a broker describes it.

use async_recursion::async_recursion as boxed;
use esker_client::{Client, Error, Target};
use esker_protocol::messages::describe_quorum::{DescribeQuorumRequest, PartitionData, PartitionDataResult, TopicData};

/// Asks any broker, which asks the leader: the leader alone knows how far the others are.
#[boxed]
pub async fn describe_quorum(client: &Client) -> Result<PartitionDataResult, Error> {
    let partition = PartitionData { partition_index: 0 };
    let topics = vec![TopicData { topic_name: "__cluster_metadata".into(), partitions: vec![partition] }];
    let quorum = client.request(Target::Any, DescribeQuorumRequest { topics }).await?;
    Ok(quorum.topics.into_iter().flat_map(|topic| topic.partitions).next().unwrap_or_default())
}

/// The end of the metadata log.
pub fn log_end(quorum: &PartitionDataResult) -> i64 {
    let members = quorum.current_voters.iter().chain(&quorum.observers);
    members.map(|member| member.log_end_offset).max().unwrap_or_default().max(quorum.high_watermark)
}

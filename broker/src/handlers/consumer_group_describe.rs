//! ConsumerGroupDescribe (69, KIP-848): consumer groups as admins see them. v1 returns the protocol of each member
//! (KIP-1099).

use std::ops::RangeInclusive;

use esker_core::group::consumer::{ConsumerDescription, ConsumerMemberDescription, Partitions};
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup, Member, TopicPartitions,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use super::{consumer_group_heartbeat, operations};

/// The ConsumerGroupDescribe API.
pub struct ConsumerGroupDescribe;

/// `member_type` of members that use the classic protocol, and of those that use the new one.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

impl Handler for ConsumerGroupDescribe {
    type Request = ConsumerGroupDescribeRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(ctx: RequestContext, request: ConsumerGroupDescribeRequest) -> Staged<ConsumerGroupDescribeResponse> {
        let image = ctx.broker.metadata.image();
        let served = consumer_group_heartbeat::is_served(&ctx.broker);
        let with_operations = request.include_authorized_operations;
        let groups = request.group_ids.into_iter().map(|group_id| {
            let failed = |error_code, message: Option<String>| DescribedGroup {
                error_code,
                error_message: message.map(Str::from),
                group_id: group_id.clone(),
                ..DescribedGroup::default()
            };
            if !served {
                return failed(ErrorCode::UNSUPPORTED_VERSION, None);
            }
            if group_id.is_empty() {
                return failed(ErrorCode::INVALID_GROUP_ID, None);
            }
            match ctx.broker.groups.describe_consumer(&image, &group_id) {
                Err(code) => failed(code, None),
                Ok(Some(described)) => {
                    let mut group = describe(&image, group_id, described);
                    if with_operations {
                        group.authorized_operations = operations::GROUP;
                    }
                    group
                }
                Ok(None) => {
                    let known = matches!(ctx.broker.groups.describe(&image, &group_id), Ok(Some(_)));
                    let why = if known { "is not a consumer group." } else { "not found." };
                    failed(ErrorCode::GROUP_ID_NOT_FOUND, Some(format!("Group {group_id} {why}")))
                }
            }
        });
        Staged::Ready(ConsumerGroupDescribeResponse { groups: groups.collect(), ..Default::default() })
    }
}

fn describe(image: &MetadataImage, group_id: Str, described: ConsumerDescription) -> DescribedGroup {
    DescribedGroup {
        group_id,
        group_state: described.state.into(),
        group_epoch: described.epoch,
        assignment_epoch: described.assignment_epoch,
        assignor_name: described.assignor,
        members: described.members.into_iter().map(|member| row(image, member)).collect(),
        ..DescribedGroup::default()
    }
}

fn row(image: &MetadataImage, described: ConsumerMemberDescription) -> Member {
    let member = described.member;
    Member {
        member_type: if member.is_classic() { CLASSIC } else { CONSUMER },
        member_id: member.id,
        instance_id: member.instance_id,
        rack_id: member.rack_id,
        member_epoch: member.epoch,
        client_id: member.client_id,
        client_host: member.client_host,
        subscribed_topic_names: member.topics.into_iter().collect(),
        subscribed_topic_regex: Some(member.regex),
        assignment: named(image, described.assignment),
        target_assignment: named(image, described.target),
    }
}

/// Topics that were deleted meanwhile have no name to be returned under.
fn named(image: &MetadataImage, partitions: Partitions) -> Assignment {
    let topic = |(topic_id, partitions)| {
        let topic_name = image.topic_by_id(topic_id)?.name.clone();
        Some(TopicPartitions { topic_id, topic_name, partitions })
    };
    Assignment { topic_partitions: partitions.into_iter().filter_map(topic).collect() }
}

//! AlterReplicaLogDirs (34, KIP-113): moves replicas between the log dirs of this broker. The answer comes when the moves have begun;
//! DescribeLogDirs tells how far they are.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
};
use esker_protocol::primitives::Str;
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use crate::error::KafkaError;
use crate::replica::TopicRef;

/// The AlterReplicaLogDirs API.
pub struct AlterReplicaLogDirs;

impl Handler for AlterReplicaLogDirs {
    type Request = AlterReplicaLogDirsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    /// Makes folders and so runs where blocking is allowed.
    fn handle(ctx: RequestContext, request: AlterReplicaLogDirsRequest) -> Staged<AlterReplicaLogDirsResponse> {
        let task = tokio::task::spawn_blocking(move || answer(&ctx, request));
        Staged::Later(async move { task.await.unwrap_or_default() }.boxed())
    }
}

fn answer(ctx: &RequestContext, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let mut by_topic: BTreeMap<Str, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in request.dirs {
        for topic in dir.topics {
            for partition_index in topic.partitions {
                let target = TopicRef::by_name(&topic.name);
                let moved = ctx.broker.replicas.move_replica(&target, partition_index, Path::new(dir.path.as_str()));
                let error_code = moved.map_or_else(|error| error.code(), |()| ErrorCode::NONE);
                by_topic
                    .entry(topic.name.clone())
                    .or_default()
                    .push(AlterReplicaLogDirPartitionResult { partition_index, error_code });
            }
        }
    }
    let results =
        by_topic.into_iter().map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult { topic_name, partitions });
    AlterReplicaLogDirsResponse { results: results.collect(), ..AlterReplicaLogDirsResponse::default() }
}

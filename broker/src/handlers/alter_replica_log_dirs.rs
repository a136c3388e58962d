//! AlterReplicaLogDirs (34, KIP-113): moves replicas between the log dirs of this broker. The answer comes when the moves have begun;
//! DescribeLogDirs reports their progress.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
};
use esker_protocol::primitives::Str;
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::{DEFAULT_TIMEOUT, run_blocking};
use crate::error::KafkaError;
use crate::replica::TopicRef;

/// The AlterReplicaLogDirs API.
pub struct AlterReplicaLogDirs;

impl Handler for AlterReplicaLogDirs {
    type Request = AlterReplicaLogDirsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    /// Makes folders and so runs where blocking is allowed.
    fn handle(ctx: RequestContext, request: AlterReplicaLogDirsRequest) -> Staged<AlterReplicaLogDirsResponse> {
        let request = Arc::new(request);
        let moving = Arc::clone(&request);
        let node = ctx.broker.node.clone();
        let moved = run_blocking(&node, DEFAULT_TIMEOUT, move || {
            let to = |topic: &Str, partition, dir: &str| {
                ctx.broker.replicas.move_replica(&TopicRef::by_name(topic), partition, Path::new(dir))
            };
            answer(&moving, |topic, partition, dir| to(topic, partition, dir).err().map(|error| error.code()))
        });
        Staged::Later(async move { moved.await.unwrap_or_else(|code| answer(&request, |_, _, _| Some(code))) }.boxed())
    }
}

/// The answer, with what `failed` gives for each topic, partition and log dir.
fn answer(
    request: &AlterReplicaLogDirsRequest,
    failed: impl Fn(&Str, i32, &str) -> Option<ErrorCode>,
) -> AlterReplicaLogDirsResponse {
    let mut by_topic: BTreeMap<Str, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            for &partition_index in &topic.partitions {
                let error_code = failed(&topic.name, partition_index, &dir.path).unwrap_or(ErrorCode::NONE);
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

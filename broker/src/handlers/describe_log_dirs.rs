//! DescribeLogDirs (35, KIP-113): the log dirs, their replicas and their free space. v4 added total and usable
//! bytes (KIP-827), v5 cordoned dirs (KIP-1066). A tagged field that only Esker has
//! names the damage that was found in a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_log_dirs::{
    DamagedOffsets, DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use esker_protocol::primitives::Str;
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::{DEFAULT_TIMEOUT, run_blocking};

/// Of one partition; the metrics have the count.
const MAX_DAMAGED: usize = 100;

/// The DescribeLogDirs API.
pub struct DescribeLogDirs;

impl Handler for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    /// Queries the file system and so runs where blocking is allowed.
    fn handle(ctx: RequestContext, request: DescribeLogDirsRequest) -> Staged<DescribeLogDirsResponse> {
        let version = ctx.api_version;
        let node = ctx.broker.node.clone();
        let described = run_blocking(&node, DEFAULT_TIMEOUT, move || answer(&ctx, request.topics.as_deref()));
        // There is no error for all before version 3.
        let failed = move |error_code| DescribeLogDirsResponse {
            error_code: if version >= 3 { error_code } else { ErrorCode::NONE },
            ..DescribeLogDirsResponse::default()
        };
        Staged::Later(async move { described.await.unwrap_or_else(failed) }.boxed())
    }
}

fn answer(ctx: &RequestContext, wanted: Option<&[DescribableLogDirTopic]>) -> DescribeLogDirsResponse {
    let wanted: Option<BTreeSet<(&str, i32)>> =
        wanted.map(|topics| topics.iter().flat_map(|t| t.partitions.iter().map(|p| (&*t.topic, *p))).collect());
    let logs = ctx.broker.replicas.logs();
    let mut by_dir: BTreeMap<PathBuf, BTreeMap<String, Vec<DescribeLogDirsPartition>>> = BTreeMap::new();
    for log in logs.logs() {
        if wanted.as_ref().is_some_and(|w| !w.contains(&(&**log.topic(), log.partition()))) {
            continue;
        }
        let lag = log.high_watermark().saturating_sub(log.log_end_offset()).max(0);
        let damaged = log.damaged_ranges().into_iter().take(MAX_DAMAGED).map(|range| DamagedOffsets {
            first_offset: range.first_offset,
            end_offset: range.end_offset,
            what: Str::from(range.what),
        });
        by_dir.entry(log.log_dir().to_owned()).or_default().entry(log.topic().to_string()).or_default().push(
            DescribeLogDirsPartition {
                partition_index: log.partition(),
                partition_size: i64::try_from(log.size_bytes()).unwrap_or(i64::MAX),
                offset_lag: lag,
                is_future_key: false,
                damaged_ranges: damaged.collect(),
            },
        );
    }
    for moving in ctx.broker.replicas.moves().progress() {
        if wanted.as_ref().is_some_and(|w| !w.contains(&(&*moving.topic, moving.partition))) {
            continue;
        }
        by_dir.entry(moving.to).or_default().entry(moving.topic.to_string()).or_default().push(
            DescribeLogDirsPartition {
                partition_index: moving.partition,
                partition_size: i64::try_from(moving.copied).unwrap_or(i64::MAX),
                offset_lag: i64::try_from(moving.behind).unwrap_or(i64::MAX),
                is_future_key: true,
                damaged_ranges: Vec::new(),
            },
        );
    }
    let results = logs.dirs().into_iter().map(|dir| {
        let topics = by_dir.remove(&dir.path).unwrap_or_default();
        DescribeLogDirsResult {
            error_code: if dir.offline { ErrorCode::KAFKA_STORAGE_ERROR } else { ErrorCode::NONE },
            log_dir: Str::from(dir.path.display().to_string()),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| DescribeLogDirsTopic { name: Str::from(name), partitions })
                .collect(),
            total_bytes: dir.total_bytes,
            usable_bytes: dir.usable_bytes,
            is_cordoned: dir.cordoned,
        }
    });
    DescribeLogDirsResponse { results: results.collect(), ..DescribeLogDirsResponse::default() }
}

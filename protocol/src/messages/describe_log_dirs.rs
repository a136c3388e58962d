//! DescribeLogDirs (35): log dirs and the replicas in them (KIP-113); v4 free space of the disk (KIP-827), v5 cordoned dirs (KIP-1066).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DescribeLogDirs (API key 35).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 35, kind = "request", versions = "0-5", flexible = "2+", response = DescribeLogDirsResponse)]
pub struct DescribeLogDirsRequest {
    #[field(nullable = "0+", default = Some(Vec::new()))]
    pub topics: Option<Vec<DescribableLogDirTopic>>,
}

/// One element of `topics` in [`DescribeLogDirsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribableLogDirTopic {
    pub topic: Str,
    pub partitions: Vec<i32>,
}

/// The answer of DescribeLogDirs.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-5", flexible = "2+")]
pub struct DescribeLogDirsResponse {
    pub throttle_time_ms: i32,
    #[field(versions = "3+", ignorable)]
    pub error_code: ErrorCode,
    pub results: Vec<DescribeLogDirsResult>,
}

/// One element of `results` in [`DescribeLogDirsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeLogDirsResult {
    pub error_code: ErrorCode,
    pub log_dir: Str,
    pub topics: Vec<DescribeLogDirsTopic>,
    #[field(versions = "4+", default = -1, ignorable)]
    pub total_bytes: i64,
    #[field(versions = "4+", default = -1, ignorable)]
    pub usable_bytes: i64,
    #[field(versions = "5+", ignorable)]
    pub is_cordoned: bool,
}

/// One element of `topics` in [`DescribeLogDirsResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeLogDirsTopic {
    pub name: Str,
    pub partitions: Vec<DescribeLogDirsPartition>,
}

/// One element of `partitions` in [`DescribeLogDirsTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeLogDirsPartition {
    pub partition_index: i32,
    pub partition_size: i64,
    pub offset_lag: i64,
    pub is_future_key: bool,
    /// Esker's own: offsets that were flushed and cannot be read any more.
    #[field(versions = "2+", tag = 10000, tagged = "2+", ignorable)]
    pub damaged_ranges: Vec<DamagedOffsets>,
}

/// One element of `damaged_ranges` in [`DescribeLogDirsPartition`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DamagedOffsets {
    pub first_offset: i64,
    /// The first one that is sound again.
    pub end_offset: i64,
    /// What was found.
    pub what: Str,
}

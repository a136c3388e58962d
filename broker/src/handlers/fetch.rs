//! Fetch (1): records of many partitions in one answer, as slices of mapped segments.
//!
//! v4 brought isolation levels (KIP-98), v5 the log start offset (KIP-107), v7 sessions (KIP-227), v9 leader epochs
//! (KIP-320), v10 zstd (KIP-110), v11 racks (KIP-392), v12 flexible fields and diverging epochs (KIP-595), v13 topic ids
//! (KIP-516), v15 the replica's state as a tag (KIP-903), v16 the new leader on a wrong broker (KIP-951). v0-3 are
//! served by converting records down, a slow path of its own.
//!
//! Stage one resolves the session and reads; if that is not enough, stage two waits. Limits are soft, as in Kafka: the
//! first batch is returned whole so that a consumer always moves on.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_core::fetch_session::{FetchTarget, SessionFetch};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint, PartitionData,
};
use esker_protocol::records::{BatchHeader, Compression, legacy};
use futures_util::FutureExt;

use super::{Handler, RequestContext, Staged};
use crate::error::KafkaError;
use crate::replica::{
    AccessError, FetchError, FetchLimits, Partition, PartitionRead, Pass, ReadAt, ReadBound, TopicRef, Wanted,
    is_enough, read_once, wait_for_more,
};

/// The Fetch API.
pub struct Fetch;

//! Reads many partitions for one fetch: the byte budget, when to answer at once, and waiting for more records.
//!
//! Reads hand out slices of mapped segments; nothing is copied. Data that is not in memory is loaded on another thread (see
//! `cold_threads`) before its slices are returned, so that neither parsing nor sending them makes an async worker wait for the
//! disk. A fetch that finds too little parks on its partitions (see `waiting`). It reads again when enough bytes have become
//! readable, when leadership, the topic or the log start changed, or at its deadline. Kafka's rules decide what is answered at
//! once: no time to wait, `min_bytes` of 0, an error, a diverging epoch, enough bytes, or readable records in a later segment (a
//! read returns records of one segment). In addition: every partition's byte limit is used up, so that no new record could make the
//! answer larger; and a follower's log start is behind.
//!
//! Each read stores the offsets that it saw; a waiting fetch reads again only if one of them has changed. Must never: return slices
//! from below the log start.

mod waiting;

use std::sync::Arc;
use std::time::Duration;

use esker_storage::ReadError;
use tokio::sync::Semaphore;

use super::cold_threads::ColdThreads;
use super::error::{AccessError, FetchError};
use super::partition::Partition;
use super::read::{Access, PartitionRead, ReadAt};
use crate::node::Node;

pub use waiting::{ReadyRequests, wait_for_more, wait_for_ready};

/// The read of one partition in a fetch.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// The partition, or why it cannot be read.
    pub partition: Result<Arc<Partition>, AccessError>,
    /// Where to read.
    pub at: ReadAt,
    /// `partition_max_bytes`.
    pub max_bytes: usize,
    /// What is answered in place of records.
    pub instead: Option<Instead>,
    /// The log start that the reader knows, if it waits for a later one, too: a follower.
    pub known_start: Option<i64>,
}

/// Why a partition is answered without records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// The consumer reads from this follower (KIP-392): the answer goes out at once.
    PreferredReplica(i32),
    /// The follower is over its quota (KIP-73): it gets records later.
    Throttled,
}

/// The limits of a whole fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Bytes over all partitions; soft: the first batch is returned whole.
    pub max_bytes: usize,
    /// Answer only when this many bytes are readable, or at the deadline.
    pub min_bytes: i64,
    /// How long to wait for that.
    pub max_wait: Duration,
    /// The first non-empty partition returns a batch even if it is larger than any limit (all but Fetch v0-2).
    pub first_batch_whole: bool,
    /// The session has partitions beside those that are read. They are caught up, and each may get new records.
    pub has_others: bool,
}

/// One pass over the partitions.
#[derive(Debug)]
pub struct ReadPass {
    /// In the order of the request.
    pub reads: Vec<Result<PartitionRead, FetchError>>,
    bytes: i64,
    answer_now: bool,
}

impl ReadPass {
    fn is_enough(&self, limits: &FetchLimits) -> bool {
        self.answer_now || self.bytes >= limits.min_bytes
    }

    /// Replaces reads below the current log start by an error. For answers after a wait: a DeleteRecords may have been acknowledged
    /// meanwhile.
    pub fn refuse_deleted(&mut self, requests: &[ReadRequest]) {
        for (request, read) in requests.iter().zip(&mut self.reads) {
            if let (Ok(partition), Ok(_)) = (&request.partition, &*read)
                && let Err(error) = partition.check_log_start(request.at.offset)
            {
                *read = Err(error.into());
            }
        }
    }

    /// Whether any partition's offsets or leader have changed since this pass.
    fn is_stale(&self, requests: &[ReadRequest]) -> bool {
        requests.iter().zip(&self.reads).any(|(request, read)| match (&request.partition, read) {
            (Ok(partition), Ok(read)) => partition.has_moved_since(&request.at, read),
            _ => false,
        })
    }
}

/// Reads every partition once, sharing the budget in request order. Never waits for the disk: `None` if it would.
pub fn read_resident(requests: &[ReadRequest], limits: &FetchLimits) -> Option<ReadPass> {
    read_once(requests, limits, Access::Resident)
}

/// As [`read_resident`], but loads data that is not in memory on another thread, for a few fetches at a time.
pub async fn read_cold(gate: &ColdGate, requests: &[ReadRequest], limits: &FetchLimits) -> ReadPass {
    let Ok(_permit) = gate.permits.acquire().await else { return failed_pass(requests) };
    let (owned, limits) = (requests.to_vec(), *limits);
    let read = gate.threads.run_job(move || read_once(&owned, &limits, Access::Load)).await;
    match read {
        Some(Some(pass)) => pass,
        Some(None) => failed_pass(requests),
        None => {
            tracing::error!("a read of cold data failed");
            failed_pass(requests)
        }
    }
}

/// One pass over resident or cold data.
async fn read_any(gate: &ColdGate, requests: &[ReadRequest], limits: &FetchLimits) -> ReadPass {
    match read_resident(requests, limits) {
        Some(pass) => pass,
        None => read_cold(gate, requests, limits).await,
    }
}

/// The pass of a fetch that could not be read: the client sends the fetch again.
fn failed_pass(requests: &[ReadRequest]) -> ReadPass {
    let reads = requests.iter().map(|_| Err(ReadError::Closed.into())).collect();
    ReadPass { reads, bytes: 0, answer_now: true }
}

/// Limits concurrent fetches of cold data, so that they leave disk time to writes and fsyncs.
#[derive(Debug)]
pub struct ColdGate {
    permits: Semaphore,
    threads: ColdThreads,
}

/// Fetches whose data is loaded at the same time.
const AT_ONCE: usize = 4;

impl ColdGate {
    /// A gate with threads of the environment of `node`.
    pub fn new(node: &Node) -> Self {
        Self { permits: Semaphore::new(AT_ONCE), threads: ColdThreads::new(node, AT_ONCE) }
    }
}

fn read_once(requests: &[ReadRequest], limits: &FetchLimits, access: Access) -> Option<ReadPass> {
    #[cfg(test)]
    tests::count_pass();
    let mut left = limits.max_bytes;
    let mut pass = ReadPass { reads: Vec::with_capacity(requests.len()), bytes: 0, answer_now: false };
    let mut first = limits.first_batch_whole;
    let mut all_full = !limits.has_others;
    for request in requests {
        let read = match &request.partition {
            Ok(partition) if request.instead.is_some() => partition.read_offsets(&request.at),
            Ok(partition) => partition.read(&request.at, request.max_bytes.min(left), first, access).transpose()?,
            Err(error) => Err(error.clone().into()),
        };
        match &read {
            Ok(read) => {
                let size = read.info.records.len();
                if read.info.next_offset >= read.up_to
                    && let Ok(partition) = &request.partition
                {
                    partition.flush_unread();
                }
                first = first && size == 0;
                left = left.saturating_sub(size);
                pass.bytes = pass.bytes.saturating_add(i64::try_from(size).unwrap_or(i64::MAX));
                // A batch past the limit or in another segment is readable already: waiting would not help.
                pass.answer_now |= read.diverging.is_some() || read.info.over_limit;
                pass.answer_now |= size > 0 && read.info.ends_early;
                pass.answer_now |= matches!(request.instead, Some(Instead::PreferredReplica(_)));
                // A DeleteRecords waits until the follower has deleted, too. A throttled partition stays on the list of its session: it
                // would be answered again and again until the follower reports its new log start.
                pass.answer_now |=
                    request.instead.is_none() && request.known_start.is_some_and(|known| known < read.log_start_offset);
                all_full &= size > 0 && read.info.next_offset < read.up_to;
            }
            Err(_) => pass.answer_now = true,
        }
        pass.reads.push(read);
    }
    pass.answer_now |= all_full;
    Some(pass)
}

/// Whether a fetch answers with its first pass, or waits for more.
pub fn is_enough(pass: &ReadPass, limits: &FetchLimits) -> bool {
    limits.max_wait.is_zero() || limits.min_bytes <= 0 || pass.is_enough(limits)
}

#[cfg(test)]
mod tests;

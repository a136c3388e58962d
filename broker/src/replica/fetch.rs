//! Reading many partitions for one fetch: the byte budget, when to answer at once, and waiting for more.
//!
//! Reads hand out slices of mapped segments; nothing is copied. What is not in memory is brought there on a thread of its own (see `cold_threads`) before
//! its slices are handed on, so that neither a look at them nor sending them makes an async worker wait for the disk. A fetch that finds too little parks on its partitions
//! (see `purgatory`) and looks again when enough has come in, when leadership or the topic changed, or when its time is
//! over. The rules of what answers at once are Kafka's: no time to wait, nothing asked for, an error, a diverging epoch,
//! or enough bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use esker_storage::ReadError;
use tokio::sync::Semaphore;

use super::cold_threads::ColdThreads;
use super::error::{AccessError, FetchError};
use super::partition::{Access, Partition, PartitionRead, ReadAt, ReadBound};
use super::purgatory::FetchWaiter;

/// One partition of a fetch.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The partition, or why it cannot be read.
    pub partition: Result<Arc<Partition>, AccessError>,
    /// Where to read.
    pub at: ReadAt,
    /// `partition_max_bytes`.
    pub max_bytes: usize,
}

/// What holds for the whole fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Bytes over all partitions; soft: the first batch is returned whole.
    pub max_bytes: usize,
    /// Answer only when so much is there, or time is over.
    pub min_bytes: i64,
    /// How long to wait for that.
    pub max_wait: Duration,
    /// The first non-empty partition returns a batch even if it is larger than any limit (all but Fetch v0-2).
    pub first_batch_whole: bool,
}

/// One pass over the partitions.
#[derive(Debug)]
pub struct Pass {
    /// In the order of the request.
    pub reads: Vec<Result<PartitionRead, FetchError>>,
    bytes: i64,
    answer_now: bool,
}

impl Pass {
    fn enough(&self, limits: &FetchLimits) -> bool {
        self.answer_now || self.bytes >= limits.min_bytes
    }
}

/// Reads every partition once, sharing the budget in request order. Never waits for the disk: `None` where it would.
pub fn read_resident(wanted: &[Wanted], limits: &FetchLimits) -> Option<Pass> {
    read_once(wanted, limits, Access::Resident)
}

/// As [`read_resident`]; what is not in memory is brought there on another thread, a few fetches at a time.
pub async fn read_cold(gate: &ColdGate, wanted: &[Wanted], limits: &FetchLimits) -> Pass {
    let Ok(_permit) = gate.turns.acquire().await else { return nothing(wanted) };
    let (owned, limits) = (wanted.to_vec(), *limits);
    let read = gate.threads.run(move || read_once(&owned, &limits, Access::BringIn)).await;
    match read {
        Some(Some(pass)) => pass,
        Some(None) => nothing(wanted),
        None => {
            tracing::error!("a read of cold data failed");
            nothing(wanted)
        }
    }
}

/// One pass, wherever the data lies.
async fn read(gate: &ColdGate, wanted: &[Wanted], limits: &FetchLimits) -> Pass {
    match read_resident(wanted, limits) {
        Some(pass) => pass,
        None => read_cold(gate, wanted, limits).await,
    }
}

/// The answer to a fetch that could not be read: its client asks again.
fn nothing(wanted: &[Wanted]) -> Pass {
    let reads = wanted.iter().map(|_| Err(ReadError::Closed.into())).collect();
    Pass { reads, bytes: 0, answer_now: true }
}

/// Keeps fetches of cold data from taking all of the disk: those who write and sync share it.
#[derive(Debug)]
pub struct ColdGate {
    turns: Semaphore,
    threads: ColdThreads,
}

/// Fetches whose data is brought in at once.
const AT_ONCE: usize = 4;

impl Default for ColdGate {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), threads: ColdThreads::new(AT_ONCE) }
    }
}

fn read_once(wanted: &[Wanted], limits: &FetchLimits, access: Access) -> Option<Pass> {
    let mut left = limits.max_bytes;
    let mut pass = Pass { reads: Vec::with_capacity(wanted.len()), bytes: 0, answer_now: wanted.is_empty() };
    let mut first = limits.first_batch_whole;
    for want in wanted {
        let read = match &want.partition {
            Ok(partition) => partition.read(&want.at, want.max_bytes.min(left), first, access).transpose()?,
            Err(error) => Err(error.clone().into()),
        };
        match &read {
            Ok(read) => {
                let size = read.info.records.len();
                first = first && size == 0;
                left = left.saturating_sub(size);
                pass.bytes = pass.bytes.saturating_add(i64::try_from(size).unwrap_or(i64::MAX));
                // A batch that does not fit is readable all the same: waiting for more would not help.
                pass.answer_now |= read.diverging.is_some() || read.info.over_limit;
            }
            Err(_) => pass.answer_now = true,
        }
        pass.reads.push(read);
    }
    Some(pass)
}

/// What a fetch does with a first pass: answer, or wait for more.
pub fn is_enough(pass: &Pass, limits: &FetchLimits) -> bool {
    limits.max_wait.is_zero() || limits.min_bytes <= 0 || pass.enough(limits)
}

/// Waits until there is enough (or time is over) and returns the last pass.
pub async fn wait_for_more(gate: &ColdGate, wanted: &[Wanted], limits: &FetchLimits, first: Pass) -> Pass {
    let deadline = Instant::now() + limits.max_wait;
    let waiter = FetchWaiter::new(limits.min_bytes.saturating_sub(first.bytes));
    for partition in wanted.iter().filter_map(|w| w.partition.as_ref().ok()) {
        partition.wait_readable(&waiter);
    }
    let mut pass = if moved_since(wanted, &first) { read(gate, wanted, limits).await } else { first };
    while !pass.enough(limits) {
        waiter.rearm(limits.min_bytes.saturating_sub(pass.bytes));
        // Between the pass and the rearming something may have come whose credit is lost: look, don't trust the count.
        if moved_since(wanted, &pass) {
            pass = read(gate, wanted, limits).await;
            continue;
        }
        let woken = tokio::time::timeout_at(deadline.into(), waiter.wait()).await.is_ok();
        if woken || moved_since(wanted, &pass) {
            pass = read(gate, wanted, limits).await;
        }
        if !woken {
            break;
        }
    }
    waiter.finish();
    pass
}

/// Whether any partition's readable end moved since `pass` looked.
fn moved_since(wanted: &[Wanted], pass: &Pass) -> bool {
    wanted.iter().zip(&pass.reads).any(|(want, read)| match (&want.partition, read) {
        (Ok(partition), Ok(read)) => {
            let log = partition.log();
            let before = match want.at.bound {
                ReadBound::HighWatermark => read.high_watermark,
                ReadBound::LastStable => read.last_stable_offset,
                ReadBound::LogEnd => return log.log_end_offset() > read.info.next_offset,
            };
            let now = match want.at.bound {
                ReadBound::LastStable => log.last_stable_offset().min(log.high_watermark()),
                _ => log.high_watermark(),
            };
            now != before
        }
        _ => true,
    })
}

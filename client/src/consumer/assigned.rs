//! The consumer and the partitions that are assigned to it: where each of them is, seeks and pauses.
//!
//! It lies below the files that fetch, find offsets, commit and follow the group: each adds its methods to [`Consumer`], and this
//! file imports none of them.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use esker_protocol::messages::fetch::FetchResponse;
use esker_protocol::primitives::Str;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::config::{ConsumerConfig, StartAt};
use super::group::Membership;
use super::slot::Slot;
use crate::client::Client;
use crate::error::Error;
use crate::metadata::TopicPartition;
use crate::pool::Purpose;

/// A completed fetch: its broker, the requested partitions and offsets, and the response.
pub(super) struct Fetched {
    pub(super) node: i32,
    pub(super) asked: HashMap<TopicPartition, (u64, i64)>,
    pub(super) result: Result<FetchResponse, Error>,
}

type FetchFuture = Pin<Box<dyn Future<Output = Fetched> + Send>>;

/// Reads records. See the [module](super).
pub struct Consumer {
    pub(super) client: Client,
    pub(super) config: ConsumerConfig,
    pub(super) slots: HashMap<TopicPartition, Slot>,
    /// Partitions in the order in which they are served; the one served last goes to the back.
    pub(super) order: VecDeque<TopicPartition>,
    pub(super) fetches: FuturesUnordered<FetchFuture>,
    /// Brokers with a fetch under way.
    pub(super) busy: HashMap<i32, u32>,
    pub(super) era: u64,
    /// Of its fetches.
    pub(super) purpose: Purpose,
    pub(super) membership: Option<Membership>,
    pub(super) next_commit: Instant,
}

impl Consumer {
    /// A consumer on a client's connections.
    #[must_use]
    pub fn new(client: &Client, config: ConsumerConfig) -> Self {
        Self {
            client: client.clone(),
            config,
            slots: HashMap::new(),
            order: VecDeque::new(),
            fetches: FuturesUnordered::new(),
            busy: HashMap::new(),
            era: 0,
            purpose: Purpose::own(),
            membership: None,
            next_commit: Instant::now(),
        }
    }

    /// Reads these partitions from now on, each from the given start, and no others.
    pub fn assign<T: Into<Str>>(&mut self, partitions: impl IntoIterator<Item = (T, i32, StartAt)>) {
        let partitions = partitions.into_iter();
        self.set_assignment(partitions.map(|(topic, p, start)| (TopicPartition::new(topic, p), start)).collect());
    }

    pub(super) fn set_assignment(&mut self, partitions: Vec<(TopicPartition, StartAt)>) {
        self.era += 1;
        self.order = partitions.iter().map(|(tp, _)| tp.clone()).collect();
        self.slots = partitions.into_iter().map(|(tp, start)| (tp, Slot::new(start, self.era))).collect();
    }

    /// The partitions that are read now.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let mut all: Vec<_> = self.slots.keys().cloned().collect();
        all.sort();
        all
    }

    /// Offset of the next record of a partition; `None` until it is known.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.slots.get(&TopicPartition::new(Str::copy(topic), partition))?.position
    }

    /// End of a partition as of the last fetch: what was written and may be read lies before it.
    #[must_use]
    pub fn end(&self, topic: &str, partition: i32) -> Option<i64> {
        self.slots.get(&TopicPartition::new(Str::copy(topic), partition))?.end
    }

    /// Whether everything that was there at the last fetch of every partition has been returned.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.slots.values().all(|slot| slot.at_end && slot.buffered.is_empty())
    }

    /// Goes on from another place of a partition that is assigned.
    ///
    /// # Errors
    /// It is not assigned.
    pub fn seek(&mut self, topic: &str, partition: i32, start: StartAt) -> Result<(), Error> {
        self.era += 1;
        let era = self.era;
        let slot = self.slot(topic, partition)?;
        let paused = slot.paused;
        *slot = Slot::new(start, era);
        slot.paused = paused;
        Ok(())
    }

    /// Hands out no records of a partition until it is resumed.
    ///
    /// # Errors
    /// It is not assigned.
    pub fn pause(&mut self, topic: &str, partition: i32) -> Result<(), Error> {
        self.slot(topic, partition)?.paused = true;
        Ok(())
    }

    /// Hands out records of a partition again.
    ///
    /// # Errors
    /// It is not assigned.
    pub fn resume(&mut self, topic: &str, partition: i32) -> Result<(), Error> {
        self.slot(topic, partition)?.paused = false;
        Ok(())
    }

    fn slot(&mut self, topic: &str, partition: i32) -> Result<&mut Slot, Error> {
        let tp = TopicPartition::new(Str::copy(topic), partition);
        let invalid = || Error::Invalid(format!("{topic} partition {partition} is not assigned to this consumer"));
        self.slots.get_mut(&tp).ok_or_else(invalid)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.client.forget(self.purpose);
    }
}

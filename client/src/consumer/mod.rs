//! The consumer: reads partitions that it was assigned, or that its group gives it.
//!
//! One value, used by one task: [`Consumer::poll`] drives fetching, offsets and group events, and hands out records in offset order
//! within each partition. Fetches run ahead of `poll` up to a bound, one request a broker at a time. In a group a
//! task of its own keeps the membership alive; it tells `poll` what is revoked and assigned.

mod assignor;
mod commit;
mod config;
mod decode;
mod fetch;
mod group;
mod membership;
mod offsets;
mod record;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use esker_protocol::primitives::Str;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};

pub use assignor::{Assignor, Subscribed, assign};
pub use config::{AutoOffsetReset, ConsumerConfig, GroupConfig, Isolation, StartAt};
pub use membership::{MemberAssignment, decode_assignment};
pub use record::ConsumerRecord;

use crate::client::Client;
use crate::error::Error;
use crate::metadata::TopicPartition;
use crate::pool::Purpose;
use fetch::Fetched;
use group::Membership;

/// What is known of an assigned partition.
#[derive(Debug)]
struct Slot {
    /// Where to begin, until the position is known.
    start: StartAt,
    /// Offset of the next record for the application.
    position: Option<i64>,
    /// Offset of the next fetch, ahead of the position by what is buffered.
    fetch_at: i64,
    /// Leader epoch of the last record handed out, for commits (KIP-320); -1 for none.
    last_epoch: i32,
    buffered: VecDeque<ConsumerRecord>,
    buffered_bytes: usize,
    paused: bool,
    /// Counts seeks: what was fetched before one is dropped.
    era: u64,
    /// End of the partition as of the last fetch: high watermark, or last stable offset with read committed.
    end: Option<i64>,
    /// The last fetch found nothing more.
    at_end: bool,
    not_before: Option<Instant>,
}

impl Slot {
    fn new(start: StartAt, era: u64) -> Self {
        let position = match start {
            StartAt::Offset(offset) => Some(offset),
            _ => None,
        };
        Self {
            start,
            position,
            fetch_at: position.unwrap_or(0),
            last_epoch: -1,
            buffered: VecDeque::new(),
            buffered_bytes: 0,
            paused: false,
            era,
            end: None,
            at_end: false,
            not_before: None,
        }
    }
}

type FetchFuture = Pin<Box<dyn Future<Output = Fetched> + Send>>;

/// Reads records. See the module's words for how.
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    slots: HashMap<TopicPartition, Slot>,
    /// Partitions in the order in which they are served; the one served last goes to the back.
    order: VecDeque<TopicPartition>,
    fetches: FuturesUnordered<FetchFuture>,
    /// Brokers with a fetch under way.
    busy: HashMap<i32, u32>,
    era: u64,
    /// Of its fetches.
    purpose: Purpose,
    membership: Option<Membership>,
    next_commit: Instant,
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

    /// Reads these partitions from now on, each from where it is told, and no others.
    pub fn assign<T: Into<Str>>(&mut self, partitions: impl IntoIterator<Item = (T, i32, StartAt)>) {
        let partitions = partitions.into_iter();
        self.set_assignment(partitions.map(|(topic, p, start)| (TopicPartition::new(topic, p), start)).collect());
    }

    fn set_assignment(&mut self, partitions: Vec<(TopicPartition, StartAt)>) {
        self.era += 1;
        self.order = partitions.iter().map(|(tp, _)| tp.clone()).collect();
        self.slots = partitions.into_iter().map(|(tp, start)| (tp, Slot::new(start, self.era))).collect();
    }

    /// Joins the group of [`ConsumerConfig::group`] and reads what it gives this member of the topics.
    ///
    /// # Errors
    /// No group is set, or one was joined already.
    pub fn subscribe<T: Into<Str>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let Some(group) = self.config.group.clone() else {
            return Err(Error::Invalid("to subscribe, set a group in the consumer's config".to_owned()));
        };
        if self.membership.is_some() {
            return Err(Error::Invalid("the consumer has subscribed already".to_owned()));
        }
        let topics = topics.into_iter().map(Into::into).collect();
        self.next_commit = Instant::now() + group.auto_commit.unwrap_or_default();
        self.membership = Some(Membership::start(self.client.clone(), group, topics));
        Ok(())
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

    /// Whether everything that was there at the last fetch of every partition has been handed out.
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

    /// The next records, at most [`ConsumerConfig::max_poll_records`]; empty when none came within `patience`. Call it often: it
    /// also answers the group's rebalances and commits.
    ///
    /// # Errors
    /// What does not mend itself: damaged data, a missing offset without reset, a refused request, lost membership for good.
    /// Calling again goes on after it.
    pub async fn poll(&mut self, patience: Duration) -> Result<Vec<ConsumerRecord>, Error> {
        let deadline = Instant::now() + patience;
        loop {
            self.group_events(deadline).await?;
            self.auto_commit().await?;
            if let Ok(resolved) = timeout_at(deadline, self.resolve_positions()).await {
                resolved?;
            }
            self.send_fetches();
            // Take over what has arrived, so that handing out and fetching overlap.
            while let Some(Some(fetched)) = futures_util::FutureExt::now_or_never(self.fetches.next()) {
                self.take_over(fetched)?;
            }
            let records = self.hand_out();
            if !records.is_empty() {
                self.send_fetches();
                return Ok(records);
            }
            if Instant::now() >= deadline {
                return Ok(records);
            }
            self.wait(deadline).await?;
        }
    }

    /// Waits until something happened: a fetch, a group event, a pause that is over, or the deadline.
    async fn wait(&mut self, deadline: Instant) -> Result<(), Error> {
        let wake = self.next_wake().map_or(deadline, |wake| wake.min(deadline));
        let none = self.fetches.is_empty();
        let membership = &self.membership;
        tokio::select! {
            Some(fetched) = self.fetches.next(), if !none => self.take_over(fetched)?,
            () = async { match membership { Some(m) => m.changed().await, None => std::future::pending().await } } => {}
            () = sleep_until(wake) => {}
        }
        Ok(())
    }

    fn next_wake(&self) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.not_before).filter(|at| *at > Instant::now()).min()
    }

    /// Takes buffered records, a partition after the other.
    fn hand_out(&mut self) -> Vec<ConsumerRecord> {
        let most = self.config.max_poll_records.max(1);
        let mut records = Vec::new();
        for _ in 0..self.order.len() {
            let Some(tp) = self.order.pop_front() else { break };
            if let Some(slot) = self.slots.get_mut(&tp).filter(|slot| !slot.paused && !slot.buffered.is_empty()) {
                let count = slot.buffered.len().min(most - records.len());
                if records.is_empty() && count == slot.buffered.len() {
                    records = std::mem::take(&mut slot.buffered).into();
                } else {
                    records.extend(slot.buffered.drain(..count));
                }
                if slot.buffered.is_empty() {
                    slot.buffered_bytes = 0;
                    slot.position = Some(slot.fetch_at);
                } else {
                    slot.position = records.last().map(|record| record.offset + 1);
                }
                if let Some(last) = records.last() {
                    slot.last_epoch = last.leader_epoch;
                }
            }
            self.order.push_back(tp);
            if records.len() >= most {
                break;
            }
        }
        records
    }

    /// Commits (in a group with automatic commits), leaves the group and ends.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn close(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        if self.config.group.as_ref().is_some_and(|group| group.auto_commit.is_some()) && self.membership.is_some() {
            result = self.commit().await;
        }
        if let Some(membership) = self.membership.take() {
            membership.leave().await;
        }
        result
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.client.forget(self.purpose);
    }
}

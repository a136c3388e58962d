//! The loop of [`Consumer::poll`]: group events, commits, offsets and fetches, until there are records or the time is over.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::assigned::Consumer;
use super::record::ConsumerRecord;
use crate::error::Error;

impl Consumer {
    /// The next records, at most [`max_poll_records`](super::ConsumerConfig::max_poll_records); empty when none came within
    /// `patience`. Call it often: it also answers the group's rebalances and commits.
    ///
    /// # Errors
    /// What does not mend itself: damaged data, a missing offset without reset, a refused request, lost membership for good.
    /// The next call continues after it.
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
            let records = self.take_records();
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
    fn take_records(&mut self) -> Vec<ConsumerRecord> {
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
}

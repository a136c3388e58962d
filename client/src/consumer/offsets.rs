//! From "where to begin" to an offset.

use std::collections::HashMap;

use esker_protocol::error::ErrorCode;
use tokio::time::Instant;

use super::assigned::Consumer;
use super::config::{AutoOffsetReset, Isolation, StartAt};
use crate::admin::OffsetSpec;
use crate::error::Error;
use crate::metadata::TopicPartition;

impl Consumer {
    /// Finds the positions of partitions that have none. Partitions whose brokers cannot answer yet are left for the next call.
    pub(super) async fn resolve_positions(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let open: Vec<(TopicPartition, StartAt)> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.position.is_none() && slot.not_before.is_none_or(|at| at <= now))
            .map(|(tp, slot)| (tp.clone(), slot.start))
            .collect();
        self.fetch_topics().await?;
        if open.is_empty() {
            return Ok(());
        }
        let again = now + self.client.config().retry_backoff;
        match self.find(open.clone()).await {
            Ok(found) => {
                for (tp, _) in open {
                    let Some(slot) = self.slots.get_mut(&tp) else { continue };
                    match found.get(&tp) {
                        Some(offset) => {
                            slot.position = Some(*offset);
                            slot.fetch_at = *offset;
                        }
                        None => slot.not_before = Some(again),
                    }
                }
                Ok(())
            }
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "offsets cannot be found yet");
                for (tp, _) in open {
                    if let Some(slot) = self.slots.get_mut(&tp) {
                        slot.not_before = Some(again);
                    }
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Metadata of assigned topics must be there before anything can be fetched. `&mut`: the future of `poll` is `Send` that way, since a consumer is
    /// not `Sync`.
    async fn fetch_topics(&mut self) -> Result<(), Error> {
        let cluster = self.client.cluster();
        for tp in self.slots.keys() {
            if !cluster.topics.contains_key(&tp.topic) && self.client.cached_topic(&tp.topic).is_none() {
                self.client.topic(&tp.topic, false).await?;
            }
        }
        Ok(())
    }

    async fn find(&mut self, open: Vec<(TopicPartition, StartAt)>) -> Result<HashMap<TopicPartition, i64>, Error> {
        let committed: Vec<_> =
            open.iter().filter(|(_, start)| *start == StartAt::Committed).map(|(tp, _)| tp.clone()).collect();
        let committed = if committed.is_empty() { HashMap::new() } else { self.committed(&committed).await? };
        let mut found = HashMap::new();
        let mut asked = Vec::new();
        for (tp, start) in &open {
            let spec = match start {
                StartAt::Offset(offset) => {
                    found.insert(tp.clone(), *offset);
                    continue;
                }
                StartAt::Committed => match committed.get(tp) {
                    Some(offset) if *offset >= 0 => {
                        found.insert(tp.clone(), *offset);
                        continue;
                    }
                    _ => self.reset_of(tp)?,
                },
                StartAt::Earliest => OffsetSpec::Earliest,
                StartAt::Latest | StartAt::BeforeEnd(_) => OffsetSpec::Latest,
                StartAt::Timestamp(at) => OffsetSpec::Timestamp(*at),
            };
            asked.push((tp.clone(), spec));
        }
        let admin = crate::Admin::new(&self.client);
        let committed_only = self.config.isolation == Isolation::ReadCommitted;
        let mut answers = admin.list_offsets_with(&asked, committed_only).await?;
        // A time after the last record means the log end; "N before the end" also needs the log start.
        let mut more = Vec::new();
        for (tp, start) in &open {
            match start {
                StartAt::BeforeEnd(_) => more.push((tp.clone(), OffsetSpec::Earliest)),
                StartAt::Timestamp(_) if answers.get(tp).is_some_and(|answer| answer.offset < 0) => {
                    more.push((tp.clone(), OffsetSpec::Latest));
                }
                _ => {}
            }
        }
        let starts =
            if more.is_empty() { HashMap::new() } else { admin.list_offsets_with(&more, committed_only).await? };
        for (tp, start) in open {
            let (Some(answer), other) = (answers.remove(&tp), starts.get(&tp)) else { continue };
            let offset = match (start, other) {
                (StartAt::BeforeEnd(count), Some(first)) => answer.offset.saturating_sub(count).max(first.offset),
                (StartAt::Timestamp(_), Some(end)) => end.offset,
                _ => answer.offset,
            };
            found.insert(tp, offset);
        }
        Ok(found)
    }

    fn reset_of(&self, tp: &TopicPartition) -> Result<OffsetSpec, Error> {
        match self.config.reset {
            AutoOffsetReset::Earliest => Ok(OffsetSpec::Earliest),
            AutoOffsetReset::Latest => Ok(OffsetSpec::Latest),
            AutoOffsetReset::None => {
                Err(Error::NoOffset { topic: tp.topic.to_string(), partition: tp.partition, offset: -1 })
            }
        }
    }

    /// What the group committed; partitions without a commit are left out.
    async fn committed(&mut self, partitions: &[TopicPartition]) -> Result<HashMap<TopicPartition, i64>, Error> {
        let Some(group) = &self.config.group else { return Ok(HashMap::new()) };
        let offsets = crate::Admin::new(&self.client).committed_offsets(&group.id).await?;
        let mut found = HashMap::new();
        for offset in offsets {
            Error::check(|| offset.partition.to_string(), offset.error, None).or_else(|error| match error.code() {
                Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(()),
                _ => Err(error),
            })?;
            if partitions.contains(&offset.partition) {
                found.insert(offset.partition, offset.offset);
            }
        }
        Ok(found)
    }
}

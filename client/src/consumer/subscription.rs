//! The consumer as a member of a group: it subscribes, handles the events of the group's task, and leaves.

use esker_protocol::primitives::Str;
use tokio::time::Instant;

use super::assigned::Consumer;
use super::commit::commit;
use super::config::StartAt;
use super::group::{Event, Membership, is_rebalance_error};
use crate::error::Error;

impl Consumer {
    /// Joins the group of [`ConsumerConfig::group`](super::ConsumerConfig::group) and reads what it gives this member of the topics.
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

    /// Handles the events of the group's task.
    pub(super) async fn group_events(&mut self, deadline: Instant) -> Result<(), Error> {
        while let Some(event) = self.membership.as_ref().and_then(Membership::next) {
            match event {
                Event::Revoked(done) => {
                    let auto = self.config.group.as_ref().is_some_and(|group| group.auto_commit.is_some());
                    let mut committed = Ok(());
                    if auto {
                        let (committer, positions) = (self.committer()?, self.positions());
                        committed = commit(&self.client, &committer, positions).await;
                    }
                    self.set_assignment(Vec::new());
                    let _ = done.send(());
                    if let Err(error) = committed
                        && !is_rebalance_error(&error)
                    {
                        return Err(error);
                    }
                }
                Event::Lost => self.set_assignment(Vec::new()),
                Event::Assigned(partitions) => {
                    self.set_assignment(partitions.into_iter().map(|tp| (tp, StartAt::Committed)).collect());
                }
                Event::Failed(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok(())
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

//! Administration: topics, configs, groups, offsets, the cluster.
//!
//! A method that names several things returns one result for each, in request order; an error that concerns all of them (no broker, no
//! answer) is the method's own error. Retriable failures of the whole request are tried again until the request timeout.
//!
//! Methods return boxed futures (`#[boxed]`): they are compiled here, not in each crate that waits for one.

mod brokers;
mod configs;
mod groups;
mod offsets;
mod reassignments;
mod topics;

use std::future::Future;

use async_recursion::async_recursion as boxed;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_cluster::DescribeClusterRequest;
use esker_protocol::primitives::Str;

pub use brokers::{LogDir, RegisteredBroker};
pub use configs::{ConfigEntry, ConfigOp, ConfigSource, Resource};
pub use groups::{CommittedOffset, GroupDescription, GroupListing, GroupMember};
pub use offsets::{ListedOffset, OffsetSpec};
pub use reassignments::Reassignment;
pub use topics::{CreatedTopic, NewTopic};

use crate::client::{Client, Target, coordinator_moved};
use crate::error::Error;
use crate::metadata::Broker;

/// The cluster, as a broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Id of the cluster.
    pub id: Str,
    /// The broker to send admin requests to.
    pub controller: Option<i32>,
    /// Live brokers.
    pub brokers: Vec<Broker>,
}

/// Administration over a client's connections.
#[derive(Debug, Clone)]
pub struct Admin {
    pub(crate) client: Client,
}

impl Admin {
    /// On a client's connections.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone() }
    }

    /// The cluster's id, controller and brokers.
    ///
    /// # Errors
    /// No broker answers.
    #[boxed]
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, Error> {
        let answer = self.client.request(Target::Any, DescribeClusterRequest::default()).await;
        match answer {
            Ok(answer) => {
                Error::check(|| "the cluster".to_owned(), answer.error_code, answer.error_message.as_deref())?;
                let broker = |b: &esker_protocol::messages::describe_cluster::DescribeClusterBroker| Broker {
                    id: b.broker_id,
                    host: b.host.clone(),
                    port: b.port,
                    rack: b.rack.clone(),
                };
                Ok(ClusterDescription {
                    id: answer.cluster_id.clone(),
                    controller: (answer.controller_id >= 0).then_some(answer.controller_id),
                    brokers: answer.brokers.iter().map(broker).collect(),
                })
            }
            // Brokers before Kafka 2.8: their metadata has the same.
            Err(Error::Connection(crate::ConnectionError::Unsupported { .. })) => {
                self.client.refresh(&[]).await?;
                let cluster = self.client.cluster();
                Ok(ClusterDescription {
                    id: cluster.id.clone().unwrap_or_default(),
                    controller: cluster.controller,
                    brokers: cluster.brokers.values().cloned().collect(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Sends to a group's coordinator, and looks for it again when it moved.
    pub(crate) async fn coordinated<T, F>(&self, group: &Str, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let attempt = || async {
            let result = attempt().await;
            if let Err(error) = &result
                && coordinator_moved(error)
            {
                self.client.forget_coordinator(group);
            }
            result
        };
        self.client.retry(&format!("group '{group}'"), attempt).await
    }
}

/// A result for one of several requested items.
pub(crate) fn each(what: impl FnOnce() -> String, code: ErrorCode, message: Option<&Str>) -> Result<(), Error> {
    Error::check(what, code, message.map(Str::as_str))
}

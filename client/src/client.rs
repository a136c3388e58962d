//! The client: connections and metadata that producers, consumers and admins share, and raw requests.
//!
//! What is `#[boxed]` is compiled here, not in each crate that waits for it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_recursion::async_recursion as boxed;
use esker_protocol::Request;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use esker_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use esker_protocol::primitives::Str;
use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, sleep};

use crate::config::ClientConfig;
use crate::connection::{Connection, Meant};
use crate::error::Error;
use crate::metadata::{Cluster, Topic};
use crate::pool::{Pool, Purpose};
use crate::retry::Backoff;

/// Whom a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Any broker that answers.
    Any,
    /// The broker with this node id.
    Node(i32),
    /// The broker that the cluster names as its controller.
    Controller,
    /// The coordinator of a group.
    Coordinator(Str),
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: ClientConfig,
    pool: Pool,
    cluster: RwLock<Arc<Cluster>>,
    /// One refresh at a time; callers that wait behind it share nothing but the pause.
    refreshing: tokio::sync::Mutex<()>,
    coordinators: Mutex<HashMap<Str, i32>>,
}

/// A handle on a cluster; clones share connections and metadata.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

impl Client {
    /// Connects to the cluster and fetches its brokers.
    ///
    /// # Errors
    /// [`Error::NoBroker`] at once when none of the addresses answers.
    #[boxed]
    pub async fn connect(config: ClientConfig) -> Result<Self, Error> {
        if config.bootstrap.is_empty() {
            return Err(Error::Invalid("no broker address is given; pass one as host:port".to_owned()));
        }
        let client = Self {
            inner: Arc::new(Inner {
                pool: Pool::new(config.clone()),
                config,
                cluster: RwLock::default(),
                refreshing: tokio::sync::Mutex::default(),
                coordinators: Mutex::default(),
            }),
        };
        client.refresh(&[]).await?;
        Ok(client)
    }

    /// What is known of the cluster now.
    #[must_use]
    pub fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.inner.cluster.read())
    }

    /// Settings.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// Refreshes the brokers and these topics.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn refresh(&self, topics: &[Str]) -> Result<MetadataResponse, Error> {
        self.metadata(Some(topics), false).await
    }

    /// Requests metadata (`None`: of all topics) and caches it.
    #[boxed]
    pub(crate) async fn metadata(&self, topics: Option<&[Str]>, create: bool) -> Result<MetadataResponse, Error> {
        let _turn = self.inner.refreshing.lock().await;
        let names = |names: &[Str]| {
            names.iter().map(|name| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() }).collect()
        };
        let request = |version| MetadataRequest {
            // Version 0 has no null, and takes an empty list for all topics.
            topics: topics.map(names).or((version == 0).then(Vec::new)),
            allow_auto_topic_creation: create || version < 4,
            ..MetadataRequest::default()
        };
        let answer = self.request_with(Target::Any, request).await?;
        Error::check(|| "Metadata".to_owned(), answer.error_code, None)?;
        let mut cluster = self.inner.cluster.write();
        if let (Some(meant), Some(found)) = (&cluster.id, &answer.cluster_id)
            && meant != found
        {
            return Err(Error::OtherCluster { meant: meant.to_string(), found: found.to_string() });
        }
        let mut next = Cluster::clone(&cluster);
        next.merge(&answer, Instant::now());
        *cluster = Arc::new(next);
        Ok(answer)
    }

    /// A topic, from the cache where that is fresh.
    ///
    /// # Errors
    /// It is not there. With `create` it is waited for (`topic_wait`), since the broker may be creating it.
    #[boxed]
    pub async fn topic(&self, name: &str, create: bool) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.cached_topic(name) {
            return Ok(topic);
        }
        let names = [Str::copy(name)];
        let started = Instant::now();
        let mut failures = 0;
        loop {
            let error = match self.metadata(Some(&names), create).await {
                Ok(answer) => {
                    if let Some(topic) = self.cluster().topics.get(name) {
                        return Ok(Arc::clone(topic));
                    }
                    let code = answer.topics.first().map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |t| t.error_code);
                    Error::refused(format!("topic '{name}'"), code, None)
                }
                Err(error) => error,
            };
            let missing = error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            if !error.is_retriable() || missing && !create || started.elapsed() > self.inner.config.topic_wait {
                return Err(error);
            }
            sleep(self.backoff().pause(failures)).await;
            failures += 1;
        }
    }

    /// A topic from the cache, if that is fresh.
    pub(crate) fn cached_topic(&self, name: &str) -> Option<Arc<Topic>> {
        let cluster = self.inner.cluster.read();
        let topic = cluster.topics.get(name)?;
        let age = cluster.fetched.get(name)?.elapsed();
        (age <= self.inner.config.metadata_max_age).then(|| Arc::clone(topic))
    }

    /// Sends one request in the newest version that both sides know, and returns the response as it is: its error codes are for the
    /// caller to read. For tests and for what has no method of its own.
    ///
    /// # Errors
    /// The broker cannot be reached, does not know the API, or does not answer.
    pub async fn request<R: Request>(&self, target: Target, request: R) -> Result<R::Response, Error> {
        self.request_with(target, |_| request.clone()).await
    }

    /// As [`Client::request`], for requests that look different from version to version.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_with<R: Request>(
        &self,
        target: Target,
        request: impl Fn(i16) -> R,
    ) -> Result<R::Response, Error> {
        self.request_up_to(target, i16::MAX, request).await
    }

    /// As [`Client::request_with`], in no later version than `most`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_up_to<R: Request>(
        &self,
        target: Target,
        most: i16,
        request: impl Fn(i16) -> R,
    ) -> Result<R::Response, Error> {
        let connection = self.connection(&target, Purpose::General).await?;
        let version = connection.version::<R>(most)?;
        Ok(connection.request(version, &request(version), None).await?)
    }

    /// The versions of each API that a broker serves: key, first, last.
    ///
    /// # Errors
    /// The broker cannot be reached.
    #[boxed]
    pub async fn api_versions(&self, target: Target) -> Result<Vec<(i16, i16, i16)>, Error> {
        let connection = self.connection(&target, Purpose::General).await?;
        let mut versions: Vec<_> = connection.versions().iter().map(|(key, (min, max))| (*key, *min, *max)).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Tries until it succeeds, fails for good, or the request timeout is over; looks for brokers and leaders in between.
    pub(crate) async fn retry<T, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let started = Instant::now();
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Err(error) if error.is_retriable() => error,
                done => return done,
            };
            let after = self.inner.config.request_timeout;
            if started.elapsed() >= after {
                return Err(Error::TimedOut { what: what.to_owned(), after, last: Box::new(error) });
            }
            tracing::debug!(what, %error, "trying again");
            sleep(self.backoff().pause(failures)).await;
            failures += 1;
            let topics: Vec<_> = self.cluster().topics.keys().cloned().collect();
            let _ = self.refresh(&topics).await;
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.inner.config.retry_backoff, self.inner.config.retry_backoff_max)
    }

    /// The longest that one attempt may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.inner.config.request_timeout
    }

    /// A connection to the target.
    #[boxed]
    pub(crate) async fn connection(&self, target: &Target, purpose: Purpose) -> Result<Arc<Connection>, Error> {
        let cluster = self.cluster();
        let node = match target {
            Target::Any => return self.any(&cluster, purpose).await,
            Target::Node(id) => *id,
            Target::Controller => match cluster.controller {
                Some(id) if cluster.brokers.contains_key(&id) => id,
                _ => return self.any(&cluster, purpose).await,
            },
            Target::Coordinator(group) => self.coordinator(group).await?,
        };
        let address = self.address(node).await?;
        let meant = Meant { cluster: self.cluster().id.clone(), node: Some(node) };
        Ok(self.inner.pool.get(&address, purpose, &meant).await?)
    }

    /// A connection to a node that stands already.
    pub(crate) fn existing_connection(&self, node: i32, purpose: Purpose) -> Option<Arc<Connection>> {
        let address = self.inner.cluster.read().brokers.get(&node)?.address();
        self.inner.pool.existing_connection(&address, purpose)
    }

    /// Drops the connections of one purpose.
    pub(crate) fn forget(&self, purpose: Purpose) {
        self.inner.pool.forget(purpose);
    }

    async fn address(&self, node: i32) -> Result<String, Error> {
        let known = |cluster: Arc<Cluster>| cluster.brokers.get(&node).map(crate::Broker::address);
        if let Some(address) = known(self.cluster()) {
            return Ok(address);
        }
        self.refresh(&[]).await?;
        known(self.cluster()).ok_or_else(|| {
            Error::refused(format!("broker {node}"), ErrorCode::BROKER_NOT_AVAILABLE, Some("it is not in the cluster"))
        })
    }

    async fn any(&self, cluster: &Cluster, purpose: Purpose) -> Result<Arc<Connection>, Error> {
        let mut addresses: Vec<_> = cluster.brokers.values().map(crate::Broker::address).collect();
        addresses.extend(self.inner.config.bootstrap.iter().cloned());
        if let Some(standing) =
            addresses.iter().find_map(|address| self.inner.pool.existing_connection(address, purpose))
        {
            return Ok(standing);
        }
        let mut reason = String::new();
        let meant = Meant { cluster: cluster.id.clone(), node: None };
        for address in &addresses {
            match self.inner.pool.get(address, purpose, &meant).await {
                Ok(connection) => return Ok(connection),
                Err(error) => reason = error.to_string(),
            }
        }
        addresses.dedup();
        Err(Error::NoBroker { addresses: addresses.join(", "), reason })
    }

    /// Node id of a group's coordinator, from the cache where it is known.
    #[boxed]
    pub(crate) async fn coordinator(&self, group: &Str) -> Result<i32, Error> {
        if let Some(node) = self.inner.coordinators.lock().get(group.as_str()) {
            return Ok(*node);
        }
        let request = |version| {
            if version >= 4 {
                FindCoordinatorRequest { coordinator_keys: vec![group.clone()], ..Default::default() }
            } else {
                FindCoordinatorRequest { key: group.clone(), ..Default::default() }
            }
        };
        let answer: FindCoordinatorResponse = self.request_with(Target::Any, request).await?;
        let (node, code, message) = match answer.coordinators.first() {
            Some(found) => (found.node_id, found.error_code, found.error_message.clone()),
            None => (answer.node_id, answer.error_code, answer.error_message),
        };
        Error::check(|| format!("coordinator of group '{group}'"), code, message.as_deref())?;
        self.inner.coordinators.lock().insert(group.clone(), node);
        Ok(node)
    }

    /// Forgets the coordinator of a group, after a code that means that the coordinator moved.
    pub(crate) fn forget_coordinator(&self, group: &str) {
        self.inner.coordinators.lock().remove(group);
    }
}

/// Whether an error means that another broker coordinates the group.
pub(crate) fn coordinator_moved(error: &Error) -> bool {
    match error {
        Error::Connection(_) | Error::NoBroker { .. } => true,
        Error::Refused { code, .. } => matches!(
            *code,
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::BROKER_NOT_AVAILABLE
        ),
        _ => false,
    }
}

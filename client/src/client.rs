//! The cluster as a client sees it: brokers, topics, leaders, and a connection to each broker that is used.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::Request;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use esker_protocol::primitives::{Str, Uuid};
use parking_lot::RwLock;

use crate::ClientError;
use crate::connection::Connection;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Addresses to begin with, `host:port`.
    pub bootstrap: Vec<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// How long to wait for an answer.
    pub request_timeout: Duration,
    /// How long to keep trying what may succeed later.
    pub retry_for: Duration,
}

impl ClientConfig {
    /// Defaults, for a list of addresses separated by commas.
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.split(',').map(|a| a.trim().to_owned()).filter(|a| !a.is_empty()).collect(),
            client_id: "esker-client".to_owned(),
            request_timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(30),
        }
    }
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub partition: i32,
    /// Its leader, -1 for none.
    pub leader: i32,
    /// Leader epoch.
    pub leader_epoch: i32,
    /// Replicas.
    pub replicas: Vec<i32>,
    /// Replicas in sync.
    pub isr: Vec<i32>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// The broker itself writes it.
    pub internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionView>,
}

/// The cluster as of the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Its id.
    pub cluster_id: Option<String>,
    /// The broker that admin requests go to.
    pub controller: i32,
    /// Brokers.
    pub nodes: BTreeMap<i32, Node>,
    /// Topics that were asked for.
    pub topics: BTreeMap<String, TopicView>,
}

/// A client; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    connections: tokio::sync::Mutex<HashMap<String, Arc<Connection>>>,
    view: RwLock<Arc<ClusterView>>,
}

/// Time between two tries.
const BACKOFF: Duration = Duration::from_millis(50);

impl Client {
    /// Connects with defaults; `bootstrap` is a list of addresses separated by commas.
    pub async fn connect(bootstrap: &str) -> Result<Self, ClientError> {
        Self::with_config(ClientConfig::new(bootstrap)).await
    }

    /// Connects.
    pub async fn with_config(config: ClientConfig) -> Result<Self, ClientError> {
        let client =
            Self { inner: Arc::new(Inner { config, connections: Default::default(), view: RwLock::default() }) };
        client.refresh(Some(&[])).await?;
        Ok(client)
    }

    /// How it behaves.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// The cluster as of the last look.
    pub fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.inner.view.read())
    }

    async fn connection_to(&self, address: &str) -> Result<Arc<Connection>, ClientError> {
        let mut connections = self.inner.connections.lock().await;
        if let Some(open) = connections.get(address).filter(|c| c.is_open()) {
            return Ok(Arc::clone(open));
        }
        let client_id = Str::copy(&self.inner.config.client_id);
        let opened = Arc::new(Connection::open(address, client_id, self.inner.config.request_timeout).await?);
        connections.insert(address.to_owned(), Arc::clone(&opened));
        Ok(opened)
    }

    /// A connection to a broker by id.
    async fn connection(&self, node: i32) -> Result<Arc<Connection>, ClientError> {
        let view = self.view();
        let Some(node) = view.nodes.get(&node) else {
            return Err(ClientError::broker("leader", ErrorCode::LEADER_NOT_AVAILABLE));
        };
        self.connection_to(&format!("{}:{}", node.host, node.port)).await
    }

    async fn any_connection(&self) -> Result<Arc<Connection>, ClientError> {
        let view = self.view();
        let known = view.nodes.values().map(|n| format!("{}:{}", n.host, n.port));
        let mut last = ClientError::Connect { address: "(none)".to_owned(), reason: "no address is given".to_owned() };
        for address in known.chain(self.inner.config.bootstrap.iter().cloned()) {
            match self.connection_to(&address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends a request to one broker, or to any.
    pub async fn request<R: Request>(&self, node: Option<i32>, request: &R) -> Result<R::Response, ClientError> {
        self.request_limited(node, request, i16::MAX, Duration::ZERO).await
    }

    /// As [`Client::request`], in at most version `limit`, and waiting longer by `wait` (for requests that park).
    pub async fn request_limited<R: Request>(
        &self,
        node: Option<i32>,
        request: &R,
        limit: i16,
        wait: Duration,
    ) -> Result<R::Response, ClientError> {
        let connection = match node {
            Some(node) => self.connection(node).await?,
            None => self.any_connection().await?,
        };
        connection.request(request, limit, wait).await
    }

    /// Looks at the cluster again: all topics with `None`, else these (besides those known already). Does not make topics.
    pub async fn refresh(&self, topics: Option<&[&str]>) -> Result<Arc<ClusterView>, ClientError> {
        let known = self.view();
        let named = topics.map(|more| {
            let mut names: Vec<&str> = known.topics.keys().map(String::as_str).collect();
            names.extend(more.iter().filter(|name| !known.topics.contains_key(**name)));
            names
                .iter()
                .map(|name| MetadataRequestTopic { name: Some(Str::copy(name)), ..Default::default() })
                .collect()
        });
        let request = MetadataRequest { topics: named, allow_auto_topic_creation: false, ..MetadataRequest::default() };
        let response = self.any_connection().await?.request(&request, i16::MAX, Duration::ZERO).await?;
        let mut view = ClusterView {
            cluster_id: response.cluster_id.map(|id| id.to_string()),
            controller: response.controller_id,
            ..ClusterView::default()
        };
        for b in response.brokers {
            let rack = b.rack.map(|r| r.to_string());
            view.nodes.insert(b.node_id, Node { id: b.node_id, host: b.host.to_string(), port: b.port, rack });
        }
        for t in response.topics.into_iter().filter(|t| !t.error_code.is_error()) {
            let name = t.name.unwrap_or_default().to_string();
            let mut partitions: Vec<_> = t
                .partitions
                .into_iter()
                .map(|p| PartitionView {
                    partition: p.partition_index,
                    leader: p.leader_id,
                    leader_epoch: p.leader_epoch,
                    replicas: p.replica_nodes,
                    isr: p.isr_nodes,
                })
                .collect();
            partitions.sort_by_key(|p| p.partition);
            let topic = TopicView { name: name.clone(), id: t.topic_id, internal: t.is_internal, partitions };
            view.topics.insert(name, newer(known.topics.get(&topic.name), topic));
        }
        let view = Arc::new(view);
        *self.inner.view.write() = Arc::clone(&view);
        Ok(view)
    }

    /// A topic, looked up if it is not known yet.
    pub async fn topic(&self, name: &str) -> Result<TopicView, ClientError> {
        if let Some(topic) = self.view().topics.get(name) {
            return Ok(topic.clone());
        }
        let view = self.refresh(Some(&[name])).await?;
        let unknown = || ClientError::broker(format!("topic {name}"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        view.topics.get(name).cloned().ok_or_else(unknown)
    }

    /// The leader of a partition.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<i32, ClientError> {
        let found = self.topic(topic).await?.partitions.into_iter().find(|p| p.partition == partition);
        match found {
            Some(p) if p.leader >= 0 => Ok(p.leader),
            Some(_) => Err(ClientError::broker(format!("{topic}-{partition}"), ErrorCode::LEADER_NOT_AVAILABLE)),
            None => Err(ClientError::broker(format!("{topic}-{partition}"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
        }
    }

    /// The broker that coordinates a group; waits until there is one.
    pub async fn coordinator(&self, group: &str) -> Result<i32, ClientError> {
        let request = FindCoordinatorRequest { key: Str::copy(group), ..FindCoordinatorRequest::default() };
        self.retry(|| async {
            // Version 3 asks for one key.
            let response = self.request_limited(None, &request, 3, Duration::ZERO).await?;
            ClientError::check("FindCoordinator", response.error_code, response.error_message.as_deref())?;
            if !self.view().nodes.contains_key(&response.node_id) {
                self.refresh(Some(&[])).await?;
            }
            Ok(response.node_id)
        })
        .await
    }

    /// Tries again, for as long as configured, what may succeed later.
    pub async fn retry<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ClientError> {
        let deadline = tokio::time::Instant::now() + self.inner.config.retry_for;
        loop {
            match attempt().await {
                Err(error) if error.is_retriable() && tokio::time::Instant::now() < deadline => {
                    tracing::debug!(%error, "trying again");
                    tokio::time::sleep(BACKOFF).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// What is known of a topic never goes back to an older leader epoch (KIP-320).
fn newer(known: Option<&TopicView>, mut seen: TopicView) -> TopicView {
    if let Some(known) = known.filter(|known| known.id == seen.id) {
        for p in &mut seen.partitions {
            let before = known.partitions.iter().find(|k| k.partition == p.partition);
            if let Some(before) = before.filter(|before| before.leader_epoch > p.leader_epoch) {
                *p = before.clone();
            }
        }
    }
    seen
}

//! This node in its cluster: registered, and not fenced any more.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{Adopted, AllocateNodeId, JoinBroker, JoinRequest, RegisterBroker, Registration};
use esker_core::health::StartStep;
use esker_core::metadata::{ListenerRecord, RecordLevel, supported_features};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;
use esker_storage::LogManager;
use tokio::time::Instant;
use tracing::{error, info};

use super::error::ServeError;
use super::register::{found_partitions, registration};
use crate::cluster::{Controller, RoutedController, find_silent_voters};
use crate::controller::{Committed, ControllerClient, SubmitError, submit};
use crate::node::Node;
use crate::raft::Metadata;
use crate::server::RequestMemory;
use crate::session::BrokerSession;
use crate::start_progress::StartProgress;
use crate::telemetry::Metrics;

/// How long the metadata log may take to commit the registration.
const REGISTER: Duration = Duration::from_secs(60);

/// How long the answer to the first heartbeat of an unfenced broker may take before clients come all the same.
const FIRST_LEASE: Duration = Duration::from_secs(2);
/// Until a registration is tried again: the session of the incarnation before must end.
const REGISTER_AGAIN: Duration = Duration::from_millis(50);
/// A request to the controller that takes so long is waiting for something that a person wants to know.
const EXPLAIN_AFTER: Duration = Duration::from_millis(500);

/// What all connections share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub metrics: Arc<Metrics>,
    pub memory: Arc<RequestMemory>,
}

/// This node in its cluster.
pub(super) struct Joined {
    pub metadata: Arc<Metadata>,
    pub controller: Arc<Controller>,
    pub session: Arc<BrokerSession>,
    pub routed: Arc<RoutedController>,
    pub directory: Uuid,
    /// The epoch before, if the stop was clean and its logs are.
    pub previous_epoch: Option<i64>,
    pub listeners: Vec<ListenerRecord>,
    pub progress: Arc<StartProgress>,
}

impl Joined {
    /// Registers this broker: the offset from which on it is registered. The first broker of a new cluster adopts the partitions in its log
    /// dirs.
    pub(super) async fn register(&self, node: &Node, incarnation: Uuid, logs: &LogManager) -> Result<u64, ServeError> {
        let registration = registration(node, incarnation, self.listeners.clone(), logs);
        let image = self.metadata.image();
        let alone = self.metadata.quorum().borrow().is_only_member();
        if !alone || image.brokers().any(|broker| broker.node_id != node.id()) {
            return self.join(node, registration).await;
        }
        // Another node must not be given this id. A cluster of before knows no reservations: its brokers are known by their registration.
        let reserve = AllocateNodeId { wanted: Some(node.id()), directory: self.directory, abandoned: Vec::new() };
        let reserved = submit(self.metadata.as_ref(), reserve, Instant::now() + REGISTER).await?.reply;
        match reserved {
            Ok(_) => {}
            Err(refusal) if refusal.code == ErrorCode::UNSUPPORTED_VERSION => {
                tracing::debug!(why = %refusal.message, "the id of this node is not reserved");
            }
            Err(refusal) => return Err(ServeError::Refused(refusal.message.to_string())),
        }
        let found = if image.brokers().next().is_none() { found_partitions(logs) } else { Vec::new() };
        let fresh_ids = found.iter().map(|_| node.random_id()).collect();
        let request = RegisterBroker { registration, found, fresh_ids };
        let committed = submit(self.metadata.as_ref(), request, Instant::now() + REGISTER).await?;
        let Adopted { topics, left } = committed.reply;
        if !topics.is_empty() {
            info!(
                ?topics,
                "a new cluster takes over what lies in its log dirs; these topics keep their records for ever until retention.ms is set"
            );
        }
        for (topic, why) in left {
            error!(%topic, why, "what lies in the log dirs of this topic is not taken over");
        }
        let epoch = self.metadata.image().broker(node.id()).map_or(-1, |broker| broker.epoch);
        self.session.registered(epoch, false);
        Ok(committed.offset)
    }

    /// Registers with a cluster of several: fenced at first.
    pub(super) async fn join(&self, node: &Node, registration: Registration) -> Result<u64, ServeError> {
        let ask = JoinBroker {
            join: JoinRequest {
                registration,
                features: supported_features(),
                record_level: RecordLevel::NEWEST.0,
                previous_epoch: self.previous_epoch.unwrap_or(-1),
            },
            directory: self.directory,
            configs: self.controller.configs(),
            alive: true,
        };
        loop {
            let deadline = Instant::now() + REGISTER;
            let why = match self.explain_wait(submit(self.routed.as_ref(), ask.clone(), deadline)).await {
                Ok(Committed { reply: Ok(epoch), offset, .. }) => {
                    self.session.registered(epoch, true);
                    info!(node = node.id(), epoch, "registered with the cluster");
                    return Ok(offset);
                }
                Ok(Committed { reply: Err(refusal), .. })
                    if refusal.code == ErrorCode::DUPLICATE_BROKER_REGISTRATION =>
                {
                    refusal.message.to_string()
                }
                Ok(Committed { reply: Err(refusal), .. }) => {
                    return Err(ServeError::Refused(refusal.message.to_string()));
                }
                Err(error @ (SubmitError::Stopping | SubmitError::Fault(_) | SubmitError::Encode(_))) => {
                    return Err(error.into());
                }
                Err(error) => error.to_string(),
            };
            self.progress.report_blocked(StartStep::Registering, vec![format!("not registered yet: {why}")]);
            tokio::time::sleep(REGISTER_AGAIN).await;
        }
    }

    /// Waits for a request to the controller. While that takes long, reports which node of the quorum is missing.
    async fn explain_wait<T>(&self, request: impl Future<Output = T>) -> T {
        let mut request = pin!(request);
        loop {
            if let Ok(answer) = tokio::time::timeout(EXPLAIN_AFTER, request.as_mut()).await {
                return answer;
            }
            let view = self.metadata.quorum().borrow().clone();
            let explain = find_silent_voters(self.controller.node(), self.controller.local(), &view);
            let mut reasons = tokio::select! {
                biased;
                answer = request.as_mut() => return answer,
                reasons = explain => reasons,
            };
            reasons.insert(0, self.session.contact(&view).to_string());
            self.progress.report_blocked(StartStep::Registering, reasons);
        }
    }

    /// Waits until the image here has what was committed at `offset`.
    pub(super) async fn wait_for(&self, offset: u64) -> Result<(), ServeError> {
        self.progress.begin(StartStep::CatchingUp);
        let mut images = self.metadata.subscribe();
        let there = images.wait_for(|image| {
            self.progress.report_applied(image.offset(), offset);
            image.offset() >= offset
        });
        there.await.map(drop).map_err(|_| SubmitError::Stopping.into())
    }

    pub(super) async fn wait_unfenced(&self, node_id: i32) -> Result<(), ServeError> {
        let mut images = self.metadata.subscribe();
        let there = images.wait_for(|image| image.broker(node_id).is_some_and(|broker| !broker.fenced)).await;
        there.map(drop).map_err(|_| SubmitError::Stopping.into())
    }

    /// Waits for the first lease, for a while: a client that comes before it would be refused.
    pub(super) async fn wait_lease(&self) {
        let until = Instant::now() + FIRST_LEASE;
        while self.session.is_isolated() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The way to the active controller.
    pub(super) fn client(&self) -> Arc<dyn ControllerClient> {
        Arc::clone(&self.routed) as _
    }
}

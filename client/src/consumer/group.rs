//! Membership of a classic group: one task joins, assigns partitions (as leader), sends heartbeats and leaves.
//!
//! Before the task rejoins, it makes the consumer give up its partitions ([`Event::Revoked`]) and waits for that, so that
//! the consumed records are committed before another member continues there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use esker_protocol::Request;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::heartbeat::HeartbeatRequest;
use esker_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use esker_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use esker_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_protocol::primitives::Str;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::assignor::{Assignor, Subscribed, assign};
use super::config::GroupConfig;
use super::membership::{decode_assignment, decode_subscription, encode_assignment, encode_subscription};
use crate::admin::Admin;
use crate::client::{Client, Target, coordinator_moved};
use crate::error::Error;
use crate::metadata::TopicPartition;
use crate::pool::Purpose;

/// On top of what a broker may hold a request back for.
const GRACE: Duration = Duration::from_secs(5);

/// The events that the task sends to the consumer.
#[derive(Debug)]
pub(super) enum Event {
    /// Give all partitions up; commit first. The task waits for the answer.
    Revoked(oneshot::Sender<()>),
    /// The partitions are gone already.
    Lost,
    /// These are yours.
    Assigned(Vec<TopicPartition>),
    /// The membership failed for good, or for now.
    Failed(Error),
}

#[derive(Debug, Default)]
struct Shared {
    events: Mutex<VecDeque<Event>>,
    identity: Mutex<Option<(i32, Str)>>,
    changed: Notify,
    leave: Notify,
}

impl Shared {
    fn send_event(&self, event: Event) {
        self.events.lock().push_back(event);
        self.changed.notify_one();
    }
}

/// A handle on the task. Dropping it leaves the group without waiting.
#[derive(Debug)]
pub(super) struct Membership {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl Membership {
    pub(super) fn start(client: Client, group: GroupConfig, topics: BTreeSet<Str>) -> Self {
        let shared = Arc::new(Shared::default());
        let member = Member {
            client,
            purpose: Purpose::own(),
            group,
            topics,
            shared: Arc::clone(&shared),
            id: Str::default(),
            generation: -1,
            counts: None,
        };
        Self { shared, task: Some(tokio::spawn(member.run())) }
    }

    /// Generation and member id to commit with.
    pub(super) fn identity(&self) -> (i32, Str) {
        self.shared.identity.lock().clone().unwrap_or((-1, Str::default()))
    }

    /// Something is to be looked at.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    pub(super) fn next(&self) -> Option<Event> {
        self.shared.events.lock().pop_front()
    }

    /// Leaves and waits for it, a few seconds at most.
    pub(super) async fn leave(mut self) {
        self.shared.leave.notify_one();
        if let Some(task) = self.task.take() {
            let _ = timeout(GRACE, task).await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.leave.notify_one();
    }
}

/// Whether an error only means that the group is rebalancing.
pub(super) fn is_rebalance_error(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID)
    )
}

struct Member {
    client: Client,
    purpose: Purpose,
    group: GroupConfig,
    topics: BTreeSet<Str>,
    shared: Arc<Shared>,
    id: Str,
    generation: i32,
    /// As leader: how many partitions each topic had when they were shared.
    counts: Option<BTreeMap<Str, usize>>,
}

/// Why heartbeats ended.
enum Ended {
    Rebalance,
    Lost,
    Fatal(Error),
}

impl Member {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.live() => {}
            () = shared.leave.notified() => {}
        }
        self.client.forget(self.purpose);
        if let Err(error) = self.leave().await {
            tracing::debug!(%error, group = %self.group.id, "leaving the group failed");
        }
    }

    async fn live(&mut self) {
        let mut failures = 0;
        loop {
            match self.join().await {
                Ok(partitions) => {
                    failures = 0;
                    *self.shared.identity.lock() = Some((self.generation, self.id.clone()));
                    self.shared.send_event(Event::Assigned(partitions));
                }
                Err(error) => {
                    let again = self.after_failure(&error);
                    if !again {
                        self.shared.send_event(Event::Failed(error));
                        return;
                    }
                    sleep(self.client.backoff().pause(failures)).await;
                    failures += 1;
                    continue;
                }
            }
            match self.heartbeats().await {
                Ended::Rebalance => self.revoke().await,
                Ended::Lost => self.shared.send_event(Event::Lost),
                Ended::Fatal(error) => {
                    self.shared.send_event(Event::Lost);
                    self.shared.send_event(Event::Failed(error));
                    return;
                }
            }
        }
    }

    /// Whether joining again can help, after putting right what can be.
    fn after_failure(&mut self, error: &Error) -> bool {
        if coordinator_moved(error) {
            self.client.forget_coordinator(&self.group.id);
        }
        if error.code() == Some(ErrorCode::UNKNOWN_MEMBER_ID) {
            self.id = Str::default();
        }
        // A topic that is not there yet may come.
        error.is_retriable() || is_rebalance_error(error)
    }

    async fn revoke(&self) {
        let (done, wait) = oneshot::channel();
        self.shared.send_event(Event::Revoked(done));
        if timeout(self.group.rebalance_timeout, wait).await.is_err() {
            tracing::warn!(group = %self.group.id, "the consumer did not poll within the rebalance timeout");
        }
    }

    async fn send<R: Request>(&self, request: R, patience: Duration) -> Result<R::Response, Error> {
        let target = Target::Coordinator(self.group.id.clone());
        let connection = self.client.connection(&target, self.purpose).await?;
        let version = connection.version::<R>(i16::MAX)?;
        Ok(connection.request(version, &request, Some(patience)).await?)
    }

    /// Joins and gets this member's share.
    async fn join(&mut self) -> Result<Vec<TopicPartition>, Error> {
        let joined = self.request_join().await?;
        self.generation = joined.generation_id;
        self.id = joined.member_id.detached();
        let protocol = joined.protocol_name.clone().unwrap_or_default();
        let leads = joined.leader == joined.member_id;
        self.counts = None;
        let assignments = if leads { self.assign_members(&protocol, &joined).await? } else { Vec::new() };
        let request = SyncGroupRequest {
            group_id: self.group.id.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.group.instance_id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(protocol.detached()),
            assignments,
        };
        let answer = self.send(request, self.group.rebalance_timeout + GRACE).await?;
        Error::check(|| format!("group '{}'", self.group.id), answer.error_code, None)?;
        Ok(decode_assignment(&answer.assignment))
    }

    async fn request_join(&mut self) -> Result<JoinGroupResponse, Error> {
        let metadata = encode_subscription(&self.topics)?;
        let millis = |d: Duration| i32::try_from(d.as_millis()).unwrap_or(i32::MAX);
        loop {
            let protocol =
                |a: &Assignor| JoinGroupRequestProtocol { name: a.name().into(), metadata: metadata.clone() };
            let request = JoinGroupRequest {
                group_id: self.group.id.clone(),
                session_timeout_ms: millis(self.group.session_timeout),
                rebalance_timeout_ms: millis(self.group.rebalance_timeout),
                member_id: self.id.clone(),
                group_instance_id: self.group.instance_id.clone(),
                protocol_type: "consumer".into(),
                protocols: self.group.assignors.iter().map(protocol).collect(),
                reason: None,
            };
            let answer = self.send(request, self.group.rebalance_timeout + GRACE).await?;
            if answer.error_code == ErrorCode::MEMBER_ID_REQUIRED && self.id.is_empty() {
                self.id = answer.member_id.detached();
                continue;
            }
            Error::check(|| format!("group '{}'", self.group.id), answer.error_code, None)?;
            return Ok(answer);
        }
    }

    /// As leader: shares all members' topics.
    async fn assign_members(
        &mut self,
        protocol: &str,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, Error> {
        let unknown = || Error::Invalid(format!("the group shares by '{protocol}', which this client does not know"));
        let assignor = Assignor::from_name(protocol).ok_or_else(unknown)?;
        let members: Vec<_> = joined
            .members
            .iter()
            .map(|member| Subscribed {
                order: member.group_instance_id.as_ref().unwrap_or(&member.member_id).clone(),
                member_id: member.member_id.clone(),
                topics: decode_subscription(&member.metadata),
            })
            .collect();
        let topics: BTreeSet<Str> = members.iter().flat_map(|member| member.topics.iter().cloned()).collect();
        let counts = self.count_partitions(&topics).await?;
        let shares = assign(assignor, &members, &counts);
        self.counts = Some(counts);
        let share = |(member_id, partitions): (Str, Vec<TopicPartition>)| {
            Ok(SyncGroupRequestAssignment { member_id, assignment: encode_assignment(&partitions)? })
        };
        shares.into_iter().map(share).collect()
    }

    /// Partitions of each topic; topics that are not there are left out.
    async fn count_partitions(&self, topics: &BTreeSet<Str>) -> Result<BTreeMap<Str, usize>, Error> {
        let names: Vec<_> = topics.iter().cloned().collect();
        self.client.refresh(&names).await?;
        let cluster = self.client.cluster();
        let count = |name: &Str| Some((name.clone(), cluster.topics.get(name)?.partitions.len()));
        Ok(names.iter().filter_map(count).collect())
    }

    async fn heartbeats(&mut self) -> Ended {
        let mut last_sign = Instant::now();
        loop {
            sleep(self.group.heartbeat_interval).await;
            let request = HeartbeatRequest {
                group_id: self.group.id.clone(),
                generation_id: self.generation,
                member_id: self.id.clone(),
                group_instance_id: self.group.instance_id.clone(),
            };
            let sent = self.send(request, self.client.request_timeout()).await;
            let result = sent.and_then(|a| Error::check(|| format!("group '{}'", self.group.id), a.error_code, None));
            match result {
                Ok(()) => last_sign = Instant::now(),
                Err(error) if error.code() == Some(ErrorCode::REBALANCE_IN_PROGRESS) => return Ended::Rebalance,
                Err(error) if self.after_failure(&error) => {
                    if is_rebalance_error(&error) || last_sign.elapsed() > self.group.session_timeout {
                        return Ended::Lost;
                    }
                    sleep(self.client.config().retry_backoff).await;
                }
                Err(error) => return Ended::Fatal(error),
            }
            if self.has_partition_changes().await {
                return Ended::Rebalance;
            }
        }
    }

    /// As leader: whether topics have more or fewer partitions than were shared.
    async fn has_partition_changes(&self) -> bool {
        let Some(counts) = &self.counts else { return false };
        let fresh = counts.keys().chain(&self.topics).all(|topic| self.client.cached_topic(topic).is_some());
        let cluster = self.client.cluster();
        let now = |topic: &Str| cluster.topics.get(topic).map(|topic| topic.partitions.len());
        if fresh {
            return counts.iter().any(|(topic, count)| now(topic) != Some(*count))
                || self.topics.iter().any(|topic| !counts.contains_key(topic));
        }
        match self.count_partitions(&counts.keys().chain(&self.topics).cloned().collect()).await {
            Ok(now) => now != *counts,
            Err(_) => false,
        }
    }

    /// A static member stays until its session is over, so that it finds its share again.
    async fn leave(&self) -> Result<(), Error> {
        if self.id.is_empty() || self.group.instance_id.is_some() {
            return Ok(());
        }
        let leave = || async {
            let target = Target::Coordinator(self.group.id.clone());
            match self.client.request_with(target, |version| self.leave_request(version)).await {
                // A cluster that is gone holds nobody up: the session ends by itself.
                Err(error @ Error::NoBroker { .. }) => Ok(Err(error)),
                answer => {
                    Error::check(|| format!("group '{}'", self.group.id), answer?.error_code, None)?;
                    Ok(Ok(()))
                }
            }
        };
        let admin = Admin::new(&self.client);
        timeout(GRACE, admin.coordinated(&self.group.id, leave)).await.map_err(|_| Error::Closed)??
    }

    fn leave_request(&self, version: i16) -> LeaveGroupRequest {
        let group_id = self.group.id.clone();
        if version >= 3 {
            let member = MemberIdentity { member_id: self.id.clone(), ..Default::default() };
            return LeaveGroupRequest { group_id, members: vec![member], ..Default::default() };
        }
        LeaveGroupRequest { group_id, member_id: self.id.clone(), ..Default::default() }
    }
}

//! The members of the metadata quorum on the node that leads it: changes on command, one at a time, and how far each member and each observer is.
//!
//! The rules are `esker_core::controller`'s (`voters`). A voter that leads hands over before it is removed, and the next leader removes it. That
//! a voter was removed is on record before its vote is taken: no leader gives the vote back in between. Observers are no members: the registrations
//! of the brokers say where they are, and their pulls how far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use esker_core::controller::{
    ForgetRemovedVoter, MemberKey, MemberRole, Quorum, QuorumMember, Refusal, RemoveVoterIdentity, VoterRemoval,
    check_add_voter, check_remove_voter,
};
use esker_core::metadata::{BrokerImage, MetadataImage};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use thiserror::Error;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout_at};

use super::controller::Controller;
use super::locations::peer_address;
use crate::controller::{SubmitError, submit};
use crate::peer::messages::{ChangeVoterRequest, ChangeVoterResponse, DescribeMembersResponse, DescribedMember};
use crate::raft::{Member, MembershipError, ObserverStatus, QuorumView, RaftId};

/// A leader that no quorum has confirmed for so long changes no member, and does not call itself the leader: another may lead by now.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked whether voters answer.
const LOOK: Duration = Duration::from_millis(20);
/// An observer that has not pulled for so long does not follow the log at the moment.
const PULLS_WITHIN: Duration = Duration::from_secs(10);
/// A member that has not answered for so long is silent: it is gone, or pulls once it is back.
const SILENT_AFTER: Duration = Duration::from_secs(60);

/// A change of the voters on command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoterChange {
    /// A member becomes a voter.
    Add(MemberKey),
    /// A voter is none any more.
    Remove(MemberKey),
}

/// Why the voters are not changed.
#[derive(Debug, Clone, Error)]
pub enum ChangeVoterError {
    /// Another node is the active controller, or none.
    #[error("no active controller can be reached")]
    NotController,
    /// The rules forbid it, or it is not possible now.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// It may have been made, and may still come.
    #[error("the change of the voters is not in force in time; it may come later ({0})")]
    Unknown(String),
    /// This broker stops.
    #[error("the broker is stopping")]
    Stopping,
}

impl From<MembershipError> for ChangeVoterError {
    fn from(error: MembershipError) -> Self {
        match error {
            MembershipError::NotLeader(_) => Self::NotController,
            error @ (MembershipError::Refused(_) | MembershipError::TimedOut) => Self::Unknown(error.to_string()),
        }
    }
}

impl From<SubmitError> for ChangeVoterError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::NotController(_) => Self::NotController,
            SubmitError::Stopping => Self::Stopping,
            error => Self::Unknown(error.to_string()),
        }
    }
}

fn timed_out(message: &str) -> ChangeVoterError {
    let message = Str::copy(message);
    ChangeVoterError::Refused(Refusal { code: ErrorCode::REQUEST_TIMED_OUT, message })
}

/// The identity of a member in the rules.
pub(super) fn key_of(id: RaftId) -> MemberKey {
    MemberKey { node_id: id.node_id, directory: Uuid(id.directory) }
}

/// And back.
pub(super) fn id_of(key: MemberKey) -> RaftId {
    RaftId { node_id: key.node_id, directory: key.directory.0 }
}

/// The observers: registered brokers that are no members, and what their pulls say. A broker of before there were reservations is known by its pulls.
fn observers_of<'a>(
    view: &'a QuorumView,
    image: &'a MetadataImage,
    pulls: &'a BTreeMap<RaftId, ObserverStatus>,
) -> impl Iterator<Item = (RaftId, &'a BrokerImage)> {
    let id_of_broker = move |broker: &'a BrokerImage| {
        let known = || pulls.keys().find(|id| id.node_id == broker.node_id).copied();
        let reserved = image
            .reservation(broker.node_id)
            .map(|directory| RaftId { node_id: broker.node_id, directory: directory.0 });
        Some((reserved.or_else(known)?, broker))
    };
    image.brokers().filter_map(id_of_broker).filter(move |(id, _)| view.member(*id).is_none())
}

/// The quorum in the form of the rules; `None` while nobody leads.
pub(super) fn quorum_of<'a>(view: &QuorumView, members: &'a [QuorumMember]) -> Option<Quorum<'a>> {
    Some(Quorum { leader: key_of(view.leader?), members, changing: view.changing })
}

impl Controller {
    /// The members and the observers in the form of the rules.
    pub(super) fn members(&self, view: &QuorumView) -> Vec<QuorumMember> {
        let (image, contacts, pulls) = (self.metadata().image(), self.metadata().last_contacts(), self.pulls());
        let leads_for = self.metadata().leads_for();
        let broker_only = |id: RaftId| pulls.get(&id).is_some_and(|status| status.broker_only);
        let pulls_now = |id: RaftId| pulls.get(&id).is_some_and(|status| status.pulled_ago < PULLS_WITHIN);
        let behind = |entries: u64| view.entries.saturating_sub(entries);
        let member = |member: &Member| QuorumMember {
            key: key_of(member.id),
            role: if member.votes { MemberRole::Voter } else { MemberRole::Learner },
            has_address: !member.address.is_empty(),
            behind: member.entries.map(behind),
            pulls: pulls_now(member.id),
            answers: contacts.get(&member.id).is_some_and(|ago| *ago < CONFIRMED_WITHIN),
            silent: contacts.get(&member.id).copied().unwrap_or(leads_for) >= SILENT_AFTER,
            broker_only: broker_only(member.id),
        };
        let observer = |(id, broker): (RaftId, &BrokerImage)| QuorumMember {
            key: key_of(id),
            role: MemberRole::Observer,
            has_address: !peer_address(&broker.listeners).is_empty(),
            behind: pulls.get(&id).map(|status| behind(status.entries)),
            pulls: pulls_now(id),
            answers: false,
            silent: false,
            broker_only: broker_only(id),
        };
        view.members.iter().map(member).chain(observers_of(view, &image, &pulls).map(observer)).collect()
    }

    fn pulls(&self) -> BTreeMap<RaftId, ObserverStatus> {
        self.metadata().observers().into_iter().map(|observer| (observer.id, observer)).collect()
    }

    /// Makes observers learners: the leader sends them the log until they have a vote.
    pub(super) async fn add_learners(
        &self,
        keys: impl IntoIterator<Item = MemberKey>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        let image = self.metadata().image();
        let address = |node_id: i32| image.broker(node_id).map(|broker| peer_address(&broker.listeners));
        let known = keys.into_iter().filter_map(|key| Some((id_of(key), address(key.node_id)?)));
        self.metadata().add_learners(known.collect(), deadline).await
    }

    /// Waits until no change of the members is under way, one that nobody commanded included; none begins while the guard is held.
    async fn begin_change(&self, deadline: Instant) -> Result<MutexGuard<'_, ()>, ChangeVoterError> {
        let late =
            || timed_out("Request timed out waiting for leader to handle previous voter change request: try again");
        let mut views = self.metadata().quorum();
        loop {
            let guard = timeout_at(deadline, self.member_changes().lock()).await.map_err(|_| late())?;
            // The view may not know yet that the last change has ended; what an earlier leader began, this one ends once it may.
            if !views.borrow_and_update().changing {
                return Ok(guard);
            }
            drop(guard);
            timeout_at(deadline, views.changed())
                .await
                .map_err(|_| late())?
                .map_err(|_| ChangeVoterError::NotController)?;
        }
    }

    /// Waits a moment for the voters without which the removal of one is refused: a new leader has not heard of all of them yet.
    async fn await_answers(&self, without: MemberKey, deadline: Instant) {
        let until = deadline.min(Instant::now() + CONFIRMED_WITHIN);
        while Instant::now() < until {
            let view = self.view();
            let members = self.members(&view);
            let is_answered = |quorum: Quorum<'_>| quorum.has_majority_without(without);
            // Another leader hears of them; the last voter has no others.
            if !view.is_leading() || view.voters().count() == 1 || quorum_of(&view, &members).is_none_or(is_answered) {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Changes the voters on command; refused unless this node is the active controller.
    pub async fn change_voter(&self, change: VoterChange, deadline: Instant) -> Result<(), ChangeVoterError> {
        if let VoterChange::Remove(key) = change {
            self.await_answers(key, deadline).await;
        }
        let _changing = self.begin_change(deadline).await?;
        let view = self.view();
        if !view.is_leading() || !self.metadata().leads_within(CONFIRMED_WITHIN) {
            return Err(ChangeVoterError::NotController);
        }
        if !self.metadata().has_applied_own_term() {
            return Err(timed_out(
                "Request timed out waiting for leader to establish HWM and fence previous voter changes",
            ));
        }
        let members = self.members(&view);
        let quorum = quorum_of(&view, &members).ok_or(ChangeVoterError::NotController)?;
        match change {
            VoterChange::Add(key) => {
                check_add_voter(&self.metadata().image(), quorum, key).map_err(ChangeVoterError::Refused)?;
                self.add_voter(key, deadline).await
            }
            VoterChange::Remove(key) => match check_remove_voter(quorum, key).map_err(ChangeVoterError::Refused)? {
                VoterRemoval::Remove => self.remove_voter(key, deadline).await,
                VoterRemoval::HandOver => self.hand_over(deadline).await,
            },
        }
    }

    async fn add_voter(&self, key: MemberKey, deadline: Instant) -> Result<(), ChangeVoterError> {
        if self.metadata().image().is_removed_voter(key.directory) {
            let forget = ForgetRemovedVoter { directory: key.directory };
            submit(self.metadata().as_ref(), forget, deadline).await?.reply.map_err(ChangeVoterError::Refused)?;
        }
        if self.view().member(id_of(key)).is_none() {
            self.add_learners([key], deadline).await?;
            self.wait_until_even(id_of(key), deadline).await?;
        }
        self.metadata().add_voters(BTreeSet::from([id_of(key)]), deadline).await?;
        tracing::info!(voter = %id_of(key), "a node has become a voter of the metadata quorum on command");
        Ok(())
    }

    /// Waits until a learner has the log from this leader: a vote of a node that the leader does not reach would be missing.
    async fn wait_until_even(&self, id: RaftId, deadline: Instant) -> Result<(), ChangeVoterError> {
        let mut quorum = self.metadata().quorum();
        let is_even = |view: &QuorumView| {
            let entries = view.member(id).and_then(|member| member.entries);
            !view.is_leading() || entries.is_some_and(|entries| entries > 0 && entries >= view.entries)
        };
        match timeout_at(deadline, quorum.wait_for(is_even)).await {
            Ok(Ok(view)) if view.is_leading() => Ok(()),
            Ok(Ok(_)) => Err(ChangeVoterError::NotController),
            Ok(Err(_)) => Err(ChangeVoterError::Stopping),
            Err(_) => Err(timed_out(
                "The node does not take the metadata log from the active controller: see that the controller reaches it at its advertised listener, and try again",
            )),
        }
    }

    async fn remove_voter(&self, key: MemberKey, deadline: Instant) -> Result<(), ChangeVoterError> {
        let MemberKey { node_id, directory } = key;
        let remember = RemoveVoterIdentity { node_id, directory };
        submit(self.metadata().as_ref(), remember, deadline).await?.reply.map_err(ChangeVoterError::Refused)?;
        self.metadata().remove_voter(id_of(key), deadline).await?;
        tracing::info!(voter = %id_of(key), "a voter of the metadata quorum is removed on command");
        Ok(())
    }

    /// The next leader gets the request again.
    async fn hand_over(&self, deadline: Instant) -> Result<(), ChangeVoterError> {
        match self.metadata().hand_over(deadline).await {
            true => Err(ChangeVoterError::NotController),
            false => Err(timed_out(
                "The voter leads the quorum, and no other voter has taken over: see that the other voters run, and try again",
            )),
        }
    }

    /// As [`Controller::change_voter`], for another node.
    pub async fn change_voter_for(&self, request: ChangeVoterRequest) -> ChangeVoterResponse {
        let ChangeVoterRequest { timeout_ms, adds, node_id, directory } = request;
        let key = MemberKey { node_id, directory };
        let change = if adds { VoterChange::Add(key) } else { VoterChange::Remove(key) };
        let patience = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default());
        let (error_code, message) = match self.change_voter(change, Instant::now() + patience).await {
            Ok(()) => return ChangeVoterResponse::default(),
            Err(ChangeVoterError::Refused(refusal)) => (refusal.code, refusal.message),
            Err(error @ ChangeVoterError::NotController) => (ErrorCode::NOT_CONTROLLER, error.to_string().into()),
            Err(error @ (ChangeVoterError::Unknown(_) | ChangeVoterError::Stopping)) => {
                (ErrorCode::REQUEST_TIMED_OUT, error.to_string().into())
            }
        };
        ChangeVoterResponse { error_code, error_message: Some(message) }
    }

    /// The quorum and its observers as this node knows them. Only the leader knows how far the others are.
    pub fn describe_members(&self) -> DescribeMembersResponse {
        let (view, now_ms) = (self.view(), self.node().now_ms());
        let (image, contacts, pulls) = (self.metadata().image(), self.metadata().last_contacts(), self.pulls());
        let is_leading = view.is_leading() && self.metadata().leads_within(CONFIRMED_WITHIN);
        let to_i64 = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let at = |ago: Option<Duration>| {
            ago.map_or(-1, |ago| now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
        };
        let member = |member: &Member| {
            let is_own = view.own == Some(member.id);
            let contact = contacts.get(&member.id).copied();
            let contact = if is_own && is_leading { Some(Duration::ZERO) } else { contact };
            // A member that has not answered yet counts as one without entries.
            let answered = member.entries.filter(|entries| *entries > 0 || contact.is_some());
            let entries = if is_own { Some(view.entries) } else { answered };
            DescribedMember {
                node_id: member.id.node_id,
                directory: Uuid(member.id.directory),
                votes: member.votes,
                log_end: entries.map_or(-1, to_i64),
                last_contact_ms: at(contact),
                last_caught_up_ms: at(contact.filter(|_| entries == Some(view.entries))),
            }
        };
        let observer = |(id, _): (RaftId, &BrokerImage)| {
            let status = pulls.get(&id).filter(|_| is_leading);
            let own = (view.own == Some(id)).then_some(view.entries);
            DescribedMember {
                node_id: id.node_id,
                directory: Uuid(id.directory),
                votes: false,
                log_end: status.map(|status| status.entries).or(own).map_or(-1, to_i64),
                last_contact_ms: at(status.map(|status| status.pulled_ago)),
                last_caught_up_ms: at(status.and_then(|status| status.caught_up_ago)),
            }
        };
        let observers = observers_of(&view, &image, &pulls).map(observer);
        DescribeMembersResponse {
            error_code: if is_leading { ErrorCode::NONE } else { ErrorCode::NOT_CONTROLLER },
            leader: view.leader.map_or(-1, |leader| leader.node_id),
            term: to_i64(view.term),
            high_watermark: to_i64(image.offset()),
            members: view.members.iter().map(member).chain(observers).collect(),
            last_fail_over: self.metadata().metrics().last_fail_over().into_iter().collect(),
        }
    }
}

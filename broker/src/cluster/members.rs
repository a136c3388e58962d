//! The members of the metadata quorum on the node that leads it: changes on command, one at a time, and how far each member is.
//!
//! The rules are `esker_core::controller`'s (`voters`). A voter that leads hands over before it is removed, and the next leader removes it. That
//! a voter was removed is on record before its vote is taken: no leader gives the vote back in between.

use std::collections::BTreeSet;
use std::time::Duration;

use esker_core::controller::{
    ForgetRemovedVoter, MemberKey, Quorum, QuorumMember, Refusal, RemoveVoterIdentity, VoterRemoval, check_add_voter,
    check_remove_voter, folder_of,
};
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use thiserror::Error;
use tokio::time::Instant;

use super::controller::Controller;
use crate::controller::{SubmitError, submit};
use crate::peer::messages::{ChangeVoterRequest, ChangeVoterResponse, DescribeMembersResponse, DescribedMember};
use crate::raft::{Member, MembershipError, QuorumView, RaftId};

/// A leader that no quorum has confirmed for so long changes no member: another may lead by now.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(1);

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

/// The member that is the node with this id. After the node lost its disk there are two.
pub(super) fn member_of<'a>(view: &'a QuorumView, image: &MetadataImage, node_id: i32) -> Option<&'a Member> {
    let folders = view.members_of(node_id).map(|member| Uuid(member.id.directory));
    let directory = folder_of(image, node_id, folders)?;
    view.member(RaftId { node_id, directory: directory.0 })
}

/// The members in the form of the rules.
pub(super) fn members_of(view: &QuorumView) -> Vec<QuorumMember> {
    let member = |member: &Member| QuorumMember {
        key: key_of(member.id),
        votes: member.votes,
        has_address: !member.address.is_empty(),
        behind: member.entries.map(|entries| view.entries.saturating_sub(entries)),
    };
    view.members.iter().map(member).collect()
}

/// The quorum in the form of the rules; `None` while nobody leads.
pub(super) fn quorum_of<'a>(view: &QuorumView, members: &'a [QuorumMember]) -> Option<Quorum<'a>> {
    Some(Quorum { leader: key_of(view.leader?), members, changing: view.changing })
}

impl Controller {
    /// Changes the voters on command; refused unless this node is the active controller.
    pub async fn change_voter(&self, change: VoterChange, deadline: Instant) -> Result<(), ChangeVoterError> {
        let Ok(_changing) = self.member_changes().try_lock() else {
            return Err(timed_out(
                "Request timed out waiting for leader to handle previous voter change request: try again",
            ));
        };
        let view = self.view();
        if !view.is_leading() || !self.metadata().leads_within(CONFIRMED_WITHIN) {
            return Err(ChangeVoterError::NotController);
        }
        if !self.metadata().has_applied_own_term() {
            return Err(timed_out(
                "Request timed out waiting for leader to establish HWM and fence previous voter changes",
            ));
        }
        let members = members_of(&view);
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
        self.metadata().add_voters(BTreeSet::from([id_of(key)]), deadline).await?;
        tracing::info!(voter = %id_of(key), "a node has become a voter of the metadata quorum on command");
        Ok(())
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

    /// The quorum as this node knows it. Only the leader knows how far the others are.
    pub fn describe_members(&self) -> DescribeMembersResponse {
        let (view, now_ms) = (self.view(), self.node().now_ms());
        let contacts = self.metadata().last_contacts();
        let is_leading = view.is_leading();
        let member = |member: &Member| {
            let is_own = view.own == Some(member.id);
            let contact = contacts.get(&member.id).map(|ago| i64::try_from(ago.as_millis()).unwrap_or(i64::MAX));
            let contact = if is_own && is_leading { Some(0) } else { contact };
            // A member that has not answered yet counts as one without entries.
            let answered = member.entries.filter(|entries| *entries > 0 || contact.is_some());
            let entries = if is_own { Some(view.entries) } else { answered };
            let last_contact_ms = contact.map_or(-1, |ago| now_ms.saturating_sub(ago));
            DescribedMember {
                node_id: member.id.node_id,
                directory: Uuid(member.id.directory),
                votes: member.votes,
                log_end: entries.map_or(-1, |entries| i64::try_from(entries).unwrap_or(i64::MAX)),
                last_contact_ms,
                last_caught_up_ms: if entries == Some(view.entries) { last_contact_ms } else { -1 },
            }
        };
        DescribeMembersResponse {
            error_code: if is_leading { ErrorCode::NONE } else { ErrorCode::NOT_CONTROLLER },
            leader: view.leader.map_or(-1, |leader| leader.node_id),
            term: i64::try_from(view.term).unwrap_or(i64::MAX),
            high_watermark: i64::try_from(self.metadata().image().offset()).unwrap_or(i64::MAX),
            members: view.members.iter().map(member).collect(),
        }
    }
}

//! The members of the metadata quorum: which node may be added to or removed from the voters on command, which becomes a voter by itself, and
//! which member's place ends.
//!
//! A member is a node id with the id of its metadata folder. A node that lost its disk and joins under its former id is another member: the
//! reservation of the id ([`super::identity`]) says which of the two is the node. The codes and the order of the checks are KRaft's (KIP-853).
//!
//! Members of the quorum are its voters, and for a short time learners: the leader sends them the log. All other brokers are observers, which pull
//! the log ([`super::pull`]). An observer becomes a learner before it becomes a voter, so that the leader is known to reach it. A learner that is not
//! to become a voter leaves the quorum and pulls from then on. Must never: remove a learner that is not known to pull, while it may need the log.

use std::collections::BTreeSet;

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;

use super::decision::Refusal;
use crate::metadata::MetadataImage;

/// A member's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberKey {
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id` of its metadata folder.
    pub directory: Uuid,
}

impl std::fmt::Display for MemberKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {} with metadata directory {}", self.node_id, self.directory)
    }
}

/// How a node follows the metadata log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberRole {
    /// A member that votes.
    Voter,
    /// A member that does not vote: the leader sends it the log.
    Learner,
    /// No member: it pulls the log.
    Observer,
}

/// A member or an observer as the leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumMember {
    /// Its identity.
    pub key: MemberKey,
    /// How it follows the log.
    pub role: MemberRole,
    /// The leader knows its address.
    pub has_address: bool,
    /// Entries of the metadata log that it lacks; `None` if it has not answered this leader yet, or an observer has not pulled.
    pub behind: Option<u64>,
    /// It has pulled the log not long ago.
    pub pulls: bool,
    /// A member that has answered this leader a moment ago.
    pub answers: bool,
    /// A member that has not answered this leader for long.
    pub silent: bool,
    /// Its configuration has no role of a controller (`process.roles=broker`), as its last pull says. It may still have a vote from before.
    pub broker_only: bool,
}

impl QuorumMember {
    fn votes(&self) -> bool {
        self.role == MemberRole::Voter
    }
}

/// The quorum as its leader knows it.
#[derive(Debug, Clone, Copy)]
pub struct Quorum<'a> {
    /// The leader.
    pub leader: MemberKey,
    /// All members, and the observers.
    pub members: &'a [QuorumMember],
    /// A change of the members is not committed yet.
    pub changing: bool,
}

/// A member that is at most so many entries behind has caught up: the rest comes while it becomes a voter.
const CAUGHT_UP: u64 = 100;

impl Quorum<'_> {
    fn voters(&self) -> impl Iterator<Item = &QuorumMember> {
        self.members.iter().filter(|member| member.votes())
    }

    fn learners(&self) -> impl Iterator<Item = &QuorumMember> {
        self.members.iter().filter(|member| member.role == MemberRole::Learner)
    }

    /// Whether a majority of the voters that are left without `key` answers the leader, or is the leader: the removal of `key` needs it to commit, and so
    /// does all that follows.
    pub fn has_majority_without(&self, key: MemberKey) -> bool {
        let left = || self.voters().filter(|voter| voter.key != key);
        let answering = left().filter(|voter| voter.answers || voter.key == self.leader).count();
        answering > left().count() / 2
    }

    fn describe_voters(&self) -> String {
        self.voters().map(|voter| voter.key.to_string()).collect::<Vec<_>>().join(", ")
    }

    fn check_idle(&self) -> Result<(), Refusal> {
        if self.changing {
            let message = "Request timed out waiting for leader to handle previous voter change request";
            return Err(Refusal::new(ErrorCode::REQUEST_TIMED_OUT, message));
        }
        Ok(())
    }
}

/// The folder of a node among those of the members that have its id: the folder that the id is reserved for. A broker of before there were
/// reservations is known by its log dirs; without either the only candidate is meant, and none of several.
pub fn folder_of(image: &MetadataImage, node_id: i32, candidates: impl Iterator<Item = Uuid>) -> Option<Uuid> {
    let candidates: Vec<Uuid> = candidates.collect();
    if let Some(owner) = image.reservation(node_id) {
        return candidates.into_iter().find(|candidate| *candidate == owner);
    }
    let is_log_dir =
        |candidate: &&Uuid| image.broker(node_id).is_some_and(|broker| broker.log_dirs.contains(candidate));
    let known = candidates.iter().find(is_log_dir).copied();
    known.or_else(|| candidates.first().copied().filter(|_| candidates.len() == 1))
}

/// Whether the id of a member belongs to another folder by now: the node lost its disk and joined again, so this member cannot come back.
fn is_outdated(image: &MetadataImage, key: MemberKey) -> bool {
    image.reservation(key.node_id).is_some_and(|owner| owner != key.directory)
}

fn is_alive(image: &MetadataImage, key: MemberKey) -> bool {
    image.broker(key.node_id).is_some_and(|broker| broker.is_active())
}

/// Whether a member may get a vote: its broker is alive, and it has almost all of the log.
fn is_ready(image: &MetadataImage, member: &QuorumMember) -> bool {
    let caught_up = member.behind.is_some_and(|behind| behind <= CAUGHT_UP);
    member.has_address && is_alive(image, member.key) && caught_up && !is_outdated(image, member.key)
}

/// Checks AddRaftVoter: a node that follows the log and has caught up may become a voter. What KRaft cannot do at the moment it calls
/// REQUEST_TIMED_OUT.
pub fn check_add_voter(image: &MetadataImage, quorum: Quorum<'_>, key: MemberKey) -> Result<(), Refusal> {
    let timed_out = |message: String| Err(Refusal::new(ErrorCode::REQUEST_TIMED_OUT, message));
    if key.node_id < 0 || key.directory == Uuid::ZERO {
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Add voter request didn't include a valid voter"));
    }
    quorum.check_idle()?;
    if let Some(voter) = quorum.voters().find(|voter| voter.key.node_id == key.node_id) {
        let message = format!("The voter id for {key} is already part of the set of voters: {}.", voter.key);
        return Err(Refusal::new(ErrorCode::DUPLICATE_VOTER, message));
    }
    let Some(member) = quorum.members.iter().find(|member| member.key == key) else {
        return timed_out(format!(
            "Aborted add voter operation for {key}: it does not follow the metadata log. Start the node with --join first."
        ));
    };
    if member.broker_only {
        let message = format!(
            "{key} cannot become a voter: it runs with process.roles=broker. Restart it with process.roles=broker,controller first."
        );
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    }
    if is_outdated(image, key) {
        return timed_out(format!("Aborted add voter operation for {key}: the node id belongs to another folder."));
    }
    if !is_alive(image, key) {
        return timed_out(format!("Aborted add voter operation for {key}: its broker is not alive."));
    }
    if !is_ready(image, member) {
        let behind = member.behind.map_or_else(|| "it does not answer".to_owned(), |n| format!("{n} entries behind"));
        return timed_out(format!("Aborted add voter operation for {key} since it is lagging behind ({behind})."));
    }
    Ok(())
}

/// How a voter is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoterRemoval {
    /// It leads: another voter must lead first, and removes it then.
    HandOver,
    /// At once.
    Remove,
}

/// Checks RemoveRaftVoter. The last voter stays: without it there is no quorum. A voter that is not alive may be removed; one that is alive only where
/// the others can do without it, which KRaft does not ask: no command could bring that quorum back.
pub fn check_remove_voter(quorum: Quorum<'_>, key: MemberKey) -> Result<VoterRemoval, Refusal> {
    if key.node_id < 0 || key.directory == Uuid::ZERO {
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Remove voter request didn't include a valid voter"));
    }
    quorum.check_idle()?;
    if !quorum.voters().any(|voter| voter.key == key) {
        let message = format!("Cannot remove voter {key} from the set of voters: {}.", quorum.describe_voters());
        return Err(Refusal::new(ErrorCode::VOTER_NOT_FOUND, message));
    }
    if quorum.voters().count() == 1 {
        let message = format!("Cannot remove {key}: it is the only voter. Add another voter first.");
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    }
    if !quorum.has_majority_without(key) {
        let is_missing = |voter: &&QuorumMember| voter.key != key && voter.key != quorum.leader && !voter.answers;
        let missing: Vec<String> = quorum.voters().filter(is_missing).map(|voter| voter.key.to_string()).collect();
        let message = format!(
            "Cannot remove voter {key}: the other voters would have no majority, since these do not answer: {}. Bring them back, or remove them first.",
            missing.join(", ")
        );
        return Err(Refusal::new(ErrorCode::REQUEST_TIMED_OUT, message));
    }
    Ok(if quorum.leader == key { VoterRemoval::HandOver } else { VoterRemoval::Remove })
}

/// A change of the members that the leader makes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// A member that does not vote leaves: it is outdated, or pulls the log.
    RemoveLearner(MemberKey),
    /// Observers become learners: they are about to get a vote.
    AddLearners(BTreeSet<MemberKey>),
    /// An outdated voter's vote goes to the node's new member.
    ReplaceVoter {
        /// Of the folder that is lost.
        outdated: MemberKey,
        /// Of the folder that has the id.
        current: MemberKey,
    },
    /// Members get a vote.
    AddVoters(BTreeSet<MemberKey>),
}

/// The next change that the leader makes by itself: one at a time, none while another is under way.
///
/// An outdated voter keeps its vote until the member that has its node id has caught up, and gives it to that member in one change. Its id was
/// given to another folder by an operator (UnregisterBroker), so it cannot come back, and its vote can only be missing. The number of voters
/// stays the same: the quorum never needs more votes of those that are left than before. Without such a member only a command removes it.
pub fn next_member_change(image: &MetadataImage, quorum: Quorum<'_>, size: usize) -> Option<MemberChange> {
    if quorum.changing {
        return None;
    }
    let outdated = |member: &&QuorumMember| is_outdated(image, member.key);
    if let Some(learner) = quorum.learners().find(outdated) {
        return Some(MemberChange::RemoveLearner(learner.key));
    }
    let mut wanted = Vec::new();
    for voter in quorum.voters().filter(outdated) {
        let is_current =
            |member: &&QuorumMember| member.key.node_id == voter.key.node_id && is_candidate(image, member);
        let Some(current) = quorum.members.iter().find(is_current) else { continue };
        if let Some(change) = promote(image, &[current], |current| MemberChange::ReplaceVoter {
            outdated: voter.key,
            current: current.first().copied().unwrap_or(voter.key),
        }) {
            return Some(change);
        }
        wanted.push(current.key);
    }
    let next = next_voters(image, quorum, size);
    if let Some(change) = promote(image, &next, MemberChange::AddVoters) {
        return Some(change);
    }
    wanted.extend(next.iter().map(|member| member.key));
    let may_leave = |learner: &&QuorumMember| {
        // The broker of a voter that was removed by command pulls once it is back.
        let is_removed = image.is_removed_voter(learner.key.directory) && !is_alive(image, learner.key);
        !wanted.contains(&learner.key) && (learner.pulls || learner.silent || is_removed)
    };
    quorum.learners().find(may_leave).map(|learner| MemberChange::RemoveLearner(learner.key))
}

/// The next step by which nodes become voters: observers among them become learners, and once all of them are ready they get their votes by
/// `vote`. `None`: learners do not have the log yet.
fn promote(
    image: &MetadataImage,
    nodes: &[&QuorumMember],
    vote: impl FnOnce(BTreeSet<MemberKey>) -> MemberChange,
) -> Option<MemberChange> {
    let keys_of = |nodes: &mut dyn Iterator<Item = &&QuorumMember>| nodes.map(|node| node.key).collect::<BTreeSet<_>>();
    let observers = keys_of(&mut nodes.iter().filter(|node| node.role == MemberRole::Observer));
    if !observers.is_empty() {
        return Some(MemberChange::AddLearners(observers));
    }
    let all_ready = !nodes.is_empty() && nodes.iter().all(|node| is_ready(image, node));
    all_ready.then(|| vote(keys_of(&mut nodes.iter())))
}

/// Whether a node may become a voter without a command. An observer must have caught up. A learner may still lack the log, since the leader has
/// only begun to send it; one that does not answer is no candidate. A voter that was removed is none either, nor is a node that is a broker only.
fn is_candidate(image: &MetadataImage, member: &QuorumMember) -> bool {
    let follows = match member.role {
        MemberRole::Voter => false,
        MemberRole::Learner => !member.silent,
        MemberRole::Observer => member.pulls && is_ready(image, member),
    };
    let may_vote = member.has_address && is_alive(image, member.key) && !is_outdated(image, member.key);
    follows && may_vote && !member.broker_only && !image.is_removed_voter(member.key.directory)
}

/// The nodes that are to become voters by themselves: as many as an odd number of voters up to `size` takes. A second voter alone would make
/// the cluster stop with either of the two. Learners come first: they are on the way already.
fn next_voters<'a>(image: &MetadataImage, quorum: Quorum<'a>, size: usize) -> Vec<&'a QuorumMember> {
    let voters = quorum.voters().count();
    if voters >= size {
        return Vec::new();
    }
    let voting: BTreeSet<i32> = quorum.voters().map(|voter| voter.key.node_id).collect();
    // A second member of a node that votes already takes the first one's vote, see above.
    let is_next = |member: &&QuorumMember| is_candidate(image, member) && !voting.contains(&member.key.node_id);
    let mut next: Vec<&QuorumMember> = quorum.members.iter().filter(is_next).collect();
    next.sort_unstable_by_key(|member| (member.role, member.key));
    let most = size.min(voters + next.len());
    let odd = if most.is_multiple_of(2) { most.saturating_sub(1) } else { most };
    next.truncate(odd.saturating_sub(voters));
    next
}

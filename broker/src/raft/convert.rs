//! Between openraft's types and those of the files. Each match is exhaustive: what openraft adds does not compile until it has a
//! place in the format.

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use esker_storage::metalog::{self, Members, Payload, VoterId};
use openraft::{BasicNode, EntryPayload};

use super::types::{
    Entry, LeaderId, LogId, Membership, Proposal, RaftId, Snapshot, SnapshotMeta, StoredMembership, Vote,
};

pub(super) fn to_voter(id: &RaftId) -> VoterId {
    let RaftId { node_id, directory } = *id;
    VoterId { node_id, directory }
}

pub(super) fn from_voter(id: &VoterId) -> RaftId {
    let VoterId { node_id, directory } = *id;
    RaftId { node_id, directory }
}

pub(super) fn to_log_id(id: &LogId) -> metalog::LogId {
    let LogId { leader_id: LeaderId { term, node_id }, index } = id;
    metalog::LogId { term: *term, leader: to_voter(node_id), index: *index }
}

pub(super) fn from_log_id(id: metalog::LogId) -> LogId {
    let metalog::LogId { term, leader, index } = id;
    LogId { leader_id: LeaderId { term, node_id: from_voter(&leader) }, index }
}

pub(super) fn to_vote(vote: &Vote) -> metalog::Vote {
    let Vote { leader_id: LeaderId { term, node_id }, committed } = vote;
    metalog::Vote { term: *term, candidate: to_voter(node_id), committed: *committed }
}

pub(super) fn from_vote(vote: metalog::Vote) -> Vote {
    let metalog::Vote { term, candidate, committed } = vote;
    Vote { leader_id: LeaderId { term, node_id: from_voter(&candidate) }, committed }
}

pub(super) fn to_entry(entry: Entry) -> metalog::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(proposal) => Payload::Records(to_records(&proposal)),
        EntryPayload::Membership(membership) => Payload::Members(to_members(&membership)),
    };
    metalog::Entry { id: to_log_id(&entry.log_id), payload }
}

pub(super) fn from_entry(entry: metalog::Entry) -> io::Result<Entry> {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Records(records) => EntryPayload::Normal(from_records(records)?),
        Payload::Members(members) => EntryPayload::Membership(from_members(members)?),
    };
    Ok(Entry { log_id: from_log_id(entry.id), payload })
}

/// `term u64, offset u64, records`: see `storage/FORMAT.md`.
fn to_records(proposal: &Proposal) -> Bytes {
    let Proposal { term, decided_on, records } = proposal;
    let mut bytes = BytesMut::with_capacity(16 + records.len());
    bytes.put_u64(*term);
    bytes.put_u64(*decided_on);
    bytes.put_slice(records);
    bytes.freeze()
}

fn from_records(mut bytes: Bytes) -> io::Result<Proposal> {
    let cut_off = |_| io::Error::new(io::ErrorKind::InvalidData, "an entry does not say on which state it was decided");
    let term = bytes.try_get_u64().map_err(cut_off)?;
    let decided_on = bytes.try_get_u64().map_err(cut_off)?;
    Ok(Proposal { term, decided_on, records: bytes })
}

fn to_members(membership: &Membership) -> Members {
    Members {
        voters: membership.get_joint_config().iter().map(|ids| ids.iter().map(to_voter).collect()).collect(),
        addresses: membership.nodes().map(|(id, BasicNode { addr })| (to_voter(id), addr.clone())).collect(),
    }
}

fn from_members(members: Members) -> io::Result<Membership> {
    let voters = members.voters.iter().map(|ids| ids.iter().map(from_voter).collect()).collect();
    let nodes: BTreeMap<_, _> =
        members.addresses.into_iter().map(|(id, addr)| (from_voter(&id), BasicNode { addr })).collect();
    // It refuses a voter without an address, and an empty quorum.
    Membership::new(voters, nodes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

pub(super) fn to_meta(last: Option<&LogId>, membership: &StoredMembership) -> metalog::SnapshotMeta {
    metalog::SnapshotMeta {
        last: last.map(to_log_id),
        members_at: membership.log_id().as_ref().map(to_log_id),
        members: to_members(membership.membership()),
    }
}

pub(super) fn from_meta(meta: &metalog::SnapshotMeta) -> io::Result<SnapshotMeta> {
    let members_at = meta.members_at.map(from_log_id);
    Ok(SnapshotMeta {
        last_log_id: meta.last.map(from_log_id),
        last_membership: StoredMembership::new(members_at, from_members(meta.members.clone())?),
    })
}

pub(super) fn from_snapshot(snapshot: metalog::SnapshotFile) -> io::Result<Snapshot> {
    Ok(Snapshot { meta: from_meta(snapshot.meta())?, snapshot })
}

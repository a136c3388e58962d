//! What controllers say to each other, as messages of the peer protocol, and their translation to openraft's types. No serde of openraft's:
//! a change of its types does not compile until it has a place here.

use bytes::Bytes;
use esker_protocol::Message;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{DecodeError, EncodeError, Reader, Str, Uuid, Writer};
use esker_storage::metalog::{self, Members, Payload, VoterId};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use thiserror::Error;

use super::convert::{from_entry, from_log_id, from_vote, from_voter, to_entry, to_log_id, to_vote, to_voter};
use super::types::{Entry, LogId, RaftId, TypeConfig, Vote};

/// Why bytes of another controller are no request or answer.
#[derive(Debug, Error)]
pub enum WireError {
    /// They cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// They cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// They read, and mean nothing.
    #[error("{0}")]
    Invalid(String),
}

/// A controller.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WireVoter {
    /// `node.id`.
    pub node_id: i32,
    /// Its metadata folder.
    pub directory: Uuid,
}

/// A position in the log; an index of -1 is none.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WireLogId {
    /// The term.
    pub term: i64,
    /// Its leader.
    pub leader: WireVoter,
    /// The index.
    #[field(default = -1)]
    pub index: i64,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WireVote {
    /// The term.
    pub term: i64,
    /// For whom.
    pub candidate: WireVoter,
    /// A quorum has granted it.
    pub committed: bool,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WireEntry {
    /// Its position.
    pub id: WireLogId,
    /// 0: blank, 1: records, 2: members.
    pub kind: i8,
    /// The records, or a [`WireMembers`].
    pub body: Bytes,
}

/// The members of the quorum.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct WireMembers {
    /// One set of voters, or the two of a joint configuration.
    pub voters: Vec<WireVoters>,
    /// Where the members are; those that are no voters are learners.
    pub addresses: Vec<WireAddress>,
}

/// A set of voters.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WireVoters {
    /// Its members.
    pub ids: Vec<WireVoter>,
}

/// Where a member is.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WireAddress {
    /// The member.
    pub id: WireVoter,
    /// `host:port`.
    pub address: Str,
}

/// AppendEntries.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32020, kind = "request", versions = "0", flexible = "0+", response = RaftAppendResponse)]
pub struct RaftAppendRequest {
    /// The leader's vote.
    pub vote: WireVote,
    /// The entry before the first.
    pub previous: WireLogId,
    /// The entries.
    pub entries: Vec<WireEntry>,
    /// What is committed.
    pub committed: WireLogId,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct RaftAppendResponse {
    /// The receiver could not answer at all.
    pub error_code: ErrorCode,
    /// 0: all of it, 1: up to `upto`, 2: the entry before the first is another one here, 3: a later vote was seen.
    pub outcome: i8,
    /// Up to where.
    pub upto: WireLogId,
    /// The later vote.
    pub vote: WireVote,
}

/// A vote, or the question whether one would be granted.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32021, kind = "request", versions = "0", flexible = "0+", response = RaftVoteResponse)]
pub struct RaftVoteRequest {
    /// The vote that is asked for.
    pub vote: WireVote,
    /// The candidate's last entry.
    pub last: WireLogId,
    /// The leader handed over: its lease does not count.
    pub transfer: bool,
    /// Nothing is granted; it is only asked.
    pub pre_vote: bool,
}

/// The receiver's vote.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct RaftVoteResponse {
    /// The receiver could not answer at all.
    pub error_code: ErrorCode,
    /// Its vote now.
    pub vote: WireVote,
    /// It is granted.
    pub granted: bool,
    /// Its last entry.
    pub last: WireLogId,
}

/// A piece of a snapshot's file. The last one is empty, and is answered once the snapshot is installed.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32022, kind = "request", versions = "0", flexible = "0+", response = RaftSnapshotResponse)]
pub struct RaftSnapshotRequest {
    /// The leader's vote.
    pub vote: WireVote,
    /// Chosen by the sender for each transfer.
    pub transfer: i64,
    /// Where the piece belongs.
    pub offset: i64,
    /// The piece.
    pub bytes: Bytes,
    /// This was all.
    pub done: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct RaftSnapshotResponse {
    /// The piece does not follow what the receiver has, or cannot be written: the transfer begins again.
    pub error_code: ErrorCode,
    /// The receiver's vote.
    pub vote: WireVote,
}

/// The leader hands over.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32023, kind = "request", versions = "0", flexible = "0+", response = RaftTransferResponse)]
pub struct RaftTransferRequest {
    /// The leader's vote.
    pub vote: WireVote,
    /// To whom.
    pub to: WireVoter,
    /// What that one must have to lead.
    pub last: WireLogId,
}

/// It was taken in.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct RaftTransferResponse {
    /// The receiver could not answer at all.
    pub error_code: ErrorCode,
    /// 0: it is taken up, 1: another vote was seen, 2: the receiver lacks what it must have.
    pub outcome: i8,
    /// The vote that was seen.
    pub vote: WireVote,
    /// The receiver's last entry on disk.
    pub last: WireLogId,
}

fn voter(id: &VoterId) -> WireVoter {
    WireVoter { node_id: id.node_id, directory: Uuid(id.directory) }
}

fn voter_of(wire: &WireVoter) -> VoterId {
    VoterId { node_id: wire.node_id, directory: wire.directory.0 }
}

/// A number that is never negative here, out of one of the wire.
fn unsigned(value: i64) -> Result<u64, WireError> {
    u64::try_from(value).map_err(|_| WireError::Invalid(format!("a negative term or index: {value}")))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A controller's identity on the wire.
pub fn wire_id(id: &RaftId) -> WireVoter {
    voter(&to_voter(id))
}

/// The way back.
pub fn id_of(wire: &WireVoter) -> RaftId {
    from_voter(&voter_of(wire))
}

/// A position on the wire.
pub fn wire_log_id(id: Option<&LogId>) -> WireLogId {
    id.map(to_log_id).map_or_else(WireLogId::default, |id| WireLogId {
        term: signed(id.term),
        leader: voter(&id.leader),
        index: signed(id.index),
    })
}

/// The way back.
pub fn log_id_of(wire: &WireLogId) -> Result<Option<LogId>, WireError> {
    if wire.index < 0 {
        return Ok(None);
    }
    let (term, index) = (unsigned(wire.term)?, unsigned(wire.index)?);
    Ok(Some(from_log_id(metalog::LogId { term, leader: voter_of(&wire.leader), index })))
}

/// A vote on the wire.
pub fn wire_vote(vote: &Vote) -> WireVote {
    let metalog::Vote { term, candidate, committed } = to_vote(vote);
    WireVote { term: signed(term), candidate: voter(&candidate), committed }
}

/// The way back.
pub fn vote_of(wire: &WireVote) -> Result<Vote, WireError> {
    let (term, candidate) = (unsigned(wire.term)?, voter_of(&wire.candidate));
    Ok(from_vote(metalog::Vote { term, candidate, committed: wire.committed }))
}

fn wire_entry(entry: Entry) -> Result<WireEntry, WireError> {
    wire_stored(to_entry(entry))
}

/// An entry as it is in the log, on the wire.
pub(super) fn wire_stored(entry: metalog::Entry) -> Result<WireEntry, WireError> {
    let metalog::Entry { id, payload } = entry;
    let (kind, body) = match payload {
        Payload::Blank => (0, Bytes::new()),
        Payload::Records(records) => (1, records),
        Payload::Members(members) => (2, encode_members(&members)?),
    };
    let id = WireLogId { term: signed(id.term), leader: voter(&id.leader), index: signed(id.index) };
    Ok(WireEntry { id, kind, body })
}

fn entry_of(wire: &WireEntry) -> Result<Entry, WireError> {
    let invalid = || WireError::Invalid("an entry without an index".to_owned());
    let id = to_log_id(&log_id_of(&wire.id)?.ok_or_else(invalid)?);
    let payload = match wire.kind {
        0 => Payload::Blank,
        // A copy: an entry in memory must not keep the whole frame that it came in.
        1 => Payload::Records(Bytes::copy_from_slice(&wire.body)),
        2 => Payload::Members(decode_members(wire.body.clone())?),
        kind => return Err(WireError::Invalid(format!("an entry of kind {kind}"))),
    };
    from_entry(metalog::Entry { id, payload }).map_err(|error| WireError::Invalid(error.to_string()))
}

fn encode_members(members: &Members) -> Result<Bytes, WireError> {
    let set = |ids: &std::collections::BTreeSet<VoterId>| WireVoters { ids: ids.iter().map(voter).collect() };
    let address = |(id, address): (&VoterId, &String)| WireAddress { id: voter(id), address: Str::copy(address) };
    let wire = WireMembers {
        voters: members.voters.iter().map(set).collect(),
        addresses: members.addresses.iter().map(address).collect(),
    };
    let mut w = Writer::new();
    wire.encode(&mut w, 0)?;
    Ok(w.finish().into_bytes())
}

fn decode_members(bytes: Bytes) -> Result<Members, WireError> {
    let wire = WireMembers::decode(&mut Reader::new(bytes), 0)?;
    Ok(Members {
        voters: wire.voters.iter().map(|set| set.ids.iter().map(voter_of).collect()).collect(),
        addresses: wire.addresses.iter().map(|at| (voter_of(&at.id), at.address.to_string())).collect(),
    })
}

/// AppendEntries on the wire.
pub fn wire_append(request: AppendEntriesRequest<TypeConfig>) -> Result<RaftAppendRequest, WireError> {
    let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = request;
    Ok(RaftAppendRequest {
        vote: wire_vote(&vote),
        previous: wire_log_id(prev_log_id.as_ref()),
        entries: entries.into_iter().map(wire_entry).collect::<Result<_, _>>()?,
        committed: wire_log_id(leader_commit.as_ref()),
    })
}

/// The way back.
pub fn append_of(wire: &RaftAppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, WireError> {
    Ok(AppendEntriesRequest {
        vote: vote_of(&wire.vote)?,
        prev_log_id: log_id_of(&wire.previous)?,
        entries: wire.entries.iter().map(entry_of).collect::<Result<_, _>>()?,
        leader_commit: log_id_of(&wire.committed)?,
    })
}

/// Its answer on the wire.
pub fn wire_appended(answer: &AppendEntriesResponse<TypeConfig>) -> RaftAppendResponse {
    let wire = |outcome| RaftAppendResponse { outcome, ..RaftAppendResponse::default() };
    match answer {
        AppendEntriesResponse::Success => wire(0),
        AppendEntriesResponse::PartialSuccess(upto) => {
            RaftAppendResponse { upto: wire_log_id(upto.as_ref()), ..wire(1) }
        }
        AppendEntriesResponse::Conflict => wire(2),
        AppendEntriesResponse::HigherVote(vote) => RaftAppendResponse { vote: wire_vote(vote), ..wire(3) },
    }
}

/// The way back.
pub fn appended_of(wire: &RaftAppendResponse) -> Result<AppendEntriesResponse<TypeConfig>, WireError> {
    Ok(match wire.outcome {
        0 => AppendEntriesResponse::Success,
        1 => AppendEntriesResponse::PartialSuccess(log_id_of(&wire.upto)?),
        2 => AppendEntriesResponse::Conflict,
        3 => AppendEntriesResponse::HigherVote(vote_of(&wire.vote)?),
        outcome => return Err(WireError::Invalid(format!("an append with outcome {outcome}"))),
    })
}

/// A vote request on the wire.
pub fn wire_vote_request(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> RaftVoteRequest {
    RaftVoteRequest {
        vote: wire_vote(&request.vote),
        last: wire_log_id(request.last_log_id.as_ref()),
        transfer: request.leadership_transfer,
        pre_vote,
    }
}

/// The way back.
pub fn vote_request_of(wire: &RaftVoteRequest) -> Result<VoteRequest<TypeConfig>, WireError> {
    let mut request = VoteRequest::new(vote_of(&wire.vote)?, log_id_of(&wire.last)?);
    request.leadership_transfer = wire.transfer;
    Ok(request)
}

/// Its answer on the wire.
pub fn wire_voted(answer: &VoteResponse<TypeConfig>) -> RaftVoteResponse {
    RaftVoteResponse {
        vote: wire_vote(&answer.vote),
        granted: answer.vote_granted,
        last: wire_log_id(answer.last_log_id.as_ref()),
        ..RaftVoteResponse::default()
    }
}

/// The way back.
pub fn voted_of(wire: &RaftVoteResponse) -> Result<VoteResponse<TypeConfig>, WireError> {
    Ok(VoteResponse::new(vote_of(&wire.vote)?, log_id_of(&wire.last)?, wire.granted))
}

/// The answer to a transfer of leadership on the wire.
pub fn wire_transferred(answer: &TransferLeaderResponse<TypeConfig>) -> RaftTransferResponse {
    match answer {
        Ok(()) => RaftTransferResponse::default(),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            RaftTransferResponse { outcome: 1, vote: wire_vote(actual), ..RaftTransferResponse::default() }
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            RaftTransferResponse { outcome: 2, last: wire_log_id(actual.as_ref()), ..RaftTransferResponse::default() }
        }
    }
}

/// The way back, to `request`.
pub fn transferred_of(
    wire: &RaftTransferResponse,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, WireError> {
    Ok(match wire.outcome {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual: vote_of(&wire.vote)? }),
        _ => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: log_id_of(&wire.last)?,
        }),
    })
}

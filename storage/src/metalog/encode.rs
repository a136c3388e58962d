//! The exact bytes of steps and of a snapshot's position. Big-endian, as all of Kafka's formats.
//!
//! A golden test pins every byte: a change here is a new format version.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::types::{Entry, LogId, Members, Payload, SnapshotMeta, Step, Vote, VoterId};

/// Kinds of steps.
mod step {
    pub(super) const VOTE: u8 = 1;
    pub(super) const ENTRY: u8 = 2;
    pub(super) const COMMITTED: u8 = 3;
    pub(super) const TRUNCATE_AFTER: u8 = 4;
    pub(super) const PURGE: u8 = 5;
}

/// Kinds of entries.
mod payload {
    pub(super) const BLANK: u8 = 0;
    pub(super) const RECORDS: u8 = 1;
    pub(super) const MEMBERS: u8 = 2;
}

/// Why bytes with a sound checksum cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A kind that a newer version introduced.
    Unknown(String),
    /// Bytes are missing, left over or not valid.
    Malformed(&'static str),
}

/// A length that its field cannot hold; a step or a chunk of that size is never written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Appends a step to those of the same frame: `length u32, kind u8, content`.
pub(super) fn put_step(step: &Step, out: &mut Vec<u8>) -> Result<(), TooLong> {
    match step {
        Step::Vote(vote) => put_with_length(step::VOTE, out, |out| put_vote(vote, out)),
        Step::Entry(entry) => put_entry(entry, out),
        Step::Committed(id) => put_with_length(step::COMMITTED, out, |out| put_optional_id(id.as_ref(), out)),
        Step::TruncateAfter(id) => put_with_length(step::TRUNCATE_AFTER, out, |out| put_optional_id(id.as_ref(), out)),
        Step::Purge(id) => put_with_length(step::PURGE, out, |out| put_log_id(id, out)),
    }
}

/// As [`put_step`], of an entry.
pub(super) fn put_entry(entry: &Entry, out: &mut Vec<u8>) -> Result<(), TooLong> {
    put_with_length(step::ENTRY, out, |out| {
        put_log_id(&entry.id, out)?;
        put_payload(&entry.payload, out)
    })
}

fn put_with_length(
    kind: u8,
    out: &mut Vec<u8>,
    content: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
) -> Result<(), TooLong> {
    let start = out.len();
    out.extend([0; 4]);
    out.push(kind);
    content(out)?;
    let length = u32::try_from(out.len() - start - 4).map_err(|_| TooLong)?;
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// Reads all steps of a frame.
pub(super) fn read_steps(bytes: &[u8], mut each: impl FnMut(Step)) -> Result<(), Fault> {
    let mut input = Input(bytes);
    while !input.0.is_empty() {
        let length = input.u32()? as usize;
        let mut content = Input(input.take_bytes(length)?);
        let step = read_step(&mut content)?;
        content.end()?;
        each(step);
    }
    Ok(())
}

fn read_step(input: &mut Input<'_>) -> Result<Step, Fault> {
    Ok(match input.u8()? {
        step::VOTE => Step::Vote(input.vote()?),
        step::ENTRY => Step::Entry(Entry { id: input.log_id()?, payload: input.payload()? }),
        step::COMMITTED => Step::Committed(input.optional_id()?),
        step::TRUNCATE_AFTER => Step::TruncateAfter(input.optional_id()?),
        step::PURGE => Step::Purge(input.log_id()?),
        kind => return Err(Fault::Unknown(format!("steps of kind {kind} are unknown to this version"))),
    })
}

/// The first chunk of a snapshot.
pub(super) fn put_meta(meta: &SnapshotMeta, out: &mut Vec<u8>) -> Result<(), TooLong> {
    put_optional_id(meta.last.as_ref(), out)?;
    put_optional_id(meta.members_at.as_ref(), out)?;
    put_members(&meta.members, out)
}

/// The inverse of [`put_meta`].
pub(super) fn read_meta(bytes: &[u8]) -> Result<SnapshotMeta, Fault> {
    let mut input = Input(bytes);
    let meta = SnapshotMeta { last: input.optional_id()?, members_at: input.optional_id()?, members: input.members()? };
    input.end()?;
    Ok(meta)
}

fn put_voter(id: &VoterId, out: &mut Vec<u8>) {
    out.extend(id.node_id.to_be_bytes());
    out.extend(id.directory);
}

fn put_vote(vote: &Vote, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.extend(vote.term.to_be_bytes());
    put_voter(&vote.candidate, out);
    out.push(u8::from(vote.committed));
    Ok(())
}

fn put_log_id(id: &LogId, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.extend(id.term.to_be_bytes());
    put_voter(&id.leader, out);
    out.extend(id.index.to_be_bytes());
    Ok(())
}

fn put_optional_id(id: Option<&LogId>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.push(u8::from(id.is_some()));
    id.map_or(Ok(()), |id| put_log_id(id, out))
}

fn put_payload(payload: &Payload, out: &mut Vec<u8>) -> Result<(), TooLong> {
    match payload {
        Payload::Blank => out.push(payload::BLANK),
        Payload::Records(records) => {
            out.push(payload::RECORDS);
            out.extend_from_slice(records);
        }
        Payload::Members(members) => {
            out.push(payload::MEMBERS);
            put_members(members, out)?;
        }
    }
    Ok(())
}

fn put_count(count: usize, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.extend(u16::try_from(count).map_err(|_| TooLong)?.to_be_bytes());
    Ok(())
}

fn put_members(members: &Members, out: &mut Vec<u8>) -> Result<(), TooLong> {
    put_count(members.voters.len(), out)?;
    for voters in &members.voters {
        put_count(voters.len(), out)?;
        voters.iter().for_each(|id| put_voter(id, out));
    }
    put_count(members.addresses.len(), out)?;
    for (id, address) in &members.addresses {
        put_voter(id, out);
        put_count(address.len(), out)?;
        out.extend(address.as_bytes());
    }
    Ok(())
}

/// The unread bytes. No count or length beyond them is accepted.
struct Input<'a>(&'a [u8]);

const SHORT: Fault = Fault::Malformed("a step ends too early");

impl<'a> Input<'a> {
    fn take_bytes(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn end(&self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::Malformed("a step has bytes left over")) }
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Result<bool, Fault> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault::Malformed("a flag is neither 0 nor 1")),
        }
    }

    fn count(&mut self) -> Result<usize, Fault> {
        self.array().map(u16::from_be_bytes).map(usize::from)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_be_bytes)
    }

    fn voter(&mut self) -> Result<VoterId, Fault> {
        Ok(VoterId { node_id: self.array().map(i32::from_be_bytes)?, directory: self.array()? })
    }

    fn vote(&mut self) -> Result<Vote, Fault> {
        Ok(Vote { term: self.u64()?, candidate: self.voter()?, committed: self.flag()? })
    }

    fn log_id(&mut self) -> Result<LogId, Fault> {
        Ok(LogId { term: self.u64()?, leader: self.voter()?, index: self.u64()? })
    }

    fn optional_id(&mut self) -> Result<Option<LogId>, Fault> {
        if self.flag()? { self.log_id().map(Some) } else { Ok(None) }
    }

    fn payload(&mut self) -> Result<Payload, Fault> {
        Ok(match self.u8()? {
            payload::BLANK => Payload::Blank,
            payload::RECORDS => Payload::Records(Bytes::copy_from_slice(self.take_bytes(self.0.len())?)),
            payload::MEMBERS => Payload::Members(self.members()?),
            kind => return Err(Fault::Unknown(format!("entries of kind {kind} are unknown to this version"))),
        })
    }

    fn members(&mut self) -> Result<Members, Fault> {
        let mut voters = Vec::new();
        for _ in 0..self.count()? {
            let count = self.count()?;
            voters.push((0..count).map(|_| self.voter()).collect::<Result<BTreeSet<_>, Fault>>()?);
        }
        let mut addresses = BTreeMap::new();
        for _ in 0..self.count()? {
            let id = self.voter()?;
            let length = self.count()?;
            let address = std::str::from_utf8(self.take_bytes(length)?);
            let address = address.map_err(|_| Fault::Malformed("an address is not UTF-8"))?;
            addresses.insert(id, address.to_owned());
        }
        Ok(Members { voters, addresses })
    }
}

#[cfg(test)]
mod tests;

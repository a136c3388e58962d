//! Offsets that are committed within a transaction (TxnOffsetCommit, KIP-98, KIP-447): pending until its marker comes.
//!
//! The producer need not be a member: old producers send no member id. A request with a member id or generation is checked against
//! the group.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::classic::State;
use super::consumer::CommitCheck;
use super::decision::Effects;
use super::request::OffsetCommitRequest;
use super::state::GroupShard;
use crate::coordinator::Writer;

impl GroupShard {
    /// Decides a commit in a transaction: an error for all, or records and a code for each offset.
    pub fn commit_in_transaction(
        &self,
        request: &OffsetCommitRequest,
        writer: Writer,
        now: i64,
    ) -> Result<(Effects, Vec<ErrorCode>), ErrorCode> {
        let check = match self.check_consumer_commit(request, true) {
            Some(check) => check?,
            None => self.check_transactional_commit(request).map(|()| CommitCheck::All)?,
        };
        let (records, codes) = self.offset_records(request, &check, now)?;
        let mut effects = Effects { records, writer: Some(writer), ..Effects::default() };
        self.create_group_of_offsets(&request.group, now, &mut effects);
        Ok((effects, codes))
    }

    fn check_transactional_commit(&self, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let identity = &request.identity;
        let Some(group) = self.groups.get(&request.group) else {
            if identity.generation >= 0 {
                return Err(if request.not_found_code {
                    ErrorCode::GROUP_ID_NOT_FOUND
                } else {
                    ErrorCode::ILLEGAL_GENERATION
                });
            }
            return Ok(());
        };
        if identity.generation < 0 && group.state == State::Empty {
            return Ok(());
        }
        if identity.generation >= 0 || !identity.member_id.is_empty() || identity.instance_id.is_some() {
            group.check_member(&identity.member_id, identity.instance_id.as_ref())?;
            if identity.generation != group.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        }
        Ok(())
    }

    /// Whether a transaction that is open may still change an offset.
    pub fn is_unstable(&self, group: &Str, topic: &Str, partition: i32) -> bool {
        self.pending.has_offset(group, topic, partition)
    }
}

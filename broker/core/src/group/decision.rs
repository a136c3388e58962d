//! What is decided: replies, what changes beside records, events, and [`Effects`] that hold all of it.
//!
//! Every request returns [`Effects`], and [`StateMachine::apply`](crate::coordinator::StateMachine::apply) consumes them. Must never
//! decide anything: requests import this file.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_protocol::primitives::Str;

use super::classic::ClassicGroup;
use super::consumer::{Clock, RegexJob};
use super::history::{Cause, GroupEvent, Kind};
use super::record::GroupRecord;
use super::request::{JoinReply, SyncReply};
use crate::coordinator;

/// An answer to a parked request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To a join.
    Join(JoinReply),
    /// To a sync.
    Sync(SyncReply),
}

/// What [`StateMachine::committed`](crate::coordinator::StateMachine::committed) receives when the records that came with it are
/// committed, or are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The group.
    pub group: Str,
    /// The generation whose assignment was written.
    pub generation: i32,
    pub(super) assignments: BTreeMap<Str, Bytes>,
}

/// What follows from a request and is in no record. In force once the records are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Consequence {
    /// A member's clock is set, or stopped.
    Clock(Str, Str, Clock, Option<i64>),
    /// The group has seen its topics as they are; that holds until a time and from an epoch on.
    Refreshed(Str, i64, i32),
    /// Its regular expressions are being looked up, or are not any more.
    Resolving(Str, bool),
}

impl Consequence {
    pub(super) fn group(&self) -> &Str {
        match self {
            Self::Clock(group, ..) | Self::Refreshed(group, ..) | Self::Resolving(group, _) => group,
        }
    }
}

/// What a decision changes beside its records: state that is in no record, and classic groups, whose records hold less than the
/// coordinator knows of them.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Update {
    /// Classic groups as they are from now on; `None` for one that is gone.
    pub(super) classic: Vec<(Str, Option<Box<ClassicGroup>>)>,
    /// Sessions of members of classic groups that begin anew, and when they end: group, member, time.
    pub(super) sessions: Vec<(Str, Str, i64)>,
    /// The same for consumer groups.
    pub(super) consequences: Vec<Consequence>,
    /// The group that time has passed for, and until when.
    pub(super) ticked: Option<(Str, i64)>,
}

impl Update {
    /// A classic group is this from now on.
    pub(super) fn replace_group(&mut self, group: ClassicGroup) {
        self.classic.push((group.id.clone(), Some(Box::new(group))));
    }

    /// Extends the session of a member of a classic group.
    pub(super) fn extend_session(&mut self, group: &Str, member: &Str, until: i64) {
        self.sessions.push((group.clone(), member.clone(), until));
    }
}

/// What a request leads to.
pub type Effects = coordinator::Effects<GroupRecord, Reply, Stored, RegexJob, Update, GroupEvent>;

impl Effects {
    /// A cause leads a group from an epoch to another. The rebalance begins with the first cause of this decision.
    pub(super) fn record_cause(&mut self, group: &Str, (kind, from, to): (Kind, i32, i32), cause: Cause, now: i64) {
        let begins = !self.events.iter().any(|event| event.group == *group && event.to == to);
        let group = group.clone();
        self.events.push(GroupEvent { group, kind, from, to, at: now, begins, cause });
    }
}

//! Timers of the members of a group: sessions, the time to revoke partitions, and for members that use the
//! classic protocol the time to join again and to sync. They are in no record: they start anew when a group is loaded.
//!
//! A deadline that moves back is found out when it comes, so that a heartbeat costs one look-up.

use std::collections::{BTreeSet, HashMap};

use esker_protocol::primitives::Str;

use crate::group::history::Reason;

/// What runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// A member has been silent.
    Session,
    /// A member has not given partitions back.
    Rebalance,
    /// A classic member must join again.
    Join,
    /// A classic member has joined and not synced.
    Sync,
}

impl Clock {
    /// Why a member is out whose time has run out.
    pub fn reason(self) -> Reason {
        match self {
            Self::Session => Reason::SessionTimeout,
            Self::Rebalance | Self::Join => Reason::RebalanceTimeout,
            Self::Sync => Reason::SyncTimeout,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Deadlines {
    session: Option<i64>,
    rebalance: Option<i64>,
    join: Option<i64>,
    sync: Option<i64>,
    /// Under which time it stands in the set.
    registered: Option<i64>,
}

impl Deadlines {
    fn place(&mut self, clock: Clock) -> &mut Option<i64> {
        match clock {
            Clock::Session => &mut self.session,
            Clock::Rebalance => &mut self.rebalance,
            Clock::Join => &mut self.join,
            Clock::Sync => &mut self.sync,
        }
    }

    fn first(&self) -> Option<(i64, Clock)> {
        [
            (self.session, Clock::Session),
            (self.rebalance, Clock::Rebalance),
            (self.join, Clock::Join),
            (self.sync, Clock::Sync),
        ]
        .into_iter()
        .filter_map(|(at, clock)| Some((at?, clock)))
        .min_by_key(|(at, _)| *at)
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(in crate::group) struct Timers {
    members: HashMap<Str, Deadlines>,
    order: BTreeSet<(i64, Str)>,
}

impl Timers {
    /// When something may have run out.
    pub fn next(&self) -> Option<i64> {
        self.order.first().map(|(at, _)| *at)
    }

    /// When a clock of a member runs out.
    pub fn of(&self, member: &str, clock: Clock) -> Option<i64> {
        self.members.get(member).and_then(|deadlines| *deadlines.clone().place(clock))
    }

    /// Sets a clock, or stops it.
    pub fn set(&mut self, member: &Str, clock: Clock, at: Option<i64>) {
        if !self.members.contains_key(member) {
            if at.is_none() {
                return;
            }
            self.members.insert(member.detached(), Deadlines::default());
        }
        let Some(deadlines) = self.members.get_mut(member) else { return };
        *deadlines.place(clock) = at;
        let first = deadlines.first().map(|(at, _)| at);
        match (deadlines.registered, first) {
            (Some(registered), Some(first)) if registered <= first => {}
            (registered, first) => {
                if let Some(registered) = registered {
                    self.order.remove(&(registered, member.clone()));
                }
                deadlines.registered = first;
                self.order.extend(first.map(|at| (at, member.clone())));
            }
        }
    }

    /// The member is gone.
    pub fn remove(&mut self, member: &str) {
        if let Some((id, deadlines)) = self.members.remove_entry(member)
            && let Some(registered) = deadlines.registered
        {
            self.order.remove(&(registered, id));
        }
    }

    /// Members whose time has run out, at most `most`.
    pub fn due(&self, now: i64, most: usize) -> Vec<(Str, Clock)> {
        let passed = self.order.iter().take_while(|(at, _)| *at <= now);
        let first = |id: &Str| self.members.get(id)?.first().filter(|(at, _)| *at <= now);
        passed.filter_map(|(_, id)| Some((id.clone(), first(id)?.1))).take(most).collect()
    }

    /// Members that were due by `now` and are not any more stand in the order under their new time.
    pub fn reschedule_passed(&mut self, now: i64) {
        let passed: Vec<(i64, Str)> = self.order.iter().take_while(|(at, _)| *at <= now).cloned().collect();
        for (at, id) in passed {
            let Some(deadlines) = self.members.get_mut(&id) else { continue };
            let first = deadlines.first().map(|(at, _)| at);
            if first.is_none_or(|first| first > now) {
                self.order.remove(&(at, id.clone()));
                deadlines.registered = first;
                self.order.extend(first.map(|at| (at, id)));
            }
        }
    }
}

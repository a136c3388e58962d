//! Rebalances: how a join phase begins, waits and ends; what time does to a group.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::classic::{ClassicGroup, JoinPhase, State};
use super::decision::{Effects, Reply};
use super::history::{Cause, GroupEvent, Kind, MemberInfo, Reason};
use super::limits::GroupLimits;
use super::member::Member;
use super::request::{JoinReply, SyncReply};

/// However short the rebalance time-outs of absent static members are, their group looks for them no more often.
const LEAST_WAIT_MS: i64 = 100;

impl ClassicGroup {
    /// A member joined during the first phase of a group: the join phase may be extended.
    pub(super) fn record_newcomer(&mut self) {
        if let Some(JoinPhase::Initial { newcomers, .. }) = &mut self.phase {
            *newcomers = true;
        }
    }

    fn next_generation(&self) -> i32 {
        self.generation.checked_add(1).unwrap_or(1)
    }

    /// A cause leads to the next generation.
    fn record_cause(&self, cause: Cause, begins: bool, now: i64, effects: &mut Effects) {
        let (group, kind, from, to) = (self.id.clone(), Kind::Classic, self.generation, self.next_generation());
        effects.events.push(GroupEvent { group, kind, from, to, at: now, begins, cause });
    }

    /// Begins a join phase, or continues the current one.
    pub(super) fn rebalance(
        &mut self,
        causes: impl IntoIterator<Item = Cause>,
        now: i64,
        limits: &GroupLimits,
        effects: &mut Effects,
    ) {
        let mut begins = self.state != State::PreparingRebalance;
        for cause in causes {
            self.record_cause(cause, std::mem::take(&mut begins), now, effects);
        }
        if self.state == State::PreparingRebalance {
            return self.try_complete_join(now, effects);
        }
        if self.state == State::CompletingRebalance {
            self.fail_syncs(ErrorCode::REBALANCE_IN_PROGRESS, effects);
        }
        let longest = self.longest_rebalance_ms();
        self.phase = Some(if self.state == State::Empty && limits.initial_rebalance_delay_ms > 0 {
            let delay = limits.initial_rebalance_delay_ms;
            let remaining_ms = longest.saturating_sub(delay).max(0);
            JoinPhase::Initial { until: now.saturating_add(delay), remaining_ms, newcomers: false }
        } else {
            JoinPhase::Until(now.saturating_add(longest))
        });
        self.awaiting_sync.clear();
        self.sync_deadline = None;
        self.enter_state(State::PreparingRebalance, now);
        self.try_complete_join(now, effects);
    }

    fn longest_rebalance_ms(&self) -> i64 {
        self.members.values().map(|m| i64::from(m.rebalance_timeout_ms)).max().unwrap_or_default()
    }

    pub(super) fn fail_syncs(&mut self, error: ErrorCode, effects: &mut Effects) {
        self.each_member(|member| {
            member.assignment = bytes::Bytes::new();
            effects.replies.extend(member.sync.take().map(|t| (t, Reply::Sync(SyncReply::failed(error)))));
        });
    }

    /// Ends the join phase if all members have joined.
    pub(super) fn try_complete_join(&mut self, now: i64, effects: &mut Effects) {
        let waits = matches!(self.phase, Some(JoinPhase::Initial { .. }));
        let all = self.members.values().all(|m| m.join.is_some()) && self.pending.is_empty();
        if self.state == State::PreparingRebalance && !waits && all {
            self.complete_join(now, effects);
        }
    }

    fn complete_join(&mut self, now: i64, effects: &mut Effects) {
        let absent: Vec<Str> = self
            .members
            .values()
            .filter(|m| m.join.is_none() && m.instance_id.is_none())
            .map(|m| m.id.clone())
            .collect();
        for id in &absent {
            if let Some(member) = self.remove(id) {
                self.record_cause(Cause::of_member(Reason::RebalanceTimeout, &member), false, now, effects);
            }
        }
        if !self.elect_present_leader() && !self.members.is_empty() {
            // Only static members are left and none is here: wait for them until their sessions end.
            let wait = self.longest_rebalance_ms().max(LEAST_WAIT_MS);
            self.phase = Some(JoinPhase::Until(now.saturating_add(wait)));
            return;
        }
        self.phase = None;
        self.generation = self.next_generation();
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.enter_state(State::Empty, now);
            effects.records.push(self.record());
            return;
        }
        self.protocol = self.vote();
        self.enter_state(State::CompletingRebalance, now);
        let joined: Vec<Str> = self.members.keys().cloned().collect();
        for id in &joined {
            let reply = self.joined(id, self.is_leader(id));
            let Some(member) = self.member_mut(id) else { continue };
            member.is_new = false;
            if let Some(token) = member.join.take() {
                member.refresh(now);
                effects.replies.push((token, Reply::Join(reply)));
            }
        }
        self.awaiting_sync = joined.into_iter().collect();
        self.sync_deadline = Some(now.saturating_add(self.longest_rebalance_ms()));
    }

    /// The answer to a member that has joined the current generation.
    pub(super) fn joined(&self, id: &Str, with_members: bool) -> JoinReply {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.values().filter(|_| with_members);
        JoinReply {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: id.clone(),
            members: members.map(|m| (m.id.clone(), m.instance_id.clone(), m.metadata(&protocol))).collect(),
        }
    }

    /// The leader stays if it rejoined; else a member that rejoined becomes the leader.
    fn elect_present_leader(&mut self) -> bool {
        let present = |id: &Str| self.members.get(id).is_some_and(|m| m.join.is_some());
        if self.leader.as_ref().is_some_and(present) {
            return true;
        }
        match self.members.values().find(|m| m.join.is_some()).map(|m| m.id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Removes a member, for any reason.
    pub(super) fn remove_and_rebalance(
        &mut self,
        id: &Str,
        why: Cause,
        now: i64,
        limits: &GroupLimits,
        effects: &mut Effects,
    ) {
        let Some(mut member) = self.remove(id) else { return };
        let why = Cause { member: Some(MemberInfo::from(&member)), ..why };
        let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
        effects.replies.extend(member.join.take().map(|t| (t, Reply::Join(JoinReply::failed(unknown, id)))));
        effects.replies.extend(member.sync.take().map(|t| (t, Reply::Sync(SyncReply::failed(unknown)))));
        match self.state {
            State::Stable | State::CompletingRebalance | State::PreparingRebalance => {
                self.rebalance([why], now, limits, effects);
            }
            State::Empty => {}
        }
    }

    /// The next time at which [`ClassicGroup::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        let phase = self.phase.map(|phase| match phase {
            JoinPhase::Initial { until, .. } | JoinPhase::Until(until) => until,
        });
        let sessions = self.members.values().filter(|m| m.expires()).map(|m| m.session_deadline).min();
        let pending = self.pending.values().min().copied();
        [phase, sessions, pending, self.sync_deadline].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: i64, limits: &GroupLimits, effects: &mut Effects) {
        let lapsed = self.pending.len();
        self.pending = self.pending.iter().filter(|(_, at)| **at > now).map(|(id, at)| (id.clone(), *at)).collect();
        if self.pending.len() < lapsed {
            self.try_complete_join(now, effects);
        }
        let silent: Vec<Str> =
            self.members.values().filter(|m| m.expires() && m.session_deadline <= now).map(|m| m.id.clone()).collect();
        for id in &silent {
            self.remove_and_rebalance(id, Cause::new(Reason::SessionTimeout), now, limits, effects);
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.sync_deadline = None;
            if self.state == State::CompletingRebalance {
                let late: Vec<Str> = std::mem::take(&mut self.awaiting_sync).into_iter().collect();
                let late: Vec<Cause> = late.iter().filter_map(|id| self.remove_silently(id, effects)).collect();
                if !late.is_empty() {
                    self.rebalance(late, now, limits, effects);
                }
            }
        }
        match self.phase {
            Some(JoinPhase::Initial { until, remaining_ms, newcomers }) if until <= now => {
                if newcomers && remaining_ms > 0 {
                    let delay = limits.initial_rebalance_delay_ms.min(remaining_ms);
                    let remaining_ms = remaining_ms - delay;
                    self.phase =
                        Some(JoinPhase::Initial { until: now.saturating_add(delay), remaining_ms, newcomers: false });
                } else {
                    self.complete_join(now, effects);
                }
            }
            Some(JoinPhase::Until(until)) if until <= now => self.complete_join(now, effects),
            _ => {}
        }
    }

    fn remove_silently(&mut self, id: &Str, effects: &mut Effects) -> Option<Cause> {
        let mut member = self.remove(id)?;
        let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
        effects.replies.extend(member.sync.take().map(|t| (t, Reply::Sync(SyncReply::failed(unknown)))));
        Some(Cause::of_member(Reason::SyncTimeout, &member))
    }
}

impl Member {
    /// Whether its session runs: not while it waits for an answer from us (newcomers wait only so long).
    fn expires(&self) -> bool {
        self.is_new || (self.join.is_none() && self.sync.is_none())
    }
}

//! How far moves are, and which of them begin next: a bounded number is in progress at a time.

use super::layout::Move;

/// The replicas of a partition as the cluster has them now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// All replicas, those that a reassignment adds or removes among them.
    pub replicas: Vec<i32>,
    /// The in-sync replicas.
    pub isr: Vec<i32>,
    /// The leader.
    pub leader: Option<i32>,
    /// Replicas that a reassignment adds.
    pub adding: Vec<i32>,
    /// Replicas that it removes.
    pub removing: Vec<i32>,
}

impl Assignment {
    /// Whether a reassignment is in progress.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The replicas that stay.
    pub fn target(&self) -> Vec<i32> {
        self.replicas.iter().copied().filter(|id| !self.removing.contains(id)).collect()
    }
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveState {
    /// It has not begun.
    Waiting,
    /// Its reassignment is in progress.
    InProgress,
    /// The partition has the replicas, or was deleted.
    Done,
    /// It had begun, and the partition does not move there any more: another client has cancelled it, or moves the partition elsewhere.
    Superseded,
}

/// How far a move is; `now` is `None` for a partition that was deleted. `begun` means that its reassignment was seen in progress.
pub fn move_state(one: &Move, now: Option<&Assignment>, begun: bool) -> MoveState {
    let Some(now) = now else { return MoveState::Done };
    match (now.target() == one.to, now.is_reassigning()) {
        (true, true) => MoveState::InProgress,
        (true, false) => MoveState::Done,
        (false, _) if begun => MoveState::Superseded,
        (false, _) => MoveState::Waiting,
    }
}

/// The places of the moves to begin, so that no more than `limit` are in progress.
pub fn next_wave(states: &[MoveState], limit: usize) -> Vec<usize> {
    let in_progress = states.iter().filter(|state| **state == MoveState::InProgress).count();
    let waiting = states.iter().enumerate().filter(|(_, state)| **state == MoveState::Waiting).map(|(at, _)| at);
    waiting.take(limit.saturating_sub(in_progress)).collect()
}

/// What a reassignment waits for; what needs an operator comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocker {
    /// The partition has no leader to copy from.
    NoLeader,
    /// A broker that gets or keeps a replica is not alive.
    NotAlive(i32),
    /// The replica of a broker is not in sync yet.
    CatchingUp(i32),
}

/// What the reassignment of a partition waits for. All replicas that stay have to be in sync (KIP-455).
pub fn find_blocker(now: &Assignment, is_alive: impl Fn(i32) -> bool) -> Option<Blocker> {
    if !now.is_reassigning() {
        return None;
    }
    if now.leader.is_none() {
        return Some(Blocker::NoLeader);
    }
    let missing: Vec<i32> = now.target().into_iter().filter(|id| !now.isr.contains(id)).collect();
    let dead = missing.iter().find(|id| !is_alive(**id)).map(|id| Blocker::NotAlive(*id));
    dead.or_else(|| missing.first().map(|id| Blocker::CatchingUp(*id)))
}

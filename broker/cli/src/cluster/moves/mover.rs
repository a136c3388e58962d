//! Carries moves out: a bounded number of reassignments at a time, until all are complete.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use esker_admin::{CopyLimits, assignments, check_begun, sizes};
use esker_client::{Admin, Client, Error, TopicPartition};
use esker_core::plan::{Assignment, Move, MoveState, find_blocker, move_state, next_wave};
use tokio::time::{Instant, sleep};

use super::progress::{Progress, Reporter};
use esker_records::error::CliError;

/// Between two looks at the cluster.
const PAUSE: Duration = Duration::from_millis(500);
/// A cluster without an active controller elects one within a fraction of a second; nodes may be restarted meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);
/// A broker that is restarted is back within this time. One that is away for longer does not hold up the end.
const RESTART: Duration = Duration::from_secs(10);
/// Brokers learn of a reassignment one after the other: only what lasts as long is another client's change.
const SETTLE: Duration = Duration::from_secs(10);
/// Partitions that a progress names.
const NAMED: usize = 100;

/// How moves are carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Moves in progress at a time.
    pub at_once: usize,
    /// Bytes a second on each broker.
    pub throttle: Option<u64>,
}

/// A move, and how far it is.
#[derive(Debug)]
struct Tracked {
    one: Move,
    tp: TopicPartition,
    state: MoveState,
    begun: bool,
    /// Its replicas are in the lists of throttled replicas, where the copies are limited.
    limited: bool,
    superseded: Option<Instant>,
    copied: u64,
}

/// See the module.
pub(super) struct Mover<'a> {
    client: &'a Client,
    pace: Pace,
    reporter: Reporter,
    /// The line of the last progress.
    last: &'a RefCell<Option<String>>,
    limits: CopyLimits,
    moves: Vec<Tracked>,
    /// Those that take part.
    brokers: BTreeSet<i32>,
}

impl<'a> Mover<'a> {
    /// Moves that an earlier run has begun, and moves to begin.
    pub(super) fn new(
        client: &'a Client,
        pace: Pace,
        json: bool,
        last: &'a RefCell<Option<String>>,
        begun: Vec<Move>,
        moves: Vec<Move>,
    ) -> Self {
        let limits = CopyLimits::new(pace.throttle, &begun);
        let tracked = |one: Move| Tracked {
            tp: TopicPartition::new(one.topic.clone(), one.partition),
            one,
            state: MoveState::Waiting,
            begun: false,
            limited: false,
            superseded: None,
            copied: 0,
        };
        let moves: Vec<Tracked> = begun.into_iter().chain(moves).map(tracked).collect();
        let brokers =
            moves.iter().flat_map(|tracked| tracked.one.from.iter().chain(&tracked.one.to)).copied().collect();
        Self { client, pace, reporter: Reporter::new(json), last, limits, moves, brokers }
    }

    /// Runs until all moves are complete; returns how long it took. Limits of copies go at the end.
    pub(super) async fn run(mut self) -> Result<Duration, CliError> {
        let admin = Admin::new(self.client);
        let mut failing: Option<Instant> = None;
        loop {
            match self.step().await {
                Ok(true) => break,
                Ok(false) => failing = None,
                Err(CliError::Client(error)) if may_pass(&error) => {
                    let since = *failing.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(error.into());
                    }
                    self.look_again().await;
                }
                Err(error) => return Err(error),
            }
            sleep(PAUSE).await;
        }
        self.reporter.finish();
        self.elect_leaders(&admin).await;
        let since = Instant::now();
        while let Err(error) = self.limits.end(&admin, since.elapsed() > RESTART).await {
            if !may_pass(&error) || since.elapsed() > PATIENCE {
                return Err(CliError::Refused(format!(
                    "all partitions have moved, but limits of copies may be left: {error}; `esker cluster reassignments --cancel` removes those of topics, `esker config unset broker ID leader.replication.throttled.rate follower.replication.throttled.rate` those of a broker"
                )));
            }
            self.look_again().await;
            sleep(PAUSE).await;
        }
        Ok(self.reporter.elapsed())
    }

    /// Which brokers are there: one that is away is looked for in vain until the client knows.
    async fn look_again(&self) {
        // Where nobody answers, the next step says so.
        let _ = self.client.refresh(&[]).await;
    }

    /// Looks at all moves and begins the next ones; returns whether all are complete.
    async fn step(&mut self) -> Result<bool, CliError> {
        let admin = Admin::new(self.client);
        self.limits.set_rates(&admin, &self.brokers).await?;
        let open: Vec<TopicPartition> = self.open().map(|tracked| tracked.tp.clone()).collect();
        let now = assignments(self.client, &open).await?;
        for tracked in self.moves.iter_mut().filter(|tracked| tracked.state != MoveState::Done) {
            tracked.update(now.get(&tracked.tp))?;
        }
        self.limit_copies().await?;
        self.measure().await;
        let progress = self.progress(&now);
        self.last.replace(Some(progress.line(None)));
        self.reporter.report(&progress)?;
        if self.open().next().is_none() {
            return Ok(true);
        }
        let states: Vec<MoveState> = self.moves.iter().map(|tracked| tracked.state).collect();
        let places = next_wave(&states, self.pace.at_once);
        let next: Vec<Move> = places.iter().filter_map(|at| Some(self.moves.get(*at)?.one.clone())).collect();
        if next.is_empty() {
            return Ok(false);
        }
        self.limits.add(&admin, &next).await?;
        for at in places {
            if let Some(tracked) = self.moves.get_mut(at) {
                tracked.limited = true;
            }
        }
        let target = |one: Move| (TopicPartition::new(one.topic, one.partition), Some(one.to));
        let wave: Vec<(TopicPartition, Option<Vec<i32>>)> = next.into_iter().map(target).collect();
        let results = admin.alter_reassignments(&wave).await?;
        for ((tp, _), result) in wave.iter().zip(results) {
            check_begun(tp, result)?;
        }
        Ok(false)
    }

    /// Limits the copies that an earlier run has begun, and ends the limits of moves that are complete.
    async fn limit_copies(&mut self) -> Result<(), CliError> {
        let admin = Admin::new(self.client);
        let of = |moves: &[Tracked], is_it: fn(&&Tracked) -> bool| -> Vec<Move> {
            moves.iter().filter(is_it).map(|tracked| tracked.one.clone()).collect()
        };
        let resumed = of(&self.moves, |tracked| tracked.state == MoveState::InProgress && !tracked.limited);
        self.limits.add(&admin, &resumed).await?;
        let complete = of(&self.moves, |tracked| tracked.state == MoveState::Done && tracked.limited);
        self.limits.remove(&admin, &complete).await?;
        for tracked in &mut self.moves {
            match tracked.state {
                MoveState::InProgress => tracked.limited = true,
                MoveState::Done => tracked.limited = false,
                MoveState::Waiting | MoveState::Superseded => {}
            }
        }
        Ok(())
    }

    fn open(&self) -> impl Iterator<Item = &Tracked> {
        self.moves.iter().filter(|tracked| tracked.state != MoveState::Done)
    }

    /// Reads the bytes that the replicas which are added have by now.
    async fn measure(&mut self) {
        let mut replicas: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for tracked in self.moves.iter().filter(|tracked| tracked.state == MoveState::InProgress) {
            for broker in tracked.one.added() {
                replicas.entry(broker).or_default().push(tracked.tp.clone());
            }
        }
        let found = sizes(self.client, &replicas).await;
        for tracked in &mut self.moves {
            match tracked.state {
                MoveState::Done => tracked.copied = tracked.one.copied_bytes(),
                MoveState::InProgress => {
                    let sizes = tracked.one.added().filter_map(|broker| found.get(&(broker, tracked.tp.clone())));
                    let copied: u64 = sizes.map(|bytes| (*bytes).min(tracked.one.bytes)).sum();
                    // A broker that does not answer now keeps what it had.
                    tracked.copied = copied.max(tracked.copied);
                }
                MoveState::Waiting | MoveState::Superseded => {}
            }
        }
    }

    fn progress(&self, now: &BTreeMap<TopicPartition, Assignment>) -> Progress {
        let alive = self.client.cluster();
        let is_alive = |id: i32| alive.brokers.contains_key(&id);
        let in_progress = || self.moves.iter().filter(|tracked| tracked.state == MoveState::InProgress);
        let blocked = |tracked: &Tracked| {
            let blocker = find_blocker(now.get(&tracked.tp)?, is_alive)?;
            Some((tracked.tp.clone(), blocker))
        };
        let mut waiting: Vec<_> = in_progress().filter_map(blocked).collect();
        waiting.sort_by(|(a, reason), (b, other)| (reason, a).cmp(&(other, b)));
        waiting.truncate(NAMED);
        Progress {
            moves: (self.moves.len() - self.open().count(), self.moves.len()),
            in_progress: in_progress().count(),
            bytes: (
                self.moves.iter().map(|tracked| tracked.copied).sum(),
                self.moves.iter().map(|tracked| tracked.one.copied_bytes()).sum(),
            ),
            waiting,
        }
    }

    /// Makes new preferred replicas the leaders. What fails here is done by the balancing of leaders later.
    async fn elect_leaders(&self, admin: &Admin) {
        let changed = self.moves.iter().filter(|tracked| tracked.one.changes_leader());
        let partitions: Vec<TopicPartition> = changed.map(|tracked| tracked.tp.clone()).collect();
        if partitions.is_empty() {
            return;
        }
        let failed = match admin.elect_preferred_leaders(&partitions).await {
            Ok(results) => results.into_iter().filter_map(|(_, result)| result.err()).next(),
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            tracing::warn!(%error, "some preferred leaders are not elected yet; auto.leader.rebalance.enable elects them later");
        }
    }
}

/// Whether a failure may pass: nodes may be restarted while partitions move.
fn may_pass(error: &Error) -> bool {
    error.is_retriable() || error.is_unreachable() || matches!(error, Error::TimedOut { .. })
}

impl Tracked {
    fn update(&mut self, now: Option<&Assignment>) -> Result<(), CliError> {
        self.state = move_state(&self.one, now, self.begun);
        self.begun |= self.state == MoveState::InProgress;
        if self.state != MoveState::Superseded {
            self.superseded = None;
            return Ok(());
        }
        let since = *self.superseded.get_or_insert_with(Instant::now);
        if since.elapsed() < SETTLE {
            return Ok(());
        }
        let to = super::report::ids(&self.one.to);
        Err(CliError::Refused(format!(
            "another client has cancelled or changed the reassignment of {} to {to}; the other reassignments go on",
            self.tp
        )))
    }
}

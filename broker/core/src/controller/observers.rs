//! The observers as the active controller sees them: how far each broker that pulls the metadata log is, and when it last pulled.
//!
//! Times are since any origin that the caller keeps to. Positions of one term are dropped with the next: another node led in between. Must never:
//! read a clock, or grow with what unknown nodes send (the caller admits nodes of the cluster only, and their number has a bound).

use std::collections::BTreeMap;
use std::time::Duration;

use super::identity::MAX_NODES;
use super::voters::MemberKey;

/// An observer that has not pulled for so long is none any more; Kafka's controllers forget observers after the same time.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// One observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observer {
    /// Its identity.
    pub key: MemberKey,
    /// Entries of the metadata log that it has.
    pub entries: u64,
    /// When it last pulled.
    pub pulled: Duration,
    /// When it last had all committed entries, as far as its pulls show.
    pub caught_up: Option<Duration>,
    /// It may not become a voter (`process.roles=broker`), as its last pull says.
    pub broker_only: bool,
    /// How far the log was committed at its last pull.
    committed: u64,
}

/// What a pull says of the observer, and the log that it met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedPull {
    /// The observer.
    pub key: MemberKey,
    /// Entries that it has.
    pub entries: u64,
    /// Entries that are committed at the receiver.
    pub committed: u64,
    /// The observer may not become a voter.
    pub broker_only: bool,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observers {
    term: u64,
    known: BTreeMap<MemberKey, Observer>,
}

impl Observers {
    /// Records a pull in `term` of this controller.
    pub fn record_pull(&mut self, now: Duration, term: u64, pull: ReceivedPull) {
        let ReceivedPull { key, entries, committed, broker_only } = pull;
        if term != self.term {
            *self = Self { term, known: BTreeMap::new() };
        }
        let before = self.known.get(&key);
        if before.is_none() && self.known.len() >= MAX_NODES {
            self.known.retain(|_, observer| is_current(now, observer));
            if self.known.len() >= MAX_NODES {
                return;
            }
        }
        // An observer that has what was committed at its last pull was caught up then.
        let before = self.known.get(&key);
        let earlier =
            before.and_then(|last| if entries >= last.committed { Some(last.pulled) } else { last.caught_up });
        let caught_up = if entries >= committed { Some(now) } else { earlier };
        self.known.insert(key, Observer { key, entries, pulled: now, caught_up, broker_only, committed });
    }

    /// The observers that pulled not long ago, by id; those of `term`.
    pub fn current(&self, now: Duration, term: u64) -> impl Iterator<Item = Observer> {
        let of_term = self.known.values().filter(move |_| term == self.term);
        of_term.copied().filter(move |observer| is_current(now, observer))
    }
}

fn is_current(now: Duration, observer: &Observer) -> bool {
    now.saturating_sub(observer.pulled) < FORGET_AFTER
}

#[cfg(test)]
mod tests {
    use esker_protocol::primitives::Uuid;

    use super::*;

    fn key(node_id: i32) -> MemberKey {
        MemberKey { node_id, directory: Uuid([1; 16]) }
    }

    fn pull(node_id: i32, (entries, committed): (u64, u64)) -> ReceivedPull {
        ReceivedPull { key: key(node_id), entries, committed, broker_only: false }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Position, last pull and last time caught up, in seconds.
    fn row(observers: &Observers, now: u64, term: u64, node_id: i32) -> Option<(u64, u64, Option<u64>)> {
        let observer = observers.current(secs(now), term).find(|observer| observer.key == key(node_id))?;
        Some((observer.entries, observer.pulled.as_secs(), observer.caught_up.map(|at| at.as_secs())))
    }

    #[test]
    fn an_observer_is_caught_up_with_what_was_committed_at_its_last_pull() {
        let mut observers = Observers::default();
        let cases = [
            (1, (5, 9), None, "behind"),
            (2, (9, 12), Some(1), "it has what was committed a pull ago"),
            (3, (10, 14), Some(1), "behind again"),
            (4, (14, 14), Some(4), "all of it"),
            (5, (14, 20), Some(4), "a commit later"),
        ];
        for (now, ends, caught_up, why) in cases {
            observers.record_pull(secs(now), 7, pull(4, ends));
            assert_eq!(row(&observers, now, 7, 4), Some((ends.0, now, caught_up)), "{why}");
        }
    }

    #[test]
    fn an_observer_that_does_not_pull_is_forgotten_and_a_term_begins_anew() {
        let mut observers = Observers::default();
        observers.record_pull(secs(1), 7, pull(4, (3, 3)));
        observers.record_pull(secs(2), 7, pull(5, (3, 3)));
        assert_eq!(row(&observers, 301, 7, 4), None);
        assert!(row(&observers, 301, 7, 5).is_some());
        assert_eq!(row(&observers, 10, 8, 5), None, "this node leads anew");
        observers.record_pull(secs(10), 8, pull(4, (3, 3)));
        assert!(row(&observers, 10, 8, 4).is_some() && row(&observers, 10, 8, 5).is_none());
    }

    #[test]
    fn an_observer_has_the_roles_of_its_last_pull() {
        let mut observers = Observers::default();
        for broker_only in [false, true, false] {
            observers.record_pull(secs(1), 7, ReceivedPull { broker_only, ..pull(4, (3, 3)) });
            let known = observers.current(secs(1), 7).map(|observer| observer.broker_only);
            assert_eq!(known.collect::<Vec<_>>(), [broker_only], "the node was restarted with other roles");
        }
    }

    #[test]
    fn the_number_of_observers_is_bounded() {
        let mut observers = Observers::default();
        (0..=1000).for_each(|node_id| observers.record_pull(secs(1), 7, pull(node_id, (0, 0))));
        assert_eq!(observers.current(secs(1), 7).count(), MAX_NODES);
        observers.record_pull(secs(400), 7, pull(1000, (0, 0)));
        assert_eq!(observers.current(secs(400), 7).count(), 1, "those that were forgotten make room");
    }
}

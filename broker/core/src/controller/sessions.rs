//! Sessions of brokers at the active controller: which brokers are alive, and which are to be fenced.
//!
//! A broker is alive for the session timeout after its last heartbeat. The controller looks at the sessions in ticks. Session time is
//! what the ticks count: a tick that comes late because the controller itself was stalled (paused, overloaded) counts as one interval,
//! however long the stall was. Heartbeats that waited meanwhile are then applied before a session ends, and a controller that is overloaded all
//! the time fences a dead broker late, but does fence it.
//!
//! Times are since any origin that the caller keeps to. Must never: read a clock, or end a session before its timeout, which the leases of
//! brokers rely on ([`super::Lease`]); [`Sessions::end`] is for brokers that are known to be gone, and [`Sessions::end_refused`] for those that
//! refuse connections: a broker that was taken for gone so, and is not, is not taken for gone so again.

use std::collections::BTreeMap;
use std::time::Duration;

/// How sessions are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTimes {
    /// `broker.session.timeout.ms`.
    pub timeout: Duration,
    /// How often the controller looks at the sessions: well below the timeout.
    pub tick: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Session {
    epoch: i64,
    /// When its last heartbeat came.
    heard: Duration,
    /// In session time.
    deadline: Duration,
    /// It has expired, and the broker is about to be fenced: no heartbeat changes that any more.
    expired: bool,
}

/// A broker that was taken for gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused {
    epoch: i64,
    /// Its heartbeats went on after its session was removed.
    lives: bool,
}

/// The sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    times: SessionTimes,
    sessions: BTreeMap<i32, Session>,
    /// Brokers whose sessions were ended because a connection was refused.
    refused: BTreeMap<i32, Refused>,
    last_tick: Duration,
    /// Session time at the last tick.
    clock: Duration,
}

impl Sessions {
    /// No sessions yet.
    pub fn new(times: SessionTimes, now: Duration) -> Self {
        Self { times, sessions: BTreeMap::new(), refused: BTreeMap::new(), last_tick: now, clock: Duration::ZERO }
    }

    /// This node was elected the active controller: each of `brokers` (those that are not fenced, with their epochs) has a fresh session,
    /// because no heartbeat has reached this node yet.
    pub fn begin_leading(&mut self, now: Duration, brokers: impl IntoIterator<Item = (i32, i64)>) {
        *self = Self::new(self.times, now);
        self.track(now, brokers);
    }

    /// Begins a session for each of `brokers` (those that are not fenced, with their epochs) that has none under that epoch.
    pub fn track(&mut self, now: Duration, brokers: impl IntoIterator<Item = (i32, i64)>) {
        for (node_id, epoch) in brokers {
            if self.sessions.get(&node_id).is_none_or(|session| session.epoch < epoch) {
                self.heartbeat(now, node_id, epoch);
            }
        }
    }

    /// A heartbeat of a broker, registered under `epoch`. Returns `false` for one that counts for nothing: of an earlier registration, or of
    /// a session that has expired. Its fencing may be on the way to the metadata log: an answer that renews the lease would let the broker
    /// acknowledge beside the next leader.
    pub fn heartbeat(&mut self, now: Duration, node_id: i32, epoch: i64) -> bool {
        let counts = |session: &Session| session.epoch < epoch || session.epoch == epoch && !session.expired;
        if !self.sessions.get(&node_id).is_none_or(counts) {
            return false;
        }
        let deadline = self.session_time(now).saturating_add(self.times.timeout);
        let session = Session { epoch, heard: now, deadline, expired: false };
        let is_new = self.sessions.insert(node_id, session).is_none();
        if let Some(refused) = self.refused.get_mut(&node_id).filter(|refused| is_new && refused.epoch == epoch) {
            refused.lives = true;
        }
        true
    }

    /// Ends the session of a broker that is known to be gone: another process has its place. A heartbeat that comes before the next tick begins
    /// another session.
    pub fn end(&mut self, node_id: i32, epoch: i64) {
        let clock = self.clock;
        if let Some(session) = self.sessions.get_mut(&node_id).filter(|session| session.epoch == epoch) {
            session.deadline = session.deadline.min(clock);
        }
    }

    /// Ends the session of a broker whose connection broke and that refuses another one: nothing listens there any more. Returns `false` where
    /// that has proved wrong before (it was fenced, and sent heartbeats still), and the broker was not reached since ([`Sessions::note_reached`]):
    /// something between the two refuses, and only the session's timeout says whether the broker lives.
    pub fn end_refused(&mut self, node_id: i32, epoch: i64) -> bool {
        let refused = self.refused.entry(node_id).or_insert(Refused { epoch, lives: false });
        if refused.epoch != epoch {
            *refused = Refused { epoch, lives: false };
        }
        let ends = !refused.lives;
        if ends {
            self.end(node_id, epoch);
        }
        ends
    }

    /// A connection to the broker of this registration is open.
    pub fn note_reached(&mut self, node_id: i32, epoch: i64) {
        if self.refused.get(&node_id).is_some_and(|refused| refused.epoch == epoch) {
            self.refused.remove(&node_id);
        }
    }

    /// Drops the session of a broker that is fenced or unregistered now.
    pub fn remove(&mut self, node_id: i32, epoch: i64) {
        if self.sessions.get(&node_id).is_some_and(|session| session.epoch == epoch) {
            self.sessions.remove(&node_id);
        }
    }

    /// How long ago the last heartbeat of a broker with a session came.
    pub fn silent_for(&self, now: Duration, node_id: i32) -> Option<Duration> {
        self.sessions.get(&node_id).map(|session| now.saturating_sub(session.heard))
    }

    /// Whether a broker has a session that has not ended.
    pub fn is_alive(&self, now: Duration, node_id: i32) -> bool {
        let time = self.session_time(now);
        self.sessions.get(&node_id).is_some_and(|session| session.deadline > time)
    }

    /// The tick: brokers whose sessions have expired, by id, with their epochs. A broker stays among them until [`Sessions::remove`]: it is to be
    /// fenced, whatever it says meanwhile. Heartbeats that have arrived are to be applied before.
    pub fn expired(&mut self, now: Duration) -> Vec<(i32, i64)> {
        self.clock = self.session_time(now);
        self.last_tick = self.last_tick.max(now);
        let clock = self.clock;
        let ended = self.sessions.iter_mut().filter(|(_, session)| session.deadline <= clock);
        ended
            .map(|(node_id, session)| {
                session.expired = true;
                (*node_id, session.epoch)
            })
            .collect()
    }

    /// When the next tick is due: after one interval, or when the next session ends.
    pub fn next_deadline(&self) -> Duration {
        let pending = self.sessions.values().map(|session| session.deadline).filter(|deadline| *deadline > self.clock);
        let next_end = pending.min().map_or(self.times.tick, |deadline| deadline.saturating_sub(self.clock));
        self.last_tick.saturating_add(next_end.min(self.times.tick))
    }

    /// Session time at `now`: a gap longer than two ticks is a stall of this node, and counts as one.
    fn session_time(&self, now: Duration) -> Duration {
        let elapsed = now.saturating_sub(self.last_tick);
        let stalled = elapsed > self.times.tick.saturating_mul(2);
        self.clock.saturating_add(if stalled { self.times.tick } else { elapsed })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::Lease;
    use super::*;

    const TIMES: SessionTimes = SessionTimes { timeout: ms(600), tick: ms(50) };

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Ticks when they are due, up to and at `until`: what expires, and when it did first.
    fn run(sessions: &mut Sessions, until: u64) -> Vec<(u64, i32)> {
        let mut first = Vec::new();
        loop {
            let due = sessions.next_deadline().min(ms(until));
            for (node_id, epoch) in sessions.expired(due) {
                sessions.remove(node_id, epoch);
                first.push((due.as_millis() as u64, node_id));
            }
            if due == ms(until) {
                return first;
            }
        }
    }

    fn elected(at: u64) -> Sessions {
        let mut sessions = Sessions::new(TIMES, ms(0));
        sessions.begin_leading(ms(at), [(1, 11), (2, 12)]);
        sessions
    }

    #[test]
    fn a_session_lasts_for_the_timeout_after_the_last_heartbeat() {
        let mut sessions = elected(1000);
        assert_eq!(run(&mut sessions, 1330), []);
        assert!(sessions.heartbeat(ms(1330), 2, 12));
        assert_eq!(run(&mut sessions, 1590), []);
        assert!(sessions.is_alive(ms(1599), 1) && !sessions.is_alive(ms(1600), 1));
        assert_eq!(run(&mut sessions, 2000), [(1600, 1), (1930, 2)]);
        assert!(!sessions.is_alive(ms(2000), 2) && !sessions.is_alive(ms(2000), 7));
    }

    #[test]
    fn an_elected_controller_gives_each_broker_a_fresh_session() {
        let mut sessions = elected(0);
        run(&mut sessions, 500);
        sessions.begin_leading(ms(90_000), [(1, 11), (3, 13)]);
        assert_eq!(run(&mut sessions, 91_000), [(90_600, 1), (90_600, 3)]);
    }

    #[test]
    fn a_refused_connection_ends_the_session_of_a_living_broker_once() {
        let mut sessions = elected(0);
        assert!(sessions.end_refused(1, 11) && sessions.heartbeat(ms(5), 1, 11), "the last heartbeat was on its way");
        assert!(sessions.end_refused(1, 11));
        assert_eq!(sessions.expired(ms(10)), [(1, 11)]);
        sessions.remove(1, 11);
        // It lives, and is unfenced.
        assert!(sessions.heartbeat(ms(20), 1, 11));
        for at in [30, 60] {
            assert!(!sessions.end_refused(1, 11), "it was wrong before");
            assert_eq!(sessions.expired(ms(at)), []);
        }
        assert_eq!(run(&mut sessions, 1000), [(600, 2), (620, 1)], "its session ends when its heartbeats do");
        // Reached again, or registered anew, it is as any other.
        assert!(sessions.heartbeat(ms(1000), 1, 11));
        sessions.note_reached(1, 10);
        assert!(!sessions.end_refused(1, 11), "another registration was reached");
        sessions.note_reached(1, 11);
        assert!(sessions.end_refused(1, 11));
        assert!(sessions.heartbeat(ms(1010), 1, 12) && sessions.end_refused(1, 12));
        sessions.begin_leading(ms(2000), [(1, 12)]);
        assert!(sessions.end_refused(1, 12), "a new leader finds out by itself");
    }

    #[test]
    fn an_ended_session_expires_at_once_and_until_it_is_removed() {
        let mut sessions = elected(0);
        sessions.end(1, 10);
        assert_eq!(sessions.expired(ms(10)), [], "of an earlier registration");
        sessions.end(1, 11);
        assert_eq!(sessions.expired(ms(10)), [(1, 11)]);
        assert_eq!(sessions.expired(ms(20)), [(1, 11)], "fencing may have failed");
        sessions.remove(1, 10);
        assert_eq!(sessions.expired(ms(30)), [(1, 11)]);
        assert!(!sessions.heartbeat(ms(35), 1, 11), "its fencing is on the way");
        assert_eq!(sessions.expired(ms(40)), [(1, 11)]);
        sessions.remove(1, 11);
        assert_eq!(sessions.expired(ms(50)), []);
        assert!(sessions.heartbeat(ms(55), 1, 11), "fenced, it begins anew");
        sessions.end(1, 11);
        assert!(sessions.heartbeat(ms(60), 1, 11));
        assert_eq!(sessions.expired(ms(65)), [], "it was alive after all");
    }

    #[test]
    fn a_heartbeat_of_an_earlier_registration_counts_for_nothing() {
        let mut sessions = elected(0);
        assert!(sessions.heartbeat(ms(100), 1, 20), "registered again");
        assert!(!sessions.heartbeat(ms(300), 1, 11));
        assert_eq!(run(&mut sessions, 800), [(600, 2), (700, 1)]);
    }

    #[test]
    fn brokers_without_a_session_get_one() {
        let mut sessions = elected(0);
        run(&mut sessions, 100);
        sessions.track(ms(100), [(1, 11), (2, 22), (3, 13)]);
        assert_eq!(run(&mut sessions, 800), [(600, 1), (700, 2), (700, 3)]);
    }

    #[test]
    fn a_stall_counts_as_one_tick() {
        let cases = [
            ("no stall", 100, vec![(600, 1)]),
            ("twice the interval is none", 150, vec![(600, 1)]),
            ("a stall", 151, vec![(701 - 50, 1)]),
            ("ten seconds", 10_050, vec![(10_050 + 500, 1)]),
        ];
        for (why, resumed, expected) in cases {
            let mut sessions = Sessions::new(TIMES, ms(0));
            sessions.heartbeat(ms(0), 1, 11);
            assert_eq!(run(&mut sessions, 50), []);
            assert_eq!(sessions.expired(ms(resumed)), [], "{why}");
            assert_eq!(run(&mut sessions, resumed + 1000), expected, "{why}");
        }
    }

    #[test]
    fn a_controller_that_is_always_late_fences_at_last() {
        let mut sessions = elected(0);
        let ticks = (1..).take_while(|tick| sessions.expired(ms(tick * 1000)).is_empty()).count();
        assert_eq!(ticks, 11, "and the twelfth does");
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let mut sessions = elected(1000);
        assert_eq!(sessions.expired(ms(10)), []);
        sessions.heartbeat(ms(5), 1, 11);
        assert_eq!(run(&mut sessions, 1599), []);
        assert_eq!(run(&mut sessions, 1600), [(1600, 1), (1600, 2)]);
    }

    proptest! {
        /// Whatever the gaps between ticks: a broker that heartbeats within the timeout, less what one tick counts, stays alive.
        #[test]
        fn a_broker_with_heartbeats_is_never_expired(gaps in vec((0..2000u64, 0..500u64), 1..60)) {
            let mut sessions = elected(0);
            let mut now = 0;
            for (gap, ahead) in gaps {
                now += gap;
                // The last heartbeat before the tick; in a long gap it waits for the controller, and the tick comes first.
                if gap <= 550 {
                    sessions.heartbeat(ms(now.saturating_sub(ahead.min(gap))), 1, 11);
                }
                prop_assert!(!sessions.expired(ms(now)).contains(&(1, 11)), "at {now}");
                sessions.heartbeat(ms(now), 1, 11);
            }
        }

        /// Ticks that come when they are due find each session that ends, when it ends.
        #[test]
        fn a_silent_broker_expires_on_time(beats in vec(1..590u64, 0..20)) {
            let mut sessions = Sessions::new(TIMES, ms(0));
            sessions.heartbeat(ms(0), 1, 11);
            let mut now = 0;
            for gap in beats {
                now += gap;
                prop_assert_eq!(run(&mut sessions, now), []);
                sessions.heartbeat(ms(now), 1, 11);
            }
            prop_assert_eq!(run(&mut sessions, now + 599), []);
            prop_assert_eq!(run(&mut sessions, now + 600), [(now + 600, 1)]);
        }

        /// The lease of a broker ends before its session, whatever is delayed, lost or stalled.
        #[test]
        fn no_lease_outlives_its_session(
            beats in vec((1..300u64, 0..400u64, 0..400u64, any::<bool>()), 1..40),
            ticks in vec(1..400u64, 1..80),
        ) {
            // Of each heartbeat: when it is sent, when it arrives, and when its answer does.
            let mut sent = 0;
            let mut events = Vec::new();
            for (gap, way, back, answered) in beats {
                sent += gap;
                events.push((sent + way, 1, sent));
                if answered {
                    events.push((sent + way + back, 0, sent));
                }
            }
            let mut tick = 0;
            for gap in ticks {
                tick += gap;
                events.push((tick, 2, 0));
            }
            events.sort_unstable();
            let mut sessions = Sessions::new(TIMES, ms(0));
            let mut lease = Lease::of_session(TIMES.timeout);
            let mut arrived = Vec::new();
            for (at, kind, sent) in events {
                match kind {
                    0 if arrived.contains(&sent) => lease.renewed(ms(sent)),
                    0 => {}
                    1 if sessions.heartbeat(ms(at), 1, 11) => arrived.push(sent),
                    1 => {}
                    _ => {
                        let expired = !sessions.expired(ms(at)).is_empty();
                        prop_assert!(!expired || !lease.holds(ms(at)), "at {}", at);
                    }
                }
            }
        }
    }
}

//! Whether what clients saw can be true: a history of sends, transactions and polls, held against what a log promises. The questions
//! are those that Jepsen's Kafka workload asks; the answers are our own.
//!
//! Pure: it knows nothing of brokers, so that histories that must be found guilty can be written down. Every value is sent once.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What became of a send, or of a transaction, as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged.
    Done,
    /// It must not be seen: refused, or never asked to be committed.
    Failed,
    /// Nobody knows: the answer did not come.
    Unknown,
}

/// One record that a producer sent. Sends of a producer stand in the order in which it made them.
#[derive(Debug, Clone)]
pub struct Send {
    /// Who.
    pub producer: u32,
    /// Where to.
    pub partition: i32,
    /// What; nobody sends it twice.
    pub value: u64,
    /// In which transaction, if in one.
    pub transaction: Option<u64>,
    /// What became of the request.
    pub fate: Fate,
    /// The offset that was acknowledged.
    pub offset: Option<i64>,
}

/// Records that a consumer was given by one poll of one partition.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Which consumer, and how often it has begun anew: it may go back only then.
    pub consumer: (u32, u32),
    /// Which partition.
    pub partition: i32,
    /// Offsets and values.
    pub records: Vec<(i64, u64)>,
    /// In the course of which transaction, if in one: what it sends then may rest on what it read.
    pub transaction: Option<u64>,
}

/// All that was seen.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Sends.
    pub sends: Vec<Send>,
    /// Transactions.
    pub transactions: BTreeMap<u64, Fate>,
    /// Polls of consumers that read what is committed, in order.
    pub polls: Vec<Poll>,
    /// What a last reader finds when all is over, by partition.
    pub last: BTreeMap<i32, Vec<(i64, u64)>>,
}

/// What cannot be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guilt {
    /// A value that was acknowledged (and its transaction committed) is not there.
    LostWrite(u64),
    /// A value is at more than one place.
    Duplicate(u64),
    /// A value was read of a transaction that did not commit, or of a send that was refused (G1a).
    AbortedRead(u64),
    /// A value that nobody sent.
    OutOfThinAir(u64),
    /// An acknowledged value is not where it was said to be.
    WrongPlace(u64),
    /// An offset held two values.
    TwoValues(i32, i64),
    /// A consumer was not given a record between two that it was given.
    PollSkip(u64),
    /// A consumer was given an offset again, or an earlier one.
    NonMonotonicPoll(u64),
    /// A producer's later value stands before an earlier one.
    NonMonotonicSend(u64),
    /// Part of a transaction is there, and part is not.
    TornTransaction(u64),
    /// A transaction read what rests on its own writes: of two, each would have ended before the other (G1c).
    CircularFlow(u64),
}

impl History {
    /// Everything that cannot be, sorted; nothing for an honest log.
    pub fn guilt(&self) -> Vec<Guilt> {
        let mut guilt = BTreeSet::new();
        self.values(&mut guilt);
        self.sends_in_order(&mut guilt);
        self.transactions_are_whole(&mut guilt);
        self.polls_in_order(&mut guilt);
        self.flows_one_way(&mut guilt);
        guilt.into_iter().collect()
    }

    fn is_committed(&self, send: &Send) -> Option<bool> {
        let transaction =
            send.transaction.map_or(Fate::Done, |id| self.transactions.get(&id).copied().unwrap_or(Fate::Unknown));
        match (send.fate, transaction) {
            (Fate::Failed, _) | (_, Fate::Failed) => Some(false),
            (Fate::Done, Fate::Done) => Some(true),
            _ => None,
        }
    }

    fn values(&self, guilt: &mut BTreeSet<Guilt>) {
        let mut places: BTreeMap<u64, BTreeSet<(i32, i64)>> = BTreeMap::new();
        let mut held: BTreeMap<(i32, i64), u64> = BTreeMap::new();
        let polled =
            self.polls.iter().flat_map(|p| p.records.iter().map(move |(offset, value)| (p.partition, *offset, *value)));
        let last = self.last.iter().flat_map(|(p, list)| list.iter().map(move |(offset, value)| (*p, *offset, *value)));
        let mut seen = HashSet::new();
        // Most is read many times over.
        for (partition, offset, value) in polled.chain(last).filter(|place| seen.insert(*place)) {
            places.entry(value).or_default().insert((partition, offset));
            if *held.entry((partition, offset)).or_insert(value) != value {
                guilt.insert(Guilt::TwoValues(partition, offset));
            }
        }
        // One that comes twice in the last read at one offset is twice as well.
        let mut there = BTreeSet::new();
        for value in self.last.values().flatten().map(|(_, value)| *value) {
            if !there.insert(value) {
                guilt.insert(Guilt::Duplicate(value));
            }
        }
        let sends: BTreeMap<u64, &Send> = self.sends.iter().map(|send| (send.value, send)).collect();
        for (value, at) in &places {
            let Some(send) = sends.get(value) else {
                guilt.insert(Guilt::OutOfThinAir(*value));
                continue;
            };
            if at.len() > 1 {
                guilt.insert(Guilt::Duplicate(*value));
            }
            if self.is_committed(send) == Some(false) {
                guilt.insert(Guilt::AbortedRead(*value));
            }
            if at.iter().any(|(p, offset)| *p != send.partition || send.offset.is_some_and(|said| said != *offset)) {
                guilt.insert(Guilt::WrongPlace(*value));
            }
        }
        for send in self.sends.iter().filter(|send| self.is_committed(send) == Some(true)) {
            if !there.contains(&send.value) {
                guilt.insert(Guilt::LostWrite(send.value));
            }
        }
    }

    fn sends_in_order(&self, guilt: &mut BTreeSet<Guilt>) {
        let at: BTreeMap<u64, i64> = self.last.values().flatten().map(|(offset, value)| (*value, *offset)).collect();
        let mut highest: BTreeMap<(u32, i32), i64> = BTreeMap::new();
        for send in &self.sends {
            let Some(offset) = send.offset.or_else(|| at.get(&send.value).copied()) else { continue };
            let before = highest.insert((send.producer, send.partition), offset);
            if before.is_some_and(|before| before >= offset) {
                guilt.insert(Guilt::NonMonotonicSend(send.value));
            }
        }
    }

    fn transactions_are_whole(&self, guilt: &mut BTreeSet<Guilt>) {
        let there: BTreeSet<u64> = self.last.values().flatten().map(|(_, value)| *value).collect();
        let mut parts: BTreeMap<u64, BTreeSet<bool>> = BTreeMap::new();
        for send in self.sends.iter().filter(|send| send.fate == Fate::Done) {
            if let Some(id) = send.transaction {
                parts.entry(id).or_default().insert(there.contains(&send.value));
            }
        }
        guilt.extend(parts.into_iter().filter(|(_, seen)| seen.len() > 1).map(|(id, _)| Guilt::TornTransaction(id)));
    }

    /// Only reads of writes count: writes of two transactions may stand in any order, in Kafka as here.
    fn flows_one_way(&self, guilt: &mut BTreeSet<Guilt>) {
        let writer: BTreeMap<u64, u64> =
            self.sends.iter().filter_map(|send| Some((send.value, send.transaction?))).collect();
        let mut flows: BTreeSet<(u64, u64)> = BTreeSet::new();
        for poll in &self.polls {
            let Some(reader) = poll.transaction else { continue };
            let writers = poll.records.iter().filter_map(|(_, value)| writer.get(value));
            flows.extend(writers.map(|writer| (*writer, reader)));
        }
        // What nothing flows into, or out of, is in no circle; what is left when all of these are gone is.
        let turned = |flows: BTreeSet<(u64, u64)>| flows.into_iter().map(|(a, b)| (b, a)).collect();
        let flows = without_sources(turned(without_sources(flows)));
        guilt.extend(flows.into_iter().map(|(reader, _)| Guilt::CircularFlow(reader)));
    }

    fn polls_in_order(&self, guilt: &mut BTreeSet<Guilt>) {
        let mut positions: BTreeMap<((u32, u32), i32), i64> = BTreeMap::new();
        let nothing = Vec::new();
        for poll in &self.polls {
            let last = self.last.get(&poll.partition).unwrap_or(&nothing);
            let behind = |offset: i64| last.partition_point(|(at, _)| *at <= offset);
            let key = (poll.consumer, poll.partition);
            let mut position = positions.get(&key).copied();
            let mut next = position.map_or(0, behind);
            for (offset, value) in &poll.records {
                match position.replace(*offset) {
                    Some(before) if *offset <= before => _ = guilt.insert(Guilt::NonMonotonicPoll(*value)),
                    Some(_) => {
                        let skipped = last.iter().skip(next).take_while(|(at, _)| at < offset);
                        guilt.extend(skipped.map(|(_, value)| Guilt::PollSkip(*value)));
                    }
                    None => {}
                }
                next = if last.get(next).is_some_and(|(at, _)| at == offset) { next + 1 } else { behind(*offset) };
            }
            positions.extend(position.map(|position| (key, position)));
        }
    }
}

/// The edges that are left when nodes without an incoming one are taken away until there are none.
fn without_sources(mut edges: BTreeSet<(u64, u64)>) -> BTreeSet<(u64, u64)> {
    let mut incoming: BTreeMap<u64, usize> = BTreeMap::new();
    for (from, to) in &edges {
        incoming.entry(*from).or_default();
        *incoming.entry(*to).or_default() += 1;
    }
    let mut sources: Vec<u64> = incoming.iter().filter(|(_, count)| **count == 0).map(|(node, _)| *node).collect();
    while let Some(source) = sources.pop() {
        let out: Vec<(u64, u64)> = edges.range((source, 0)..=(source, u64::MAX)).copied().collect();
        for edge in out {
            edges.remove(&edge);
            let count = incoming.entry(edge.1).or_default();
            *count -= 1;
            if *count == 0 {
                sources.push(edge.1);
            }
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(producer: u32, value: u64, transaction: Option<u64>, fate: Fate, offset: Option<i64>) -> Send {
        Send { producer, partition: 0, value, transaction, fate, offset }
    }

    fn poll(consumer: (u32, u32), records: &[(i64, u64)]) -> Poll {
        Poll { consumer, partition: 0, records: records.to_vec(), transaction: None }
    }

    /// Two plain records, a transaction of two that committed, one that did not, and one that nobody knows of.
    fn honest() -> History {
        History {
            sends: vec![
                send(1, 10, None, Fate::Done, Some(0)),
                send(1, 11, None, Fate::Unknown, None),
                send(2, 20, Some(1), Fate::Done, Some(2)),
                send(2, 21, Some(1), Fate::Done, Some(3)),
                send(2, 22, Some(2), Fate::Done, Some(5)),
                send(2, 23, Some(3), Fate::Done, Some(7)),
                send(2, 24, Some(3), Fate::Done, Some(8)),
            ],
            transactions: [(1, Fate::Done), (2, Fate::Failed), (3, Fate::Unknown)].into(),
            polls: vec![
                poll((1, 0), &[(0, 10), (1, 11)]),
                poll((1, 0), &[(2, 20), (3, 21)]),
                poll((1, 1), &[(0, 10)]),
                poll((2, 0), &[(3, 21)]),
                // The third transaction read the first one.
                Poll { transaction: Some(3), ..poll((4, 0), &[(2, 20)]) },
            ],
            last: [(0, vec![(0, 10), (1, 11), (2, 20), (3, 21), (7, 23), (8, 24)])].into(),
        }
    }

    #[test]
    fn an_honest_log_is_not_guilty() {
        assert_eq!(honest().guilt(), []);
        let mut aborted = honest();
        aborted.last.get_mut(&0).unwrap().truncate(4);
        assert_eq!(aborted.guilt(), [], "nobody knows whether it was committed");
        let mut lost = honest();
        lost.last.get_mut(&0).unwrap().remove(1);
        lost.polls.clear();
        assert_eq!(lost.guilt(), [], "it was not acknowledged");
    }

    #[test]
    fn each_crime_is_found() {
        type Crime = fn(&mut History);
        let cases: [(&str, Crime, &[Guilt]); 14] = [
            (
                "an acknowledged write is lost",
                |h| {
                    h.last.get_mut(&0).unwrap().remove(0);
                    h.polls.clear();
                },
                &[Guilt::LostWrite(10)],
            ),
            (
                "a committed transaction is lost",
                |h| {
                    h.last.get_mut(&0).unwrap().drain(2..4);
                    h.polls.clear();
                },
                &[Guilt::LostWrite(20), Guilt::LostWrite(21)],
            ),
            ("a retry is there twice", |h| h.last.get_mut(&0).unwrap().push((9, 11)), &[Guilt::Duplicate(11)]),
            (
                "an acknowledged one is there twice",
                |h| h.last.get_mut(&0).unwrap().push((9, 10)),
                &[Guilt::Duplicate(10), Guilt::WrongPlace(10)],
            ),
            ("an aborted value is read", |h| h.polls.push(poll((3, 0), &[(5, 22)])), &[Guilt::AbortedRead(22)]),
            ("a value comes from nowhere", |h| h.polls.push(poll((3, 0), &[(6, 99)])), &[Guilt::OutOfThinAir(99)]),
            (
                "an offset changes its value",
                |h| h.polls.push(poll((3, 0), &[(1, 10)])),
                &[Guilt::Duplicate(10), Guilt::WrongPlace(10), Guilt::TwoValues(0, 1)],
            ),
            ("a poll skips", |h| h.polls.push(poll((1, 0), &[(8, 24)])), &[Guilt::PollSkip(23)]),
            ("a poll skips within", |h| h.polls.push(poll((3, 0), &[(1, 11), (3, 21)])), &[Guilt::PollSkip(20)]),
            ("a consumer goes back", |h| h.polls.push(poll((1, 0), &[(2, 20)])), &[Guilt::NonMonotonicPoll(20)]),
            ("a producer's order is turned", |h| h.sends.swap(0, 1), &[Guilt::NonMonotonicSend(10)]),
            (
                "two transactions read each other",
                |h| h.polls.push(Poll { transaction: Some(1), ..poll((5, 0), &[(7, 23)]) }),
                &[Guilt::CircularFlow(1), Guilt::CircularFlow(3)],
            ),
            (
                "a transaction reads itself",
                |h| h.polls.push(Poll { transaction: Some(1), ..poll((5, 0), &[(3, 21)]) }),
                &[Guilt::CircularFlow(1)],
            ),
            ("half of a transaction is there", |h| _ = h.last.get_mut(&0).unwrap().pop(), &[Guilt::TornTransaction(3)]),
        ];
        for (what, crime, guilt) in cases {
            let mut history = honest();
            crime(&mut history);
            assert_eq!(history.guilt(), guilt, "{what}");
        }
    }
}

//! How far groups are behind in time: how old the first record is that a group has not consumed.
//!
//! The time of a record does not change, so it is looked up once for each committed offset that is met; a scrape looks up so many at
//! most, and the next scrape continues where it ended. A row that has to wait shows the age by the offset that was looked up last: too
//! old for a while, never too young.
//!
//! Must never: run on an async worker, or read more of what is not in memory than a batch's header.

use std::collections::HashMap;

use esker_protocol::primitives::{Str, Uuid};
use esker_protocol::records::{Batch, BatchHeader, TimestampType};
use esker_storage::Log;
use parking_lot::Mutex;

use crate::coordinator::GroupLag;
use crate::replica::{ReplicaManager, TopicRef};

/// Look-ups of one scrape.
const MOST_LOOK_UPS: usize = 1000;
/// Batches that one look-up may step over (markers of transactions, what compaction emptied).
const MOST_STEPS: usize = 8;
/// A batch up to this size is opened for the record's own time; of a larger one the header must do.
const MOST_BATCH: usize = 1 << 20;
/// What it may unpack to.
const MOST_UNPACKED: usize = 8 << 20;

/// Whose row it is.
type Row = (Str, Str, i32);

/// What was found for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// Which topic it was: another one may have its name.
    topic: Uuid,
    /// The requested offset.
    offset: i64,
    found: Found,
}

/// The result of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The time of the record there, ms.
    Time(i64),
    /// No record is left below the high watermark: markers of transactions alone, or what compaction emptied.
    Nothing {
        /// The high watermark that this holds for.
        end: i64,
    },
    /// It could not be looked up.
    Unknown,
}

/// What is known from earlier scrapes.
#[derive(Debug, Default)]
pub struct Ages(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    known: HashMap<Row, Known>,
    /// Where the next scrape begins to look up.
    turn: usize,
}

/// A row with something to consume.
struct Behind<'a> {
    at: usize,
    row: Row,
    topic: Uuid,
    offset: i64,
    /// The high watermark.
    end: i64,
    log: &'a dyn Fn(i64) -> Found,
}

impl Ages {
    /// For each row, in ms, the age of the first record that the group has not consumed: 0 if there is none, `None` if it is unknown.
    pub fn of(&self, rows: &[GroupLag], replicas: &ReplicaManager, now: i64) -> Vec<Option<i64>> {
        let mut ages: Vec<Option<i64>> = rows.iter().map(|row| row.lag.filter(|lag| *lag == 0)).collect();
        let behind = rows.iter().enumerate().filter(|(_, row)| row.lag.is_some_and(|lag| lag > 0));
        let found: Vec<_> = behind
            .filter_map(|(at, row)| {
                let partition = replicas.partition(&TopicRef::by_name(&row.topic), row.partition).ok()?;
                Some((at, row, partition))
            })
            .collect();
        let looks: Vec<_> = found.iter().map(|(_, _, partition)| |offset| time_of(&partition.log(), offset)).collect();
        let rows_behind = found.iter().zip(&looks).map(|((at, row, partition), look)| Behind {
            at: *at,
            row: (row.group.clone(), row.topic.clone(), row.partition),
            topic: partition.log().topic_id(),
            // What was deleted is not waited for.
            offset: row.committed.max(partition.log().log_start_offset()),
            end: partition.log().high_watermark(),
            log: look,
        });
        for (at, found) in self.0.lock().look_up(rows_behind.collect(), MOST_LOOK_UPS) {
            if let Some(place) = ages.get_mut(at) {
                *place = match found {
                    Found::Time(timestamp) => Some(now.saturating_sub(timestamp).max(0)),
                    Found::Nothing { .. } => Some(0),
                    Found::Unknown => None,
                };
            }
        }
        ages
    }
}

impl Table {
    /// The time of each row's record. Rows that are not requested any more are forgotten.
    fn look_up(&mut self, rows: Vec<Behind<'_>>, most: usize) -> Vec<(usize, Found)> {
        let is_known = |known: &HashMap<Row, Known>, row: &Behind<'_>| {
            known.get(&row.row).is_some_and(|known| {
                let holds = !matches!(known.found, Found::Nothing { end } if end != row.end);
                holds && known.topic == row.topic && known.offset == row.offset
            })
        };
        let missing: Vec<&Behind<'_>> = rows.iter().filter(|row| !is_known(&self.known, row)).collect();
        let from = if missing.len() > most { self.turn % missing.len() } else { 0 };
        for row in missing.iter().cycle().skip(from).take(most.min(missing.len())) {
            let known = Known { topic: row.topic, offset: row.offset, found: (row.log)(row.offset) };
            self.known.insert(row.row.clone(), known);
        }
        self.turn = from.wrapping_add(most);
        let mut kept = HashMap::with_capacity(rows.len());
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let known = self.known.remove(&row.row).filter(|known| known.topic == row.topic);
            found.push((row.at, known.map_or(Found::Unknown, |known| known.found)));
            if let Some(known) = known {
                kept.insert(row.row, known);
            }
        }
        self.known = kept;
        found
    }
}

/// The time of the first record at or above an offset that is committed.
fn time_of(log: &Log, offset: i64) -> Found {
    // Before the look: what comes meanwhile is looked up again.
    let end = log.high_watermark();
    match first_time(log, offset, end) {
        Some(Some(timestamp)) => Found::Time(timestamp),
        Some(None) => Found::Nothing { end },
        None => Found::Unknown,
    }
}

/// As [`time_of`]: `Some(None)` if there is no record, `None` if it is unknown.
fn first_time(log: &Log, mut offset: i64, end: i64) -> Option<Option<i64>> {
    let time = |time: i64| (time >= 0).then_some(Some(time));
    for _ in 0..MOST_STEPS {
        if offset >= end {
            return Some(None);
        }
        // In memory it is opened; else its header alone is touched.
        let (read, resident) = match log.read_resident(offset, 1, end, true).ok()? {
            Some(read) => (read, true),
            None => (log.read(offset, 1, end, true).ok()?, false),
        };
        if read.records.is_empty() {
            return Some(None);
        }
        let header = BatchHeader::parse(&read.records).ok()?;
        let attributes = header.attributes;
        if !attributes.is_control() {
            if attributes.timestamp_type() == TimestampType::LogAppend {
                return time(header.max_timestamp);
            }
            if !resident || header.magic < 2 || read.records.len() > MOST_BATCH {
                // With a delete horizon the base is no record's time.
                let base = if attributes.has_delete_horizon() { header.max_timestamp } else { header.base_timestamp };
                return time(base);
            }
            let (batch, _) = Batch::parse(read.records.clone()).ok()?;
            let records = batch.records(MOST_UNPACKED).ok()?;
            if let Some(record) = records.flatten().find(|record| record.offset >= offset) {
                return time(record.timestamp);
            }
        }
        offset = read.next_offset.max(offset.saturating_add(1));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_scrape_looks_up_so_many_and_the_next_goes_on() {
        let mut table = Table::default();
        let look_ups = Cell::new(0);
        let look = |offset: i64| {
            look_ups.set(look_ups.get() + 1);
            Found::Time(offset * 10)
        };
        let rows = |offset: i64| {
            let row = |at: usize| Behind {
                at,
                row: ("g".into(), "t".into(), i32::try_from(at).unwrap()),
                topic: Uuid([1; 16]),
                offset: offset + i64::try_from(at).unwrap(),
                end: 1000,
                log: &look,
            };
            (0..5).map(row).collect::<Vec<_>>()
        };
        let time = |found| match found {
            Found::Time(time) => Some(time),
            Found::Nothing { .. } | Found::Unknown => None,
        };
        let known = |found: Vec<(usize, Found)>| found.into_iter().map(|(_, found)| time(found)).collect::<Vec<_>>();
        assert_eq!(known(table.look_up(rows(0), 3)), [Some(0), Some(10), Some(20), None, None]);
        assert_eq!(known(table.look_up(rows(0), 3)), [Some(0), Some(10), Some(20), Some(30), Some(40)]);
        assert_eq!(known(table.look_up(rows(0), 3)).len(), 5);
        assert_eq!(look_ups.get(), 5, "what is known is not looked up again");
        // All have moved: some show the newer time, the rest is too old, and has its turn.
        for _ in 0..2 {
            table.look_up(rows(100), 3);
        }
        assert_eq!(known(table.look_up(rows(100), 3)), (100..105).map(|o| Some(o * 10)).collect::<Vec<_>>());
        assert_eq!(look_ups.get(), 10);
        assert!(table.look_up(Vec::new(), 3).is_empty());
        assert!(table.known.is_empty(), "groups that are gone leave nothing");
    }

    #[test]
    fn another_topic_of_the_same_name_is_another() {
        let mut table = Table::default();
        for (id, time) in [(1, 5), (2, 7)] {
            let look = |_| Found::Time(time);
            let row = ("g".into(), "t".into(), 0);
            let row = Behind { at: 0, row, topic: Uuid([id; 16]), offset: 3, end: 9, log: &look };
            assert_eq!(table.look_up(vec![row], 1), [(0, Found::Time(time))]);
        }
    }

    #[test]
    fn where_no_record_is_left_one_may_come() {
        let mut table = Table::default();
        for (end, found) in [(5, Found::Nothing { end: 5 }), (5, Found::Time(7)), (6, Found::Time(7))] {
            let look = |_| found;
            let row = ("g".into(), "t".into(), 0);
            let row = Behind { at: 0, row, topic: Uuid([1; 16]), offset: 3, end, log: &look };
            let expected = if end == 5 { Found::Nothing { end: 5 } } else { found };
            assert_eq!(table.look_up(vec![row], 1), [(0, expected)], "{end}");
        }
    }
}

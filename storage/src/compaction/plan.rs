//! Which part of a log is compacted, and when: Kafka's rules as pure functions over facts.
//!
//! Separate from the cleaning itself, so that a table of cases tests every bound. It must never read a file or a clock, and never
//! include the active segment or an offset at or past the last stable one.

use std::ops::Range;

use crate::LogConfig;

/// The facts of a segment that the plan needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub base_offset: i64,
    /// Where the next one begins.
    pub next_offset: i64,
    pub size: u64,
    /// Largest timestamp in ms; when it was written if no record has a time.
    pub newest_ms: i64,
    /// Timestamp of its first batch in ms, not positive if unknown.
    pub first_ms: i64,
}

/// The facts of a log that the plan needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogFacts {
    pub start: i64,
    pub end: i64,
    /// The last stable offset, which is never past the high watermark.
    pub last_stable: i64,
    /// Where the last cleaning ended; `None` if there was none.
    pub checkpoint: Option<i64>,
    /// In order, the active one last.
    pub segments: Vec<SegmentFacts>,
}

/// The part of a log that can be cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Offsets below were cleaned before.
    pub first_dirty: i64,
    /// Nothing at or above may be cleaned.
    pub first_uncleanable: i64,
    /// Bytes of segments below `first_dirty`.
    pub clean_bytes: u64,
    /// Bytes of segments between the two.
    pub dirty_bytes: u64,
    /// How far the oldest dirty record is past `max.compaction.lag.ms`; 0 if it is not.
    pub overdue_ms: i64,
}

impl Plan {
    /// Dirty part of what a cleaning would read, in millionths.
    pub(crate) fn dirty_ppm(&self) -> u32 {
        let total = u128::from(self.clean_bytes) + u128::from(self.dirty_bytes);
        let ppm = (u128::from(self.dirty_bytes) * 1_000_000).checked_div(total).unwrap_or_default();
        u32::try_from(ppm).unwrap_or(u32::MAX)
    }

    /// Whether a cleaning is due: dirty enough, or overdue.
    pub(crate) fn is_due(&self, config: &LogConfig) -> bool {
        self.dirty_bytes > 0 && (self.overdue_ms > 0 || self.dirty_ppm() > config.min_cleanable_dirty_ppm)
    }
}

/// Computes the plan of one log at `now_ms`.
pub(crate) fn plan(log: &LogFacts, config: &LogConfig, now_ms: i64) -> Plan {
    // A checkpoint outside of the log is of another history: all of it counts as dirty.
    let first_dirty = log.checkpoint.filter(|at| (log.start..=log.end).contains(at)).unwrap_or(log.start);
    let active = log.segments.last().map_or(log.end, |segment| segment.base_offset);
    let closed = log.segments.get(..log.segments.len().saturating_sub(1)).unwrap_or_default();
    let dirty = || closed.iter().filter(|segment| segment.next_offset > first_dirty);
    let too_young = |segment: &&SegmentFacts| {
        config.min_compaction_lag_ms > 0 && segment.newest_ms > now_ms.saturating_sub(config.min_compaction_lag_ms)
    };
    let young = dirty().find(too_young).map_or(i64::MAX, |segment| segment.base_offset);
    // Whole segments only: a segment with uncleaned records in it would be dirty again at once.
    let unstable = closed.iter().find(|segment| segment.next_offset > log.last_stable);
    let unstable = unstable.map_or(i64::MAX, |segment| segment.base_offset);
    let bound = active.min(young).min(unstable);
    let clean_bytes = closed.iter().filter(|segment| segment.next_offset <= first_dirty).map(|s| s.size).sum();
    let cleanable = |segment: &&SegmentFacts| segment.base_offset < bound;
    let dirty_bytes = dirty().filter(cleanable).map(|segment| segment.size).sum();
    let oldest = dirty().filter(cleanable).map(|segment| segment.first_ms).filter(|time| *time > 0).min();
    let clean_until = now_ms.saturating_sub(config.max_compaction_lag_ms);
    let overdue_ms = oldest.map_or(0, |time| clean_until.saturating_sub(time).max(0));
    Plan { first_dirty, first_uncleanable: bound.max(first_dirty), clean_bytes, dirty_bytes, overdue_ms }
}

/// Neighbours that become one segment: as many as fit into `max_size` bytes with an index of at most `max_index` bytes (in
/// the worst case: theirs together, by `index_bytes`) and offsets that an index entry can hold.
pub(crate) fn groups(
    segments: &[SegmentFacts],
    index_bytes: impl Fn(usize) -> u64,
    max_size: u64,
    max_index: u64,
) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut size, mut index, mut base) = (0u64, 0u64, 0i64);
    for (at, segment) in segments.iter().enumerate() {
        let its_index = index_bytes(at);
        let span = segment.next_offset.saturating_sub(1).saturating_sub(base);
        let fits = size.saturating_add(segment.size) <= max_size
            && index.saturating_add(its_index) <= max_index
            && span <= i64::from(i32::MAX);
        match groups.last_mut().filter(|_| fits) {
            Some(group) => {
                group.end = at + 1;
                size = size.saturating_add(segment.size);
                index = index.saturating_add(its_index);
            }
            None => {
                groups.push(at..at + 1);
                (size, index, base) = (segment.size, its_index, segment.base_offset);
            }
        }
    }
    groups
}

#[cfg(test)]
#[allow(clippy::type_complexity, clippy::single_range_in_vec_init)] // tables
mod tests {
    use super::*;

    /// Five segments of ten offsets, 100 bytes and ten ms each; the last is active.
    fn log() -> LogFacts {
        let segment = |i: i64| SegmentFacts {
            base_offset: i * 10,
            next_offset: i * 10 + 10,
            size: 100,
            newest_ms: 1009 + i * 10,
            first_ms: 1000 + i * 10,
        };
        LogFacts { start: 0, end: 50, last_stable: 50, checkpoint: None, segments: (0..5).map(segment).collect() }
    }

    #[test]
    fn bounds() {
        type Change = fn(&mut LogFacts, &mut LogConfig);
        // What is special; first dirty, first uncleanable, clean bytes, dirty bytes, overdue.
        let cases: [(&str, Change, (i64, i64, u64, u64, i64)); 13] = [
            ("never the active segment", |_, _| {}, (0, 40, 0, 400, 0)),
            ("from the checkpoint on", |l, _| l.checkpoint = Some(20), (20, 40, 200, 200, 0)),
            ("a checkpoint inside a segment", |l, _| l.checkpoint = Some(25), (25, 40, 200, 200, 0)),
            ("all clean", |l, _| l.checkpoint = Some(40), (40, 40, 400, 0, 0)),
            ("a checkpoint past the end is not trusted", |l, _| l.checkpoint = Some(51), (0, 40, 0, 400, 0)),
            ("nor one below the start", |l, _| (l.start, l.checkpoint) = (10, Some(5)), (10, 40, 100, 300, 0)),
            ("not past the last stable offset", |l, _| l.last_stable = 20, (0, 20, 0, 200, 0)),
            ("stable inside a segment", |l, _| l.last_stable = 25, (0, 20, 0, 200, 0)),
            ("cleaned up to there", |l, _| (l.last_stable, l.checkpoint) = (25, Some(25)), (25, 25, 200, 0, 0)),
            ("too young", |_, c| c.min_compaction_lag_ms = 1975, (0, 20, 0, 200, 0)),
            ("all too young", |_, c| c.min_compaction_lag_ms = 5000, (0, 0, 0, 0, 0)),
            ("overdue", |_, c| c.max_compaction_lag_ms = 1500, (0, 40, 0, 400, 500)),
            ("an empty log", |l, _| l.segments.truncate(1), (0, 0, 0, 0, 0)),
        ];
        for (name, change, expected) in cases {
            let (mut log, mut config) = (log(), LogConfig { min_compaction_lag_ms: 0, ..LogConfig::default() });
            change(&mut log, &mut config);
            let p = plan(&log, &config, 3000);
            let found = (p.first_dirty, p.first_uncleanable, p.clean_bytes, p.dirty_bytes, p.overdue_ms);
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn due() {
        let config = LogConfig { min_cleanable_dirty_ppm: 500_000, ..LogConfig::default() };
        // Clean and dirty bytes, overdue: due?
        for (clean, dirty, overdue, due) in [
            (0, 0, 0, false),
            (0, 0, 9, false),
            (0, 1, 0, true),
            (10, 10, 0, false),
            (10, 11, 0, true),
            (10, 1, 1, true),
        ] {
            let plan = Plan {
                first_dirty: 0,
                first_uncleanable: 9,
                clean_bytes: clean,
                dirty_bytes: dirty,
                overdue_ms: overdue,
            };
            assert_eq!(plan.is_due(&config), due, "{plan:?}");
        }
    }

    #[test]
    fn neighbours_share_a_segment() {
        let sizes = |sizes: &[(i64, u64)]| -> Vec<SegmentFacts> {
            let each = |i: usize| SegmentFacts {
                base_offset: sizes[i].0,
                next_offset: sizes.get(i + 1).map_or(sizes[i].0 + 10, |next| next.0),
                size: sizes[i].1,
                ..SegmentFacts::default()
            };
            (0..sizes.len()).map(each).collect()
        };
        let far = i64::from(i32::MAX);
        let cases: [(&[(i64, u64)], u64, Vec<Range<usize>>); 6] = [
            (&[], 1000, vec![]),
            (&[(0, 60), (10, 40), (20, 1)], 1000, vec![0..2, 2..3]),
            (&[(0, 150), (10, 40), (20, 60)], 1000, vec![0..1, 1..3]),
            (&[(0, 1), (10, 1), (20, 1)], 16, vec![0..2, 2..3]),
            (&[(0, 1), (10, 1), (far - 8, 1)], 1000, vec![0..2, 2..3]),
            (&[(0, 1), (10, 1), (far - 9, 1)], 1000, vec![0..3]),
        ];
        for (segments, max_index, expected) in cases {
            assert_eq!(groups(&sizes(segments), |_| 8, 100, max_index), expected, "{segments:?}");
        }
    }
}

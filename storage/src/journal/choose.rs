//! Which way a round of logs is synced: by the journal, or by a sync of each segment.
//!
//! The journal costs one sync however many logs there are, and writes all bytes twice: now, and later with the segments. A sync of the
//! segments costs one for each, several at once, and writes them once. Both costs are of this disk, measured as rounds go by:
//!
//! - journal: `sync + bytes / bandwidth`, and half as much again for the bytes that the segments still have to write;
//! - segments: `sync * logs + bytes / bandwidth`.
//!
//! Must never: depend on anything but its arguments.

use std::time::Duration;

/// How a round is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One write and one sync for all.
    Journal,
    /// A sync of each log's segments.
    Segments,
}

/// A new measurement counts for one part in so many.
const MEMORY: f64 = 16.0;
/// Rounds of less show what a sync costs, others what bytes cost.
const SMALL: u64 = 64 << 10;
/// Bytes a second are within these bounds: a page cache that takes everything at once says nothing of the disk.
const BANDWIDTH: (f64, f64) = (50e6, 4e9);

/// What was measured, in seconds and bytes a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    journal_sync: f64,
    segment_sync: f64,
    bandwidth: f64,
}

impl Default for Costs {
    /// Of a usual SSD, until more is known.
    fn default() -> Self {
        Self { journal_sync: 0.000_2, segment_sync: 0.000_6, bandwidth: 1e9 }
    }
}

fn approach(value: &mut f64, measured: f64) {
    *value += (measured - *value) / MEMORY;
}

impl Costs {
    /// A round by the journal.
    pub(super) fn note_journal(&mut self, took: Duration, bytes: u64) {
        let took = took.as_secs_f64();
        if bytes <= SMALL {
            approach(&mut self.journal_sync, took);
        } else if took > self.journal_sync {
            let measured = bytes as f64 / (took - self.journal_sync);
            approach(&mut self.bandwidth, measured.clamp(BANDWIDTH.0, BANDWIDTH.1));
        }
    }

    /// A round of some segments that were synced side by side.
    pub(super) fn note_segments(&mut self, took: Duration, segments: usize, bytes: u64) {
        let written = bytes as f64 / self.bandwidth;
        let each = (took.as_secs_f64() - written) / segments.max(1) as f64;
        approach(&mut self.segment_sync, each.max(0.0));
    }
}

/// The cheaper way for so many logs with so many new bytes.
pub(super) fn choose(costs: &Costs, logs: usize, bytes: u64) -> Way {
    let write = bytes as f64 / costs.bandwidth;
    let journal = costs.journal_sync + 1.5 * write;
    let segments = costs.segment_sync * logs as f64 + write;
    if journal <= segments { Way::Journal } else { Way::Segments }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_logs_or_few_bytes_go_by_the_journal() {
        let costs = Costs::default();
        let cases = [
            (1, 1 << 10, Way::Journal),
            (1, 16 << 10, Way::Journal),
            (16, 256 << 10, Way::Journal),
            (100, 10 << 20, Way::Journal),
            (1, 4 << 20, Way::Segments),
            (2, 16 << 20, Way::Segments),
        ];
        for (logs, bytes, way) in cases {
            assert_eq!(choose(&costs, logs, bytes), way, "{logs} logs, {bytes} bytes");
        }
    }

    #[test]
    fn a_disk_without_a_wait_needs_no_journal() {
        let mut costs = Costs::default();
        for _ in 0..200 {
            costs.note_segments(Duration::from_micros(1), 1, 100);
        }
        assert_eq!(choose(&costs, 1, 16 << 10), Way::Segments);
    }

    #[test]
    fn measurements_move_the_border() {
        let mut slow = Costs::default();
        for _ in 0..200 {
            slow.note_segments(Duration::from_millis(20), 1, 100);
        }
        assert_eq!(choose(&slow, 1, 16 << 20), Way::Journal);
        for _ in 0..200 {
            slow.note_journal(Duration::from_millis(400), 16 << 20);
        }
        assert_eq!(choose(&slow, 1, 16 << 20), Way::Segments, "a slow disk writes bytes once");
    }
}

//! The offsets of a log for the checkpoint files of its log dir.

use std::sync::atomic::Ordering;

use super::Log;
use crate::checkpoints::CheckpointedLog;

impl CheckpointedLog for Log {
    fn topic(&self) -> &str {
        Self::topic(self)
    }

    fn partition(&self) -> i32 {
        Self::partition(self)
    }

    fn offsets(&self) -> [i64; 4] {
        [self.recovery_point(), self.log_start_offset(), self.high_watermark(), self.cleaned_offset()]
    }

    fn record_saved_start(&self, start: i64) {
        self.saved_start.fetch_max(start, Ordering::AcqRel);
    }
}

//! The offsets of a log for the checkpoint files of its log dir.

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
}

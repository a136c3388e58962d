//! `flush.ms`: requests a flush of each log whose oldest unflushed record is older than that.

use std::time::Duration;

use super::scope::Background;
use crate::replica::Partition;

/// The longest and the shortest pause; `log.flush.scheduler.interval.ms` chooses between them.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn run(background: Background) {
    let pause = background.node.config().flush_scheduler_interval.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    loop {
        tokio::time::sleep(pause).await;
        let now_ms = background.node.now_ms();
        let partitions = background.replicas.partitions();
        partitions.iter().filter(|partition| partition.log().flush_due(now_ms)).for_each(Partition::flush_soon);
    }
}

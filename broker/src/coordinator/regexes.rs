//! Looks up the topics that regular expressions of consumer groups match: on a blocking thread, one group at a time.

use std::sync::Arc;

use esker_core::group::GroupShard;
use esker_core::group::consumer::resolve_regexes;
use tokio::sync::mpsc;

use super::runtime::Act;
use crate::broker::Broker;
use crate::clock::now_ms;

/// Serves what shards ask for, for ever.
pub(super) async fn run(broker: Arc<Broker>, mut jobs: mpsc::UnboundedReceiver<Act<GroupShard>>) {
    while let Some((shard, job)) = jobs.recv().await {
        let image = broker.metadata.image();
        let (group, version) = (job.group.clone(), image.offset());
        let found = tokio::task::spawn_blocking(move || resolve_regexes(&job, &image)).await.unwrap_or_default();
        let image = broker.metadata.image();
        let told = broker
            .groups
            .show(&image, &shard)
            .and_then(|()| shard.write(|s| Ok((s.regexes_resolved(&group, &found, version, now_ms()), ()))));
        if let Err(error) = told {
            tracing::debug!(%error, %group, "topics that regular expressions match are not kept; they are looked up again");
            // Nothing is written with it, so it fails only where the shard is gone.
            let _ = shard.write(|s| Ok((s.regexes_not_resolved(&group), ())));
        }
    }
}

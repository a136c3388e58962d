//! Looks up the topics that regular expressions of consumer groups match: on a blocking thread, one group at a time.

use esker_core::group::GroupShard;
use esker_core::group::consumer::resolve_regexes;
use tokio::sync::mpsc;

use super::scope::CoordinatorScope;
use super::shard::ShardAction;

/// Runs the jobs of shards until the broker stops.
pub(super) async fn run(scope: CoordinatorScope, mut jobs: mpsc::UnboundedReceiver<ShardAction<GroupShard>>) {
    while let Some((shard, job)) = jobs.recv().await {
        let image = scope.image();
        let (group, version) = (job.group.clone(), image.offset());
        let found = scope.node.run_blocking(move || resolve_regexes(&job, &image)).await.unwrap_or_default();
        let image = scope.image();
        let updated = scope
            .groups
            .update_shard_image(&image, &shard)
            .and_then(|()| shard.write(|s| Ok((s.regexes_resolved(&group, &found, version, scope.node.now_ms()), ()))));
        if let Err(error) = updated {
            tracing::debug!(%error, %group, "topics that regular expressions match are not kept; they are looked up again");
            // Nothing is written with it, so it fails only where the shard is gone.
            let _ = shard.write(|s| Ok((s.regexes_not_resolved(&group), ())));
        }
    }
}

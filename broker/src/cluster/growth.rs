//! The topics of coordinators get more replicas when brokers come, while this node is the active controller: a few partitions at a time, so that a
//! broker that joins is not asked for everything at once.

use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{ElectionRules, GrowInternalTopics, lacks_internal_replicas};
use tokio::time::{Instant, sleep};

use super::controller::Controller;
use crate::controller::submit;
use crate::raft::wait_to_lead;

/// Partitions that are being reassigned at once.
const AT_ONCE: u32 = 10;
/// How long the quorum may take to commit a batch.
const COMMIT: Duration = Duration::from_secs(5);
/// How often it is looked whether there is a broker for more.
const LOOK: Duration = Duration::from_millis(500);

/// Runs until it is dropped.
pub async fn run_growth(controller: Arc<Controller>) {
    let mut quorum = controller.metadata().quorum();
    loop {
        if !wait_to_lead(&mut quorum).await {
            return;
        }
        let configs = controller.configs();
        let rules = ElectionRules { node_id: configs.node_id, statics: &configs.statics };
        if lacks_internal_replicas(&controller.metadata().image(), rules) {
            let ask = GrowInternalTopics { limit: AT_ONCE, configs: controller.configs() };
            match submit(controller.metadata().as_ref(), ask, Instant::now() + COMMIT).await {
                Ok(committed) if committed.reply > 0 => {
                    tracing::info!(partitions = committed.reply, "internal topics get more replicas");
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "internal topics do not get more replicas yet"),
            }
        }
        sleep(LOOK).await;
    }
}

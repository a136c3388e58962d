//! Preferred replicas lead again, while this node is the active controller: only those that are in sync, a bounded number at a time, so that a
//! broker that came back is not asked for everything at once.

use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{BalanceLeaders, ElectionRules, balance_interval};
use tokio::time::{Instant, sleep};

use super::controller::Controller;
use crate::controller::submit;
use crate::raft::wait_to_lead;

/// Leaderships that move at once.
const AT_ONCE: u32 = 100;
/// Between two batches of one round.
const BETWEEN: Duration = Duration::from_millis(200);
/// How long the quorum may take to commit a batch.
const COMMIT: Duration = Duration::from_secs(5);
/// How often the interval is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
pub async fn run_balance(controller: Arc<Controller>) {
    let mut quorum = controller.metadata().quorum();
    let mut last = Instant::now();
    loop {
        if !wait_to_lead(&mut quorum).await {
            return;
        }
        let configs = controller.configs();
        let rules = ElectionRules { node_id: configs.node_id, statics: &configs.statics };
        let interval = balance_interval(&controller.metadata().image(), rules);
        if interval.is_some_and(|interval| last.elapsed() >= interval) {
            balance(&controller).await;
            last = Instant::now();
        }
        sleep(LOOK).await;
    }
}

async fn balance(controller: &Arc<Controller>) {
    loop {
        let ask = BalanceLeaders { limit: AT_ONCE, configs: controller.configs() };
        match submit(controller.metadata().as_ref(), ask, Instant::now() + COMMIT).await {
            Ok(committed) if committed.reply.moved > 0 => {
                tracing::info!(
                    moved = committed.reply.moved,
                    left = committed.reply.left,
                    "preferred replicas lead again"
                );
                if committed.reply.left == 0 {
                    return;
                }
            }
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%error, "preferred replicas do not lead yet");
                return;
            }
        }
        sleep(BETWEEN).await;
    }
}

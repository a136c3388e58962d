//! What the handlers of HTTP read from.

use std::sync::{Arc, OnceLock};

use esker_storage::LoadProgress;

use super::metrics::Ages;
use crate::broker::Broker;
use crate::start_progress::StartProgress;

/// What HTTP reports on: first a broker that starts, then the broker.
#[derive(Debug, Default)]
pub struct Served {
    /// How far the start is.
    pub progress: Arc<StartProgress>,
    /// How far the logs are.
    pub loading: Arc<LoadProgress>,
    /// Set once it works; clients are served once it is not fenced.
    pub broker: OnceLock<Arc<Broker>>,
    /// How far groups are behind in time, as of the last scrapes.
    pub(super) ages: Ages,
}

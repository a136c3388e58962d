//! What comes to pass in coordinators, for logs and metrics.

use esker_core::coordinator::Told;
use esker_core::group::GroupEvent;

use crate::telemetry::GroupMetrics;

/// Something makes a group rebalance.
pub(super) fn rebalance(event: &GroupEvent, metrics: &GroupMetrics) {
    let GroupEvent { group, kind, from, to, begins, cause, .. } = event;
    if *begins {
        metrics.rebalance(*kind, cause.reason);
    }
    let who = cause.who.as_ref();
    let message = if *begins { "group rebalances" } else { "group rebalances also for this" };
    tracing::info!(
        %group,
        protocol = kind.name(),
        reason = cause.reason.name(),
        from,
        to,
        member = who.map(|who| tracing::field::display(&who.member_id)),
        instance = who.and_then(|who| who.instance_id.as_ref()).map(tracing::field::display),
        client = who.map(|who| tracing::field::display(&who.client_id)),
        host = who.map(|who| tracing::field::display(&who.client_host)),
        topic = cause.topic.as_ref().map(tracing::field::display),
        said = cause.said.as_ref().map(tracing::field::debug),
        "{message}"
    );
}

/// Something happened to a transaction.
pub(super) fn transaction((id, why): &Told) {
    tracing::info!(of = %id, reason = why, "transaction");
}

//! Events of coordinators, for logs and metrics.

use esker_core::coordinator::NamedEvent;
use esker_core::group::GroupEvent;

use crate::telemetry::GroupMetrics;

/// Something makes a group rebalance.
pub(super) fn rebalance(event: &GroupEvent, metrics: &GroupMetrics) {
    let GroupEvent { group, kind, from, to, begins, cause, .. } = event;
    if *begins {
        metrics.rebalance(*kind, cause.reason);
    }
    let member = cause.member.as_ref();
    let message = if *begins { "group rebalances" } else { "group rebalances also for this" };
    tracing::info!(
        %group,
        protocol = kind.name(),
        reason = cause.reason.name(),
        from,
        to,
        member = member.map(|member| tracing::field::display(&member.member_id)),
        instance = member.and_then(|member| member.instance_id.as_ref()).map(tracing::field::display),
        client = member.map(|member| tracing::field::display(&member.client_id)),
        host = member.map(|member| tracing::field::display(&member.client_host)),
        topic = cause.topic.as_ref().map(tracing::field::display),
        said = cause.client_reason.as_ref().map(tracing::field::debug),
        "{message}"
    );
}

/// Something happened to a transaction.
pub(super) fn transaction((id, why): &NamedEvent) {
    tracing::info!(of = %id, reason = why, "transaction");
}

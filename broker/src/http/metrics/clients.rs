//! Metrics of clients (KIP-714): the newest values that they pushed to this broker, and what became of their pushes; and exports to the
//! OTLP endpoint.

use esker_core::client_metrics::DropReason;

use crate::broker::Broker;
use crate::telemetry::{Kind, Page};

/// Labels of each pushed value; its attributes follow.
const LABELS: [&str; 3] = ["client_id", "client_instance_id", "client_software_name"];

pub(super) fn write(broker: &Broker, page: &mut Page) {
    write_pushed(broker, page);
    let forwarded = broker.client_telemetry.forwarder().counts();
    let help = "Pushes of clients that otlp.endpoint took, and those that it did not take in time";
    let mut rows = page.family("esker_client_metrics_forwarded_total", Kind::Counter, &["result"], help);
    rows.add(&["taken"], forwarded.forwarded);
    rows.add(&["dropped"], forwarded.dropped);
    drop(rows);
    let spans = broker.node.tracer().map(|tracer| tracer.counts()).unwrap_or_default();
    let help = "Spans of traced requests that otlp.endpoint took, and those that it did not take, or not in time";
    let mut rows = page.family("esker_tracing_spans_total", Kind::Counter, &["result"], help);
    rows.add(&["taken"], spans.exported);
    rows.add(&["dropped"], spans.dropped);
}

fn write_pushed(broker: &Broker, page: &mut Page) {
    broker.client_telemetry.with_series(|series, instances, counts| {
        let name = |name: &str| format!("kafka_server_client_metrics_{name}");
        let help = "Clients that asked this broker which metrics to push (KIP-714)";
        page.gauge(&name("instance_count"), help, instances);
        for (suffix, help, value) in [
            ("plugin_export_total", "Pushes of clients that were stored", counts.pushes),
            ("plugin_error_total", "Pushes of clients that were too large or could not be decoded", counts.failed),
            (
                "throttle_total",
                "Requests about client metrics that came before their interval was over",
                counts.throttled,
            ),
            (
                "unknown_subscription_request_total",
                "Pushes for another subscription than the client's",
                counts.unknown_subscriptions,
            ),
        ] {
            page.counter(&name(suffix), help, value);
        }
        page.gauge("esker_client_metrics_series", "Series of clients' metrics, at most 50,000", series.count());
        let help = "Values that clients pushed and that are not served, by the bound that they are beyond";
        let mut rows = page.family("esker_client_metrics_dropped_total", Kind::Counter, &["reason"], help);
        for reason in DropReason::ALL {
            rows.add(&[reason.name()], series.drops().get(reason));
        }
        drop(rows);
        for (name, values) in series.by_name() {
            let is_counter = values.iter().all(|row| row.is_counter);
            let kind = if is_counter { Kind::Counter } else { Kind::Gauge };
            let mut rows = page.family(name, kind, &LABELS, "Pushed by clients");
            for row in values {
                rows.add_labeled(row.labels, row.value);
            }
        }
    });
}

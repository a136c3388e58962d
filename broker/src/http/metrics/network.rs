//! Metrics of listeners, connections and workers.

use tokio::runtime::RuntimeMetrics;
use tokio::time::Instant;

use super::scraper::Scraper;
use crate::broker::Broker;
use crate::telemetry::{Kind, ListenerCounts, Page, Rows};

/// All workers serve all connections: the label has one value.
const PROCESSOR: &str = "0";
const LABELS: [&str; 2] = ["listener", "networkProcessor"];

pub(super) fn write(broker: &Broker, scraper: &Scraper, page: &mut Page) {
    write_listeners(broker, scraper, page);
    let labels = ["clientSoftwareName", "clientSoftwareVersion", "listener", "networkProcessor"];
    let help = "Open connections of clients by the software that they say they are";
    let name = "kafka_server_socket_server_metrics_connections_software";
    let mut rows = page.family(name, Kind::Gauge, &labels, help);
    for ((software, version, listener), count) in broker.metrics.network.software() {
        rows.add(&[&software, &version, &listener, PROCESSOR], count);
    }
    drop(rows);
    let memory = &broker.request_memory;
    let (used, limit) = (memory.in_flight(), memory.limit());
    for (name, help, value) in [
        (
            "kafka_network_socketserver_memorypoolavailable",
            "Bytes left for requests (queued.max.request.bytes)",
            limit.saturating_sub(used),
        ),
        ("kafka_network_socketserver_memorypoolused", "Bytes reserved for requests that are read or worked on", used),
        ("esker_request_bytes_in_flight", "Bytes reserved for requests that are read or worked on", used),
        ("esker_request_bytes_limit", "Bytes that there may be of them (queued.max.request.bytes)", limit),
        ("esker_request_memory_waiting", "Connections that wait for memory for a request", memory.waiting()),
        (
            "kafka_network_requestchannel_requestqueuesize",
            "Requests that wait to be begun: connections that wait for memory",
            memory.waiting(),
        ),
    ] {
        page.gauge(name, help, value);
    }
    let help = "Answers that are ready and not with the kernel yet";
    page.gauge("kafka_network_requestchannel_responsequeuesize", help, broker.metrics.requests.unsent());
    let help =
        "Connections ended because their authentication lapsed (KIP-368): none, as no authentication is served yet";
    page.gauge("kafka_network_socketserver_expiredconnectionskilledcount", help, 0_i64);
}

fn write_listeners(broker: &Broker, scraper: &Scraper, page: &mut Page) {
    let (now, started) = (Instant::now(), broker.metrics.started);
    let listeners = broker.metrics.network.listeners();
    let rate = |counts: &ListenerCounts, what: &str, value: f64| {
        scraper.rates.per_second(&format!("{what} {}", counts.name), value, started, now)
    };
    let each = |page: &mut Page, name: &str, kind: Kind, help: &str, value: &dyn Fn(&ListenerCounts) -> f64| {
        let name = format!("kafka_server_socket_server_metrics_{name}");
        let mut rows: Rows<'_> = page.family(&name, kind, &LABELS, help);
        listeners.iter().for_each(|counts| rows.add(&[&counts.name, PROCESSOR], value(counts)));
    };
    let open = |counts: &ListenerCounts| counts.created.saturating_sub(counts.closed) as f64;
    let gauge = Kind::Gauge;
    each(page, "connection_count", gauge, "Open connections, those of nodes included", &open);
    each(page, "connection_creation_rate", gauge, "Connections made a second", &|c| {
        rate(c, "created", c.created as f64)
    });
    each(page, "connection_close_rate", gauge, "Connections ended a second", &|c| rate(c, "closed", c.closed as f64));
    each(page, "request_rate", gauge, "Requests a second", &|c| rate(c, "requests", c.requests as f64));
    each(page, "incoming_byte_rate", gauge, "Bytes read a second", &|c| rate(c, "received", c.received as f64));
    each(page, "outgoing_byte_rate", gauge, "Bytes written a second", &|c| rate(c, "sent", c.sent as f64));
    let help = "Requests to authenticate that were refused";
    each(page, "failed_authentication_total", Kind::Counter, help, &|c| c.failed_authentications as f64);
    let help = "Requests to authenticate that were refused, a second";
    each(page, "failed_authentication_rate", gauge, help, &|c| rate(c, "failed", c.failed_authentications as f64));
    let help = "Authentications: none, as no authentication is served yet";
    each(page, "successful_authentication_total", Kind::Counter, help, &|_| 0.0);
    let help = "Authentications of open connections that failed: none, as no authentication is served yet";
    each(page, "failed_reauthentication_total", Kind::Counter, help, &|_| 0.0);
    let name = "kafka_network_acceptor_acceptorblocked_percent";
    let help = "Part of the time that a listener could not accept (out of descriptors), 0 to 1";
    let mut rows = page.family(name, gauge, &["listener"], help);
    for counts in &listeners {
        rows.add(&[&counts.name], rate(counts, "blocked", counts.blocked.as_secs_f64()).min(1.0));
    }
    drop(rows);
    let bytes = |of: fn(&ListenerCounts) -> u64| listeners.iter().map(of).sum::<u64>();
    page.counter("esker_network_received_bytes_total", "Bytes read from connections", bytes(|counts| counts.received));
    page.counter("esker_network_sent_bytes_total", "Bytes written to connections", bytes(|counts| counts.sent));
}

/// How much of their time the workers have nothing to do.
pub(super) fn write_workers(broker: &Broker, scraper: &Scraper, workers: &RuntimeMetrics, page: &mut Page) {
    let (now, started) = (Instant::now(), broker.metrics.started);
    let busy = |worker: usize| {
        let busy = workers.worker_total_busy_duration(worker).as_secs_f64();
        scraper.rates.per_second(&format!("worker {worker}"), busy, started, now).min(1.0)
    };
    let idle: Vec<f64> = (0..workers.num_workers()).map(|worker| 1.0 - busy(worker)).collect();
    let average = idle.iter().sum::<f64>() / idle.len().max(1) as f64;
    for name in [
        "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
        "kafka_network_socketserver_networkprocessoravgidle_percent",
        "kafka_server_group_coordinator_metrics_thread_idle_ratio_avg",
    ] {
        page.gauge(name, "Part of the last minute that the workers had nothing to do, 0 to 1", average);
    }
    let name = "kafka_network_processor_idle_percent";
    let help = "Part of the last minute that a worker had nothing to do, 0 to 1";
    let mut rows = page.family(name, Kind::Gauge, &["networkProcessor"], help);
    for (worker, idle) in idle.iter().enumerate() {
        rows.add(&[&worker.to_string()], *idle);
    }
    drop(rows);
    let control = broker.node.control_metrics().map(|control| {
        let busy = control.worker_total_busy_duration(0).as_secs_f64();
        1.0 - scraper.rates.per_second("control", busy, started, now).min(1.0)
    });
    let help = "Part of the last minute that the thread of the metadata quorum had nothing to do, 0 to 1";
    let mut rows = page.family("kafka_server_raftmetrics_poll_idle_ratio_avg", Kind::Gauge, &[], help);
    if let Some(idle) = control {
        rows.add(&[], idle);
    }
    drop(rows);
    for (name, help, value) in [
        ("esker_worker_tasks", "Tasks of the workers that have not ended", workers.num_alive_tasks()),
        ("esker_worker_queue", "Tasks that are ready and wait for any worker", workers.global_queue_depth()),
    ] {
        page.gauge(name, help, value);
    }
    broker.metrics.stalls.write(page, now);
}

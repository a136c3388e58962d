#!/usr/bin/env python3
"""Writes dashboards/*.json from the panels below: deploy/grafana/make_dashboards.py [--check].

A panel is (title, unit, kind, {legend: query}). In a query, METRIC{@} stands for the selectors of the dashboard's variables, and [~] for
Grafana's rate interval. --check compares with the files, writes nothing, and ends with 1 if one differs.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent / "dashboards"
C = "kafka_controller_kafkacontroller_"
R = "kafka_server_replicamanager_"
T = "kafka_server_brokertopicmetrics_"
GRAPH, STAT, BAD = "graph", "stat", "stat that is red above 0"


def p99(metric, by, selector=""):
    return f"histogram_quantile(0.99, sum by ({by}, le) (rate({metric}_bucket{{@{selector}}}[~])))"


def by_node(metric, selector=""):
    return {"{{instance}}": f"{metric}{{@{selector}}}"}


def by_phase(request):
    """The slowest node's 99th percentile of each phase of a request."""
    phases = {"queue": "requestqueue", "local": "local", "remote": "remote", "response queue": "responsequeue", "send": "responsesend"}
    return {name: f'max(kafka_network_requestmetrics_{part}timems{{@,request="{request}",quantile="0.99"}})' for name, part in phases.items()}


def rate_by_node(metric, selector=""):
    return {"{{instance}}": f"sum by (instance) (rate({metric}{{@{selector}}}[~]))"}


OVERVIEW = [
    ("Nodes up", "none", STAT, {"": 'sum(up{job="esker",@})'}),
    ("Active controllers", "none", STAT, {"": f"sum({C}activecontrollercount{{@}})"}),
    ("Partitions without a leader", "none", BAD, {"": f"max({C}offlinepartitionscount{{@}})"}),
    ("Under-replicated partitions", "none", BAD, {"": f"sum({R}underreplicatedpartitions{{@}})"}),
    ("Partitions below min.insync.replicas", "none", BAD, {"": f"sum({R}underminisrpartitioncount{{@}})"}),
    ("Fenced brokers", "none", BAD, {"": f"max({C}fencedbrokercount{{@}})"}),
    ("Topics", "none", STAT, {"": f"max({C}globaltopiccount{{@}})"}),
    ("Partitions", "none", STAT, {"": f"max({C}globalpartitioncount{{@}})"}),
    ("Alerts that fire", "none", GRAPH, {"{{alertname}} {{severity}}": 'ALERTS{alertname=~"Esker.*",alertstate="firing"}'}),
    ("Bytes in", "Bps", GRAPH, rate_by_node(T + "bytesin_total", ',topic!=""')),
    ("Bytes out to consumers", "Bps", GRAPH, rate_by_node(T + "bytesout_total", ',topic!=""')),
    ("Records in", "rowsps", GRAPH, rate_by_node(T + "messagesin_total", ',topic!=""')),
    ("Requests by API", "reqps", GRAPH, {"{{request}}": "topk(10, cluster_request:esker_requests:rate5m{@})"}),
    ("Errors by API", "reqps", GRAPH, {"{{request}} {{error}}": 'sum by (request, error) (rate(kafka_network_requestmetrics_errors_total{@,error!="NONE"}[~])) > 0'}),
    ("Produce time, 99th percentile", "s", GRAPH, {"{{instance}}": p99("esker_request_duration_seconds", "instance", ',request="Produce"')}),
    ("Flush time, 99th percentile", "s", GRAPH, {"{{instance}}": p99("kafka_log_logflushstats_logflushrateandtime_seconds", "instance")}),
    ("Lag of groups", "none", GRAPH, {"{{consumergroup}} {{topic}}": "topk(10, cluster_group_topic:esker_group_lag:sum{@})"}),
    ("Processors used", "none", GRAPH, rate_by_node("process_cpu_seconds_total", ',job="esker"')),
]

TOPICS = [
    ("Bytes in", "Bps", GRAPH, {"{{topic}}": "cluster_topic:esker_bytes_in:rate5m{@}"}),
    ("Bytes out to consumers", "Bps", GRAPH, {"{{topic}}": "cluster_topic:esker_bytes_out:rate5m{@}"}),
    ("Records in", "rowsps", GRAPH, {"{{topic}}": "cluster_topic:esker_messages_in:rate5m{@}"}),
    ("Bytes on all disks", "bytes", GRAPH, {"{{topic}}": "cluster_topic:esker_log_bytes:sum{@}"}),
    ("Partitions", "none", GRAPH, {"{{topic}}": "sum by (topic) (kafka_topic_partitions{@})"}),
    ("Segments", "none", GRAPH, {"{{topic}}": "sum by (topic) (kafka_log_log_numlogsegments{@})"}),
    ("Records kept", "none", GRAPH, {"{{topic}}": "sum by (topic) (max by (topic, partition) (kafka_log_log_logendoffset{@}) - max by (topic, partition) (kafka_log_log_logstartoffset{@}))"}),
    ("Largest partitions", "bytes", GRAPH, {"{{topic}}-{{partition}}": "topk(10, max by (topic, partition) (kafka_log_log_size{@}))"}),
    ("Under-replicated partitions", "none", GRAPH, {"{{topic}}": "sum by (topic) (kafka_cluster_partition_underreplicated{@})"}),
    ("In-sync replicas, least of a partition", "none", GRAPH, {"{{topic}}": "min by (topic) (kafka_cluster_partition_insyncreplicascount{@})"}),
    ("Failed produce requests", "reqps", GRAPH, {"{{topic}}": f'sum by (topic) (rate({T}failedproducerequests_total{{@,topic!=""}}[~]))'}),
    ("Failed fetch requests", "reqps", GRAPH, {"{{topic}}": f'sum by (topic) (rate({T}failedfetchrequests_total{{@,topic!=""}}[~]))'}),
]

GROUP = "consumergroup, topic"
GROUPS = [
    ("Lag", "none", GRAPH, {"{{consumergroup}} {{topic}}": "cluster_group_topic:esker_group_lag:sum{@}"}),
    ("Lag in time", "s", GRAPH, {"{{consumergroup}} {{topic}}": "cluster_group_topic:esker_group_lag_seconds:max{@}"}),
    ("Records consumed, by committed offsets", "rowsps", GRAPH, {"{{consumergroup}} {{topic}}": f"sum by ({GROUP}) (rate(kafka_consumergroup_current_offset{{@}}[~]))"}),
    ("Partitions with most lag", "none", GRAPH, {"{{consumergroup}} {{topic}}-{{partition}}": "topk(10, kafka_consumergroup_lag{@})"}),
    ("Members", "none", GRAPH, {"{{consumergroup}}": "sum by (consumergroup) (kafka_consumergroup_members{@})"}),
]
GROUPS_OF_NODES = [
    ("Classic groups by state", "none", GRAPH, {"{{state}}": "sum by (state) (esker_groups{@})"}),
    ("Groups of KIP-848 by state", "none", GRAPH, {"{{state}}": "sum by (state) (kafka_server_group_coordinator_metrics_consumer_group_count{@})"}),
    ("Rebalances by reason", "ops", GRAPH, {"{{reason}}": "sum by (reason) (rate(esker_group_rebalances_total{@}[~])) > 0"}),
    ("Offset commits", "ops", GRAPH, rate_by_node("kafka_server_group_coordinator_metrics_offset_commit_count")),
    ("Partitions of __consumer_offsets by state", "none", GRAPH, {"{{state}}": "sum by (state) (kafka_server_group_coordinator_metrics_num_partitions{@})"}),
    ("Partitions of __transaction_state by state", "none", GRAPH, {"{{state}}": "sum by (state) (esker_transaction_coordinator_partitions{@})"}),
    ("Partitions with late transactions", "none", GRAPH, by_node(R + "partitionswithlatetransactionscount")),
    ("Oldest open transaction", "s", GRAPH, by_node("esker_oldest_open_transaction_seconds")),
]

NODES = [
    ("State (3: running)", "none", STAT, by_node("kafka_server_kafkaserver_brokerstate")),
    ("Log dirs offline", "none", BAD, by_node("kafka_log_logmanager_offlinelogdirectorycount")),
    ("Damaged ranges", "none", BAD, by_node("esker_damaged_ranges")),
    ("Isolated", "none", BAD, by_node("esker_broker_isolated")),
    ("Processors used", "none", GRAPH, rate_by_node("process_cpu_seconds_total", ',job="esker"')),
    ("Resident memory", "bytes", GRAPH, by_node("process_resident_memory_bytes", ',job="esker"')),
    ("Workers idle", "percentunit", GRAPH, by_node("kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent")),
    ("Connections", "none", GRAPH, {"{{instance}} {{listener}}": "sum by (instance, listener) (kafka_server_socket_server_metrics_connection_count{@})"}),
    ("Connections accepted", "ops", GRAPH, rate_by_node("esker_connections_accepted_total")),
    ("Network in", "Bps", GRAPH, rate_by_node("esker_network_received_bytes_total")),
    ("Network out", "Bps", GRAPH, rate_by_node("esker_network_sent_bytes_total")),
    ("Time of requests, 99th percentile", "s", GRAPH, {"{{request}}": "topk(10, " + p99("esker_request_duration_seconds", "request") + " > 0)"}),
    ("Produce time by phase, 99th percentile", "ms", GRAPH, by_phase("Produce")),
    ("Fetch time of consumers by phase, 99th percentile", "ms", GRAPH, by_phase("FetchConsumer")),
    ("Memory of requests", "bytes", GRAPH, by_node("esker_request_bytes_in_flight") | {"{{instance}} limit": "esker_request_bytes_limit{@}"}),
    ("Pending requests", "none", GRAPH, {"{{instance}} {{delayedOperation}}": "kafka_server_delayedoperationpurgatory_purgatorysize{@}"}),
    ("Fetch sessions", "none", GRAPH, by_node("kafka_server_fetchsessioncache_numincrementalfetchsessions")),
    ("Flushes", "ops", GRAPH, rate_by_node("kafka_log_logflushstats_logflushrateandtime_seconds_count")),
    ("Flush time, 99th percentile", "s", GRAPH, {"{{instance}}": p99("kafka_log_logflushstats_logflushrateandtime_seconds", "instance")}),
    ("Journal in use", "bytes", GRAPH, {"{{instance}} {{log_dir}}": "esker_journal_used_bytes{@}"}),
    ("Bytes not flushed", "bytes", GRAPH, by_node("esker_log_unflushed_bytes")),
    ("Open file descriptors", "none", GRAPH, by_node("process_open_fds", ',job="esker"')),
    ("Open segments", "none", GRAPH, by_node("esker_log_open_segments") | {"{{instance}} limit": "esker_log_open_segments_limit{@}"}),
    ("Bytes read from disk for consumers", "Bps", GRAPH, rate_by_node("esker_cold_read_bytes")),
    ("Dirty part of the dirtiest compacted log", "percent", GRAPH, by_node("kafka_log_logcleanermanager_max_dirty_percent")),
]

RAFT = [
    ("Active controllers", "none", STAT, {"": f"sum({C}activecontrollercount{{@}})"}),
    ("Voters", "none", STAT, {"": "max(kafka_server_raftmetrics_number_of_voters{@})"}),
    ("Observers", "none", STAT, {"": "max(kafka_server_raftmetrics_number_of_observers{@})"}),
    ("Metadata that could not be put in force", "none", BAD, {"": "sum(esker_metadata_apply_errors_total{@})"}),
    ("Leader of the quorum, as each node knows it", "none", GRAPH, by_node("kafka_server_raftmetrics_current_leader")),
    ("Term", "none", GRAPH, by_node("kafka_server_raftmetrics_current_epoch")),
    ("Changes of the leader", "none", GRAPH, {"{{instance}}": "increase(esker_raft_leader_changes_total{@}[~])"}),
    ("Lease that remains", "s", GRAPH, by_node("esker_broker_lease_remaining_seconds")),
    ("Entries of the metadata log", "none", GRAPH, by_node("kafka_server_raftmetrics_log_end_offset")),
    ("Entries committed and not applied", "none", GRAPH, {"{{instance}}": "esker_raft_committed_entries{@} - esker_raft_applied_entries{@}"}),
    ("Entries that a voter lacks", "none", GRAPH, {"node {{node}}": "esker_raft_voter_lag{@}"}),
    ("Entries that an observer lacks", "none", GRAPH, {"node {{node}}": "topk(10, esker_raft_observer_lag{@})"}),
    ("Commit latency, average", "ms", GRAPH, by_node("kafka_server_raftmetrics_commit_latency_avg")),
    ("Entries appended", "ops", GRAPH, by_node("kafka_server_raftmetrics_append_records_rate")),
    ("Brokers", "none", GRAPH, {"active": f"max({C}activebrokercount{{@}})", "fenced": f"max({C}fencedbrokercount{{@}})", "shutting down": f"max({C}controlledshutdownbrokercount{{@}})"}),
]

REPLICATION = [
    ("Under-replicated partitions", "none", BAD, {"": f"sum({R}underreplicatedpartitions{{@}})"}),
    ("Partitions below min.insync.replicas", "none", BAD, {"": f"sum({R}underminisrpartitioncount{{@}})"}),
    ("Offline replicas", "none", BAD, {"": f"sum({R}offlinereplicacount{{@}})"}),
    ("Partitions that are reassigned", "none", STAT, {"": f"sum({R}reassigningpartitions{{@}})"}),
    ("Under-replicated partitions by leader", "none", GRAPH, by_node(R + "underreplicatedpartitions")),
    ("Partitions at min.insync.replicas by leader", "none", GRAPH, by_node(R + "atminisrpartitioncount")),
    ("Lag of the follower, most of a partition", "none", GRAPH, {"{{instance}}": "max by (instance) (kafka_server_replicafetchermanager_maxlag{@})"}),
    ("Replicas that leave the ISR", "ops", GRAPH, rate_by_node(R + "isrshrinks_total")),
    ("Replicas that join the ISR", "ops", GRAPH, rate_by_node(R + "isrexpands_total")),
    ("ISR updates that failed", "ops", GRAPH, rate_by_node(R + "failedisrupdates_total")),
    ("Bytes replicated in", "Bps", GRAPH, {"{{instance}}": f'sum by (instance) (rate({T}replicationbytesin_total{{@,topic=""}}[~]))'}),
    ("Bytes replicated out", "Bps", GRAPH, {"{{instance}}": f'sum by (instance) (rate({T}replicationbytesout_total{{@,topic=""}}[~]))'}),
    ("Partitions led", "none", GRAPH, by_node(R + "leadercount")),
    ("Replicas", "none", GRAPH, by_node(R + "partitioncount")),
    ("Partitions not led by their preferred replica", "none", GRAPH, {"": f"max({C}preferredreplicaimbalancecount{{@}})"}),
]

# File -> title, [(label that @ selects besides cluster, panels)].
DASHBOARDS = {
    "overview": ("Esker overview", [(None, OVERVIEW)]),
    "topics": ("Esker topics", [("topic", TOPICS)]),
    "groups": ("Esker groups and transactions", [("consumergroup", GROUPS), (None, GROUPS_OF_NODES)]),
    "nodes": ("Esker nodes", [("instance", NODES)]),
    "raft": ("Esker metadata quorum", [(None, RAFT)]),
    "replication": ("Esker replication", [(None, REPLICATION)]),
}
# Label -> a metric that has every value of it.
VALUES = {
    "cluster": 'up{job="esker"}',
    "topic": 'kafka_log_log_size{cluster=~"$cluster"}',
    "consumergroup": 'kafka_consumergroup_lag{cluster=~"$cluster"}',
    "instance": 'up{job="esker",cluster=~"$cluster"}',
}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def expand(query, label):
    selectors = 'cluster=~"$cluster"' + (f',{label}=~"${label}"' if label else "")
    return query.replace("@", selectors).replace("[~]", "[$__rate_interval]")


def make_panel(number, place, panel, label):
    title, unit, kind, queries = panel
    is_graph = kind == GRAPH
    steps = [{"color": "green", "value": None}] + ([{"color": "red", "value": 1}] if kind == BAD else [])
    targets = [
        {"refId": chr(ord("A") + i), "expr": expand(query, label), "legendFormat": legend or "total", "instant": not is_graph}
        for i, (legend, query) in enumerate(queries.items())
    ]
    options = (
        {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        if is_graph
        else {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value" if kind == STAT else "background"}
    )
    return {
        "id": number,
        "title": title,
        "type": "timeseries" if is_graph else "stat",
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}, "overrides": []},
        "options": options,
        "targets": targets,
    }


def lay_out(panels):
    """Four stats or three graphs a row."""
    x = y = height = 0
    for panel, label in panels:
        width, tall = (8, 7) if panel[2] == GRAPH else (6, 4)
        if x + width > 24 or height not in (0, tall):
            x, y = 0, y + height
        height = tall
        yield panel, label, {"x": x, "y": y, "w": width, "h": tall}
        x += width


def make_variable(label):
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values({VALUES[label]}, {label})",
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def make_dashboard(name, title, parts):
    labels = ["cluster"] + [label for label, _ in parts if label]
    panels = [(panel, label) for label, some in parts for panel in some]
    return {
        "uid": f"esker-{name}",
        "title": title,
        "tags": ["esker"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["esker"], "title": "Esker", "asDropdown": True, "keepTime": True, "includeVars": True}],
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}] + [make_variable(label) for label in labels]},
        "panels": [make_panel(i, place, panel, label) for i, (panel, label, place) in enumerate(lay_out(panels), 1)],
    }


def main():
    wanted = {FOLDER / f"{name}.json": json.dumps(make_dashboard(name, *about), indent=1) + "\n" for name, about in DASHBOARDS.items()}
    if "--check" not in sys.argv[1:]:
        for path, text in wanted.items():
            path.write_text(text)
        return 0
    found = {path: path.read_text() for path in FOLDER.glob("*.json")}
    differing = sorted(path.name for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    if differing:
        print(f"{', '.join(differing)}: not as make_dashboards.py writes it; run it", file=sys.stderr)
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())

"""Asks a real Prometheus, which scrapes four nodes under load, for every panel's query and every rule: dashboards.py ESKER PROMETHEUS DEPLOY STATE

Then a node is killed, and alerts must notice. A panel without data must be in may-be-empty.txt with a reason. A query, alert or rule may name only metrics that a node exports, but for
those in may-be-empty.txt.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import yaml
from free_addresses import free_addresses

ESKER, PROMETHEUS = sys.argv[1], sys.argv[2]
DEPLOY, STATE = pathlib.Path(sys.argv[3]).resolve(), pathlib.Path(sys.argv[4]).resolve()
HERE = pathlib.Path(__file__).parent
START_SECONDS, DATA_SECONDS, ALERT_SECONDS = 60, 60, 60
# Alerts that a killed node must raise; pending is enough.
RAISED_BY_A_KILL = {"EskerNodeDown", "EskerFencedBroker", "EskerUnderReplicatedPartitions"}
# The broker reads ESKER_ variables as configs; those of the tests are none.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("ESKER_")}
VARIABLES = {"$__rate_interval": "15s", "$cluster": ".*", "$topic": ".*", "$consumergroup": ".*", "$instance": ".*"}
METRIC = re.compile(r"\b(?:kafka|esker|process|kminion)_[a-z0-9_]+")
SUFFIX = re.compile(r"_(?:bucket|count|sum)$")


class Fault(Exception):
    """What the test reports and ends with."""


def wait_for(what, seconds, attempt):
    """Repeats `attempt` until it returns something true."""
    deadline = time.monotonic() + seconds
    while True:
        if found := attempt():
            return found
        if time.monotonic() > deadline:
            raise Fault(f"no {what} within {seconds} s")
        time.sleep(0.2)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return ""


class Processes:
    """What this test started, to be ended by it."""

    def __init__(self):
        self.running = []

    def start(self, name, *arguments, **options):
        log = (STATE / f"{name}.log").open("wb")
        output = options.pop("stdout", log)
        process = subprocess.Popen(arguments, stdout=output, stderr=log, env=ENVIRONMENT, **options)
        self.running.append((name, process))
        return process

    def report_ended(self):
        ended = [f"{name} (exit code {process.returncode})" for name, process in self.running if process.poll() is not None]
        if ended:
            raise Fault(f"ended early: {', '.join(ended)}; logs in {STATE}")

    def kill(self, name):
        process = dict(self.running)[name]
        process.kill()
        process.wait()

    def stop(self):
        for _, process in reversed(self.running):
            process.terminate()
        for _, process in self.running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start_cluster(processes):
    """Three voters and an observer; returns the addresses for clients and for scrapes."""
    addresses = free_addresses(8)
    clients, scrapes = addresses[:4], addresses[4:]
    join = ",".join(clients[:3])
    for i, (client, scrape) in enumerate(zip(clients, scrapes), 1):
        data = str(STATE / f"node-{i}")
        processes.start(f"node-{i}", ESKER, "serve", "--data-dir", data, "--listen", client, "--http", scrape, "--join", join)
    for scrape in scrapes:
        wait_for(f"ready node at {scrape}", START_SECONDS, lambda: get(f"http://{scrape}/health/ready"))
    return clients, scrapes


def run_esker(bootstrap, *arguments):
    result = subprocess.run([ESKER, *arguments, "-b", bootstrap], env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False)
    if result.returncode:
        print(result.stderr.strip(), file=sys.stderr)
    return result.returncode == 0


def start_load(processes, bootstrap):
    """A topic that is written to and read by a group until the processes are stopped."""
    create = ("topic", "create", "orders", "--partitions", "6", "--replication-factor", "3")
    wait_for("topic orders", START_SECONDS, lambda: run_esker(bootstrap, *create) or run_esker(bootstrap, "topic", "describe", "orders"))
    consume = (ESKER, "consume", "-b", bootstrap, "-g", "billing", "-o", "start", "orders")
    processes.start("consumer", *consume, stdout=subprocess.DEVNULL)
    producer = processes.start("producer", ESKER, "produce", "-b", bootstrap, "orders", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def feed():
        number = 0
        try:
            while True:
                for _ in range(20):
                    number += 1
                    producer.stdin.write(f"order {number}\n".encode())
                producer.stdin.flush()
                time.sleep(0.1)
        except (OSError, ValueError):
            pass  # The producer has been stopped.

    threading.Thread(target=feed, daemon=True).start()


def start_prometheus(processes, scrapes):
    """With the configuration and rules of deploy/, but scrapes each second; returns its address."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / pattern) for pattern in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = scrapes
    (STATE / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = free_addresses(1)[0]
    processes.start(
        "prometheus",
        PROMETHEUS,
        f"--config.file={STATE / 'prometheus.yml'}",
        f"--storage.tsdb.path={STATE / 'prometheus'}",
        f"--web.listen-address={address}",
    )
    wait_for("ready Prometheus", START_SECONDS, lambda: get(f"http://{address}/-/ready"))
    return address


def ask(address, query):
    """The labels of the series that a query returns."""
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return [series["metric"] for series in json.load(answer)["data"]["result"]]
    except urllib.error.HTTPError as error:
        raise Fault(f"{query}: {error.read().decode()}") from error


def read_panels():
    """Name of a panel's query -> the query, with the dashboard's variables replaced."""
    panels = {}
    for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"]
                for name, value in VARIABLES.items():
                    query = query.replace(name, value)
                if "$" in query:
                    raise Fault(f"{path.name}, {panel['title']}: a variable without a value: {query}")
                panels[f"{path.stem}: {panel['title']}: {target['legendFormat']}"] = query
    return panels


def read_exceptions():
    """Metrics that are not exported yet, and panels that a healthy cluster leaves empty."""
    lines = [line for line in (HERE / "may-be-empty.txt").read_text().splitlines() if line and not line.startswith("#")]
    names = [line.split(" -- ")[0].strip() for line in lines]
    return {name for name in names if METRIC.fullmatch(name)}, {name for name in names if not METRIC.fullmatch(name)}


def read_rules():
    rules = {}
    for path in sorted((DEPLOY / "prometheus/rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            rules.update({rule.get("alert") or rule["record"]: rule["expr"] for rule in group["rules"]})
    return rules


def is_among(metric, names):
    """Whether a metric, or the histogram that it is a part of, is among `names`."""
    return metric in names or SUFFIX.sub("", metric) in names


def find_unknown(queries, exported, missing):
    """Names in queries that no node exports."""
    faults = []
    for name, query in queries.items():
        bare = re.sub(r'"[^"]*"|\w+:\w+:\w+', "", query)
        for metric in METRIC.findall(bare):
            if not is_among(metric, exported | missing):
                faults.append(f"{name}: no node exports {metric}")
    return faults


def check_alerts(processes, address):
    """Kills a node and waits for the alerts that must notice."""
    known = {series["alertname"] for series in ask(address, "ALERTS")}
    if known & RAISED_BY_A_KILL:
        print(f"raised before a node was killed: {sorted(known)}")
    processes.kill("node-3")

    def find_missing():
        return RAISED_BY_A_KILL - {series["alertname"] for series in ask(address, "ALERTS")}

    wait_for(f"all of {sorted(RAISED_BY_A_KILL)}", ALERT_SECONDS, lambda: not find_missing())
    print(f"a killed node raises {', '.join(sorted(RAISED_BY_A_KILL))}")


def check(processes):
    panels, rules = read_panels(), read_rules()
    not_yet, quiet = read_exceptions()
    clients, scrapes = start_cluster(processes)
    start_load(processes, ",".join(clients))
    address = start_prometheus(processes, scrapes)
    missing_names = {name for name in quiet if not any(panel.startswith(name) for panel in panels)}
    faults = [f"may-be-empty.txt: there is no panel {name}" for name in sorted(missing_names)]

    empty = dict(panels)
    deadline = time.monotonic() + DATA_SECONDS
    while True:
        processes.report_ended()
        empty = {name: query for name, query in empty.items() if not ask(address, query)}
        exported = set(re.findall(r"^# TYPE (\S+)", "\n".join(get(f"http://{scrape}/metrics") for scrape in scrapes), re.M))
        missing = not_yet - exported
        excused = {
            name for name, query in empty.items()
            if any(name.startswith(panel) for panel in quiet) or any(is_among(metric, missing) for metric in METRIC.findall(query))
        }
        if empty.keys() <= excused or time.monotonic() > deadline:
            break
        time.sleep(1)

    faults += [f"{name}: no data: {query}" for name, query in empty.items() if name not in excused]
    faults += find_unknown(panels | rules, exported, missing)
    groups = json.loads(get(f"http://{address}/api/v1/rules"))["data"]["groups"]
    faults += [f"rule {rule['name']}: {rule['lastError']}" for group in groups for rule in group["rules"] if rule["health"] == "err"]
    check_alerts(processes, address)
    print(f"{len(panels)} queries of panels: {len(panels) - len(empty)} with data, {len(excused)} empty for a reason in may-be-empty.txt")
    for name in sorted(excused):
        print(f"  empty: {name}")
    for name in sorted(not_yet & exported):
        print(f"  may-be-empty.txt: {name} is exported now, take it out")
    return faults


def main():
    processes = Processes()
    try:
        faults = check(processes)
    except Fault as fault:
        faults = [str(fault)]
    finally:
        processes.stop()
    print(*faults, sep="\n", end="\n" if faults else "")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

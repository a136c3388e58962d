"""Checks that each alert says what an operator needs, has a runbook entry, and has unit tests that fire and that stay quiet."""

import pathlib
import re
import sys

import yaml

deploy = pathlib.Path(sys.argv[1])
severities = {"critical", "warning"}


def read_rules(path):
    groups = yaml.safe_load(path.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def count_tests(folder):
    """Alert -> numbers of cases that fire, and that do not."""
    counts = {}
    for path in sorted(folder.glob("*.yml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                fires, quiet = counts.get(case["alertname"], (0, 0))
                is_firing = bool(case.get("exp_alerts"))
                counts[case["alertname"]] = (fires + is_firing, quiet + (not is_firing))
    return counts


def find_faults(rule, entries, tests):
    name, notes = rule["alert"], rule.get("annotations", {})
    for wanted in ("summary", "description"):
        if not notes.get(wanted):
            yield f"no {wanted}"
    if rule.get("labels", {}).get("severity") not in severities:
        yield f"no severity of {sorted(severities)}"
    if not notes.get("runbook_url", "").endswith(f"deploy/RUNBOOKS.md#{name.lower()}"):
        yield "runbook_url does not end with deploy/RUNBOOKS.md#<name in lower case>"
    if missing := [part for part in ("Means", "Look at", "Do") if f"- **{part}:** " not in entries.get(name, "")]:
        yield f"RUNBOOKS.md does not say: {', '.join(missing)}"
    fires, quiet = tests.get(name, (0, 0))
    if not fires:
        yield "no unit test in which it fires"
    if not quiet:
        yield "no unit test in which it stays quiet"


alerts = [rule for rule in read_rules(deploy / "prometheus/rules/alerts.yml") if "alert" in rule]
parts = re.split(r"^### (\w+)$", (deploy / "RUNBOOKS.md").read_text(), flags=re.M)
entries = dict(zip(parts[1::2], parts[2::2]))
tests = count_tests(deploy / "prometheus/tests")
faults = [f"{rule['alert']}: {fault}" for rule in alerts for fault in find_faults(rule, entries, tests)]
faults += [f"RUNBOOKS.md: {name} is no alert" for name in sorted(entries.keys() - {rule["alert"] for rule in alerts})]
print(*faults, sep="\n", end="\n" if faults else "")
print(f"{len(alerts)} alerts, {sum(map(sum, tests.values()))} unit tests, {len(faults)} faults")
sys.exit(bool(faults or not alerts))

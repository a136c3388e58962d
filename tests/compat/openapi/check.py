"""Validates /v1/openapi.json, and answers of the broker against its schemas: check.py URL."""

import json
import sys
import time
import urllib.error
import urllib.request

import openapi_spec_validator
from openapi_schema_validator import OAS31Validator

URL = sys.argv[1]
PROBLEM = "application/problem+json"


def request(method, path, body=None):
    """Status, media type and body of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if method != "GET" else {}
    asked = urllib.request.Request(URL + path, data, headers, method=method)
    try:
        answer = urllib.request.urlopen(asked, timeout=60)
    except urllib.error.HTTPError as refused:
        answer = refused
    text = answer.read()
    return answer.status, answer.headers.get("Content-Type"), json.loads(text) if text else None


# Each operation, with what it is sent.
STEPS = [
    ("GET", "/v1/cluster", {}, None, 200),
    ("GET", "/v1/nodes", {}, None, 200),
    ("GET", "/v1/nodes/{id}", {"id": "1"}, None, 200),
    ("GET", "/v1/nodes/{id}/safe-to-stop", {"id": "1"}, None, 200),
    ("GET", "/v1/nodes/{id}/drain", {"id": "1"}, None, 200),
    ("POST", "/v1/nodes/{id}/cordon", {"id": "1"}, {}, 200),
    ("POST", "/v1/nodes/{id}/uncordon", {"id": "1"}, {}, 200),
    ("POST", "/v1/topics", {}, {"name": "t", "partitions": 2}, 201),
    ("POST", "/v1/topics", {}, {"name": "t"}, 409),
    ("GET", "/v1/topics", {}, None, 200),
    ("GET", "/v1/topics/{name}", {"name": "t"}, None, 200),
    ("GET", "/v1/topics/{name}/partitions", {"name": "t"}, None, 200),
    ("PATCH", "/v1/topics/{name}", {"name": "t"}, {"partitions": 3}, 200),
    ("PATCH", "/v1/configs/{kind}/{name}", {"kind": "topic", "name": "t"}, {"set": {"retention.ms": "1000000"}}, 200),
    ("GET", "/v1/configs/{kind}/{name}", {"kind": "topic", "name": "t"}, None, 200),
    ("POST", "/v1/groups/{group}/offsets", {"group": "g"}, {"topic": "t", "to": "earliest"}, 200),
    ("GET", "/v1/groups", {}, None, 200),
    ("GET", "/v1/groups/{group}", {"group": "g"}, None, 200),
    ("GET", "/v1/groups/{group}/rebalances", {"group": "g"}, None, 200),
    ("DELETE", "/v1/groups/{group}", {"group": "g"}, None, 204),
    ("GET", "/v1/transactions", {}, None, 200),
    ("GET", "/v1/transactions/{id}", {"id": "none"}, None, 404),
    ("POST", "/v1/transactions/{id}/abort", {"id": "none"}, {"dry_run": True}, 404),
    ("GET", "/v1/reassignments", {}, None, 200),
    ("POST", "/v1/reassignments", {}, {"reassignments": [{"topic": "t", "partition": 0, "replicas": [1, 99]}]}, 400),
    ("POST", "/v1/reassignments/cancel", {}, {}, 200),
    ("POST", "/v1/nodes/{id}/drain", {"id": "1"}, {}, 409),
    ("DELETE", "/v1/topics/{name}", {"name": "t"}, None, 204),
    ("GET", "/v1/openapi.json", {}, None, 200),
]


def check(document, method, path, names, body, expected):
    """The faults of one operation."""
    operation = document["paths"][path][method.lower()]
    for name, value in names.items():
        path = path.replace("{%s}" % name, value)
    until = time.monotonic() + 60
    while True:
        # A coordinator may be loading, and a broker without a lease for a moment.
        status, kind, answer = request(method, path, body)
        if status < 500 or time.monotonic() > until:
            break
        time.sleep(0.1)
    what = f"{method} {path}: {status}"
    if status != expected:
        return [f"{what} instead of {expected}: {answer}"]
    documented = operation["responses"].get(str(status)) or operation["responses"]["default"]
    if status == 204:
        return [f"{what} has a body"] if answer is not None else []
    if kind not in documented["content"]:
        return [f"{what} is {kind}, which the document does not have"]
    if (status >= 400) != (kind == PROBLEM):
        return [f"{what} is {kind}"]
    schema = dict(documented["content"][kind].get("schema", {}), components=document["components"])
    errors = OAS31Validator(schema).iter_errors(answer)
    return [f"{what}: {error.json_path}: {error.message}" for error in errors]


def main():
    _, _, document = request("GET", "/v1/openapi.json")
    openapi_spec_validator.validate(document)
    faults = [fault for step in STEPS for fault in check(document, *step)]
    operations = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    left = operations - {(method, path) for method, path, *_ in STEPS}
    faults += [f"{method} {path} is not among the steps" for method, path in sorted(left)]
    for fault in faults:
        print(fault)
    print(f"{len(operations)} operations, {len(STEPS)} requests, {len(faults)} faults")
    sys.exit(bool(faults))


main()

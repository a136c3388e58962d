"""Client metrics (KIP-714): librdkafka pushes what the broker asks for, and the broker's /metrics have it."""

import os
import pathlib
import subprocess
import time
import urllib.request

from confluent_kafka import Producer

BOOTSTRAP, PATIENCE = os.environ["BOOTSTRAP"], 60
STATE = pathlib.Path(os.environ["ESKER_STATE"])


def scraped():
    """The lines of all brokers: a client pushes to one of them. One that was restarted has another port, and may not answer yet."""
    for file in [STATE / "http", *STATE.glob("node-*/http")]:
        try:
            with urllib.request.urlopen(f"http://{file.read_text().strip()}/metrics", timeout=PATIENCE) as answer:
                yield from answer.read().decode().splitlines()
        except OSError as error:
            print(f"{file}: {error}")


def rows():
    return [line for line in scraped() if line.startswith("kafka_client_producer_") and 'client_id="pushes"' in line]


def main():
    # The library has no name for this kind of resource.
    configs = ["metrics=org.apache.kafka.", "interval.ms=100", "match=client_id=pushes"]
    command = [os.environ["ESKER_BIN"], "config", "set", "client-metrics", "librdkafka", *configs]
    subprocess.run([*command, "--bootstrap", BOOTSTRAP], check=True, timeout=PATIENCE)
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "client.id": "pushes"})
    deadline = time.monotonic() + PATIENCE
    while not rows():
        assert time.monotonic() < deadline, "no pushed value is on /metrics"
        producer.produce("client-metrics", b"value")
        producer.flush(PATIENCE)
    found = rows()
    assert all('client_software_name="confluent-kafka-python' in row or 'client_software_name="librdkafka' in row for row in found), found
    print(f"{len(found)} series of a producer of librdkafka")


main()

"""Starts the broker with the environment that the Dockerfile and deploy/compose/one-node.yml set, and runs the image's health check:
images.py ESKER DEPLOY STATE. Ports and the data folder are replaced, so that nothing but loopback is listened on.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading

import yaml
from free_addresses import free_addresses

ESKER, DEPLOY, STATE = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])


def read_image(text):
    """Variables, command line and health check of the Dockerfile's last stage."""
    stage = text.split("FROM scratch")[1].replace("\\\n", " ")
    variables = dict(re.findall(r"((?:ESKER|KAFKA)_\w+)=(\S+)", stage))
    command = json.loads(re.search(r"^CMD (\[.*\])$", stage, re.M)[1])
    check = json.loads(re.search(r"^HEALTHCHECK .*? CMD (\[.*\])$", stage, re.M)[1])
    return variables, command, check


def becomes_ready(process):
    """Whether the broker's first line on stdout comes in time, and says that it is ready."""
    too_late = threading.Timer(60, process.kill)
    too_late.start()
    try:
        return "esker ready" in process.stdout.readline()
    finally:
        too_late.cancel()


def main():
    variables, command, health = read_image((DEPLOY / "Dockerfile").read_text())
    service = yaml.safe_load((DEPLOY / "compose/one-node.yml").read_text())["services"]["esker"]
    variables |= service["environment"]
    addresses = {}

    def replace_address(match):
        return addresses.setdefault(match[1], free_addresses(1)[0])

    variables = {name: re.sub(r"0\.0\.0\.0:(\d+)", replace_address, value) for name, value in variables.items()}
    variables["ESKER_DATA_DIR"] = str(STATE / "data")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ESKER_")}
    health = [re.sub(r"127\.0\.0\.1:(\d+)", replace_address, word) for word in health[1:]]
    with (STATE / "image.log").open("wb") as log:
        process = subprocess.Popen([ESKER, *command], env=clean | variables, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        if not becomes_ready(process):
            print(f"the broker does not start: {(STATE / 'image.log').read_text()}")
            return 1
        checked = subprocess.run([ESKER, *health], env=clean, timeout=30, check=False).returncode
    finally:
        process.terminate()
        stopped = process.wait(30)
    failed = subprocess.run([ESKER, *health], env=clean, timeout=30, stderr=subprocess.DEVNULL, check=False).returncode
    print(f"health check: exit code {checked} of a broker that runs, {failed} of none; the broker stopped with {stopped}")
    return int(checked != 0 or failed == 0 or stopped != 0)


if __name__ == "__main__":
    sys.exit(main())

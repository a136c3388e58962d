"""Runs the cases: see `run`."""

import argparse
import importlib
import pathlib
import sys
import time

from compare import Differential, Ledger, Peer
from messages import Definitions

HERE = pathlib.Path(__file__).parent


def main():
    parser = argparse.ArgumentParser()
    for name in ("--definitions", "--kafka", "--esker"):
        parser.add_argument(name, required=True)
    parser.add_argument("areas", nargs="*")
    options = parser.parse_args()
    definitions = Definitions(options.definitions)
    kafka, esker = (Peer(definitions, address) for address in (options.kafka, options.esker))
    differential = Differential(kafka, esker, Ledger(HERE / "ledger.txt"))
    areas = options.areas or sorted(path.stem for path in (HERE / "cases").glob("*.py"))
    for area in areas:
        differential.area, start = area, time.monotonic()
        importlib.import_module(f"cases.{area}").run(differential)
        print(f"{area}: {time.monotonic() - start:.1f} s", flush=True)
    sys.exit(differential.report(set(areas)))


main()

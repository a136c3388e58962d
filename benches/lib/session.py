"""One run of a benchmark: a folder for the data, and an end by which no process is left."""

import contextlib
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from brokers import uninterrupted

# What ends a run with a message. Figures measured before it count.
FAILURES = (OSError, RuntimeError, subprocess.TimeoutExpired)

def end_on_signals():
    """Has signals end the run as an error would: its brokers are ended on the way."""
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, lambda number, _: sys.exit(128 + number))


@contextlib.contextmanager
def data_folder(given, prefix):
    """The folder that was named, which stays, or a new one, which is deleted in the end."""
    folder = pathlib.Path(given or tempfile.mkdtemp(prefix=prefix)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        (folder / "client").unlink(missing_ok=True)
        if not given:
            shutil.rmtree(folder, ignore_errors=True)


def remove_all(brokers):
    """Ends brokers, whatever they are doing, and deletes their folders."""
    with uninterrupted():
        for broker in brokers:
            broker.remove()

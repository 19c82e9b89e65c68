"""Starts writers of a store that die, from a process that has done nothing else: `python -m tests.results.killing ROOT`.

A process with running threads cannot be forked safely, and pytest's has many: those of pyarrow at work, and of what other
tests loaded. So the children come from here, where nothing runs. Each line of standard input asks for some of them, as
JSON: a list of [left, method, arguments], which call that method of the Store and die at operation `left`. The answer is a
list of whether each died.
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import pyarrow.parquet as pq

from results import Store
from tests.results.crashing import OPERATIONS
from tests.results.fakes import fake_trial

NEVER = 10**9
PATIENCE = 15  # seconds


class Killer:
    """In a process of its own: dies of SIGKILL at operation number `left`, a write being cut in half."""

    def __init__(self, left):
        self.left = left
        for name in OPERATIONS:
            setattr(Path, name, self._wrap(getattr(Path, name), name))
        os.fsync = self._wrap(lambda handle: None, "fsync")
        pq.ParquetWriter.write_table = self._wrap(pq.ParquetWriter.write_table, "write_table")

    def _wrap(self, original, name):
        def operation(*args, **kwargs):
            if self.left == 0:
                if name == "write_bytes":
                    original(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return original(*args, **kwargs)

        return operation


def begun(root, left, method, arguments):
    """Call a method of the store in a child that dies at operation `left`, which is given."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            Killer(left)
            if method == "commit":
                key, attempt = arguments
                arguments = (key, fake_trial(key, **attempt))
            getattr(Store(root), method)(*arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def died(child):
    """Wait for a child; whether it died of SIGKILL, which is the only way to fail."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            ended = os.waitstatus_to_exitcode(status)
            assert ended in (0, -signal.SIGKILL), f"a child ended with {ended}"
            return ended != 0
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("a child hangs")


if __name__ == "__main__":
    for line in sys.stdin:
        children = [begun(sys.argv[1], *asked) for asked in json.loads(line)]
        print(json.dumps([died(child) for child in children]), flush=True)

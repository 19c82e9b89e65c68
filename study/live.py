"""The live view: the report of a study, written again now and then while it runs, by a process of its own.

Of a process of its own the study loses no time, and nothing that happens to it happens to the study.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from results import Store
from results.files import write_file
from results.page import halted
from study.config import ROOT


class LivePage:
    """Writes the page when the study begins, and when a trial has ended and the last page is older than `every` seconds.

    Args:
        store: the results.
        study: its name.
        every: seconds.

    """

    def __init__(self, store: Store, study: str, every: float = 30.0) -> None:
        root = str(store.root)
        self.command = [sys.executable, str(ROOT / "results" / "report.py"), study, f"storage.root={root}", "--live"]
        self.every, self.begun = every, -float("inf")
        self.local = "://" not in root
        self.page = Path(root) / "reports" / study / "report.html"
        self.resume = f"python study/run.py --resume {shlex.quote(study)} {shlex.quote(f'storage.root={root}')}"
        self.writer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LivePage:
        self.look()
        return self

    def __exit__(self, *_: object) -> None:
        """What is being written is given up, and the page that is there is no longer live, however the study ended.

        The report at the end of a study takes its place; after an interruption it stays, and says how to go on.
        """
        if self.writer is not None:
            self.writer.kill()
            self.writer.wait()
        with contextlib.suppress(OSError):
            if self.local:
                write_file(self.page, halted(self.page.read_text(encoding="utf-8"), self.resume).encode())

    def look(self) -> None:
        """Begin a page where it is time for one, and none is being written; never waits and never fails."""
        now = time.monotonic()
        if not self.local or now - self.begun < self.every:
            return
        if self.writer is not None and self.writer.poll() is None:
            return
        self.begun = now
        nothing = subprocess.DEVNULL
        with contextlib.suppress(OSError):
            self.writer = subprocess.Popen(
                self.command,
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,  # an interruption is the study's
            )

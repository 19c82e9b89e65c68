"""What a person sees while a study runs: trials done, running and failed, the best so far, elapsed and remaining time."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Display:
    """A live line on a terminal; elsewhere a line for every trial that ends.

    Args:
        study: its name.
        total: trials to train.
        metric: name of what `best` is.

    """

    def __init__(self, study: str, total: int, metric: str) -> None:
        self.total, self.metric = total, metric
        self.running, self.done, self.stopped, self.failed = set[str](), 0, 0, 0
        self.best: tuple[float, str] | None = None
        self.noted: str | None = None
        self.start = time.monotonic()
        self.console = Console(stderr=True)
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("ETA {task.fields[eta]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(study, total=total, state="starting", eta="-")

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def started(self, trial: str) -> None:
        """A trial is running."""
        self.running.add(trial)
        self._update()

    def dropped(self, trial: str, line: str) -> None:
        """A trial has ended without an answer, and why."""
        self.running.discard(trial)
        self._update()
        self.note(line)

    def note(self, line: str) -> None:
        """Say something once, however often it is so."""
        if line == self.noted:
            return
        self.noted = line
        if self.console.is_terminal:
            self.bar.console.print(line, style="yellow", markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def ended(self, trial: str, arm: str, status: str, value: float | None, note: str = "") -> None:
        """A trial has ended: done, stopped early or failed."""
        self.running.discard(trial)
        self.done += status == "done"
        self.stopped += status == "stopped"
        self.failed += status == "failed"
        if value is not None and status == "done" and (self.best is None or value > self.best[0]):
            self.best = value, arm
        self._update()
        shown = f"{self.metric} {value:.4f}" if value is not None else note
        line = f"[{self.ended_count}/{self.total}] {arm}: {status}, {shown}"
        if not self.console.is_terminal:
            print(line, file=sys.stderr, flush=True)
        elif status == "failed":
            self.bar.console.print(line, style="red", markup=False)

    @property
    def ended_count(self) -> int:
        """Trials that have ended, however."""
        return self.done + self.stopped + self.failed

    def _update(self) -> None:
        state = f"{len(self.running)} running, {self.stopped} stopped early, {self.failed} failed"
        if self.best is not None:
            state += f", best {self.best[0]:.4f} ({self.best[1]})"
        elapsed, left = time.monotonic() - self.start, self.total - self.ended_count
        eta = str(timedelta(seconds=int(elapsed / self.ended_count * left))) if self.ended_count else "-"
        self.bar.update(self.task, completed=self.ended_count, state=state, eta=eta)

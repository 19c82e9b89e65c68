"""A trial that hangs ends its worker: the process is given so long for every step, and ends itself where that runs out.

The clock is a thread of the interpreter's that needs nothing of the hung one, not even its lock; what every thread was at is written to
the worker's log. Tune then sees a worker that died, and tries the trial again on another.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Seconds that an epoch has at least, and how many times the longest one so far the next may take.
LEAST, TIMES = 600.0, 10.0
# The first step of a trial opens data sets and may train a generator; the last one evaluates and commits.
MORE = 24.0


def patience(seconds: float | None, epochs: Iterable[float] = (), more: bool = True) -> float:
    """Seconds that a step may take.

    Args:
        seconds: that an epoch may take; None for what those so far tell.
        epochs: seconds of those so far.
        more: whether the step does more than an epoch.

    """
    epoch = max(LEAST, TIMES * max(epochs, default=0.0)) if seconds is None else seconds
    return epoch * (MORE if more else 1.0)


@contextmanager
def lease(seconds: float) -> Iterator[None]:
    """End this process, with the stacks of its threads in the log, unless the block ends within so many seconds."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()

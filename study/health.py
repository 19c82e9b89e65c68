"""What a warm worker holds between two trials, and whether that has grown: then the process is replaced."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch

_MIB = 1 << 20
# What may be held beyond half as much again as after the second trial.
SLACK = {
    "memory in bytes": 512 * _MIB,
    "memory of the GPU in bytes": 512 * _MIB,
    "open files": 64,
    "threads": 32,
    "child processes": 8,
}

# What workers tell glibc's malloc: to keep for the next step the blocks below 32 MiB that a step frees. Handed back to the system, they
# would come again as pages to be cleared, a tenth of a step at 64 pixels. Other allocators do not look.
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}


class Health:
    """Compares what this process holds with what it held after its second trial.

    Args:
        interval: seconds between two looks, which cost milliseconds.
        held: measures, by the names of SLACK.

    """

    def __init__(self, interval: float = 1.0, held: Callable[[], dict[str, int]] | None = None) -> None:
        self._interval, self._held = interval, holdings if held is None else held
        self._levels: dict[str, int] = {}
        self._trials, self._looked = 0, -interval

    def complaint(self) -> str | None:
        """To be asked after every trial: what has grown too much, or None."""
        self._trials += 1
        now = time.monotonic()
        if self._trials < 2 or now < self._looked + self._interval:
            return None
        held, self._looked = self._held(), now
        self._levels = self._levels or held
        grown = [
            f"{name} from {self._levels[name]} to {held[name]}"
            for name, slack in SLACK.items()
            if held[name] > 1.5 * self._levels[name] + slack
        ]
        return f"it holds more with every trial: {', '.join(grown)}" if grown else None


def holdings() -> dict[str, int]:
    """What this process holds, by the names of SLACK; 0 for what cannot be told where there is no /proc."""
    own = Path("/proc/self")
    reserved = torch.cuda.memory_reserved() if torch.cuda.is_initialized() else 0
    if not own.exists():
        return dict.fromkeys(SLACK, 0) | {"memory of the GPU in bytes": reserved}
    _give_back()
    fields = dict(line.split(":", 1) for line in (own / "status").read_text().splitlines())
    # Its own pages: those of the mapped data set are the system's to take.
    memory = int(fields.get("RssAnon", fields["VmRSS"]).split()[0]) * 1024
    files, threads = (len(list((own / name).iterdir())) for name in ("fd", "task"))
    return dict(zip(SLACK, (memory, reserved, files, threads, _children(fields["Pid"].strip())), strict=True))


def _give_back() -> None:
    """Have malloc hand to the system what it keeps and nobody holds, where it is glibc's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _children(pid: str) -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold anything; behind it come the state and the parent.
            found += path.read_text().rpartition(")")[2].split()[1] == pid
        except OSError:
            continue
    return found

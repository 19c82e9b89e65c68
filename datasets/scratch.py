"""Scratch: the pixels of a build under way, so that one that was interrupted goes on where it stopped."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

# Its name can be foreseen: a link that somebody else put there is not followed.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
_log = logging.getLogger("datasets")


class Scratch:
    """A file of pixels, one row an image, and beside it a file of one byte a row that says which rows are whole.

    Its context is held by one process at a time: a lock on the second file keeps others waiting. It leaves both files where they are,
    and the next that opens them finds the rows that `keep` has named; `remove` takes them away.
    """

    def __init__(self, path: Path, rows: int, width: int) -> None:
        """Say what is to be kept where.

        Args:
            path: name of the two files, but for their suffixes.
            rows: number of images.
            width: bytes an image.

        """
        self.pixels = path.with_name(path.name + ".pixels")
        self._state = path.with_name(path.name + ".state")
        self._rows, self._width = rows, width

    def __enter__(self) -> Scratch:
        self._lock = _locked(self._state)
        self._file = os.open(self.pixels, _FLAGS, 0o666)
        size = self._rows * self._width
        if os.fstat(self._lock).st_size != self._rows or os.fstat(self._file).st_size != size:
            self._forget()
            os.ftruncate(self._file, size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        os.close(self._file)
        os.close(self._lock)

    def missing(self) -> list[int]:
        """The rows that are still to be written."""
        state = np.frombuffer(os.pread(self._lock, self._rows, 0), np.uint8)
        return np.flatnonzero(state == 0).tolist()

    def write(self, row: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write one row; many threads may, each its own.

        Raises:
            OSError: the disk is full.

        """
        self._write(pixels.data.cast("B"), row)

    def keep(self, rows: Sequence[int]) -> None:
        """Say that rows have been written, after the disk has them: a power cut must not leave holes that count as images."""
        os.fdatasync(self._file)
        for row in rows:
            os.pwrite(self._lock, b"\1", row)

    def compact(self, rows: Sequence[int]) -> None:
        """Move ascending rows to the front and cut off the rest; whoever comes after a crash in the midst begins anew."""
        if len(rows) == self._rows:
            return
        self._forget()
        for target, row in enumerate(rows):
            if target != row:
                self._write(memoryview(os.pread(self._file, self._width, row * self._width)), target)
        os.ftruncate(self._file, len(rows) * self._width)

    def remove(self) -> None:
        """Take both files away; those who wait for the lock see that it is no longer the file that they opened."""
        self.pixels.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def _forget(self) -> None:
        os.ftruncate(self._lock, 0)
        os.ftruncate(self._lock, self._rows)

    def _write(self, data: memoryview, row: int) -> None:
        # Not through a writable mapping, which would answer a full disk by killing the process.
        if os.pwrite(self._file, data, row * self._width) < self._width:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _locked(path: Path) -> int:
    """Open a file that no other process has locked, and lock it until it is closed."""
    told = False
    while True:
        lock = os.open(path, _FLAGS, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    _log.warning("Waiting for another process that builds %s.", path.stem.lstrip("."))
                    told = True
                fcntl.flock(lock, fcntl.LOCK_EX)
            # The one that held it may have removed it.
            if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)

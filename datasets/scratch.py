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
    """A file of pixels, one row an image, and beside it a file of one byte a row that says which rows are whole, and the offset.

    Its context is held by one process at a time: a lock on the second file keeps others waiting. It leaves both files where they are,
    and the next that opens them finds the rows that `keep` has named; `remove` takes them away.
    """

    def __init__(self, path: Path, rows: int, width: int, offset: int) -> None:
        """Say what is to be kept where.

        Args:
            path: name of the two files, but for their suffixes.
            rows: number of images.
            width: bytes an image.
            offset: bytes of the file of pixels that are left free before the first.

        """
        self.pixels = path.with_name(path.name + ".pixels")
        self._state = path.with_name(path.name + ".state")
        self._rows, self._width, self._offset = rows, width, offset

    def __enter__(self) -> Scratch:
        self._lock = _locked(self._state)
        self._file = os.open(self.pixels, _FLAGS, 0o666)
        size = self._offset + self._rows * self._width
        known = os.pread(self._lock, 9, self._rows)
        try:
            # A writer that was killed may have made it longer.
            if known != self._offset.to_bytes(8, "little") or os.fstat(self._file).st_size < size:
                self._forget()
            os.ftruncate(self._file, size)
        except OSError as error:
            self.remove()
            self.__exit__(type(error), error, error.__traceback__)
            raise
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
        state = np.frombuffer(bytearray(os.pread(self._lock, self._rows, 0)), np.uint8)
        state[np.asarray(rows, np.intp)] = 1
        _put(self._lock, state.data, 0)

    def compact(self, rows: Sequence[int]) -> None:
        """Move ascending rows to the front and cut off the rest; whoever comes after a crash in the midst begins anew."""
        if len(rows) == self._rows:
            return
        self._forget()
        for target, row in enumerate(rows):
            if target != row:
                self._write(memoryview(os.pread(self._file, self._width, self._offset + row * self._width)), target)
        os.ftruncate(self._file, self._offset + len(rows) * self._width)

    def images(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """The rows as images (N, H, W, C), mapped."""
        return np.memmap(self.pixels, np.uint8, "r", self._offset, shape)

    def remove(self) -> None:
        """Take both files away; those who wait for the lock see that it is no longer the file that they opened."""
        self.pixels.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def _forget(self) -> None:
        os.ftruncate(self._lock, 0)
        _put(self._lock, memoryview(self._offset.to_bytes(8, "little")), self._rows)

    def _write(self, data: memoryview, row: int) -> None:
        _put(self._file, data, self._offset + row * self._width)


def _put(file: int, data: memoryview, where: int) -> None:
    # Not through a writable mapping, which would answer a full disk by killing the process.
    if os.pwrite(file, data, where) < data.nbytes:
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

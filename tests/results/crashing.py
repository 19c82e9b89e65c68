"""A process that dies in the middle of its work with files."""

import os
from pathlib import Path

OPERATIONS = ("replace", "unlink", "mkdir", "write_bytes")


class Crash(BaseException):
    """Not an Exception: like a SIGKILL, nothing in the code can handle it."""


class Fuse:
    """Lets `left` operations on files happen; then every further one is a crash, a write being cut in half."""

    def __init__(self, monkeypatch):
        self.left = None
        for name in OPERATIONS:
            monkeypatch.setattr(Path, name, self._wrap(getattr(Path, name), name))
        monkeypatch.setattr(os, "fsync", self._wrap(lambda handle: None, "fsync"))

    def _wrap(self, original, name):
        def operation(*args, **kwargs):
            if self.left is not None:
                if self.left == 0:
                    if name == "write_bytes":
                        original(args[0], args[1][: len(args[1]) // 2])
                        self.left = -1
                    raise Crash
                if self.left < 0:
                    raise Crash
                self.left -= 1
            return original(*args, **kwargs)

        return operation

    def run(self, left, work):
        """Whether `work` ended before the fuse blew."""
        self.left = left
        try:
            work()
        except Crash:
            return False
        finally:
            self.left = None
        return True

"""The errors of this room that a user can mend."""

import errno

# They pass, or are mended while a study waits: a full disk, a quota, a server of files that is away, too many open files.
_PASSING = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
)


class StoreError(ValueError):
    """Bad input: the message is one sentence that says what was expected, what was found, where, and what to do."""


class StoreUnavailable(StoreError):  # noqa: N818 - it says what the store is
    """The store cannot take or give rows now, but the same call can succeed later: keep the rows, and try again."""


def passes(error: BaseException) -> bool:
    """Whether what the system refused will pass, or can be mended while one waits."""
    return isinstance(error, OSError) and error.errno in _PASSING

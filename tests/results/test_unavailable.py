"""What passes or can be mended is told apart from what is wrong, and the same call succeeds afterwards."""

import errno
import os
from pathlib import Path

import pytest

from results import Store, StoreError, StoreUnavailable
from tests.results.fakes import content, fake_ablation, fake_trial

PASSES = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE]
STAYS = [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG]


def refuse(patch, owner, name, number):
    def refused(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    patch.setattr(owner, name, refused)


@pytest.mark.parametrize("number", PASSES + STAYS)
@pytest.mark.parametrize(
    "attempt",
    [
        lambda store: store.commit("k", fake_trial("k")),
        lambda store: store.write("members", "s", [{"study": "s", "index": 0}]),
        lambda store: store.compact(),
    ],
)
def test_a_write(store, monkeypatch, number, attempt):
    fake_ablation(store, folds=1, seeds=1)
    before = content(store)
    with monkeypatch.context() as patch:
        refuse(patch, Path, "write_bytes", number)
        with pytest.raises(StoreError, match=os.strerror(number)) as refused:
            attempt(store)
    assert isinstance(refused.value, StoreUnavailable) == (number in PASSES)
    assert "storage.root" in str(refused.value)
    assert content(store) == before
    attempt(store)


@pytest.mark.parametrize("number", PASSES + STAYS)
@pytest.mark.parametrize("compacted", [False, True])
def test_a_read(store, monkeypatch, number, compacted):
    fake_ablation(store, folds=1, seeds=1)
    if compacted:
        store.compact()
    expected = content(store)
    with monkeypatch.context() as patch:
        refuse(patch, os, "open" if compacted else "scandir", number)
        with pytest.raises(StoreError, match=os.strerror(number)) as refused:
            Store(store.root).read("epochs")
    assert isinstance(refused.value, StoreUnavailable) == (number in PASSES)
    assert content(store) == expected

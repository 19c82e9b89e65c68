"""Trials that are cut off go on where they were: the state of a training between two epochs, in one file a trial.

A file is the SHA-256 of the rest, and a safetensors file; what is no tensor is JSON in a tensor of bytes. Reading it runs nothing of it.
It is used only by the code, the versions and the kind of device that wrote it, for the faces that it was trained on: else the trial
begins anew, since its numbers would be those of neither.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from results import StoreError
from results.files import remove, write_file
from study import provenance
from study.records import Row
from study.spec import TrialSpec

if TYPE_CHECKING:
    from results.remote import Remote

FORMAT = 1
SUFFIX, ASIDE = ".checkpoint", ".tmp"
# Seconds after which nobody goes on with a trial, and after which a file that is being written is one that was cut off.
ABANDONED, CUT_OFF = 30 * 86400.0, 3600.0
_TREE, _TAG = "tree", "\0"
_log = logging.getLogger(__name__)


def identity(spec: TrialSpec, device: torch.device) -> Row:
    """What a checkpoint must have in common with the trial that goes on from it."""
    return {
        "format": FORMAT,
        "trial_key": spec.key,
        "numerics": spec.numerics,
        "source_hash": provenance.source_hash(spec.method),
        "data_fingerprint": spec.fingerprint,
        "versions": provenance.versions(),
        "device": device.type,
        "threads": torch.get_num_threads(),
    }


class Checkpoints:
    """The checkpoints under one root, by trial key. A trial does without where the root cannot be reached: that is logged, not raised.

    Args:
        root: a folder, or s3://BUCKET/PREFIX, that all workers see.

    """

    def __init__(self, root: str) -> None:
        self._place: _Folder | Remote
        if "://" in root:
            from results.remote import Remote

            self._place = Remote(root)
        else:
            self._place = _Folder(Path(root))

    def save(self, made_by: Row, state: Row) -> None:
        """Write the state of a trial in the place of its last one, whole or not at all.

        Args:
            made_by: the identity of the trial.
            state: plain data, of mdml.state: tensors, arrays, numbers, text, lists, tuples and dicts.

        """
        data = pack({"made_by": made_by, "state": state})
        try:
            self._place.put(made_by["trial_key"] + SUFFIX, data)
        except (OSError, StoreError) as error:
            _log.warning("Trial %s goes on without a checkpoint: %s", made_by["trial_key"][:12], error)

    def load(self, made_by: Row) -> Row | None:
        """The last state of a trial, on the device that its tensors were on; None where there is none that can be used.

        What cannot be used is removed.
        """
        key = made_by["trial_key"]
        try:
            data = self._place.get(key + SUFFIX)
        except FileNotFoundError:
            return None
        except (OSError, StoreError) as error:
            _log.warning("Trial %s begins anew, since its checkpoint cannot be read: %s", key[:12], error)
            return None
        try:
            found = unpack(data)
            differing = sorted(name for name in made_by if found["made_by"].get(name) != made_by[name])
            if not differing:
                state: Row = found["state"]
                return state
            reason = f"it is of another {', '.join(differing)}"
        except (ValueError, KeyError) as error:
            reason = f"it is damaged ({error})"
        _log.warning("The checkpoint of trial %s is removed and the trial begins anew: %s.", key[:12], reason)
        self.remove([key])
        return None

    def remove(self, keys: Iterable[str]) -> None:
        """Remove the checkpoints of trials, those that are gone included; what stays is swept later."""
        try:
            self._place.delete([key + SUFFIX for key in keys])
        except (OSError, StoreError) as error:
            _log.warning("A checkpoint cannot be removed: %s", error)

    def keys(self) -> set[str]:
        """The trials that have one."""
        try:
            names = [entry.name for entry in self._place.entries("")]
        except (OSError, StoreError) as error:
            _log.warning("Checkpoints cannot be listed: %s", error)
            return set()
        return {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)}

    def sweep(self, ended: Collection[str]) -> None:
        """Remove the checkpoints of trials that have ended or were given up, and what was left of writing one."""
        try:
            unwanted = [
                entry.name
                for entry in self._place.entries("")
                if "/" not in entry.name
                and (
                    (entry.name.endswith(ASIDE) and f"{SUFFIX}." in entry.name and entry.age > CUT_OFF)
                    or (entry.name.endswith(SUFFIX) and entry.name.removesuffix(SUFFIX) in ended)
                    or (entry.name.endswith(SUFFIX) and entry.age > ABANDONED)
                )
            ]
            self._place.delete(unwanted)
        except (OSError, StoreError) as error:
            _log.warning("Old checkpoints cannot be removed: %s", error)


class Keeper:
    """Keeps one trial: it costs at most 2 % of the trial's time, and a minute of training is not worth it.

    Args:
        checkpoints: where.
        spec: of the trial.
        device: that it is trained on.
        every: epochs between two checkpoints; 0 for none, None for as often as that.

    """

    SHARE, LEAST = 0.02, 60.0

    def __init__(self, checkpoints: Checkpoints, spec: TrialSpec, device: torch.device, every: int | None) -> None:
        self._checkpoints, self._every, self._made_by = checkpoints, every, identity(spec, device)
        self._epoch, self._last, self._cost, self._kept = 0, time.monotonic(), 0.0, False

    def found(self) -> Row | None:
        """The state that the trial goes on from, or None."""
        state = None if self._every == 0 else self._checkpoints.load(self._made_by)
        if state is not None:
            self._epoch, self._kept = len(state["training"]["records"]), True
        return state

    def after(self, epoch: int, state: Callable[[], Row]) -> None:
        """After every epoch: write a checkpoint where one is due."""
        begun = time.monotonic()
        if self._every is None:
            due = begun - self._last >= max(self.LEAST, self._cost / self.SHARE)
        else:
            due = self._every > 0 and epoch % self._every == 0
        if due and epoch > self._epoch:
            self._checkpoints.save(self._made_by, state())
            self._last = time.monotonic()
            self._cost, self._kept = self._last - begun, True

    def ended(self) -> None:
        """The trial is committed."""
        if self._kept:
            self._checkpoints.remove([self._made_by["trial_key"]])


class _Entry(NamedTuple):
    """A file of a folder: its name, and its age in seconds."""

    name: str
    age: float


class _Folder:
    """What a results.remote.Remote is to a bucket, to a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def put(self, name: str, data: bytes) -> bool:
        write_file(self._root / name, data)
        return True

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            remove(self._root / name)

    def entries(self, prefix: str) -> Iterator[_Entry]:
        now = time.time()
        for path in sorted(self._root.glob(f"{prefix}*")):
            with suppress(FileNotFoundError):
                yield _Entry(path.name, now - path.stat().st_mtime)


def pack(state: Row) -> bytes:
    """Plain data as bytes."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_packed(state, tensors), separators=(",", ":")).encode()
    tensors[_TREE] = torch.frombuffer(bytearray(tree), dtype=torch.uint8)
    data = tensor_bytes(tensors)
    return hashlib.sha256(data).digest() + data


def unpack(data: bytes) -> Row:
    """What `pack` was given.

    Raises:
        ValueError: these are not the bytes that it gave.

    """
    size = hashlib.sha256().digest_size
    if len(data) < size or hashlib.sha256(memoryview(data)[size:]).digest() != data[:size]:
        raise ValueError(f"expected {size} bytes of SHA-256 and what they are of, found {len(data)} bytes")
    try:
        tensors = read_tensors(data[size:])
    except SafetensorError as error:
        raise ValueError(f"expected a safetensors file behind its SHA-256: {error}") from error
    found: Row = _unpacked(json.loads(tensors.pop(_TREE).numpy().tobytes()), tensors)
    return found


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The JSON that stands for a value; what JSON has no word for is tagged."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # Each with a storage of its own, row by row, as the format wants it.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TAG: "tensor", "name": name, "device": value.device.type}
    if isinstance(value, np.ndarray):
        return {_TAG: "array", "of": _packed(torch.from_numpy(np.ascontiguousarray(value)), tensors)}
    if isinstance(value, tuple):
        return {_TAG: "tuple", "of": [_packed(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_packed(item, tensors) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value) and _TAG not in value:
            return {key: _packed(item, tensors) for key, item in value.items()}
        return {_TAG: "dict", "of": [[key, _packed(item, tensors)] for key, item in value.items()]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"Expected plain data in the state of a trial, found {type(value).__name__}: {value!r:.80}.")


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_TAG)
    if kind == "tensor":
        return tensors[value["name"]].to(value["device"])
    if kind == "array":
        return _unpacked(value["of"], tensors).numpy()
    if kind == "tuple":
        return tuple(_unpacked(value["of"], tensors))
    if kind == "dict":
        return {key: _unpacked(item, tensors) for key, item in value["of"]}
    return {key: _unpacked(item, tensors) for key, item in value.items()}

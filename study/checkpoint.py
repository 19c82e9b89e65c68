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
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from results.files import remove, write_file
from study import provenance
from study.records import Row
from study.spec import TrialSpec

FORMAT = 1
SUFFIX, ASIDE = ".checkpoint", ".tmp"
# Days after which nobody goes on with a trial, and seconds after which a file that is being written is one that was cut off.
ABANDONED_DAYS, CUT_OFF = 30, 3600
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
    """The checkpoints under one root, by trial key.

    Args:
        root: a folder that all workers see.

    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def save(self, made_by: Row, state: Row) -> None:
        """Write the state of a trial in the place of its last one, whole or not at all.

        Args:
            made_by: the identity of the trial.
            state: plain data, of mdml.state: tensors, arrays, numbers, text, lists, tuples and dicts.

        Raises:
            OSError: it cannot be written.

        """
        write_file(self._path(made_by["trial_key"]), pack({"made_by": made_by, "state": state}))

    def load(self, made_by: Row) -> Row | None:
        """The last state of a trial, on the device that its tensors were on; None where there is none that can be used.

        What cannot be used is removed.

        Raises:
            OSError: it is there and cannot be read.

        """
        key = made_by["trial_key"]
        try:
            found = unpack(self._path(key).read_bytes())
            differing = sorted(name for name in made_by if found["made_by"].get(name) != made_by[name])
            if not differing:
                state: Row = found["state"]
                return state
            reason = f"it is of another {', '.join(differing)}"
        except FileNotFoundError:
            return None
        except (ValueError, KeyError) as error:
            reason = f"it is damaged ({error})"
        _log.warning("The checkpoint of trial %s is removed and the trial begins anew: %s.", key[:12], reason)
        self.remove(key)
        return None

    def remove(self, key: str) -> None:
        """Remove the checkpoint of a trial, if there is one."""
        remove(self._path(key))

    def sweep(self, ended: Collection[str]) -> None:
        """Remove the checkpoints of trials that have ended or were given up, and what was left of writing one."""
        now = time.time()
        for path in self._files():
            try:
                age = now - path.stat().st_mtime
                aside = path.name.startswith(".") and path.suffix == ASIDE and age > CUT_OFF
                if aside or (path.suffix == SUFFIX and (path.stem in ended or age > ABANDONED_DAYS * 86400)):
                    remove(path)
            except FileNotFoundError:
                continue

    def _files(self) -> Iterable[Path]:
        return sorted(self.root.iterdir()) if self.root.is_dir() else []

    def _path(self, key: str) -> Path:
        return self.root / f"{key}{SUFFIX}"


class Pace:
    """When to write a checkpoint: it costs at most 2 % of a trial's time, and a minute of training is not worth one.

    Args:
        every: epochs between two; 0 for none, None for as often as that.

    """

    SHARE, LEAST = 0.02, 60.0

    def __init__(self, every: int | None) -> None:
        self.every, self.cost = every, 0.0
        self.last = time.monotonic()

    def due(self, epoch: int) -> bool:
        """Whether to write one after this epoch."""
        if self.every is not None:
            return self.every > 0 and epoch % self.every == 0
        return time.monotonic() - self.last >= max(self.LEAST, self.cost / self.SHARE)

    def written(self, seconds: float) -> None:
        """One was written, which took so long."""
        self.cost, self.last = seconds, time.monotonic()


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
    tensors = read_tensors(data[size:])
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

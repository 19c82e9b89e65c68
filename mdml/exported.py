"""A trained network in a folder: its tensors in model.safetensors, its description in model.json. Reading it runs nothing of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from mdml import evaluation
from mdml.augmentation import augmentation
from mdml.description import MOST_BYTES, Description, shown
from mdml.errors import MethodError
from mdml.methods import Method
from mdml.metrics.neighbours import knn_scores
from mdml.models import BACKBONES, Network
from mdml.train import build_network

DESCRIPTION, TENSORS = "model.json", "model.safetensors"
MOST_TENSOR_BYTES = 4 << 30
_NETWORK, _EMBEDDING, _LABELS = "network.", "memory.embedding", "memory.labels"


class Memory(NamedTuple):
    """The training images of a method that predicts by nearest neighbours: `embedding` (M, N x D) float32, `labels` (M,) int64."""

    embedding: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Exported:
    """A model that predicts.

    Attributes:
        description: what it is.
        method: as the description has it.
        network: in evaluation mode.
        memory: None where the method has a classifier.

    """

    description: Description
    method: Method
    network: Network
    memory: Memory | None

    def probabilities(self, images: Tensor) -> Tensor:
        """Score of every class as evaluation defines it, rows summing to 1: (M, C, S, S) uint8 on the network's device -> (M, classes).

        A classifier gives its softmax, voting slices and nearest neighbours the shares of their votes.
        """
        index = torch.arange(len(images), device=images.device)
        view = augmentation(self.description.augmentation)
        embedded = evaluation.embed(self.network, self.method, images, torch.zeros_like(index), index, view)
        if self.memory is None:
            if embedded.scores is None:
                raise ValueError("A method that predicts by nearest neighbours has no scores without its memory.")
            return embedded.scores
        return knn_scores(*self.memory, embedded.embedding, len(self.description.classes))


def check_free(folder: Path) -> None:
    """Raise MethodError where a model written to `folder` would replace something."""
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise MethodError(
            f"Expected no file and at most an empty folder at {folder}, found something: name another folder."
        )


def save(folder: Path, description: Description, network: Network, memory: Memory | None) -> None:
    """Write a model, the same bytes for the same model: aside, and then both files appear by one rename.

    Args:
        folder: where to; missing or empty.
        description: of the model; tensors_sha256 is filled in.
        network: as trained.
        memory: of a method that predicts by nearest neighbours.

    Raises:
        MethodError: where the folder cannot be written, or holds something.

    """
    check_free(folder)
    tensors = {f"{_NETWORK}{name}": tensor for name, tensor in network.state_dict().items()}
    if memory is not None:
        tensors |= {_EMBEDDING: memory.embedding, _LABELS: memory.labels}
    # Row by row in memory, each with a storage of its own, as the format wants it.
    data = tensor_bytes({name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()})
    description = replace(description, tensors_sha256=hashlib.sha256(data).hexdigest())
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    try:
        aside.mkdir(parents=True)
        for name, content in ((TENSORS, data), (DESCRIPTION, description.json().encode())):
            with (aside / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        aside.replace(folder)
    except OSError as error:
        reason = error.strerror or error
        raise MethodError(f"Expected a folder that a model can be written to, found {folder}: {reason}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(folder: Path, device: torch.device | str = "cpu") -> Exported:
    """Read the model that `save` wrote, on a device.

    No size in the files is believed before a tensor of that size was found in them.

    Raises:
        MethodError: where there is none, or it is not whole, or not one that this code can build.

    """
    if not (folder / DESCRIPTION).is_file():
        raise MethodError(
            f"Expected a folder with {DESCRIPTION} and {TENSORS}, as study/run.py --export writes it, found none at {folder}."
        )
    try:
        return _load(folder, torch.device(device))
    except MethodError as error:
        raise MethodError(f"The model in {folder} cannot be used. {error} Export it again.") from error


def _load(folder: Path, device: torch.device) -> Exported:
    description = Description.parse(_read(folder / DESCRIPTION, MOST_BYTES))
    data = _read(folder / TENSORS, MOST_TENSOR_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    if digest != description.tensors_sha256:
        raise MethodError(
            f"Expected {TENSORS} with the SHA-256 {description.tensors_sha256[:12]}... that {DESCRIPTION} names, found {digest[:12]}...: "
            "it was cut short or changed."
        )
    try:
        tensors = read_tensors(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise MethodError(f"Expected tensors of the safetensors format in {TENSORS}, found none: {error}.") from error
    method, classes = description.make_method(), len(description.classes)
    _check_head(method, description, tensors)
    network = build_network(method, description.backbone, None, description.channels, classes, 0, device)
    wanted = {f"{_NETWORK}{name}": tensor for name, tensor in network.state_dict().items()}
    memory = _memory(method, classes, tensors) if method.prediction == "knn" else None
    known = {*wanted, *((_EMBEDDING, _LABELS) if memory else ())}
    if tensors.keys() - known:
        raise MethodError(f"Expected no tensors beside those of the model, found {shown(min(tensors.keys() - known))}.")
    _check_tensors(wanted, tensors)
    network.load_state_dict({name: tensors[f"{_NETWORK}{name}"] for name in network.state_dict()})
    network.eval()
    return Exported(description, method, network, memory and Memory(*(tensor.to(device) for tensor in memory)))


def _read(file: Path, most: int) -> bytes:
    try:
        if not file.is_file():
            raise MethodError(f"Expected a file {file.name}, found {'nothing' if not file.exists() else 'none'} there.")
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size > most:
                raise MethodError(f"Expected at most {most} bytes in {file.name}, found {size}.")
            return opened.read(most)
    except OSError as error:
        raise MethodError(f"Expected a readable file {file.name}, found none: {error.strerror}.") from error


def _check_head(method: Method, description: Description, tensors: Mapping[str, Tensor]) -> None:
    """The one part whose size the description decides is compared before it takes any memory."""
    try:
        with torch.device("meta"):
            head = method.head(BACKBONES[description.backbone].features, len(description.classes))
    except (RuntimeError, OverflowError, TypeError) as error:
        raise MethodError(
            f"Expected options of a head that can be built, found {shown(description.options)}."
        ) from error
    _check_tensors({f"{_NETWORK}head.{name}": tensor for name, tensor in head.state_dict().items()}, tensors)


def _memory(method: Method, classes: int, tensors: Mapping[str, Tensor]) -> Memory:
    count = tensors[_LABELS].numel() if _LABELS in tensors else 0
    labels = torch.empty(count, dtype=torch.int64, device="meta")
    embedding = torch.empty(count, method.layout.slices * method.layout.width, device="meta")
    _check_tensors({_LABELS: labels, _EMBEDDING: embedding}, tensors)
    memory = Memory(tensors[_EMBEDDING], tensors[_LABELS])
    if not count or memory.labels.min() < 0 or memory.labels.max() >= classes:
        raise MethodError(f"Expected labels 0 to {classes - 1} of at least one image in {_LABELS}, found others.")
    return memory


def _check_tensors(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name, tensor in wanted.items():
        if name not in found:
            raise MethodError(f"Expected a tensor {name} in {TENSORS}, found none.")
        here = found[name]
        if here.shape != tensor.shape or here.dtype != tensor.dtype:
            raise MethodError(
                f"Expected {name} to be {tensor.dtype} {tuple(tensor.shape)}, found {here.dtype} {tuple(here.shape)}."
            )
        if here.is_floating_point() and not here.isfinite().all():
            raise MethodError(f"Expected finite numbers in {name}, found others.")

"""FaceSet: labelled faces in one memory-mapped Arrow file, so that all workers of a node share one copy of the pixels.

The file is an uncompressed Arrow IPC file with a single record batch and one row per face. Pixels are a column of
fixed-size binary values, whose buffer is the array (N, H, W, C) itself: opening copies nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datasets.errors import DatasetError
from datasets.framing import frame

FORMAT = "faceset-1"

Strings = npt.NDArray[np.str_]
_NAMES = {"subjects": "subject", "sequences": "sequence", "official": "official"}  # columns by attribute


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Labelled faces; the pixels stay in the file and are read-only, and names are read when they are first asked for.

    Attributes:
        path: the Arrow file; pickling a FaceSet sends this path alone, and the receiver opens the file itself.
        name: the data set's name.
        images: uint8 (N, H, W, C), 0..255, C = 1 (grey) or 3 (RGB), memory-mapped and read-only.
        labels: int64 (N,), an index into `classes`.
        subjects: str (N,), whose face it is; no subject may be both trained on and tested on.
        sequences: str (N,), the recording that the image is a frame of; a still is a sequence of its own.
        official: str (N,), "train", "val" or "test", or "" where the data set has no official split.
        classes: names of the expressions, by label.
        fingerprint: 64 hexadecimal digits, see `content_fingerprint`.

    """

    path: Path
    name: str
    images: npt.NDArray[np.uint8] = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)
    subjects: Strings = field(repr=False)
    sequences: Strings = field(repr=False)
    official: Strings = field(repr=False)
    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def neutral(self) -> int | None:
        """Label of the class that is named neutral, whatever the case; None without one."""
        return next((label for label, name in enumerate(self.classes) if name.casefold() == "neutral"), None)

    def __reduce__(self) -> tuple[Any, ...]:
        return FaceSet.open, (self.path,)

    def __getattr__(self, name: str) -> Strings:
        # Python asks here for what an opened set does not hold yet: a million names take more memory and time than all the rest.
        column = _NAMES.get(name)
        if column is None or "_batch" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.__dict__[name] = _strings(self.__dict__["_batch"], column)
        return self.__dict__[name]

    def private(self) -> FaceSet:
        """The same faces with pixels and labels that can be written to: what is written stays in this process, and takes its memory."""
        offset = self.__dict__.get("_offset")
        pixels = (
            self.images.copy()
            if offset is None
            else np.memmap(self.path, np.uint8, "c", offset=offset, shape=self.images.shape)
        )
        faces = object.__new__(FaceSet)
        faces.__dict__.update(self.__dict__ | {"images": pixels, "labels": self.labels.copy()})
        return faces

    @staticmethod
    def open(path: str | Path) -> FaceSet:
        """Map the file that `write_faceset` wrote.

        Raises:
            DatasetError: the file is missing, cut short, or no face set of this version.

        """
        path = Path(path)
        try:
            source = pa.memory_map(str(path))
            start = source.read_buffer(1).address
            batch = pa.ipc.open_file(source).get_batch(0)
            metadata = {key.decode(): value.decode() for key, value in (batch.schema.metadata or {}).items()}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}")
            shape = (batch.num_rows, *json.loads(metadata["image_shape"]))
            images = np.frombuffer(batch.column("image").buffers()[1], np.uint8, count=int(np.prod(shape)))
            for column in _NAMES.values():
                if not pa.types.is_string(batch.schema.field(column).type):
                    raise ValueError(f"its column {column} holds no text")
            labels, classes = _numbers(batch.column("label"), np.int64), tuple(json.loads(metadata["classes"]))
            if labels.min() < 0 or labels.max() >= len(classes):
                raise ValueError(f"its labels are {labels.min()}..{labels.max()}, of {len(classes)} classes")
            faces = object.__new__(FaceSet)
            faces.__dict__.update(
                path=path,
                name=metadata["name"],
                images=images.reshape(shape),
                labels=labels,
                classes=classes,
                fingerprint=metadata["fingerprint"],
                _batch=batch,
                _offset=batch.column("image").buffers()[1].address - start,
            )
            return faces
        except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
            reason = str(error).strip().rstrip(".").splitlines()[0]
            raise DatasetError(
                f"expected a whole face set of format {FORMAT} in {path}, but {reason}; delete the file, "
                "and the next run builds it again."
            ) from error


def write_faceset(
    path: str | Path,
    *,
    name: str,
    images: npt.NDArray[np.uint8],
    labels: npt.ArrayLike,
    subjects: Sequence[str] | Strings,
    sequences: Sequence[str] | Strings,
    classes: Sequence[str],
    official: Sequence[str] | Strings | None = None,
    fingerprint: str | None = None,
    inside: Path | None = None,
) -> Path:
    """Write a face set so that readers see all of it or nothing.

    The bytes depend on the arguments alone; of several writers at once, any may be the last.

    Args:
        path: where to; the folder is made where it is missing.
        name: the data set's name.
        images: uint8 (N, H, W, C); may itself be memory-mapped, it is streamed to the file.
        labels: integers (N,) in 0..len(classes)-1.
        subjects: N names.
        sequences: N names.
        classes: names of the expressions, by label.
        official: N of "train", "val", "test" or ""; None for no official split.
        fingerprint: what `content_fingerprint` gave for all this, where it has been asked already.
        inside: a file in the same folder that holds the images at `pixel_offset` already; it becomes the face set, and nothing is copied.

    Raises:
        DatasetError: the arrays do not fit each other, or the folder cannot be written.

    """
    path = Path(path)
    labels = np.asarray(labels, np.int64)
    subjects, sequences = np.asarray(subjects, np.str_), np.asarray(sequences, np.str_)
    official = np.asarray([""] * len(labels) if official is None else official, np.str_)
    _check(images, labels, [subjects, sequences, official], classes)
    fingerprint = fingerprint or content_fingerprint(images, labels, subjects, sequences, official, classes)
    batch = _batch(name, classes, fingerprint, images, labels, [subjects, sequences, official])
    aside = inside or path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if inside:
            before, after = frame(batch)
            with inside.open("r+b") as file:
                file.write(before)
                file.seek(len(before) + images.nbytes)
                file.write(after)
                file.truncate()
        else:
            # Not through a file of Python's, which would copy the pixels once more.
            with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.replace(path)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    finally:
        # The part is gone after the rename; where the folder itself could not be made, there is nothing to remove.
        if not inside and aside.parent.is_dir():
            aside.unlink(missing_ok=True)
    return path


def pixel_offset(name: str, classes: Sequence[str], shape: tuple[int, int, int]) -> int:
    """Where the pixels of a face set of images (H, W, C) lie in its file, in bytes from the beginning, however many they are."""
    images = np.zeros((1, *shape), np.uint8)
    before, _ = frame(_batch(name, classes, "0" * 64, images, np.zeros(1, np.int64), [np.array([""])] * 3))
    return len(before)


def _batch(
    name: str,
    classes: Sequence[str],
    fingerprint: str,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    texts: Sequence[Strings],
) -> pa.RecordBatch:
    """All of a face set; `texts` are subjects, sequences and official."""
    metadata = {
        "format": FORMAT,
        "name": name,
        "classes": json.dumps(list(classes)),
        "image_shape": json.dumps(images.shape[1:]),
        "fingerprint": fingerprint,
    }
    width = int(np.prod(images.shape[1:]))
    columns: list[tuple[pa.DataType, list[Any]]] = [
        (pa.binary(width), [np.ascontiguousarray(images).reshape(-1)]),
        (pa.int64(), [np.ascontiguousarray(labels)]),
    ]
    for values in texts:
        words = [value.encode() for value in values.tolist()]
        ends = np.cumsum([0, *map(len, words)], dtype=np.int32)
        columns.append((pa.string(), [ends, b"".join(words)]))
    # Not by `array`, which imports pandas where it is there.
    arrays = [
        pa.Array.from_buffers(kind, len(images), [None, *map(pa.py_buffer, buffers)]) for kind, buffers in columns
    ]
    batch = pa.record_batch(arrays, names=["image", "label", "subject", "sequence", "official"])
    return batch.replace_schema_metadata(metadata)


class Fingerprint:
    """SHA-256 over everything that a trial can see of a data set: equal content, equal digits, on any machine.

    Neither the name nor paths, times or library versions enter.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        labels: npt.NDArray[np.int64],
        subjects: Strings,
        sequences: Strings,
        official: Strings,
        classes: Sequence[str],
    ) -> None:
        """Begin with everything but the images (N, H, W, C), which `take` is given in their order."""
        words = [subjects.tolist(), sequences.tolist(), official.tolist(), list(classes), list(shape)]
        self._digest = hashlib.sha256(json.dumps([FORMAT, *words]).encode())
        self._digest.update(labels.astype("<i8").tobytes())
        self.taken = 0

    def take(self, images: npt.NDArray[np.uint8]) -> None:
        """Go on with the next images."""
        for start in range(0, len(images), 1024):
            self._digest.update(np.ascontiguousarray(images[start : start + 1024]).data)
        self.taken += len(images)

    def digits(self) -> str:
        """64 hexadecimal digits, once all images are taken."""
        return self._digest.hexdigest()


def content_fingerprint(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    subjects: Strings,
    sequences: Strings,
    official: Strings,
    classes: Sequence[str],
) -> str:
    """The `Fingerprint` of a whole data set."""
    fingerprint = Fingerprint(images.shape, labels, subjects, sequences, official, classes)
    fingerprint.take(images)
    return fingerprint.digits()


def cannot_write(folder: Path, error: OSError) -> DatasetError:
    """The sentence for a cache folder that cannot be written to."""
    return DatasetError(
        f"expected a folder that can be written to for prepared face sets, but {folder} cannot be: "
        f"{error.strerror or error}; make it writable, free space on it, or name another cache folder."
    )


def _strings(batch: pa.RecordBatch, column: str) -> Strings:
    """A column of text as an array; each word is decoded once."""
    encoded = batch.column(column).dictionary_encode()
    return np.array(encoded.dictionary.to_pylist(), np.str_)[_numbers(encoded.indices, np.int32)]


def _numbers(column: pa.Array, kind: type[np.integer]) -> npt.NDArray[Any]:
    """The buffer of a column itself: `to_numpy` would import pandas where it is there, which costs more than opening a million faces."""
    return np.frombuffer(column.buffers()[1], kind, count=len(column))


def _check(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], strings: list[Strings], classes: Sequence[str]
) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise DatasetError(
            f"expected images of uint8 (N, H, W, 1 or 3) with N > 0, found {images.dtype} {images.shape}."
        )
    lengths = [len(images), len(labels), *map(len, strings)]
    if labels.ndim != 1 or len(set(lengths)) > 1:
        raise DatasetError(f"expected one label, subject, sequence and split per image, found {lengths} of them.")
    if labels.min() < 0 or labels.max() >= len(classes) or len(set(classes)) < len(classes):
        raise DatasetError(
            f"expected labels within 0..{len(classes) - 1} and distinct class names, "
            f"found labels {labels.min()}..{labels.max()} and classes {', '.join(classes)}."
        )
    unknown = sorted(set(strings[2].tolist()) - {"", "train", "val", "test"})
    if unknown:
        raise DatasetError(f"expected an official split of train, val, test or nothing, found {', '.join(unknown)}.")

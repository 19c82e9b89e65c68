"""Where a trial stands in a generation of compact files, found without reading them.

The index is an Arrow file of the trials in the order of their keys, which have one width, so that a search over a
memory map touches a few pages; on S3 a search fetches the blocks that may hold the key.
"""

import bisect
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

# Place in STATUSES, how often it was retrained, and the microseconds since 1970 at which a failed trial ended, else 0.
Standing = tuple[int, int, int]
BLOCK = 8192  # trials of one record batch
FIRST, REPLACES = b"first_keys", b"replaces"
VALUES = {"status": pa.int8(), "retrained": pa.int32(), "ended": pa.int64(), "row": pa.int64()}


class Index:
    """The trials of one generation: key -> standing, and the number of its row in the file of trials.

    `replaces` are those of its keys that older generations have, too; there the rows no longer count.
    """

    def __init__(self, source: pa.NativeFile) -> None:
        self._file = pa.ipc.open_file(source)
        metadata = self._file.schema.metadata
        self._first = metadata[FIRST].split(b"\n") if metadata[FIRST] else []
        self._blocks: dict[int, pa.RecordBatch] = {}
        self.replaces = frozenset(metadata[REPLACES].decode().split()) if metadata[REPLACES] else frozenset[str]()

    def find(self, keys: Collection[str]) -> dict[str, tuple[Standing, int]]:
        """Standing and row of those of `keys` that are here."""
        asked: dict[int, list[str]] = {}
        for key in keys:
            asked.setdefault(bisect.bisect_right(self._first, key.encode()) - 1, []).append(key)
        found = {}
        for number, wanted in asked.items():
            if number < 0:
                continue
            block = self._block(number)
            there = _keys(block)
            fitting = [key for key in wanted if len(key) <= there.itemsize]
            places: Any = np.searchsorted(there, np.array(fitting, there.dtype)) if fitting else []
            for key, place in zip(fitting, places, strict=True):
                if place < len(there) and there[place] == key.encode():
                    status, retrained, ended, row = (block[name][int(place)].as_py() for name in VALUES)
                    found[key] = (status, retrained, ended), row
        return found

    def arrays(self) -> dict[str, Any]:
        """Keys and values of all trials as arrays of numpy, in the order of the rows."""
        blocks = list(self._all())
        found = {name: np.concatenate([block[name].to_numpy() for block in blocks]) for name in VALUES}
        found["trial_key"] = np.concatenate([_keys(block) for block in blocks])
        order = np.argsort(found["row"])
        return {name: values[order] for name, values in found.items()}

    def statuses(self) -> Iterator[tuple[str, int]]:
        """Key and place in STATUSES of all trials."""
        for block in self._all():
            yield from zip(map(bytes.decode, _keys(block).tolist()), block["status"].to_pylist(), strict=True)

    def _all(self) -> Iterator[pa.RecordBatch]:
        return map(self._block, range(self._file.num_record_batches))

    def _block(self, number: int) -> pa.RecordBatch:
        if number not in self._blocks:
            self._blocks[number] = self._file.get_batch(number)
        return self._blocks[number]


def index_bytes(arrays: dict[str, Any], replaces: Collection[str]) -> pa.Buffer:
    """The file of an index, from what `Index.arrays` gives; equal trials give equal bytes."""
    order = np.argsort(arrays["trial_key"], kind="stable")
    keys = np.ascontiguousarray(arrays["trial_key"][order])
    text = pa.binary(keys.itemsize)
    columns = [pa.Array.from_buffers(text, len(keys), [None, pa.py_buffer(keys)])]
    columns += [pa.array(arrays[name][order], kind) for name, kind in VALUES.items()]
    metadata = {FIRST: b"\n".join(keys[::BLOCK].tolist()), REPLACES: "\n".join(sorted(replaces)).encode()}
    schema = pa.schema([("trial_key", text), *VALUES.items()], metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=schema), max_chunksize=BLOCK)
    return sink.getvalue()


def _keys(block: pa.RecordBatch) -> Any:
    column = block["trial_key"]
    values = np.frombuffer(column.buffers()[1], f"S{column.type.byte_width}")
    return values[column.offset : column.offset + len(column)]

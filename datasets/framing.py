"""Framing: what an Arrow file holds before and after its pixels, so that they need not move from where they have been decoded to."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa


def frame(batch: pa.RecordBatch) -> tuple[bytes, bytes]:
    """What the Arrow file of a batch holds before the buffer of its first column, and after it; that buffer is not looked at.

    How long the first part is does not depend on the number of rows or on what the columns hold, but on the version of pyarrow.
    """
    around = _Around(batch.column(0).buffers()[1].address)
    with pa.PythonFile(around, "w") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    before, after = around.parts
    return bytes(before), bytes(after)


class _Around(io.RawIOBase):
    """A file that parts where the buffer at an address is written, and takes all but that."""

    def __init__(self, address: int) -> None:
        self._address = address
        self.parts = [bytearray()]

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        # Large buffers come as they are, and only what lies around them as bytes.
        if isinstance(data, pa.Buffer) and data.address == self._address:
            self.parts.append(bytearray())
            return data.size
        self.parts[-1] += data
        return len(data)

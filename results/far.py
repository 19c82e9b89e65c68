"""A store in S3, read where it is: no more than the columns and row groups that are asked for are fetched.

Credentials, region and endpoint come from the standard chain (environment, profile, role of the instance); the
endpoint also from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL. Nothing of them is kept, shown or logged here.
"""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from results.errors import StoreError
from results.files import read_parquet
from results.layout import SUFFIX, Held, Layout, Signature


def far_layout(root: str) -> "FarLayout":
    """The layout of the store under `root`, s3://BUCKET/PREFIX.

    Raises:
        StoreError: it is no such address.

    """
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[^/?#]+)*)/?", root)
    if not found or {".", ".."} & set(found[2].split("/")):
        raise StoreError(f"Expected a folder or s3://BUCKET/PREFIX for the results, found {root}: set storage.root.")
    return FarLayout(Path(found[1] + found[2]), root, _s3())


def _s3() -> fs.FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return fs.S3FileSystem(
        endpoint_override=endpoint or None,
        region=os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or ("us-east-1" if endpoint else None),
        connect_timeout=10,
        request_timeout=60,
    )


class FarLayout(Layout):
    """A store whose files another file system has. It can be read only, as yet."""

    def __init__(self, root: Path, address: str, filesystem: fs.FileSystem) -> None:
        super().__init__(root)
        object.__setattr__(self, "address", address.rstrip("/"))
        object.__setattr__(self, "filesystem", filesystem)

    address: str
    filesystem: fs.FileSystem
    readable_in_bulk = False

    def parts(self, table: str) -> dict[str, Signature]:
        """The parts of a table by name, each with what changes when the part is replaced."""
        selector = fs.FileSelector(f"{self.root}/parts/{table}", allow_not_found=True)
        with self._errors():
            infos = self.filesystem.get_file_info(selector)
        found = {}
        for info in infos:
            name = PurePosixPath(info.path).name
            if info.type == fs.FileType.File and name.endswith(SUFFIX) and not name.startswith("."):
                found[name[: -len(SUFFIX)]] = (0, info.mtime_ns or 0, info.size)
        return dict(sorted(found.items()))

    def names(self, table: str) -> set[str]:
        """The names of the parts of a table."""
        return set(self.parts(table))

    def signature(self, table: str, name: str) -> Signature | None:
        """What changes when a part is replaced; None when there is no such part."""
        return self.parts(table).get(name)

    def read_part(self, table: str, name: str, schema: pa.Schema, *, strict: bool = False) -> Iterator[pa.Table]:
        """The rows of one part, as `read_parquet` has them."""
        path = self.part(table, name)
        with self._errors(), self.filesystem.open_input_file(str(path)) as source:
            data = source.read()
        yield from read_parquet(pq.ParquetFile(pa.BufferReader(data)), schema, name=f"s3://{path}", strict=strict)

    def hold(self, path: Path) -> Held:
        """Open a file. It is not kept from being removed: reading it then raises FileNotFoundError."""
        return FarHeld(path, self.filesystem)

    def manifest(self) -> bytes:
        """The manifest as it is now."""
        with self._errors(), self.filesystem.open_input_file(f"{self.root}/MANIFEST.json") as source:
            data: bytes = source.read()
            return data

    def check_kind(self) -> None:
        """Refuse to write."""
        raise StoreError(f"{self.address} can be read only: set storage.root to a folder to write results.")

    def writing(self) -> AbstractContextManager[None]:
        """Refused."""
        self.check_kind()
        raise AssertionError

    compacting = writing

    def _errors(self) -> AbstractContextManager[None]:
        return _Errors(self.address)


class FarHeld(Held):
    """A file of another file system."""

    def __init__(self, name: Path, filesystem: fs.FileSystem) -> None:
        self.name, self.filesystem = name, filesystem
        self.path = None

    def open(self, *, mapped: bool = False) -> pa.NativeFile:
        """The file, to be read at any place."""
        with _Errors(f"s3://{self.name}"):
            return self.filesystem.open_input_file(str(self.name))

    def dataset(self, schema: pa.Schema) -> Any:
        """The file as a dataset, whose columns and row groups are fetched when they are asked for."""
        format_ = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
        with _Errors(f"s3://{self.name}"):
            return ds.FileSystemDataset.from_paths(
                [str(self.name)], schema=schema, format=format_, filesystem=self.filesystem
            )

    def close(self) -> None:
        """Nothing is held."""


class _Errors(AbstractContextManager[None]):
    """Says of a failed request what was asked for; what is not there stays FileNotFoundError."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (OSError, pa.ArrowException)) and not isinstance(error, FileNotFoundError):
            reason = re.sub(r"https?://\S+", "the endpoint", " ".join(str(error).split())).rstrip(".")
            raise StoreError(
                f"Expected results that can be read at {self._address}, found: {reason}; check the address, "
                "the credentials, the region and AWS_ENDPOINT_URL."
            ) from None

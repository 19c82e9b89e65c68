"""Objects under s3://BUCKET/PREFIX: read, listed, written and removed, each request tried again until the server takes it.

Credentials, region and endpoint come from the standard chain (environment, profile, container, role of the instance;
AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL), which renews those of a role before they expire. Where the server says that
they have expired, the chain is read anew, so that a file or profile that was rewritten is found by a living process.
Nothing of them is kept, shown or logged here.
"""

import io
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from results.errors import StoreError
from results.refusals import Refusal, refusal_of

Result = TypeVar("Result")
Item = TypeVar("Item")
# Seconds: the first wait before a request is tried again, doubled each time up to the second one, each cut at random
# ("full jitter"); and how long to go on, which outlasts a minute without network. A server that has never answered may
# not exist, and is given up earlier.
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0
PATIENCE, FIRST_PATIENCE = 150.0, 15.0
THREADS = 16
PART = 16 << 20  # bytes of one request of a large file
MOST_PARTS = 10_000
TAIL = 1 << 16  # bytes fetched when a file is opened: the footers of most, which say where all else is
ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[^/?#]+)*)/?")
# Names the encryption that is asked for with every object written: AES256, aws:kms or aws:kms:KEY; without, it is the bucket's.
ENCRYPTION = "S3_ENCRYPTION"
ABSENT = ""  # in place of an ETag: there must be no such object


class Entry(NamedTuple):
    """An object as it was listed.

    Attributes:
        name: below the address.
        etag: changes with its content.
        size: in bytes.
        modified: when it was written, in seconds since 1970 by the server's clock, which tells whole ones.
        age: seconds since then.

    """

    name: str
    etag: str
    size: int
    modified: float
    age: float


class Remote:
    """The objects under one address; it can be pickled, and connects in the process that uses it.

    Args:
        address: s3://BUCKET/PREFIX.

    Raises:
        StoreError: it is no such address, or S3_ENCRYPTION is none of the known; and from every method what a server refuses for good.
        StoreUnavailable: from every method, when the server did not take a request for PATIENCE seconds.

    """

    def __init__(self, address: str) -> None:
        found = ADDRESS.fullmatch(address)
        if not found or {".", ".."} & set(found[2].split("/")):
            shown = re.sub(r"(?<=://)[^/]*@", "...@", address)
            raise StoreError(f"Expected a folder or s3://BUCKET/PREFIX to keep things in, found {shown}: correct it.")
        self.address = address.rstrip("/")
        self.bucket, self.prefix = found[1], found[2].strip("/") + "/" if found[2] else ""
        self._encryption = _encryption(os.environ.get(ENCRYPTION))
        self._client: Any = None
        self._answered = False
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Remote, (self.address,)

    def get(self, name: str) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: there is no such object; so from the other methods that read.

        """
        return self.get_with_etag(name)[0]

    def get_with_etag(self, name: str) -> tuple[bytes, str]:
        """The content of an object, and what `put` takes to replace no other."""

        def request(client: Any) -> tuple[bytes, str]:
            answer = client.get_object(Bucket=self.bucket, Key=self.prefix + name)
            return answer["Body"].read(), answer["ETag"]

        return self._try("read", name, request)

    def get_range(self, name: str, span: str) -> tuple[bytes, int]:
        """The bytes of a span, as FIRST-LAST or -COUNT from the end, and the size of the whole object."""

        def request(client: Any) -> tuple[bytes, int]:
            answer = client.get_object(Bucket=self.bucket, Key=self.prefix + name, Range=f"bytes={span}")
            return answer["Body"].read(), int(answer["ContentRange"].rpartition("/")[2])

        return self._try("read", name, request)

    def open(self, name: str, ends: dict[str, tuple[bytes, int]] | None = None) -> "RemoteFile":
        """The object as a file that is read where it is asked for; `ends` are remembered of objects that never change."""
        return RemoteFile(self, name, {} if ends is None else ends)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """The objects whose names begin so, in the order of their names."""
        more: dict[str, str] = {}
        while True:
            sent = {"Bucket": self.bucket, "Prefix": self.prefix + prefix, **more}
            answer = self._try("list", prefix, partial(_listed, sent))
            now = _date(answer)
            for found in answer.get("Contents", ()):
                name, modified = found["Key"][len(self.prefix) :], found["LastModified"].timestamp()
                yield Entry(name, found["ETag"], found["Size"], modified, now - modified)
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def put(self, name: str, data: bytes, *, replaces: str | None = None) -> bool:
        """Write an object, whole.

        Args:
            name: of the object.
            data: its content.
            replaces: write only over the object of this ETag, or, where it is ABSENT, only over none.

        Returns:
            Whether it was written; False where another stands there.

        """
        if replaces is None and len(data) > PART:
            self._put_parts(name, len(data), lambda start, length: data[start : start + length])
            return True
        sent = {"Bucket": self.bucket, "Key": self.prefix + name, "Body": data, **self._encryption}
        if replaces is not None:
            sent |= {"IfMatch": replaces} if replaces else {"IfNoneMatch": "*"}
        try:
            self._try("write", name, lambda client: client.put_object(**sent))
        except (FileExistsError, FileNotFoundError):
            # An attempt may have succeeded although its answer was lost.
            with suppress(FileNotFoundError):
                return self.get(name) == data
            return False
        return True

    def upload(self, path: Path, name: str) -> None:
        """Write an object from a file of any size."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= PART:
                self.put(name, file.read())
            else:
                self._put_parts(name, size, lambda start, length: os.pread(file.fileno(), length, start))

    def _put_parts(self, name: str, size: int, read: Callable[[int, int], bytes]) -> None:
        """Write an object in parts, each tried again for itself; `read` gives the bytes from a place on, so many."""
        place = {"Bucket": self.bucket, "Key": self.prefix + name}
        begun = self._try("write", name, lambda client: client.create_multipart_upload(**place, **self._encryption))
        place["UploadId"] = begun["UploadId"]
        length = max(PART, -(-size // MOST_PARTS))

        def send(number: int) -> dict[str, Any]:
            data = read((number - 1) * length, length)
            part = self._try("write", name, lambda client: client.upload_part(**place, PartNumber=number, Body=data))
            return {"PartNumber": number, "ETag": part["ETag"]}

        try:
            parts = {"Parts": list(self.map(send, range(1, -(-size // length) + 1), threads=4))}
            try:
                self._try(
                    "write", name, lambda client: client.complete_multipart_upload(**place, MultipartUpload=parts)
                )
            except FileNotFoundError:  # no such upload: it was completed, and the answer lost
                if self.get_range(name, "0-0")[1] != size:
                    raise StoreError(f"Expected {size} bytes in {self.address}/{name}, found others.") from None
        except BaseException:
            with suppress(StoreError, FileNotFoundError):
                self._try("remove", name, lambda client: client.abort_multipart_upload(**place), patience=0.0)
            raise

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects, those that are gone included."""
        keys = [{"Key": self.prefix + name} for name in names]
        for start in range(0, len(keys), 1000):
            some = {"Objects": keys[start : start + 1000], "Quiet": True}

            def request(client: Any, some: Mapping[str, Any] = some) -> None:
                answer = client.delete_objects(Bucket=self.bucket, Delete=some)
                for error in answer.get("Errors", ()):
                    raise client.exceptions.ClientError({"Error": error}, "DeleteObjects")

            self._try("remove", "", request)

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], *, threads: int = THREADS
    ) -> Iterator[Result]:
        """The results in the order of the items, some of them worked on ahead, and not more than that held in memory."""
        with ThreadPoolExecutor(threads) as pool:
            waiting = []
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) > threads:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _try(self, verb: str, name: str, request: Callable[[Any], Result], patience: float | None = None) -> Result:
        """Send a request until it is answered, refused for good, or patience is out."""
        begun, wait = time.monotonic(), FIRST_WAIT
        while True:
            client = None
            try:
                client = self._connected()
                result = request(client)
            except Exception as error:
                refusal = refusal_of(error)
                if refusal is None:
                    raise
                if refusal.absent:
                    raise FileNotFoundError(f"{self.address}/{name}") from None
                if refusal.occupied:
                    raise FileExistsError(f"{self.address}/{name}") from None
                if refusal.expired:
                    self._forget(client)
                left = self._patience(refusal) if patience is None else patience
                if time.monotonic() - begun + wait > left:
                    known = self._answered or not refusal.expired
                    raise refusal.as_error(f"{verb} {self.address}/{name}".rstrip("/"), known) from None
                time.sleep(random.uniform(0, wait))  # noqa: S311 - no secret
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            self._answered = True
            return result

    def _patience(self, refusal: Refusal) -> float:
        if not refusal.passes and not (refusal.expired and self._answered):
            return 0.0
        return PATIENCE if self._answered else FIRST_PATIENCE

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _connect()
            return self._client

    def _forget(self, client: Any) -> None:
        """Read the chain anew with the next request, unless another thread has done so already."""
        with self._lock:
            if self._client is client:
                self._client = None


def _encryption(wanted: str | None) -> dict[str, str]:
    """What a request that writes says of encryption."""
    if not wanted:
        return {}
    kind = re.fullmatch(r"AES256|(aws:kms)(?::(\S+))?", wanted)
    if not kind:
        raise StoreError(f"Expected {ENCRYPTION} to be AES256, aws:kms or aws:kms:KEY, found {wanted}: correct it.")
    return {"ServerSideEncryption": kind[1] or wanted} | ({"SSEKMSKeyId": kind[2]} if kind[2] else {})


@lru_cache(maxsize=1)
def _models() -> Any:
    """Botocore's descriptions of the services, which take longer to read than it takes to connect: once a process."""
    from botocore.loaders import create_loader

    return create_loader()


def _connect() -> Any:
    import boto3  # here, as a store in a folder needs none of it
    from botocore.config import Config
    from botocore.session import Session

    chain = Session()
    chain.register_component("data_loader", _models())
    # The default, one, takes a moment's hush of the instance's metadata for an instance without a role.
    chain.set_config_variable("metadata_service_num_attempts", 3)
    session = boto3.session.Session(botocore_session=chain)
    region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
    config = Config(
        connect_timeout=10, read_timeout=60, retries={"total_max_attempts": 1}, max_pool_connections=2 * THREADS
    )
    client = session.client("s3", region_name=region, config=config)
    if ".amazonaws." not in client.meta.endpoint_url:  # servers of one's own seldom have a name for every bucket
        client = session.client("s3", region_name=region, config=config.merge(Config(s3={"addressing_style": "path"})))
    return client


def _listed(sent: Mapping[str, Any], client: Any) -> Any:
    return client.list_objects_v2(**sent)


def _date(answer: Mapping[str, Any]) -> float:
    """The server's own time in seconds since 1970, as the clock of this machine may be wrong."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()


class RemoteFile(io.RawIOBase):
    """An object that is read where it is asked for; its end is fetched when it is opened."""

    def __init__(self, remote: Remote, name: str, ends: dict[str, tuple[bytes, int]]) -> None:
        super().__init__()
        self._remote, self._name, self._place = remote, name, 0
        if name not in ends:
            ends[name] = remote.get_range(name, f"-{TAIL}")
        self._tail, self._size = ends[name]

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        """The place."""
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        """The bytes from here on, `size` of them at most."""
        end = self._size if size is None or size < 0 else min(self._place + size, self._size)
        begin, tail = self._place, self._size - len(self._tail)
        if begin >= end:
            return b""
        if begin >= tail:
            data = self._tail[begin - tail : end - tail]
        else:
            data, _ = self._remote.get_range(self._name, f"{begin}-{end - 1}")
        self._place = end
        return data

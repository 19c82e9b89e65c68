"""The faces of a study on every node: prepared once where the pictures are, kept in S3, copied once to each machine.

In S3 the file that `datasets.prepare` makes lies under the fingerprint of its content, with a note beside it that is
written last. A machine copies it under a lock, goes on where a copy was cut off, and lets nobody see it before its
SHA-256 is right.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import DatasetError, FaceSet, open_dataset
from results.errors import StoreError, StoreUnavailable, passes
from results.files import digest, locked, sync_folder, write_file
from results.layout import NAME
from results.remote import PART, Remote

BUILT = Path(__file__).resolve().parents[1] / "datasets" / "cache"
COPY = "copy.json"
TRIES = 2  # a copy that is damaged on the way is fetched once more


def open_faces(
    dataset: Mapping[str, Any], image_size: int, channels: int, cache: str, fingerprint: str | None = None
) -> FaceSet:
    """Open a data set, after building its file or fetching it where this machine does not hold it yet.

    Args:
        dataset: `name`, and the options of `datasets.open_dataset`.
        image_size: height and width of the images in pixels.
        channels: 1 for grey, 3 for RGB.
        cache: folder of the files, or s3://BUCKET/PREFIX, which all nodes share: there each machine has a copy of its own.
        fingerprint: of the faces that are wanted, where that is known: a copy of them needs no pictures to be built from.

    Raises:
        DatasetError: it cannot be built.
        StoreError: it cannot be shared or fetched; StoreUnavailable where that will pass or can be mended.

    """
    name, options = dataset["name"], {name: value for name, value in dataset.items() if name != "name"}
    if "://" not in cache:
        return open_dataset(name, image_size=image_size, channels=channels, cache=cache, **options)
    shared = Remote(cache)
    asked = json.dumps([name, image_size, channels, options], sort_keys=True)
    request = f"requests/{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
    root = options.get("root")
    try:
        if fingerprint is None and root and not Path(root).exists():  # another machine has the pictures
            fingerprint = str(json.loads(shared.get(request))["fingerprint"])
        if fingerprint:
            return FaceSet.open(_fetched(shared, fingerprint))
    except FileNotFoundError:
        pass  # nobody has built it yet
    faces = open_dataset(name, image_size=image_size, channels=channels, cache=BUILT, **options)
    _share(shared, faces, request)
    return faces


def home() -> Path:
    """The folder of this machine's copies, for its user alone."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mul-dml-studies" / "faces"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _share(shared: Remote, faces: FaceSet, request: str) -> None:
    """Upload the file of a data set unless it is there, and note what was asked for."""
    path, place = faces.path, faces.fingerprint
    there = {entry.name.rpartition("/")[2]: entry.size for entry in shared.entries(f"{place}/")}
    if COPY not in there or path.stat().st_size not in there.values():
        shared.upload(path, f"{place}/{path.name}")
        note = {"file": path.name, "size": path.stat().st_size, "sha256": digest(path)}
        shared.put(f"{place}/{COPY}", json.dumps(note).encode())
    shared.put(request, json.dumps({"fingerprint": place}).encode())
    # The workers on this machine read the file where it was built.
    _keep_note(home() / place, path)


def _fetched(shared: Remote, fingerprint: str) -> Path:
    """The copy of a file on this machine, fetched by whoever comes first.

    Raises:
        FileNotFoundError: the file is not shared.

    """
    place = home() / fingerprint
    try:
        place.mkdir(exist_ok=True)
        with locked(place / ".lock"):
            return _noted(place) or _fetch(shared, fingerprint, place)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise (StoreUnavailable if passes(error) else StoreError)(
            f"Expected a folder that faces can be copied to, found {place}: {error.strerror}; mend that, or name another one "
            "in XDG_CACHE_HOME."
        ) from error


def _fetch(shared: Remote, fingerprint: str, place: Path) -> Path:
    note = json.loads(shared.get(f"{fingerprint}/{COPY}"))
    if not NAME.fullmatch(note["file"]):
        raise DatasetError(
            f"expected the name of a file in {shared.address}/{fingerprint}/{COPY}, found {note['file']!r}."
        )
    path, source = place / note["file"], f"{fingerprint}/{note['file']}"
    aside = place / f".{note['sha256'][:16]}.part"
    if path.is_file():  # without its note, or touched since: only its sum says whether it is right
        if path.stat().st_size == note["size"] and digest(path) == note["sha256"]:
            _keep_note(place, path)
            return path
        path.unlink()  # whoever has mapped it keeps what was mapped
    for _ in range(TRIES):
        _download(shared, source, note["size"], aside)
        if digest(aside) == note["sha256"]:
            aside.replace(path)
            sync_folder(place)
            _keep_note(place, path)
            return path
        aside.unlink()
    raise StoreError(
        f"Expected {shared.address}/{source} to have the SHA-256 that is noted beside it, found another: remove both objects, "
        "and start the study where the pictures are."
    )


def _download(shared: Remote, source: str, size: int, aside: Path) -> None:
    """Append to `aside` what it lacks."""
    with aside.open("ab") as file:
        if file.tell() > size:
            file.truncate(0)
        starts = range(file.tell(), size, PART)
        spans = (f"{start}-{min(start + PART, size) - 1}" for start in starts)
        for data, _ in shared.map(lambda span: shared.get_range(source, span), spans, threads=4):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _keep_note(place: Path, path: Path) -> None:
    """Write down that the file is right as it is."""
    status = path.stat()
    note = {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    write_file(place / COPY, json.dumps(note).encode())


def _noted(place: Path) -> Path | None:
    """The file that was right and has not been touched since."""
    try:
        note = json.loads((place / COPY).read_bytes())
        status = Path(note["path"]).stat()
    except FileNotFoundError:
        return None
    same = (status.st_size, status.st_mtime_ns) == (note["size"], note["mtime_ns"])
    return Path(note["path"]) if same else None

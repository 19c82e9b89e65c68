"""What `evaluation` in the configuration asks for besides the default: t-SNE, a probe, other data sets.

It becomes the field `evaluation` of a TrialSpec, which holds what is asked for and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import DatasetError, FaceSet, open_dataset
from study.config import Config
from study.errors import StudyError


def problems(config: Config) -> Iterator[str]:
    """What is wrong with the section, as far as the configuration alone can say."""
    if config["kind"] == "search":
        for name in config["given"]:
            if name.split(".")[0] == "evaluation":
                yield f"A search judges its trials by their validation images alone: leave out {name}."
    for entry in config["evaluation"]["transfer"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            yield f"Expected evaluation.transfer to list data sets as in [{{name: folder, root: PATH}}], found {entry!r}."
            continue
        for name in sorted({"image_size", "channels", "cache"} & set(entry)):
            yield f"The data sets of evaluation.transfer have the {name} of the study: leave {name} out of {entry!r}."


def asked(config: Config, faces: FaceSet) -> dict[str, Any]:
    """What is asked for, as plain JSON values: `tsne`, `probe`, and `transfer` with each data set and its fingerprint.

    Raises:
        StudyError: a data set cannot be opened, is the one that is trained on, or has less than two classes in common with it.

    """
    section = config["evaluation"]
    found: dict[str, Any] = {name: True for name in ("tsne", "probe") if section[name]}
    transfers = []
    for dataset in section["transfer"]:
        try:
            other = open_other(dataset, config["image_size"], config["channels"], config["dataset"]["cache"])
        except DatasetError as error:
            raise StudyError(f"evaluation.transfer, {dataset['name']}: {error}") from error
        if other.fingerprint == faces.fingerprint:
            raise StudyError(
                f"Expected evaluation.transfer to name other data sets, found the one trained on: {dataset}."
            )
        if len(shared_classes(faces, other)) < 2:
            raise StudyError(
                f"Expected the data set {dataset} of evaluation.transfer to share at least 2 classes by name with "
                f"{', '.join(faces.classes)}, found {', '.join(other.classes)}."
            )
        transfers.append({"dataset": dataset, "fingerprint": other.fingerprint})
    return found | ({"transfer": transfers} if transfers else {})


def open_other(dataset: dict[str, Any], image_size: int, channels: int, cache: str | Path) -> FaceSet:
    """A data set by its name and options, scaled as the trial's own."""
    options = {name: value for name, value in dataset.items() if name != "name"}
    return open_dataset(dataset["name"], image_size=image_size, channels=channels, cache=cache, **options)


def shared_classes(faces: FaceSet, other: FaceSet) -> list[tuple[int, int]]:
    """Labels (in faces, in other) of the classes that both name alike, whatever the case, and have images of."""
    theirs = {name.casefold(): label for label, name in enumerate(other.classes) if (other.labels == label).any()}
    pairs = ((label, theirs.get(name.casefold())) for label, name in enumerate(faces.classes))
    return [(label, there) for label, there in pairs if there is not None]

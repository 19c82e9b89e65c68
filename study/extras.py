"""What `evaluation` in the configuration asks for besides the default: t-SNE, a probe, other data sets.

It becomes the field `evaluation` of a TrialSpec, which holds what is asked for and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasets import DatasetError, FaceSet, dataset_names, splits
from datasets.card import card_of
from datasets.splits import OFFICIAL, judged
from study.config import Config
from study.errors import StudyError
from study.staging import open_faces
from study.transfer import shared_classes


def problems(config: Config) -> Iterator[str]:
    """What is wrong with the section, as far as the configuration alone can say."""
    if config["kind"] == "search":
        for name in config["given"]:
            if name.split(".")[0] == "evaluation":
                yield f"A search judges its trials by their validation images alone: leave out {name}."
    trained, seen = config["dataset"]["name"], list[Any]()
    for entry in config["evaluation"]["transfer"]:
        if entry in seen:
            yield f"Expected evaluation.transfer to name every data set once, found {entry!r} twice."
            continue
        seen.append(entry)
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            yield f"Expected evaluation.transfer to list data sets as in [{{name: folder, root: PATH}}], found {entry!r}."
            continue
        for name in sorted({"image_size", "channels", "cache"} & set(entry)):
            yield f"The data sets of evaluation.transfer have the {name} of the study: leave {name} out of {entry!r}."
        if entry.get("part") not in (None, *OFFICIAL):
            yield f"Expected part in evaluation.transfer to be {' or '.join(OFFICIAL)}, found {entry['part']!r} in {entry!r}."
        if entry["name"] in dataset_names():
            people = card_of(entry["name"]).people
            if people and people == card_of(trained).people:
                yield (
                    f"Expected evaluation.transfer to name data sets of other people than {trained}, found {entry['name']}, which shows "
                    "the same faces: leave it out."
                )


def asked(config: Config, faces: FaceSet) -> dict[str, Any]:
    """What is asked for, as plain JSON values: `tsne`, `probe`, and `transfer` with each data set and its fingerprint.

    Raises:
        StudyError: a data set cannot be opened, is the one that is trained on, or has less than two classes in common with it.

    """
    section = config["evaluation"]
    found: dict[str, Any] = {name: True for name in ("tsne", "probe") if section[name]}
    transfers = []
    for dataset in section["transfer"]:
        other = _opened(dataset, config)
        if other.fingerprint == faces.fingerprint:
            raise StudyError(
                f"Expected evaluation.transfer to name other data sets, found the one trained on: {dataset}."
            )
        shared = shared_classes(faces, other, dataset.get("part"))
        if len(shared) < 2:
            raise StudyError(
                f"Expected the data set {dataset} of evaluation.transfer to share at least 2 classes by name with "
                f"{', '.join(faces.classes)}, found {', '.join(other.classes)}."
            )
        entry = {"dataset": dataset, "fingerprint": other.fingerprint}
        if any(faces.classes[ours].casefold() != other.classes[theirs].casefold() for ours, theirs in shared):
            # Classes that bear other words were not matched once: what was judged then is not what is asked for now.
            entry["matched"] = "canonical"
        transfers.append(entry)
    return found | ({"transfer": transfers} if transfers else {})


def names_in_both(config: Config, faces: FaceSet) -> list[str]:
    """A line for each other data set that may show the same people, as far as names can say.

    Data sets of the literature are known to show others (`problems` refuses the rest), and equal ids there are chance. Of a user's own
    folders nobody but the user knows, and one hand may have named both.
    """
    lines = []
    for dataset in config["evaluation"]["transfer"]:
        if card_of(dataset["name"]).people or card_of(config["dataset"]["name"]).people:
            continue
        names = splits.names_in_both(faces, _opened(dataset, config))
        if names:
            lines.append(
                f"Subjects by the name of {', '.join(names[:3])}{', ...' if names[3:] else ''} are on both sides of the transfer to "
                f"{dataset['name']}: its numbers count only if they are different people."
            )
    return lines


def _opened(dataset: dict[str, Any], config: Config) -> FaceSet:
    """A data set of evaluation.transfer.

    Raises:
        StudyError: it cannot be opened, or has no such part.

    """
    try:
        other = open_other(dataset, config["image_size"], config["channels"], config["dataset"]["cache"])
        judged(other, dataset.get("part"))
    except DatasetError as error:
        raise StudyError(f"evaluation.transfer, {dataset['name']}: {error}") from error
    return other


def open_other(
    dataset: dict[str, Any], image_size: int, channels: int, cache: str, fingerprint: str | None = None
) -> FaceSet:
    """A data set by its name and options, scaled as the trial's own; a `part` says what of it is judged, not what is opened."""
    whole = {name: value for name, value in dataset.items() if name != "part"}
    return open_faces(whole, image_size, channels, cache, fingerprint)

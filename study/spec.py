"""TrialSpec: one training, fully resolved, and its content address."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from mdml import train
from mdml.methods import Method, make_method, method_class
from mdml.train import Recipe
from study.errors import StudyError

# How the reason of a row begins whose trial failed through no fault of its own.
LOST_WORKER = "Its worker died"

# What says where a trial came from or where its inputs lie, not what is computed: not part of the key.
_NOT_CONTENT = ("study", "arm", "dataset", "weights")
# What later versions added, with the value that earlier ones stood for: left out of the key, so that earlier results are found.
_ADDED_FIELDS: dict[str, Any] = {"optimizer": "adam", "evaluation": {}, "option_files": {}}
# Options that name a file, whose content counts.
_FILES = ("vgg_weights",)
ADDED_OPTIONS: dict[str, Any] = {"linear_classifier": False}


@dataclass(frozen=True)
class TrialSpec:
    """Everything that decides the numbers of one training.

    Args:
        study: the study that asked for it first.
        arm: the name of its method configuration there.
        method: name of the method.
        options: all options of the method, defaults included.
        dataset: name and options that open the data set.
        fingerprint: of the data set's content.
        image_size: pixels.
        channels: 1 or 3.
        fold: the test fold, 0 .. folds - 1.
        folds: number of folds.
        fold_rule: one of datasets.splits.RULES.
        validation_fraction: of the training subjects.
        seed: of the start, the order, the augmentation and the dropout.
        protocol: "sealed" or "paper".
        search: the search whose scheduler may stop this training, or None. Such a trial never opens the test fold, and stands for
            itself alone: its key belongs to that search.
        epochs, batch_size, learning_rate, schedule, sampler, augmentation, optimizer: the recipe.
        backbone: name of the trunk.
        weights: None, "imagenet", or the path of a state dict.
        weights_digest: sha256 of that file.
        numerics: versions of the training loop and of the method, "LOOP.METHOD".
        evaluation: what is asked for besides the default evaluation, as study.extras has it.
        option_files: sha256 of the files that options name, by option.

    """

    study: str
    arm: str
    method: str
    options: dict[str, Any]
    dataset: dict[str, Any]
    fingerprint: str
    image_size: int
    channels: int
    fold: int
    folds: int
    fold_rule: str
    validation_fraction: float
    seed: int
    protocol: str
    search: str | None
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    sampler: str
    augmentation: str
    backbone: str
    weights: str | None
    weights_digest: str | None
    numerics: str
    optimizer: str = "adam"
    evaluation: dict[str, Any] = field(default_factory=dict)
    option_files: dict[str, str] = field(default_factory=dict)

    def json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def parse(text: str) -> TrialSpec:
        """The spec that `json` wrote."""
        return TrialSpec(**json.loads(text))

    @cached_property
    def key(self) -> str:
        """Content address: 32 hex digits of the sha256 of the canonical JSON of what is computed."""
        content = {name: value for name, value in asdict(self).items() if name not in _NOT_CONTENT}
        content["options"] = without(content["options"], ADDED_OPTIONS)
        if "transfer" in content["evaluation"]:
            # Their content counts, what of it is judged and how, not where they lie.
            others = [
                " ".join(filter(None, (other["fingerprint"], other["dataset"].get("part"), other.get("matched"))))
                for other in content["evaluation"]["transfer"]
            ]
            content["evaluation"] = content["evaluation"] | {"transfer": others}
        content = without(content, _ADDED_FIELDS)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def make_method(self) -> Method:
        """The method with its options."""
        return make_method(self.method, self.options)

    def recipe(self) -> Recipe:
        """The part of the spec that the training loop reads."""
        return Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})


def without(content: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """What a later version added is left out where it has the value that earlier ones stood for."""
    return {name: value for name, value in content.items() if name not in added or value != added[name]}


def resolved_options(method: str, options: dict[str, Any]) -> dict[str, Any]:
    """All options of a method as plain JSON values, with thresholds written out.

    Raises:
        MethodError: where the options do not fit the method.
        StudyError: where an option names a file that is missing.

    """
    made = make_method(method, options)
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(made).items()}
    if made.layout.thresholds:
        plain["thresholds"] = list(made.layout.thresholds)
    plain["slice_dim"] = made.layout.width
    option_files(plain)
    return plain


def option_files(options: dict[str, Any]) -> dict[str, str]:
    """sha256 of the files that options name, by option.

    Raises:
        StudyError: where one is missing.

    """
    return {name: _sha256(options[name], f"method.{name} to be null") for name in _FILES if options.get(name)}


def numerics_version(method: str) -> str:
    """Version of the numbers of a method: that of the shared loop and its own."""
    return f"{train.NUMERICS}.{method_class(method).numerics}"


def weights_digest(weights: str | None) -> str | None:
    """sha256 of a local file of weights; None for none; "imagenet" for torchvision's, whose name already says the content.

    Raises:
        StudyError: where the file is missing.

    """
    if weights is None or weights == "imagenet":
        return weights
    return _sha256(weights, 'backbone.weights to be null, "imagenet"')


def _sha256(file: str, expected: str) -> str:
    path = Path(file)
    if not path.is_file():
        raise StudyError(f"Expected {expected} or a file, found no file at {path}.")
    return _digest(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache
def _digest(path: Path, size: int, changed: int) -> str:
    """Read once for all trials of a study; `size` and `changed` tell one content from another."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()

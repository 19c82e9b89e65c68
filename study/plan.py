"""The plan: configuration and data set to the list of trials, before anything runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from datasets import FaceSet
from datasets.card import card_of
from datasets.splits import COUNTED, RULES, fold_count, split_fold
from datasets.summary import warnings
from mdml import MethodError
from mdml.augmentation import AUGMENTATIONS, augmentation
from mdml.methods import make_method, method_class
from mdml.models import build_trunk, check_images
from results.schema import REAL, TABLES
from study import ablation as ablations
from study import extras, staging
from study.ablation import Arm
from study.config import ADDED_SEARCH, ADDED_SETTINGS, Config
from study.errors import StudyError
from study.spec import (
    ADDED_OPTIONS,
    TrialSpec,
    numerics_version,
    option_files,
    resolved_options,
    weights_digest,
    without,
)

# Settings that decide where and how fast a study runs, or how far, but not what its trials compute.
_OUTSIDE_NAME = ("study", "storage", "cluster", "checkpoint", "budget", "given", "overrides")
# What the search space held when studies were first named: it stays in the names, what was added since does not.
_FIRST_SPACE = ("common", "mul_dml", "softmax", "triplet")
# Of a data set: what says where it lies or what it may lack, but not what is trained on; and what later versions added.
_OUTSIDE_DATASET = ("cache", "allow_skips")
_ADDED_DATASET: Config = {"align": False}
# What an ablation can be about.
_METRICS = (
    *(column.name for column in TABLES["trials"].columns if column.name.startswith("test_") and column.type == REAL),
    *("seconds", "images_per_second", "peak_memory_bytes", "epochs_to_90", "epochs_to_99"),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Member(NamedTuple):
    """A trial's place in a study: its number, and what to train."""

    index: int  # type: ignore[assignment]  # a tuple has a method of that name, which nobody calls
    spec: TrialSpec


def open_faces(config: Config) -> FaceSet:
    """Open, and where needed build or share, the configured data set.

    Raises:
        DatasetError, StoreError: whatever is wrong with it.

    """
    dataset = {name: value for name, value in config["dataset"].items() if name != "cache"}
    return staging.open_faces(dataset, config["image_size"], config["channels"], config["dataset"]["cache"])


def arms(config: Config) -> list[Arm]:
    """The arms of an ablation, or the configured method as the only one.

    Raises:
        StudyError: one line for every arm that does not fit its method.

    """
    if config["kind"] == "ablation":
        wanted = config["ablation"]["arms"]
    else:
        options = dict(config["method"])
        wanted = {str(options["name"]): {"method": options.pop("name"), **options}}
    made, problems = [], []
    for name, options in wanted.items():
        if not isinstance(options, dict) or not isinstance(options.get("method"), str):
            problems.append(f"Arm {name}: expected {{method: NAME, OPTION: VALUE, ...}}, found {options!r}.")
            continue
        arm = dict(options)
        method, own = arm.pop("method"), (arm.pop("with", {}) if config["kind"] == "ablation" else {})
        problems += ablations.own_problems(name, own, config)
        try:
            made.append(Arm(name, method, resolved_options(method, arm), own))
        except MethodError as error:
            problems.append(str(error) if config["kind"] == "method" else f"Arm {name}: {error}")
            continue
        needed = method_class(method).sampler
        if config["kind"] == "method" and "sampler" in config["given"] and needed not in (None, config["sampler"]):
            problems.append(f"The method {method} needs sampler={needed}: leave out sampler={config['sampler']}.")
    if problems:
        raise StudyError("\n".join(problems))
    return made


def shared_fields(config: Config, faces: FaceSet, study: str) -> dict[str, Any]:
    """Fields of a TrialSpec that every trial of a study shares."""
    names = (
        "image_size",
        "channels",
        "fold_rule",
        "epochs",
        "batch_size",
        "learning_rate",
        "schedule",
        "sampler",
        "optimizer",
    )
    weights = config["backbone"]["weights"]
    return {name: config[name] for name in names} | {
        "study": study,
        "folds": fold_count(faces, config["fold_rule"], config["folds"]),
        "dataset": {name: value for name, value in config["dataset"].items() if name != "cache"},
        "fingerprint": faces.fingerprint,
        "protocol": config["protocol"]["name"],
        "validation_fraction": config["protocol"]["validation_fraction"],
        "augmentation": config["augmentation"]["name"],
        "backbone": config["backbone"]["name"],
        "weights": weights,
        "weights_digest": weights_digest(weights),
        "evaluation": extras.asked(config, faces),
    }


def make_spec(shared: dict[str, Any], arm: Arm, fold: int, seed: int, search: str | None = None) -> TrialSpec:
    """One TrialSpec; the recipe is checked.

    Raises:
        MethodError: where the recipe is out of range.

    """
    needed = method_class(arm.method).sampler
    spec = TrialSpec(
        **shared | ({"sampler": needed} if needed else {}),
        arm=arm.name,
        method=arm.method,
        options=arm.options,
        fold=fold,
        seed=seed,
        search=search,
        numerics=numerics_version(arm.method),
        option_files=option_files(arm.options),
    )
    spec.recipe()
    return spec


def members(config: Config, faces: FaceSet, study: str) -> list[Member]:
    """Every arm x fold x seed, complete replications first: an unfinished study compares its arms on what is there."""
    chosen = arms(config)
    shared = _shared_by_arm(config, faces, study, chosen)
    specs = (
        make_spec(shared[arm.name], arm, fold, seed)
        for seed in range(config["seeds"])
        for fold in range(fold_count(faces, config["fold_rule"], config["folds"]))
        for arm in chosen
    )
    return [Member(index, spec) for index, spec in enumerate(specs)]


def _shared_by_arm(config: Config, faces: FaceSet, study: str, chosen: list[Arm]) -> dict[str, dict[str, Any]]:
    """What all trials of an arm share; arms with the same settings share it, too. Where the images differ, so do the opened faces."""
    opened = {(config["image_size"], config["channels"]): faces}
    found: dict[str, dict[str, Any]] = {}
    for arm in chosen:
        same = json.dumps(arm.own, sort_keys=True)
        if same not in found:
            own = ablations.settled(config, arm)
            images = own["image_size"], own["channels"]
            if images not in opened:
                opened[images] = open_faces(own)
            found[same] = shared_fields(own, opened[images], study)
    return {arm.name: found[json.dumps(arm.own, sort_keys=True)] for arm in chosen}


def check(config: Config) -> None:
    """Check what the configuration alone can say: counts, resources, and settings that this kind of study has no use for.

    Raises:
        StudyError: one line for everything that is wrong.

    """
    resources = config["cluster"]
    least = {"folds": (config["folds"], 2 if config["fold_rule"] in COUNTED else 1), "seeds": (config["seeds"], 1)}
    least |= {f"cluster.{name}": (resources[name], 1) for name in ("cpus", "workers", "cpus_per_trial")}
    # In one step a store in S3 may be waited for twice (results.remote.PATIENCE).
    far = any("://" in str(place) for place in (config["storage"]["root"], config["checkpoint"]["root"]))
    least["cluster.lease"] = resources["lease"], 300 if far else 1
    least["checkpoint.every"] = config["checkpoint"]["every"], 0
    problems = [
        f"Expected {name} to be at least {low}, found {value}."
        for name, (value, low) in least.items()
        if value is not None and value < low
    ]
    if resources["gpus_per_trial"] is not None and resources["gpus_per_trial"] < 0:
        problems.append(f"Expected cluster.gpus_per_trial not to be negative, found {resources['gpus_per_trial']}.")
    if resources["join"] and not os.environ.get("RAY_ADDRESS"):
        problems.append(
            "Expected RAY_ADDRESS to name the cluster to join (HOST:PORT, or auto on a machine of it), found none: set it, or leave out "
            "cluster=existing."
        )
    if config["fold_rule"] not in RULES:
        problems.append(f"Expected fold_rule to be {' or '.join(RULES)}, found {config['fold_rule']!r}.")
    given = config["given"]
    if config["kind"] == "search":
        if config["protocol"]["name"] != "sealed":
            problems.append(
                "A search is always sealed, since it must not look at test subjects: leave out protocol=paper."
            )
        elif config["protocol"]["validation_fraction"] <= 0:
            problems.append("A search needs validation subjects: set protocol.validation_fraction above 0.")
        problems += [
            f"A search trains each proposal search.folds times search.seeds times: leave out {name}."
            for name in given
            if name in ("seeds", "ablation")
        ]
    else:
        problems += [
            f"Only a search has {name}: add --search or leave it out."
            for name in given
            if name.split(".")[0] == "search"
        ]
    if config["kind"] == "ablation":
        problems += [
            f"The arms of an ablation stand in its file under study/conf/ablation: leave out {name}, or write an ablation of your own."
            for name in given
            if name.split(".")[0] == "method"
        ]
    elif any(name.split(".")[0] == "ablation" for name in given):
        problems.append("An ablation is asked for by --ablation NAME, not by an override.")
    if config["kind"] == "ablation":
        ablation = config["ablation"]
        if ablation["baseline"] not in ablation["arms"]:
            problems.append(
                f"Expected ablation.baseline to be an arm, {' or '.join(ablation['arms'])}, found {ablation['baseline']}."
            )
        if ablation["metric"] not in _METRICS:
            problems.append(f"Expected ablation.metric to be {' or '.join(_METRICS)}, found {ablation['metric']}.")
    problems += extras.problems(config)
    if config["protocol"]["name"] not in ("sealed", "paper"):
        problems.append(f"Expected protocol.name to be sealed or paper, found {config['protocol']['name']!r}.")
    if config["study"] and not _NAME.fullmatch(config["study"]):
        problems.append(f"Expected study to be letters, digits, '.', '_' and '-', found {config['study']!r}.")
    if problems:
        raise StudyError("\n".join(problems))


def check_network(config: Config) -> None:
    """Build the trunk once, so that an unknown backbone, images that it does not take or weights that do not fit show before anything runs.

    Raises:
        MethodError: what is wrong with it.

    """
    everyone = [config]
    if config["kind"] == "ablation":
        everyone = list(
            {json.dumps(arm.own, sort_keys=True): ablations.settled(config, arm) for arm in arms(config)}.values()
        )
    for own in everyone:
        if own["augmentation"]["name"] not in AUGMENTATIONS:
            known = " or ".join(AUGMENTATIONS)
            raise StudyError(
                f"Expected with.augmentation of an arm to be {known}, found {own['augmentation']['name']!r}."
            )
        margin = augmentation(own["augmentation"]["name"]).margin
        check_images(own["backbone"]["name"], own["image_size"], own["channels"], margin)
        build_trunk(own["backbone"]["name"], own["channels"], own["backbone"]["weights"], seed=0)


def check_faces(config: Config, faces: FaceSet) -> None:
    """Check that the methods of a study can learn from batches of these faces, search spaces apart.

    Raises:
        StudyError: one line for each arm that cannot.

    """
    problems = []
    for arm in [] if config["kind"] == "search" else arms(config):
        method, batch = make_method(arm.method, arm.options), ablations.settled(config, arm)["batch_size"]
        least = method.per_class * len(faces.classes)
        if batch < least:
            problems.append(
                f"Arm {arm.name}: expected a batch_size of at least {least}, {method.per_class} images of each of {len(faces.classes)} "
                f"classes, below which the loss has too few to compare, found {batch}."
            )
        if method.needs_neutral and faces.neutral is None:
            problems.append(
                f"Arm {arm.name}: expected a class named neutral, which {arm.method} learns to generate, found "
                f"{', '.join(faces.classes)}: take method=rml, which mines its references."
            )
    if problems:
        raise StudyError("\n".join(problems))


def check_splits(config: Config, faces: FaceSet) -> None:
    """Make every split that the study will use, so that a fold that cannot be shows before anything runs.

    Raises:
        DatasetError: what is wrong with it.
        StudyError: each subject was to be a fold, and every image is a subject of its own.

    """
    if config["fold_rule"] == "leave_one_out" and not card_of(config["dataset"]["name"]).identities:
        raise StudyError(
            f"Nobody knows who is shown in {config['dataset']['name']}, so that no subject can be left out: take another fold_rule than "
            "leave_one_out."
        )
    folds = fold_count(faces, config["fold_rule"], config["folds"])
    wanted = config["search"]["folds"] if config["kind"] == "search" else folds
    if wanted > folds:
        raise StudyError(f"Expected search.folds to be at most {folds}, the folds of the data set, found {wanted}.")
    for fold in range(wanted):
        split_fold(
            faces,
            fold=fold,
            folds=folds,
            rule=config["fold_rule"],
            validation_fraction=config["protocol"]["validation_fraction"],
        )


def notes(config: Config, faces: FaceSet) -> list[str]:
    """What a reader of the plan must know of its data, a line each."""
    name, found = config["dataset"]["name"], extras.names_in_both(config, faces)
    if config["fold_rule"] in COUNTED and not card_of(name).identities:
        found = [
            f"Nobody knows who is shown in {name}: its {config['folds']} folds are by image, and a person may be on both sides.",
            *found,
        ]
    found += [
        f"{name}: {line.rstrip('.')}; {faces.path.with_suffix('.md')} tells more." for line in warnings(faces.path)
    ]
    own = [] if config["kind"] != "ablation" else [ablations.settled(config, arm) for arm in arms(config)]
    images = sorted({(one["image_size"], one["channels"]) for one in own})
    if len(images) > 1:
        sizes = ", ".join(f"{side} pixels {'grey' if channels == 1 else 'RGB'}" for side, channels in images)
        found = [*found, f"Arms differ in their images, as their trunks do: {sizes}."]
    return found


def study_name(config: Config, faces: FaceSet) -> str:
    """The given name, or one made from the configuration and the data, so that the same command finds the same study."""
    if config["study"]:
        return str(config["study"])
    text = json.dumps(identity(config) | {"fingerprint": faces.fingerprint}, sort_keys=True)
    label = {
        "ablation": lambda: config["ablation"]["name"],
        "search": lambda: "search",
        "method": lambda: config["method"]["name"],
    }
    return f"{label[config['kind']]()}-{config['dataset']['name']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def identity(config: Config) -> Config:
    """The part of a configuration that makes a study what it is.

    A longer search is the same search, and a table of another layout is of the same study.
    """
    kept = {name: value for name, value in without(config, ADDED_SETTINGS).items() if name not in _OUTSIDE_NAME}
    kept["method"] = without(config["method"], ADDED_OPTIONS)
    dataset = {name: value for name, value in config["dataset"].items() if name not in _OUTSIDE_DATASET}
    kept["dataset"] = without(dataset, _ADDED_DATASET)
    if config["kind"] == "search":
        search = without(config["search"], ADDED_SEARCH)
        kept["search"] = {name: value for name, value in search.items() if name != "trials"}
        drawn = {*_FIRST_SPACE, config["method"]["name"], *search["methods"]}
        kept["search"]["space"] = {name: value for name, value in search["space"].items() if name in drawn}
        # What was given is fixed in a search, so it makes another search.
        kept["fixed"] = sorted(
            name
            for name in config["given"]
            if name.split(".")[0] == "method" or name in config["search"]["space"]["common"]
        )
    else:
        del kept["search"]
        if config["kind"] == "ablation":
            del kept["method"]
            kept["ablation"] = {
                name: config["ablation"][name] for name in ablations.IDENTITY if name in config["ablation"]
            }
    return kept


def missing(planned: Iterable[Member], committed: set[str]) -> list[Member]:
    """Members to train, each key once: those whose key is not in the store."""
    seen = set(committed)
    left = []
    for member in planned:
        if member.spec.key not in seen:
            seen.add(member.spec.key)
            left.append(member)
    return left

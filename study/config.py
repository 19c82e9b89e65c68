"""Configuration: Hydra composes it, this module checks it, and every mistake is shown in one go."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from datasets.card import card_of
from datasets.splits import COUNTED
from study import ablation as ablations
from study.errors import StudyError

ROOT = Path(__file__).resolve().parent.parent
# Folders of the project's code: what a worker needs of it.
ROOMS = ("mdml", "study", "datasets", "results")
CONF = ROOT / "study" / "conf"
DEFAULT_STORE = ROOT / "results" / "tables"
Config = dict[str, Any]

# Settings that later versions added, with the value that earlier ones stood for: stored studies may lack them.
ADDED_SETTINGS: Config = {"optimizer": "adam", "evaluation": {"tsne": False, "probe": False, "transfer": []}}
ADDED_BUDGET: Config = dict.fromkeys(("gpu_hours", "money", "deadline", "price", "instance", "region"))
ADDED_BUDGET |= {"spot": False, "shrink": False, "equal": False}
ADDED_SEARCH: Config = {
    "brackets": 1,
    "collapse": 0,
    "sampler": "tpe",
    "cost": None,
    "warm_start": [],
    "folds": 1,
    "seeds": 1,
    "alpha": 0.05,
}

# Folds of a rule that the card of the data set says no number for.
_FOLDS = 5

# Types of the values whose default is null, and so says nothing of its type.
_NULLABLE: dict[str, type | tuple[type, ...]] = {
    "study": str,
    "folds": int,
    "fold_rule": str,
    "ablation.metric": str,
    "ablation.replication.folds": int,
    "ablation.replication.seeds": int,
    "dataset.root": str,
    "dataset.cache": str,
    "backbone.weights": str,
    "storage.root": str,
    "checkpoint.every": int,
    "checkpoint.root": str,
    "search.cost": str,
    "budget.gpu_hours": (int, float),
    "budget.money": (int, float),
    "budget.deadline": str,
    "budget.price": (int, float),
    "budget.instance": str,
    "budget.region": str,
    "cluster.cpus": int,
    "cluster.workers": int,
    "cluster.gpus_per_trial": (int, float),
    "cluster.lease": (int, float),
}
_ENGLISH = {int: "an integer", float: "a number", str: "text", bool: "true or false", list: "a list", dict: "a mapping"}


def load(overrides: Sequence[str], ablation: str | None = None) -> Config:
    """Compose and check a configuration.

    Args:
        overrides: Hydra's, as in ["dataset=folder", "epochs=25"].
        ablation: name of an ablation to compose in.

    Returns:
        Plain nested dict; paths absolute; `given` lists the keys that were overridden.

    Raises:
        StudyError: one sentence a line for everything that is wrong.

    """
    parsed = _parse(overrides)
    groups = _groups()
    if ablation is not None and ablation not in groups["ablation"]:
        raise StudyError(
            f"Expected an ablation out of {', '.join(groups['ablation'])}, found {ablation!r}.{nearest(ablation, groups['ablation'])}"
        )
    chosen = [override for override in parsed if override.key_or_group in groups]
    problems = [problem for override in chosen for problem in _check_choice(override, groups)]
    if problems:
        raise StudyError("\n".join(problems))
    extra = [f"ablation={ablation}"] if ablation else []
    defaults = _compose([override.input_line for override in chosen] + extra)
    valid = dict(_leaves(defaults))
    for override in parsed:
        if override.key_or_group not in groups:
            problems += _check_value(override, valid, groups)
    if problems:
        raise StudyError("\n".join(problems))
    config = _compose([*overrides, *extra])
    config["given"] = [override.key_or_group for override in parsed]
    if ablation is not None:
        config |= ablations.replication(config["ablation"], config["given"])
        config["ablation"] = ablations.spelled_out(config["ablation"])
    return _with_paths(_with_images(_with_card(config)))


def completed(stored: Config) -> Config:
    """A stored configuration with the settings that later versions added."""
    budget = ADDED_BUDGET | stored.get("budget", {})
    return ADDED_SETTINGS | stored | {"search": ADDED_SEARCH | stored["search"], "budget": budget}


def nearest(word: str, words: Sequence[str]) -> str:
    """The end of a message that names what may have been meant."""
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _parse(overrides: Sequence[str]) -> list[Override]:
    for text in overrides:
        if "=" not in text or text.startswith(("+", "~")):
            raise StudyError(f"Expected overrides of the form KEY=VALUE, found {text!r}.")
    parser, parsed, problems = OverridesParser.create(), [], []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException:
            problems.append(_quoting(parser, text))
    if problems:
        raise StudyError("\n".join(problems))
    return parsed


def _quoting(parser: OverridesParser, text: str) -> str:
    """What to do about an override that Hydra cannot read."""
    key, _, value = text.partition("=")
    if not value.startswith(("[", "{", "'", '"')):
        quoted = f"""{key}="{value.replace('"', chr(92) + '"')}\""""
        with suppress(HydraException):
            if parser.parse_override(quoted).value() == value:
                return f"The override {text} has signs that need quotes within those of the shell: write {shlex.quote(quoted)}."
    return (
        f"The override {text} cannot be read: close its brackets and quotes, and put a text with other signs than letters, digits, "
        """and . _ - / : into double quotes, as in 'evaluation.transfer=[{name:folder,root:"~/faces"}]'."""
    )


def _groups() -> dict[str, list[str]]:
    return {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(CONF.iterdir())
        if folder.is_dir()
    }


def _compose(overrides: Sequence[str]) -> Config:
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            container = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    except HydraException as error:
        raise StudyError(f"The configuration cannot be composed: {' '.join(str(error).split())}") from error
    return dict(container)  # type: ignore[arg-type]


def _check_choice(override: Override, groups: dict[str, list[str]]) -> Iterator[str]:
    group, value = override.key_or_group, override.value()
    if value not in groups[group]:
        yield f"Expected {group} to be {' or '.join(groups[group])}, found {group}={value}.{nearest(str(value), groups[group])}"


def _check_value(override: Override, valid: Config, groups: dict[str, list[str]]) -> Iterator[str]:
    key, value = override.key_or_group, override.value()
    if key == "dataset.name":
        yield f"The name of a data set comes with its options: write dataset={value} instead of dataset.name={value}."
    elif key not in valid:
        yield f"There is no setting {key}.{nearest(key, sorted({*valid, *groups}))}"
    elif not key.startswith(("method.", "ablation.arms.")) and not _fits(
        value, _type_of(key, valid[key]), nullable=key in _NULLABLE
    ):
        yield f"Expected {key} to be {_words(_type_of(key, valid[key]))}, found {override.input_line.partition('=')[2]!r}."


def _leaves(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield f"{prefix}{key}", value
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _type_of(key: str, default: object) -> type | tuple[type, ...]:
    if key in _NULLABLE:
        return _NULLABLE[key]
    return (int, float) if isinstance(default, float) else type(default)


def _fits(value: object, kind: type | tuple[type, ...], nullable: bool) -> bool:
    if value is None:
        return nullable
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (kind is str and isinstance(value, (int, float)))


def _words(kind: type | tuple[type, ...]) -> str:
    return "a number" if isinstance(kind, tuple) else _ENGLISH[kind]


def _with_card(config: Config) -> Config:
    """Fill in what is left to the card of the data set: how the field splits it, and what it reports.

    Folds stay null for leave_one_out, which has as many as the data have subjects.
    """
    card = card_of(config["dataset"]["name"])
    config["fold_rule"] = rule = config["fold_rule"] or card.fold_rule
    if config["folds"] is None:
        counted = card.folds if card.fold_rule in COUNTED else _FOLDS
        config["folds"] = {"official": 1, "leave_one_out": None}.get(rule, counted)
    if "ablation" in config and config["ablation"]["metric"] is None:
        config["ablation"]["metric"] = card.metric
    return config


def _with_images(config: Config) -> Config:
    """Leave the backbone's sizes where they belong: they are defaults of image_size and channels, and no part of a trial's identity.

    Where image_size is not given, the images of the data set are larger than what the backbone looks at by what the augmentation crops.
    """
    # Imports torch, which a setting that is refused needs not wait for.
    from mdml.augmentation import augmentation

    for name in ("image_size", "channels"):
        del config["backbone"][name]
    if "image_size" not in config["given"]:
        config["image_size"] += augmentation(config["augmentation"]["name"]).margin
    return config


def _with_paths(config: Config) -> Config:
    """Make paths absolute: given ones from the working directory, absent ones below the project."""
    dataset, storage = config["dataset"], config["storage"]
    if "://" not in str(dataset["cache"]):
        dataset["cache"] = _absolute(dataset["cache"] or ROOT / "datasets" / "cache")
    for opened in (dataset, *config["evaluation"]["transfer"]):
        if isinstance(opened, dict) and opened.get("root"):
            opened["root"] = _absolute(opened["root"])
    if storage["root"] == "???":
        raise StudyError("storage=s3 needs the address of the results: add storage.root=s3://BUCKET/PREFIX.")
    if storage["root"] is None:
        storage["root"] = str(DEFAULT_STORE)
    elif "://" not in str(storage["root"]):
        storage["root"] = _absolute(storage["root"])
    kept = config["checkpoint"]
    if kept["root"] is None:
        kept["root"] = f"{storage['root']}/checkpoints"
    elif "://" not in str(kept["root"]):
        kept["root"] = _absolute(kept["root"])
    weights = config["backbone"]["weights"]
    if weights not in (None, "imagenet"):
        config["backbone"]["weights"] = _absolute(weights)
    for options in (config["method"], *config.get("ablation", {}).get("arms", {}).values()):
        if isinstance(options, dict) and options.get("vgg_weights"):
            options["vgg_weights"] = _absolute(options["vgg_weights"])
        own = options.get("with") if isinstance(options, dict) else None
        if isinstance(own, dict) and own.get("weights") not in (None, "imagenet"):
            own["weights"] = _absolute(own["weights"])
    return config


def _absolute(path: object) -> str:
    """From the working directory; a folder that is called 3 is a number to Hydra."""
    return str(Path(str(path)).expanduser().absolute())

"""Ablations: what a file of study/conf/ablation declares, checked, and spelled out arm by arm.

    name, question   what it is called, and what it asks
    baseline         arm that the others are compared with
    metric           column of `trials`; null: what the field reports on the data set
    arms             ARM: {method: NAME, OPTION: VALUE, with: {SETTING: VALUE}}
    factors          FACTOR: {LEVEL: {OPTION: VALUE}}; their product are arms named LEVEL-LEVEL, beside those written out
    common           {OPTION: VALUE} of every arm of the product
    layout           {rows: FACTOR, columns: FACTOR} of the table; arm, k (of the neighbours) and dataset (of the transfers) are axes, too
    replication      {folds: N, seeds: N} where the command line does not say
    published        {source: TEXT, table: N, arm: NAME}: numbers of results/published.csv that stand beside; each may be a list

`with` holds settings that an arm has of its own and that otherwise all arms share, such as the backbone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from results.published import COLUMNS, select
from study.errors import StudyError

Config = dict[str, Any]
Options = dict[str, Any]

# What makes an ablation the study that it is; the rest says how it is shown.
IDENTITY = ("name", "baseline", "metric", "arms")
_KEYS = (*IDENTITY, "question", "factors", "common", "layout", "replication", "published")
# Settings that an arm can have of its own; of those in brackets the configuration has a section.
_OWN = ("image_size", "channels", "epochs", "batch_size", "learning_rate", "optimizer", "schedule", "sampler")
_SECTIONS = ("backbone", "weights", "augmentation")
# Axes of a table that are no factors: they are measured in every trial.
MEASURED = ("k", "dataset")


@dataclass(frozen=True)
class Arm:
    """A method configuration under comparison; options are resolved.

    Args:
        name: unlike that of any other arm.
        method: name of the method.
        options: all options of the method.
        own: settings that this arm does not share with the others.

    """

    name: str
    method: str
    options: Options
    own: Options = field(default_factory=dict)


def spelled_out(declared: Config) -> Config:
    """An ablation with the arms of its factors written out, its layout with the place of every arm, and its published numbers by id.

    Raises:
        StudyError: one line for everything that is wrong with the file.

    """
    problems = [
        f"There is no {key} in an ablation: there are {', '.join(_KEYS)}." for key in declared if key not in _KEYS
    ]
    factors, common = declared.get("factors") or {}, declared.get("common") or {}
    arms, places = dict(declared.get("arms") or {}), {}
    for name, levels in factors.items():
        if not isinstance(levels, dict) or not all(isinstance(options, dict) for options in levels.values()):
            problems.append(f"Factor {name}: expected {{LEVEL: {{OPTION: VALUE}}, ...}}, found {levels!r}.")
    if not problems:
        for chosen in itertools.product(*(levels.items() for levels in factors.values())) if factors else ():
            name = "-".join(str(level) for level, _ in chosen)
            if name in arms:
                problems.append(f"Two arms are called {name}: expected levels that make other names.")
            arms[name] = _merged([common, *(options for _, options in chosen)])
            places[name] = dict(zip(factors, (str(level) for level, _ in chosen), strict=True))
    if not arms and not problems:
        problems.append("An ablation has arms, written out or by factors: found none.")
    layout, wrong = _layout(declared.get("layout"), factors, arms, places)
    problems += wrong
    problems += _replication_problems(declared.get("replication") or {})
    published, wrong = _published(declared.get("published"))
    problems += wrong
    if problems:
        label = f"The ablation {declared.get('name')}: "
        raise StudyError("\n".join(label + problem for problem in problems))
    found = {"name": declared["name"], "question": declared.get("question"), "baseline": declared["baseline"]}
    return found | {"metric": declared["metric"], "arms": arms, "layout": layout, "published": published}


def replication(declared: Config, given: list[str]) -> Config:
    """The folds and seeds that an ablation asks for, where the command line does not."""
    asked = declared.get("replication") or {}
    return {name: value for name, value in asked.items() if value is not None and name not in given}


def own_problems(name: str, own: object, config: Config) -> list[str]:
    """What is wrong with the settings that an arm has of its own."""
    from mdml.models import BACKBONES  # torch, which a command line that is refused needs not wait for

    if not isinstance(own, dict):
        return [f"Arm {name}: expected with: {{SETTING: VALUE, ...}}, found {own!r}."]
    problems = []
    for setting, value in own.items():
        if setting in _SECTIONS:
            right = isinstance(value, str) or (setting == "weights" and value is None)
        elif setting in _OWN:
            kind = (int, float) if isinstance(config[setting], float) else type(config[setting])
            right = isinstance(value, kind) and not isinstance(value, bool)
        else:
            problems.append(f"Arm {name}: an arm has no {setting} of its own, only {', '.join((*_SECTIONS, *_OWN))}.")
            continue
        if not right:
            problems.append(f"Arm {name}: expected with.{setting} to be what {setting} can be, found {value!r}.")
    if own.get("backbone", next(iter(BACKBONES))) not in BACKBONES:
        problems.append(
            f"Arm {name}: expected with.backbone to be {' or '.join(BACKBONES)}, found {own['backbone']!r}."
        )
    return problems


def settled(config: Config, arm: Arm) -> Config:
    """The configuration that one arm is trained by.

    Images follow a backbone or an augmentation of its own as they follow the study's: an arm with its own backbone has that one's
    image size and channels, whatever was given for the others, and starts at random unless it names its weights.
    """
    own = arm.own
    if not own:
        return config
    from mdml.augmentation import AUGMENTATIONS, augmentation
    from mdml.models import BACKBONES

    found = config | {name: value for name, value in own.items() if name in _OWN}
    if "backbone" in own or "weights" in own:
        name = own.get("backbone", config["backbone"]["name"])
        found["backbone"] = {"name": name, "weights": own.get("weights")}
    if "augmentation" in own:
        found["augmentation"] = {"name": own["augmentation"]}
    follows = "backbone" in own or ("augmentation" in own and "image_size" not in config["given"])
    known = BACKBONES.get(found["backbone"]["name"])
    view = found["augmentation"]["name"]
    if known is not None and view in AUGMENTATIONS and follows and "image_size" not in own:
        found["image_size"] = known.side + augmentation(view).margin
    if known is not None and "backbone" in own and "channels" not in own:
        found["channels"] = known.channels
    return found


def _merged(parts: list[Options]) -> Options:
    """Options of several levels together; of `with`, the settings of all of them."""
    found: Options = {}
    own: Options = {}
    for part in parts:
        own |= part.get("with") or {}
        found |= {name: value for name, value in part.items() if name != "with"}
    return found | ({"with": own} if own else {})


def _layout(asked: Any, factors: Config, arms: Config, places: Config) -> tuple[Config | None, list[str]]:
    """The layout with the row and the column of every arm."""
    if asked is None:
        return None, []
    if not isinstance(asked, dict) or set(asked) != {"rows", "columns"}:
        return None, [f"Expected layout: {{rows: FACTOR, columns: FACTOR}}, found {asked!r}."]
    rows, columns = asked["rows"], asked["columns"]
    axes = {"arm", *factors}
    if rows not in axes or columns not in {*axes, *MEASURED} or rows == columns:
        known = ", ".join(sorted({*axes, *MEASURED}))
        return None, [f"Expected the rows and the columns of layout to be two of {known}, found {rows} and {columns}."]
    if rows != "arm" and (set(factors) != {rows, columns} or set(arms) != set(places)):
        return None, [f"A layout of {rows} x {columns} takes arms by these two factors and no others: write rows: arm."]
    made = {arm: [arm if rows == "arm" else places[arm][rows], places.get(arm, {}).get(columns)] for arm in arms}
    return {"rows": rows, "columns": columns, "arms": made}, []


def _replication_problems(asked: Any) -> list[str]:
    if not isinstance(asked, dict) or not set(asked) <= {"folds", "seeds"}:
        return [f"Expected replication: {{folds: N, seeds: N}}, found {asked!r}."]
    return [
        f"Expected replication.{name} to be a count or null, found {value!r}."
        for name, value in asked.items()
        if value is not None and (not isinstance(value, int) or value < 1)
    ]


def _published(asked: Any) -> tuple[list[str], list[str]]:
    """Ids of the published numbers that fit."""
    if asked is None:
        return [], []
    if not isinstance(asked, dict) or not asked or not set(asked) <= set(COLUMNS):
        return [], [f"Expected published to say which by {', '.join(COLUMNS)}, found {asked!r}."]
    found = [number.id for number in select(asked)]
    return found, [] if found else [f"No number of results/published.csv has {asked!r}."]

"""What the store knows of a search: its own proposals and their answers, and those of other searches that fit it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import optuna
import pyarrow.compute as pc

from mdml import MethodError
from results import Store
from study.config import Config, completed
from study.errors import StudyError
from study.records import Row
from study.search import Answer, Past, respecified
from study.space import Parameters, Space
from study.spec import LOST_WORKER


def answers(store: Store, study: str, metric: str, cost: str | None) -> dict[str, Answer]:
    """The committed trainings of a search by key; not those whose worker was lost or whose study ran out of its budget, which says
    nothing of them.
    """
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    epochs = store.read("epochs", ["trial_key", "epoch", metric], study=study)
    for key, epoch, value in zip(*(epochs[name].to_pylist() for name in epochs.column_names), strict=True):
        if value is not None:
            curves[key].append((epoch, value))
    columns = [
        "trial_key",
        "status",
        "error",
        "stopped_by",
        "fold",
        "seed",
        "validation_images",
        *([cost] if cost else []),
    ]
    return {
        row["trial_key"]: Answer(
            row["status"],
            sorted(curves[row["trial_key"]]),
            row[cost] if cost else None,
            row["validation_images"] or 1,
            (row["fold"], row["seed"]) == (0, 0),
        )
        for row in store.read("trials", columns, study=study).to_pylist()
        if row["stopped_by"] != "budget"
        and not (row["status"] == "failed" and str(row["error"]).startswith(LOST_WORKER))
    }


def past(
    store: Store, study: str, space: Space, shared: dict[str, Any], trials: int, answered: Mapping[str, Answer]
) -> list[Past]:
    """The proposals of a search so far, ended or not, by number.

    Raises:
        StudyError: where its committed trials were made by other versions of the numbers than today's.

    """
    found = []
    for index, rows in _proposals(store, study).items():
        if index >= trials:
            continue
        parameters = json.loads(rows[0]["parameters"])
        ended = []
        for row in rows:
            if row["trial_key"] not in answered:
                break
            if respecified(space, shared, parameters, row["fold"], row["seed"]).key != row["trial_key"]:
                raise StudyError(
                    f"The trials of the search {study} were made by other versions of the numbers than today's and cannot "
                    "be compared with new ones: begin another search with study=NAME."
                )
            ended.append(answered[row["trial_key"]])
        found.append(Past(index, parameters, ended))
    return found


def _proposals(store: Store, study: str) -> dict[int, list[Row]]:
    """Rows of `members` by number of the proposal, in the order of their trainings."""
    found: dict[int, list[Row]] = defaultdict(list)
    for row in store.read("members", study=study).to_pylist():
        found[row["index"]].append(row)
    return {index: sorted(found[index], key=lambda row: (row["seed"], row["fold"])) for index in sorted(found)}


def warm(
    config: Config, store: Store, space: Space, shared: dict[str, Any], begun: datetime
) -> tuple[list[Past], list[str]]:
    """Proposals of the searches in search.warm_start that are the trainings which this search would have made of them.

    What ended after this search had begun is not looked at, so that it proposes the same however often it is resumed.

    Returns:
        the proposals, and a sentence on each search.

    Raises:
        StudyError: where there is no such search, or it is after something else.

    """
    search, told, said = config["search"], list[Past](), []
    stored = {row["study"]: row for row in store.read("studies").to_pylist()}
    for name in search["warm_start"]:
        if name == shared["study"] or name not in stored or stored[name]["kind"] != "search":
            known = [other for other, row in stored.items() if row["kind"] == "search" and other != shared["study"]]
            raise StudyError(
                f"Expected search.warm_start to name searches in the store, {', '.join(known) or 'of which there is none'}, found {name}."
            )
        theirs = completed(json.loads(stored[name]["config"]))["search"]
        for setting in ("metric", "cost", "folds", "seeds"):
            if theirs[setting] != search[setting]:
                raise StudyError(
                    f"The search {name} has another objective: its search.{setting} is {theirs[setting]}, here it is {search[setting]}. "
                    "Leave it out of search.warm_start."
                )
        ended = store.read("trials", ["trial_key", "ended_at"], study=name)
        early = set(ended.filter(pc.less(ended["ended_at"], begun))["trial_key"].to_pylist())
        found = {
            key: one for key, one in answers(store, name, search["metric"], search["cost"]).items() if key in early
        }
        fitting, others = 0, 0
        for index, rows in _proposals(store, name).items():
            if not any(row["trial_key"] in found for row in rows):
                continue
            ours = [_as_ours(row, name, space, shared) for row in rows if row["trial_key"] in found]
            if len(ours) == len(rows) and ours[0] is not None and None not in ours:
                fitting += 1
                told.append(Past(index, ours[0], [found[row["trial_key"]] for row in rows]))
            else:
                others += 1
        said.append(
            f"Warm start: {fitting} trials of {name} are told to the sampler"
            + (f"; {others} do not fit this search or have not ended." if others else ".")
        )
    return told, said


def _as_ours(row: Row, study: str, space: Space, shared: dict[str, Any]) -> Parameters | None:
    """The parameters by which this search would train the same; None where it never would."""
    method, parameters = row["arm"].rpartition("-")[0], json.loads(row["parameters"])
    parameters = {name: value for name, value in parameters.items() if name != "method"}
    if method not in space.methods or set(parameters) != set(space.distributions(method)):
        return None
    if len(space.methods) > 1:
        parameters = {"method": method, **parameters}
    try:
        optuna.trial.create_trial(
            params={name: parameters[name] for name in space.distributions(method)},
            distributions=space.distributions(method),
            value=0.0,
        )
        ours = respecified(space, shared, parameters, row["fold"], row["seed"])
    except (ValueError, MethodError):  # out of the range, or of what the method takes
        return None
    return parameters if replace(ours, search=study).key == row["trial_key"] else None


def ended(store: Store, study: str, answered: Mapping[str, Answer], blocks: int) -> int:
    """How many proposals of a search have ended: all blocks are done, or one was stopped or failed."""
    found = [
        [answered[row["trial_key"]].status for row in rows if row["trial_key"] in answered]
        for rows in _proposals(store, study).values()
    ]
    return sum(len(states) == blocks or any(state != "done" for state in states) for states in found)

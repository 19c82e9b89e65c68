"""A study from its configuration to its last trial: check, plan, train what is missing."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from rich.console import Console
from rich.table import Table

from datasets.card import card_of
from mdml import MethodError
from mdml.methods import make_method
from results import Store
from study import plan, provenance
from study.ablation import settled
from study.config import Config
from study.errors import StudyError
from study.plan import Member
from study.spec import LOST_WORKER


@dataclass
class Study:
    """A planned study.

    Args:
        name: of the study.
        config: checked configuration.
        store: the results.
        members: trials of an ablation, in order; of a search, those it has proposed so far (filled while it runs).
        shared: of a search, fields that all TrialSpecs share; of an ablation nothing, its members have them.
        notes: what a reader of the plan must know of the data.
        retrain: keys to train anew although they are in the store, with how often they will then have been.
        new: keys that were trained by this call.
        failed: keys that failed in this call.

    """

    name: str
    config: Config
    store: Store
    members: list[Member]
    shared: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    retrain: dict[str, int] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    @property
    def searches(self) -> bool:
        """Whether it is a search."""
        return self.config["kind"] == "search"

    @property
    def metric(self) -> str:
        """Column of `trials` that it is about."""
        config = self.config
        if self.searches:
            return str(config["search"]["metric"])
        asked = config["ablation"]["metric"] if config["kind"] == "ablation" else None
        return str(asked or card_of(config["dataset"]["name"]).metric)

    @property
    def size(self) -> int:
        """Number of trials that it consists of."""
        return int(self.config["search"]["trials"]) if self.searches else len(self.members)


def prepare(config: Config, store: Store) -> Study:
    """Check everything that can be checked before a trial runs; writes nothing but the cache of the data set.

    Raises:
        StudyError, DatasetError, MethodError, StoreError: what is wrong.

    """
    plan.check(config)
    if config["kind"] == "search":
        from study.search import check_search
        from study.space import Space

        check_search(config)
        Space(config)
    else:
        _check_epochs(config)
    plan.check_network(config)
    faces = plan.open_faces(config)
    plan.check_splits(config, faces)
    plan.check_faces(config, faces)
    # A study is its configuration and its data: resumed on other faces it would be another one under the same name.
    config = config | {"fingerprint": faces.fingerprint}
    name = plan.study_name(config, faces)
    if config["kind"] == "search":
        return Study(name, config, store, [], plan.shared_fields(config, faces, name), plan.notes(config, faces))
    return Study(name, config, store, plan.members(config, faces, name), {}, plan.notes(config, faces))


def _check_epochs(config: Config) -> None:
    """Raise StudyError with one line for each arm whose options need more epochs."""
    problems = []
    for arm in plan.arms(config):
        try:
            make_method(arm.method, arm.options).check_epochs(settled(config, arm)["epochs"])
        except MethodError as error:
            problems.append(str(error) if config["kind"] == "method" else f"Arm {arm.name}: {error}")
    if problems:
        raise StudyError("\n".join(problems))


def refuse_another(study: Study) -> None:
    """Raise StudyError where another study bears the name."""
    for row in study.store.read("studies").to_pylist():
        if row["study"] == study.name and plan.identity(json.loads(row["config"])) != plan.identity(study.config):
            raise StudyError(
                f"There is a study {study.name} with another configuration or other faces: choose another name in study=NAME."
            )


def register(study: Study) -> None:
    """Write the study and, of an ablation, its members."""
    config = study.config
    known = [row for row in study.store.read("studies").to_pylist() if row["study"] == study.name]
    ablation = config["ablation"] if config["kind"] == "ablation" else {}
    layout = ablation.get("layout")
    row = {
        "study": study.name,
        "kind": config["kind"],
        "ablation": ablation.get("name"),
        "baseline": ablation.get("baseline"),
        "metric": study.metric,
        "config": json.dumps(config, sort_keys=True),
        "overrides": config["overrides"],
        "created_at": known[0]["created_at"] if known else datetime.now(timezone.utc),
        "git_commit": provenance.code()["git_commit"],
        "question": ablation.get("question"),
        "layout": json.dumps(layout) if layout else None,
        "published": ablation.get("published"),
    }
    study.store.write("studies", study.name, [row])
    if not study.searches:
        study.store.write("members", study.name, [member_row(study.name, member, None) for member in study.members])


def member_row(study: str, member: Member, parameters: dict[str, Any] | None) -> dict[str, Any]:
    """A row of the table `members`."""
    spec = member.spec
    text = None if parameters is None else json.dumps(parameters, sort_keys=True)
    return {
        "study": study,
        "arm": spec.arm,
        "index": member.index,
        "fold": spec.fold,
        "seed": spec.seed,
        "trial_key": spec.key,
        "parameters": text,
    }


def trained(study: Study) -> set[str]:
    """Keys of an ablation that need no training: the done ones; what failed is tried again."""
    return {key for key, status in study.store.statuses().items() if status == "done"} - set(study.retrain)


def carry_out(study: Study) -> None:
    """Train what is missing, and note the study in the store as soon as there is something to train it on.

    Raises:
        StudyError: where the study cannot be what it is called, or its trials cannot run here; nothing is written then.

    """
    refuse_another(study)
    if study.searches:
        indices, search, scheduler = _searching(study)
        trials: Any = search
    else:
        left = plan.missing(study.members, trained(study))
        indices, scheduler = [member.index for member in left], None
        trials = [
            {"spec": member.spec.json(), "index": member.index, "retrained": study.retrain.get(member.spec.key)}
            for member in left
        ]
    if not indices:
        register(study)
        return

    from study import engine
    from study.live import LivePage
    from study.progress import Display

    live = LivePage(study.store, study.name)

    def ended(key: str, status: str) -> None:
        (study.failed if status == "failed" else study.new).add(key)
        live.look()

    with engine.cluster(study.config):
        register(study)
        with live, Display(study.name, len(indices), study.metric) as display:
            engine.run(study.config, study.store, display, study.metric, provenance.code(), ended, trials, scheduler)


def _searching(study: Study) -> tuple[list[int], Any, Any]:
    """What is left of a search, its searcher and its scheduler.

    Raises:
        StudyError: where its committed trials were made by other versions of the numbers.

    """
    from study.search import Past, StudySearch, respecified
    from study.space import Space
    from study.stopping import Stopping, StoppingScheduler

    config, store, search = study.config, study.store, study.config["search"]
    space, statuses, curves = Space(config), answers(study), _curves(study)
    past = []
    for row in store.read("members", study=study.name).to_pylist():
        if row["index"] < search["trials"] and row["trial_key"] in statuses:
            parameters = json.loads(row["parameters"])
            if respecified(space, study.shared, parameters).key != row["trial_key"]:
                raise StudyError(
                    f"The trials of the search {study.name} were made by other versions of the numbers than today's and cannot "
                    "be compared with new ones: begin another search with study=NAME."
                )
            past.append(Past(row["index"], parameters, statuses[row["trial_key"]], curves.get(row["trial_key"], [])))
    indices = sorted(set(range(search["trials"])) - {trial.index for trial in past})

    def proposed(member: Member, parameters: dict[str, Any]) -> None:
        # Written before it is trained: whatever then becomes of this process, a committed trial has its place in the study.
        store.write("members", f"{study.name}-{member.index}", [member_row(study.name, member, parameters)])

    def answered(key: str) -> tuple[str, list[tuple[int, float]]] | None:
        status = answers(study).get(key)
        return None if status is None else (status, _curves(study).get(key, []))

    searcher = StudySearch(space, study.shared, search["seed"], indices, past, answered, proposed)
    rules = Stopping(
        config["epochs"], search["grace"], search["reduction"], search["brackets"], study.metric, search["collapse"]
    )
    seen = [
        (key, {"epoch": epoch, study.metric: value}) for key, curve in sorted(curves.items()) for epoch, value in curve
    ]
    return indices, searcher, StoppingScheduler(rules, seen)


def answers(study: Study) -> dict[str, str]:
    """Status of every committed trial that is an answer: all but those whose worker was lost, which says nothing of them."""
    statuses = study.store.statuses()
    if "failed" in statuses.values():
        rows = study.store.read("trials", ["trial_key", "status", "error"]).to_pylist()
        for row in rows:
            if row["status"] == "failed" and str(row["error"]).startswith(LOST_WORKER):
                statuses = {key: status for key, status in statuses.items() if key != row["trial_key"]}
    return statuses


def _curves(study: Study) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in study.store.read("epochs", ["trial_key", "epoch", study.metric], study=study.name).to_pylist():
        curves[row["trial_key"]].append((row["epoch"], row[study.metric]))
    return {key: sorted(curve) for key, curve in curves.items()}


def show_plan(study: Study, console: Console) -> None:
    """Print what would be trained and what is in the store."""
    table = Table(title=f"Plan of {study.name}", title_justify="left")
    for column in ("arm", "method", "trials", "in the store", "to train"):
        table.add_column(column, justify="left" if column in ("arm", "method") else "right")
    if study.searches:
        from study.space import Space

        answered = answers(study)
        proposed = study.store.read("members", ["trial_key"], study=study.name)["trial_key"].to_pylist()
        there = sum(key in answered for key in proposed)
        left = str(max(0, study.size - there))
        table.add_row("(proposed)", ", ".join(Space(study.config).methods), str(study.size), str(there), left)
    else:
        done = trained(study)
        planned = Counter((member.spec.arm, member.spec.method) for member in study.members)
        there_by = Counter(member.spec.arm for member in study.members if member.spec.key in done)
        for (arm, method), count in planned.items():
            table.add_row(arm, method, str(count), str(there_by[arm]), str(count - there_by[arm]))
    console.print(table)
    for note in study.notes:
        console.print(note, highlight=False)


def other_source(study: Study) -> dict[str, int]:
    """Reused trials that were made by other source files than today's: how often each was retrained, by key."""
    ours = {member.spec.key: member.spec.method for member in study.members}
    rows = study.store.read("trials", ["trial_key", "source_hash", "status", "retrained"]).to_pylist()
    return {
        row["trial_key"]: row["retrained"] or 0
        for row in rows
        if row["status"] == "done"
        and row["trial_key"] in ours
        and row["source_hash"] != provenance.source_hash(ours[row["trial_key"]])
    }

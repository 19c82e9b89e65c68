"""A study from its configuration to its table: plan, train what is missing, report."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from results import Store
from results.tables import render, study_table
from study import plan, provenance
from study.config import Config
from study.errors import StudyError
from study.plan import Member


@dataclass
class Study:
    """A planned study.

    Args:
        name: of the study.
        config: checked configuration.
        store: the results.
        members: trials of an ablation, in order; of a search, those it has proposed so far (filled while it runs).
        shared: fields that all TrialSpecs share.
        retrain: keys to train anew although they are in the store, with how often they will then have been.
        new: keys that were trained by this call.

    """

    name: str
    config: Config
    store: Store
    members: list[Member]
    shared: dict[str, Any]
    retrain: dict[str, int] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)

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
        return str(config["ablation"]["metric"]) if config["kind"] == "ablation" else "test_accuracy"

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
        from study.search import Space, check_search

        check_search(config)
        Space(config)
    else:
        plan.arms(config)
    faces = plan.open_faces(config)
    plan.check_splits(config, faces)
    # A study is its configuration and its data: resumed on other faces it would be another one under the same name.
    config = config | {"fingerprint": faces.fingerprint}
    name = plan.study_name(config, faces)
    members = [] if config["kind"] == "search" else plan.members(config, faces, name)
    return Study(name, config, store, members, plan.shared_fields(config, faces, name))


def register(study: Study) -> None:
    """Write the study and, of an ablation, its members.

    Raises:
        StudyError: where another study bears the name.

    """
    config = study.config
    known = [row for row in study.store.read("studies").to_pylist() if row["study"] == study.name]
    if known and plan.identity(json.loads(known[0]["config"])) != plan.identity(config):
        raise StudyError(
            f"There is a study {study.name} with another configuration or other faces: choose another name in study=NAME."
        )
    ablation = config["ablation"]["name"] if config["kind"] == "ablation" else None
    row = {
        "study": study.name,
        "kind": config["kind"],
        "ablation": ablation,
        "baseline": config["ablation"]["baseline"] if ablation else None,
        "metric": study.metric,
        "config": json.dumps(config, sort_keys=True),
        "overrides": config["overrides"],
        "created_at": known[0]["created_at"] if known else datetime.now(timezone.utc),
        "git_commit": provenance.code()["git_commit"],
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
    """Keys that need no training: done ones, and whatever ended in a search, where a stop or a failure is an answer."""
    statuses = study.store.statuses()
    return (
        set(statuses)
        if study.searches
        else {key for key, status in statuses.items() if status == "done"} - set(study.retrain)
    )


def carry_out(study: Study) -> None:
    """Train what is missing."""
    from study import engine
    from study.progress import Display

    code = provenance.code()
    if study.searches:
        indices, search, scheduler, note = _searching(study)
        if not indices:
            return
        with engine.cluster(study.config), Display(study.name, len(indices), study.metric) as display:
            engine.run(study.config, study.store, display, study.metric, code, note, search, scheduler)
        return
    left = plan.missing(study.members, trained(study))
    if not left:
        return
    by_index = {member.index: member.spec.key for member in left}
    trials = [
        {"spec": member.spec.json(), "index": member.index, "retrained": study.retrain.get(member.spec.key)}
        for member in left
    ]

    def ended(index: int) -> None:
        study.new.add(by_index[index])

    with engine.cluster(study.config), Display(study.name, len(left), study.metric) as display:
        engine.run(study.config, study.store, display, study.metric, code, ended, trials)


def _searching(study: Study) -> tuple[list[int], Any, Any, Callable[[int], None]]:
    """What is left of a search, its searcher and scheduler, and what to do when a trial ends."""
    from study.search import Space, StudyASHA, StudySearch, past_trials

    config, store, search = study.config, study.store, study.config["search"]
    rows = [row for row in store.read("members", study=study.name).to_pylist() if row["index"] < search["trials"]]
    past = past_trials(rows, store.statuses(), _curves(study))
    indices = sorted(set(range(search["trials"])) - {trial.index for trial in past})
    proposals: dict[int, tuple[Member, dict[str, Any]]] = {}

    def proposed(member: Member, parameters: dict[str, Any], known: bool) -> None:
        proposals[member.index] = member, parameters
        if known:
            _remember(member.index)

    def _remember(index: int) -> None:
        member, parameters = proposals[index]
        store.write("members", f"{study.name}-{index}", [member_row(study.name, member, parameters)])

    def ended(index: int) -> None:
        _remember(index)
        study.new.add(proposals[index][0].spec.key)

    def answered(key: str) -> tuple[str, float | None] | None:
        status = store.statuses().get(key)
        if status is None:
            return None
        row = next(
            row for row in store.read("trials", ["trial_key", study.metric]).to_pylist() if row["trial_key"] == key
        )
        return status, row[study.metric]

    searcher = StudySearch(Space(config), study.shared, search["seed"], indices, past, answered, proposed)
    return indices, searcher, StudyASHA(config["epochs"], search["grace"], search["reduction"], past), ended


def _curves(study: Study) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in study.store.read("epochs", ["trial_key", "epoch", study.metric], study=study.name).to_pylist():
        curves[row["trial_key"]].append((row["epoch"], row[study.metric]))
    return {key: sorted(curve) for key, curve in curves.items()}


def show_plan(study: Study, console: Console) -> None:
    """Print what would be trained and what is in the store."""
    done = trained(study)
    table = Table(title=f"Plan of {study.name}", title_justify="left")
    for column in ("arm", "method", "trials", "in the store", "to train"):
        table.add_column(column, justify="left" if column in ("arm", "method") else "right")
    if study.searches:
        there = len(study.store.read("members", ["trial_key"], study=study.name))
        methods = ", ".join(study.config["search"]["methods"])
        table.add_row("(proposed)", methods, str(study.size), str(there), str(max(0, study.size - there)))
    else:
        planned = Counter((member.spec.arm, member.spec.method) for member in study.members)
        there_by = Counter(member.spec.arm for member in study.members if member.spec.key in done)
        for (arm, method), count in planned.items():
            table.add_row(arm, method, str(count), str(there_by[arm]), str(count - there_by[arm]))
    console.print(table)


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


def report(study: Study, console: Console) -> int:
    """Print the table, write the figures, and say what to do next; the exit status of the study."""
    # Drawing is slow to import, and a plan or a bad setting needs none of it.
    from results.plots import comparison_plot, learning_curves

    store = study.store
    store.compact()
    table = study_table(store, study.name)
    console.print(render(table, "table"), markup=False, highlight=False)
    folder = Path(store.root) / "reports" / study.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(render(table, "md") + "\n", encoding="utf-8")
    if curve := _curve_column(study):
        learning_curves(store, study.name, folder / "curves.png", curve)
    if best_value(study) is not None and not study.searches:
        comparison_plot(store, study.name, folder / "comparison.png")
    members = store.read("members", ["trial_key", "index"], study=study.name)
    keys = set(members["trial_key"].to_pylist())
    rows = store.read("trials", ["trial_key", "status", "arm", "error", study.metric], study=study.name)
    failed = rows.filter(pc.equal(rows["status"], "failed")).to_pylist()
    at = f" storage.root={store.root}" if "storage.root" in study.config["given"] else ""
    console.print(f"table   {folder / 'table.md'}\nplots   {folder}", highlight=False, soft_wrap=True)
    console.print(
        f"next    python results/query.py --table {study.name} --format latex{at}", highlight=False, soft_wrap=True
    )
    if not study.searches and not study.new:
        console.print("Nothing was trained: every trial of this study is in the store.")
    for row in failed:
        console.print(
            f"failed  {row['arm']} ({row['trial_key']}): {row['error']}", style="red", markup=False, soft_wrap=True
        )
    best = best_value(study)
    text = "none" if best is None else f"{best:.4f}"
    console.print(
        f"study {study.name}: {study.size} trials, {len(study.new)} new, best {text}", highlight=False, soft_wrap=True
    )
    return 1 if failed and keys else 0


def _curve_column(study: Study) -> str | None:
    """The first of the curves' columns that holds something: a study without validation subjects has no val_accuracy."""
    columns = ("val_accuracy", "test_accuracy", "train_accuracy")
    rows = study.store.read("epochs", columns, study=study.name)
    return next((name for name in columns if rows[name].null_count < len(rows)), None)


def best_value(study: Study) -> float | None:
    """Of a search the best trial's metric, else the best arm's mean."""
    members = study.store.read("members", ["trial_key", "arm"], study=study.name).to_pylist()
    rows = study.store.read("trials", ["trial_key", "status", study.metric], study=study.name).to_pylist()
    values = {
        row["trial_key"]: row[study.metric] for row in rows if row["status"] == "done" and row[study.metric] is not None
    }
    arms: dict[str, list[float]] = defaultdict(list)
    for member in members:
        if member["trial_key"] in values:
            arms[member["arm"]].append(values[member["trial_key"]])
    return max((sum(found) / len(found) for found in arms.values()), default=None)

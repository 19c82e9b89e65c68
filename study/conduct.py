"""A study from its configuration to its last trial: check, plan, train what is missing."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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
from study.trial_row import dropped_row

if TYPE_CHECKING:
    from study.outlook import Outlook
    from study.spool import Spool


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
        left: what this call left undone and why, where it did.
        begun: when it was first planned.
        warm: of a search, proposals of others that its sampler is told.

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
    left: str | None = None
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    warm: list[Any] = field(default_factory=list)

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
        study = Study(name, config, store, [], plan.shared_fields(config, faces, name), plan.notes(config, faces))
        if config["search"]["warm_start"]:
            _warm(study)
        return study
    return Study(name, config, store, plan.members(config, faces, name), {}, plan.notes(config, faces))


def _warm(study: Study) -> None:
    """Look up what other searches have that fits this one.

    Raises:
        StudyError: where there is no such search, or it is after something else.

    """
    from study import history
    from study.space import Space

    for row in study.store.read("studies", ["study", "created_at"]).to_pylist():
        if row["study"] == study.name:
            study.begun = row["created_at"]
    study.warm, said = history.warm(study.config, study.store, Space(study.config), study.shared, study.begun)
    study.notes += said


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
        "config": json.dumps(config),  # as it stands: the order of its arms is theirs in the plan and in the table
        "overrides": config["overrides"],
        "created_at": known[0]["created_at"] if known else study.begun,
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


def carry_out(study: Study, outlook: Outlook | None = None) -> None:
    """Train what is missing, and note the study in the store as soon as there is something to train it on.

    Args:
        study: to carry out.
        outlook: what it may cost; None: no limit.

    Raises:
        StudyError: where the study cannot be what it is called, or its trials cannot run here; nothing is written then.

    """
    from study.spool import Spool

    refuse_another(study)
    spool = Spool(study.store, study.name)
    spool.catch_up(now=True)
    source: Any
    if study.searches:
        count, source, scheduler = _searching(study, spool)
    else:
        from study.dispatch import Planned

        left = plan.missing(study.members, trained(study))
        count, scheduler = len(left), None
        source = Planned(
            [
                {"spec": member.spec.json(), "index": member.index, "retrained": study.retrain.get(member.spec.key)}
                for member in left
            ]
        )
    if not count:
        register(study)
        return

    from study import engine
    from study.live import LivePage
    from study.progress import Display

    live = LivePage(study.store, study.name)

    def ended(row: dict[str, Any]) -> None:
        (study.failed if row["status"] == "failed" else study.new).add(row["trial_key"])
        live.look()

    with engine.cluster(study.config):
        register(study)
        with live, Display(study.name, count, study.metric) as display:
            code = provenance.code()
            over: Any = lambda: None  # noqa: E731
            if outlook is not None and (study.config["budget"]["equal"] or not outlook.limits.none):
                source, scheduler, over = _metered(study, outlook, source, scheduler)
            why = engine.run(study.config, spool, display, study.metric, code, ended, source, scheduler, over)
    if why is not None and (undone := _undone(study)):
        study.left = f"{undone} of {study.size} trials: {why}"


def _undone(study: Study) -> int:
    """How many trials this call left undone."""
    if study.searches:
        return study.size - proposals_ended(study)
    ended = study.new | study.failed
    return sum(member.spec.key not in ended for member in plan.missing(study.members, trained(study)))


def proposals_ended(study: Study) -> int:
    """How many proposals of a search have ended."""
    from study import history

    search = study.config["search"]
    answered = history.answers(study.store, study.name, study.metric, search["cost"])
    return history.ended(study.store, study.name, answered, search["folds"] * search["seeds"])


def _metered(study: Study, outlook: Outlook, source: Any, scheduler: Any) -> tuple[Any, Any, Any]:
    """Source and scheduler under the study's budget, and what says why no further trial may start."""
    from study import engine
    from study.metered import Metered
    from study.stopping import Unhurried

    budget, room, workers = outlook.budget(), outlook.room, study.config["cluster"]

    def held() -> float:
        resources = engine.ray.cluster_resources()
        if room.unit == "GPU":
            return float(resources.get("GPU", 0.0))
        slots = int(resources.get("CPU", 0.0) // workers["cpus_per_trial"])
        return float(min(slots, workers["workers"] or slots))

    if study.config["budget"]["equal"]:
        source.turn = lambda: budget.method(source.space.methods, time.time())
    share = 1.0 if room.unit == "worker" else workers["gpus_per_trial"] or 1.0
    metered = Metered(source, budget, held, outlook.trial, share)
    scheduler = scheduler or Unhurried()
    scheduler.limit = metered.must_stop
    return metered, scheduler, metered.over


def _searching(study: Study, spool: Spool) -> tuple[int, Any, Any]:
    """How many trainings are left of a search at most, its searcher and its scheduler.

    Raises:
        StudyError: where its committed trials were made by other versions of the numbers.

    """
    from study import history
    from study.search import StudySearch
    from study.space import Space
    from study.stopping import Stopping, StoppingScheduler

    config, search, name = study.config, study.config["search"], study.name
    space = Space(config)
    answered = history.answers(study.store, name, study.metric, search["cost"])
    past = history.past(study.store, name, space, study.shared, search["trials"], answered)
    indices = sorted(set(range(search["trials"])) - {trial.index for trial in past})

    def proposed(member: Member, parameters: dict[str, Any]) -> None:
        # Written before it is trained: whatever then becomes of this process, a committed trial has its place in the study.
        block = (member.spec.fold, member.spec.seed)
        file = f"{name}-{member.index}" + ("" if block == (0, 0) else "-{}-{}".format(*block))
        spool.write("members", file, [member_row(name, member, parameters)])

    def dropped(member: Member) -> None:
        spool.commit(member.spec.key, {"trials": [dropped_row(member.spec, provenance.code())]})

    warm = study.warm
    searcher = StudySearch(space, study.shared, search, indices, past, answered, proposed, dropped, warm)
    # With two objectives a trial may be poor in the one and the best in the other.
    grace = search["grace"] if search["cost"] is None else config["epochs"]
    rules = Stopping(config["epochs"], grace, search["reduction"], search["brackets"], study.metric, search["collapse"])
    seen = [
        (key, {"epoch": epoch, study.metric: value})
        for key, answer in sorted(answered.items())
        if answer.first
        for epoch, value in answer.curve
    ]
    return searcher.left, searcher, StoppingScheduler(rules, seen, lambda spec: (spec.fold, spec.seed) == (0, 0))


def show_plan(study: Study, console: Console) -> None:
    """Print what would be trained and what is in the store."""
    table = Table(title=f"Plan of {study.name}", title_justify="left")
    for column in ("arm", "method", "trials", "in the store", "to train"):
        table.add_column(column, justify="left" if column in ("arm", "method") else "right")
    if study.searches:
        from study.space import Space

        there = proposals_ended(study)
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

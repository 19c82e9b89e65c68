"""Before a study begins: how long it will take, what that costs, and whether its budget allows it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from rich.console import Console

from datasets import FaceSet
from datasets.splits import split_fold
from study import conduct, plan
from study.budget import Budget, Limits, limits_of
from study.conduct import Study
from study.config import Config
from study.errors import StudyError
from study.forecast import Forecast, Job, Kind, Room, Sample, exceeded, forecast, like_samples, most_that_fit, said
from study.plan import Arm
from study.spec import TrialSpec, resolved_options
from study.units import spoken


@dataclass(frozen=True)
class Outlook:
    """What is known of a study before it begins.

    Args:
        study: as it will be carried out.
        limits: of its budget.
        spent: GPU-hours of earlier calls.
        by_method: GPU-seconds of earlier calls.
        room: that it runs in.
        trial: seconds that one of its trials is expected to take; 0 where nothing is known.

    """

    study: Study
    limits: Limits
    spent: float
    by_method: dict[str, float]
    room: Room
    trial: float = 0.0

    def budget(self) -> Budget:
        """The budget to ask while it runs."""
        return Budget(self.limits, self.spent * 3600, self.by_method)


def look_ahead(study: Study, console: Console, probe: bool) -> Outlook:
    """Forecast a study, and refuse or shrink one whose p50 exceeds its budget.

    Args:
        study: planned.
        console: where the forecast is printed.
        probe: whether to try a few steps of what no like trial is recorded of; a study with a budget always does.

    Raises:
        StudyError: the budget cannot be what it is, or is exceeded; one sentence that says what would fit.

    """
    config, now = study.config, time.time()
    limits, room = limits_of(config, now), room_of(config)
    spent, by_method = _earlier(study, room)
    found = Outlook(study, limits, spent, by_method, room)
    left = _left(study)
    if not left:
        return found
    specs = _specs(study, left)
    images = _images(study, plan.open_faces(config))
    threads = config["cluster"]["cpus_per_trial"] if room.unit == "worker" else None
    samples = like_samples(study.store, set(specs), _device(room), threads)
    recorded, missing = sum(map(len, samples.values())), [kind for kind in specs if kind not in samples]
    if missing and not (probe or not limits.none):
        return found
    for kind in missing:
        samples[kind] = _tried(study, specs[kind])
    jobs = _jobs(study, left, images, tuple(specs))
    made = forecast(jobs, samples, room)
    source = f"{recorded} like trials in the store" if recorded else ""
    source += (" and " if recorded and missing else "") + (
        f"a few steps of {len(missing)} kinds of trial" if missing else ""
    )
    console.print(f"Forecast: {said(made, room, limits.price)}, from {source}.", highlight=False)
    found = replace(found, trial=forecast(jobs[:1], samples, Room(1, 1, room.unit), first=0.0).wall[0])
    if over := exceeded(made, limits, now, spent):
        return _too_much(found, made, over, jobs, samples, now, console)
    return found


def room_of(config: Config) -> Room:
    """What the study's trials run on: this machine, or the cluster that RAY_ADDRESS names."""
    wanted = config["cluster"]
    if os.environ.get("RAY_ADDRESS"):
        from study import engine, growth

        with engine.cluster(config):
            resources = growth.resources(wanted["gpus_per_trial"])
        cpus, gpus = resources["CPU"], resources["GPU"]
    else:
        cpus, gpus = wanted["cpus"] or os.cpu_count() or 1, _devices()
    share = wanted["gpus_per_trial"]
    share = (1.0 if gpus else 0.0) if share is None else share
    slots = max(int(cpus // wanted["cpus_per_trial"]), 1)
    if share:
        slots = max(min(slots, int(gpus / share)), 1)
    slots = min(slots, wanted["workers"] or slots)
    return Room(slots, gpus or slots * share, "GPU") if share else Room(slots, slots, "worker")


def _devices() -> int:
    import torch

    return torch.cuda.device_count()


def _device(room: Room) -> str:
    """How the column `device` of like trials begins: the model too, where the trials run on this machine."""
    from study.trial_row import device_name

    kind = "cuda" if room.unit == "GPU" else "cpu"
    return kind if os.environ.get("RAY_ADDRESS") else device_name(kind)


def _earlier(study: Study, room: Room) -> tuple[float, dict[str, float]]:
    """GPU-hours, and GPU-seconds by method, that trials of this study took."""
    by_method: dict[str, float] = {}
    whole = study.config["cluster"]["gpus_per_trial"] or 1.0
    for row in study.store.read("trials", ["study", "method", "seconds", "gpu_share"], study=study.name).to_pylist():
        if row["study"] == study.name and row["seconds"]:
            share = 1.0 if room.unit == "worker" else row["gpu_share"] or whole
            by_method[row["method"]] = by_method.get(row["method"], 0.0) + row["seconds"] * share
    return sum(by_method.values()) / 3600, by_method


def _left(study: Study) -> list[TrialSpec | None]:
    """The trials to come; of a search it is not known yet what they are."""
    if not study.searches:
        return [member.spec for member in plan.missing(study.members, conduct.trained(study))]
    blocks = study.config["search"]["folds"] * study.config["search"]["seeds"]
    return [None] * ((study.size - conduct.proposals_ended(study)) * blocks)


def _specs(study: Study, left: Sequence[TrialSpec | None]) -> dict[Kind, TrialSpec]:
    """An example of every kind of trial to come."""
    found: dict[Kind, TrialSpec] = {}
    if not study.searches:
        for spec in left:
            if spec is not None:
                found.setdefault(_kind(spec), spec)
        return found
    from study.space import Space

    space = Space(study.config)
    for method in space.methods:
        spec = plan.make_spec(
            study.shared, Arm(method, method, resolved_options(method, space.fixed)), 0, 0, study.name
        )
        found[_kind(spec)] = spec
    return found


def _kind(spec: TrialSpec) -> Kind:
    return Kind(spec.method, spec.backbone, spec.image_size, spec.batch_size)


def _images(study: Study, faces: FaceSet) -> dict[int, int]:
    """Training images of every fold."""
    config = study.config
    rule, share = config["fold_rule"], config["protocol"]["validation_fraction"]
    folds = plan.fold_count(faces, rule, config["folds"])
    wanted = config["search"]["folds"] if study.searches else folds
    return {
        fold: len(split_fold(faces, fold=fold, folds=folds, rule=rule, validation_fraction=share).train)
        for fold in range(wanted)
    }


def _jobs(study: Study, left: Sequence[TrialSpec | None], images: dict[int, int], kinds: tuple[Kind, ...]) -> list[Job]:
    folds = len(images)
    return [
        Job(kinds, images[i % folds], study.config["epochs"], True)
        if spec is None
        else Job((_kind(spec),), images[spec.fold], spec.epochs, False)
        for i, spec in enumerate(left)
    ]


def _tried(study: Study, spec: TrialSpec) -> list[Sample]:
    """Samples of a few steps, on the device that the trials will have."""
    config = study.config
    gpus = config["cluster"]["gpus_per_trial"]
    if not os.environ.get("RAY_ADDRESS"):
        given = spec.json(), config["dataset"]["cache"], config["cluster"]["cpus_per_trial"], gpus != 0
        if gpus == 0 or not _devices():
            return try_out(*given)
        # What a process has taken of a GPU it keeps until it ends, and this one lives as long as the study.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(try_out, *given).result()
    from study import engine, growth

    with engine.cluster(config):
        share = gpus if gpus is not None else (1 if growth.resources(gpus)["GPU"] else 0)
        remote = engine.ray.remote(num_cpus=config["cluster"]["cpus_per_trial"], num_gpus=share)(try_out)
        cpus = config["cluster"]["cpus_per_trial"]
        found: list[Sample] = engine.ray.get(remote.remote(spec.json(), config["dataset"]["cache"], cpus, share > 0))
        return found


def try_out(spec: str, cache: str, threads: int, cuda: bool) -> list[Sample]:
    """Samples of a few steps of a trial, in this process, whose number of threads is put back."""
    import torch

    from study.faces import Faces
    from study.pace import measure
    from study.staging import open_faces
    from study.trial import use_device

    parsed, before = TrialSpec.parse(spec), torch.get_num_threads()
    faces = open_faces(parsed.dataset, parsed.image_size, parsed.channels, cache, parsed.fingerprint)
    try:
        return measure(parsed, Faces(faces, use_device(threads, cuda)))
    finally:
        torch.set_num_threads(before)


def _too_much(
    found: Outlook,
    made: Forecast,
    over: Sequence[str],
    jobs: Sequence[Job],
    samples: dict[Kind, list[Sample]],
    now: float,
    console: Console,
) -> Outlook:
    """Shrink the study, where that is asked for and possible.

    Raises:
        StudyError: otherwise.

    """
    study, room, limits = found.study, found.room, found.limits
    search, config = study.searches, study.config

    def fits(count: int) -> bool:
        part = jobs[:count] if search else [job for job, seed in zip(jobs, seeds, strict=True) if seed < count]
        return not exceeded(forecast(part, samples, room), limits, now, found.spent)

    seeds = [spec.seed for spec in _left(study) if spec is not None]
    blocks = config["search"]["folds"] * config["search"]["seeds"] if search else 1
    if search:
        there, most = study.size - len(jobs) // blocks, len(jobs) // blocks
        fitting = there + most_that_fit(most, lambda count: fits(count * blocks))
        setting, what, whole = "search.trials", "trials", study.size
    else:
        fitting = most_that_fit(config["seeds"], fits)
        setting, what, whole = "seeds", "seeds", config["seeds"]
    price = "" if limits.price is None else f" and {made.money(limits.price)[0]:.2f} USD"
    cost = f"{made.hours[0]:.3g} {room.unit}-hours{price} in {spoken(made.wall[0])}"
    before = f" besides the {found.spent:.3g} that its trials took" if found.spent else ""
    refused = f"The study is forecast to take {cost}{before}, which exceeds {' and '.join(over)}: "
    if not search and config["study"] in study.store.read("studies", ["study"])["study"].to_pylist():
        raise StudyError(f"{refused}the seeds of a stored study are fixed; raise the budget, or begin another study.")
    if not fitting:
        raise StudyError(f"{refused}not even one of its {whole} {what} would fit; raise the budget.")
    if not config["budget"]["shrink"]:
        raise StudyError(
            f"{refused}{fitting} of its {whole} {what} would fit; raise the budget, or set {setting}={fitting} or budget.shrink=true."
        )
    changed: Any = {"search": config["search"] | {"trials": fitting}} if search else {"seeds": fitting}
    console.print(
        f"budget.shrink cut the study from {whole} to {fitting} {what}: {refused.partition(': ')[0]}.", highlight=False
    )
    smaller = conduct.prepare(
        {name: value for name, value in config.items() if name != "fingerprint"} | changed, study.store
    )
    smaller.retrain = study.retrain
    conduct.show_plan(smaller, console)
    return replace(found, study=smaller)

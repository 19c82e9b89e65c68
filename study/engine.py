"""The engine: hands trials to warm workers through Ray Tune, on a Ray of its own or on a cluster."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler

from results import Store, StoreError
from results.remote import ENCRYPTION
from study import growth, packing
from study.checkpoint import Checkpoints
from study.config import ROOMS, ROOT, Config
from study.dispatch import Dispatch, Source
from study.errors import StudyError
from study.forgetting import forgetful
from study.growth import Demand
from study.health import HEAP
from study.lease import patience
from study.progress import Display
from study.recorder import Recorder
from study.records import Row
from study.remembering import remembering
from study.spool import Spool
from study.starting import patient, requested
from study.stopping import Unhurried
from study.worker import Worker


@contextmanager
def cluster(config: Config) -> Iterator[None]:
    """A Ray to run on: the cluster that RAY_ADDRESS names, else one of this process, on loopback.

    Raises:
        StudyError: where RAY_ADDRESS names no cluster that answers, or a trial asks for more than this machine has.

    """
    address = os.environ.get("RAY_ADDRESS")
    if address and address.startswith("ray://"):
        raise StudyError(
            f"Expected RAY_ADDRESS to be HOST:PORT or auto, found {address}: run the study on a node of the cluster."
        )
    variables = {name: os.environ.get(name, size) for name, size in HEAP.items()}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address:
            excludes = [f"/{entry.name}" for entry in ROOT.iterdir() if entry.name not in ROOMS]
            excludes += ["results/tables", "datasets/cache"]
            variables |= {name: os.environ[name] for name in [ENCRYPTION] if os.environ.get(name)}
            runtime: dict[str, Any] = {"working_dir": str(ROOT), "excludes": excludes, "env_vars": variables}
            ray.init(address=address, runtime_env=runtime, **quiet)
        else:
            variables |= {"PYTHONPATH": str(ROOT), "RAY_CHDIR_TO_TRIAL_DIR": "0"}
            quiet |= {"num_cpus": config["cluster"]["cpus"], "include_dashboard": False}
            ray.init(address="local", runtime_env={"env_vars": variables}, **quiet)
    except (ConnectionError, ValueError, ray.exceptions.RuntimeEnvSetupError) as error:
        where = f"at RAY_ADDRESS={address}" if address else "on this machine"
        raise StudyError(f"No Ray answers {where}: {str(error).splitlines()[0]}") from error
    # Ray has put handlers of its own in place: to be terminated is to be interrupted, and not a crash with a stack.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A worker that dies is the recorder's to tell, in one line instead of a traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        growth.check_storage(config)
        _check_resources(config, scales=bool(address))
        yield
    finally:
        ray.shutdown()


def _check_resources(config: Config, scales: bool) -> None:
    """Look for a node that can hold a trial: without one Tune waits without end, and without a word.

    Raises:
        StudyError: where there is none, and none can come.

    """
    wanted = {"CPU": config["cluster"]["cpus_per_trial"] or 0, "GPU": config["cluster"]["gpus_per_trial"] or 0}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= count for name, count in wanted.items()) for node in nodes):
        return
    if scales:
        needs = " and ".join(f"{count:g} {name}s" for name, count in wanted.items() if count)
        print(f"No node of the cluster has the {needs} of a trial: waiting until one comes.", file=sys.stderr)
        return
    for name, count in wanted.items():
        most = max(node.get(name, 0) for node in nodes)
        if count > most:
            setting = f"cluster.{name.lower()}s_per_trial"
            raise StudyError(
                f"Expected {setting} to be at most {most:g}, the {name}s of this machine, found {count:g}."
            )


def run(
    config: Config,
    spool: Spool,
    display: Display,
    metric: str,
    code: dict[str, Any],
    ended: Callable[[Row], None],
    source: Source,
    scheduler: TrialScheduler | None = None,
    over: Callable[[], str | None] = lambda: None,
    worker: type[Worker] = Worker,
) -> str | None:
    """Run trials until none is left.

    Args:
        config: the study's.
        spool: where workers and the driver commit.
        display: progress.
        metric: column of `trials` that the display shows.
        code: git_commit and git_dirty.
        ended: called with the row of every trial that ended.
        source: where trials come from: the planned ones, or a search.
        scheduler: may stop trials early.
        over: says why no further trial may start, such as a budget that is spent.
        worker: the class of the warm workers.

    Returns:
        Why trials were left, or None.

    Raises:
        StoreError: where the store refused a row; trials that it took are kept.

    """
    wanted = config["cluster"]
    context = {
        "store_root": str(spool.store.root),
        "cache": config["dataset"]["cache"],
        "cpus": wanted["cpus_per_trial"],
        "code": code,
        "metric": metric,
        "checkpoint": config["checkpoint"],
        "lease": wanted["lease"],
    }
    kept = None if config["checkpoint"]["every"] == 0 else Checkpoints(config["checkpoint"]["root"])
    _sweep(kept, spool.store)
    scheduler = scheduler or Unhurried()
    # What so many trials wait for makes a cluster grow; a search proposes no earlier than it must, to know the more (see Demand).
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "64" if source.ahead else "1"
    reasons = getattr(scheduler, "reasons", {})
    demand = None if source.ahead else Demand(wanted["cpus_per_trial"], wanted["workers"])
    recorder = Recorder(spool, code, display, metric, ended, reasons, patience(wanted["lease"]), kept, demand)
    dispatch = Dispatch(
        source,
        lambda: over() or (str(recorder.refused) if recorder.refused else None),
        lambda: _paused(spool, display),
        packing.shares(config, metric, spool.store),
        demand,
    )
    with tempfile.TemporaryDirectory(prefix="study-") as scratch, forgetful(), patient(), remembering():
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(worker, context=context),
                partial(requested, wanted["cpus_per_trial"]),
            ),
            tune_config=tune.TuneConfig(
                search_alg=dispatch,
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=wanted["workers"],
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                failure_config=tune.FailureConfig(max_failures=-1),
                # Tune's own is on the driver's disk, which a worker on another machine cannot write to.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[recorder],
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            if demand is not None:
                demand.end()
    while recorder.refused is None and not spool.catch_up():
        display.note(f"Every trial has ended, and rows wait for the store: {spool.reason}")
        time.sleep(1)
    if recorder.refused is not None:
        raise recorder.refused
    if recorder.compaction is not None:
        recorder.compaction.join()
    _sweep(kept, spool.store)
    return dispatch.ended


def _sweep(kept: Checkpoints | None, store: Store) -> None:
    """Remove the checkpoints of trials that have ended, or that ended when their storage was out of reach."""
    if kept is not None:
        with suppress(StoreError):
            kept.sweep({key for key, status in store.statuses(kept.keys()).items() if status != "failed"})


def _paused(spool: Spool, display: Display) -> str | None:
    """Nothing new begins while finished rows are in memory alone."""
    if not spool.full or spool.catch_up():
        return None
    reason = f"Paused, and goes on by itself: {spool.reason}"
    display.note(reason)
    return reason

"""The engine: hands trials to warm workers through Ray Tune, and commits what ends without its worker's word."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Read by Ray when it is imported: its own console output and files are off, since the store and the display are ours.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
if not os.environ.get("RAY_ADDRESS"):
    # Ray's name for "no other machine joins this one": all its servers then listen on loopback alone.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler

from results import Store, StoreError
from study.config import ROOT, Config
from study.errors import StudyError
from study.progress import Display
from study.records import Row, curves
from study.search import StudySearch, spec_of
from study.spec import LOST_WORKER
from study.trial_row import failed_row
from study.worker import Worker

# A trial whose worker dies (lost node, memory of the host) is tried again this often before it is recorded as failed.
WORKER_DEATHS = 8


class Recorder(tune.Callback):
    """Commits trials that a scheduler stopped and trials whose worker died for good, and feeds the display.

    Args:
        store: where to.
        code: git_commit and git_dirty.
        display: what to tell.
        metric: column of the trial's row to show.
        ended: called with the key and the status of every trial that ended.

    """

    def __init__(
        self, store: Store, code: Row, display: Display, metric: str, ended: Callable[[str, str], None]
    ) -> None:
        self.store, self.code, self.display, self.metric, self.ended = store, code, display, metric, ended
        self.results: dict[str, list[Row]] = {}
        self.refused: StoreError | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune's snapshots do not hold it: resuming is a query of the store."""
        return object, ()

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """A trial has a worker."""
        self.display.started(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Row, **info: Any
    ) -> None:
        """Keep the curve; a trial that began anew on another worker begins anew here."""
        if result["training_iteration"] == 1:
            self.results[trial.trial_id] = []
        self.results[trial.trial_id].append(result)

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The worker has committed, or the scheduler stopped it."""
        results = self.results.pop(trial.trial_id)
        row = results[-1]["row"]
        if "committed" not in results[-1]:
            self._commit(row, curves(row["trial_key"], [result["record"] for result in results]))
        self._end(trial, row)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The worker died too often."""
        self.results.pop(trial.trial_id, None)
        reason = f"{LOST_WORKER} {WORKER_DEATHS + 1} times; the last time: {_last_line(trial)}"
        row = failed_row(spec_of(trial.config), reason, self.code)
        self._commit(row, {})
        self._end(trial, row)

    def _commit(self, row: Row, tables: dict[str, list[Row]]) -> None:
        # Tune takes an exception of a callback for one of the trial, so that it is kept here and raised after the run.
        try:
            self.store.commit(row["trial_key"], {"trials": [row], **tables})
        except StoreError as error:
            self.refused = error

    def _end(self, trial: TuneTrial, row: Row) -> None:
        self.display.ended(trial.trial_id, row["arm"], row["status"], row.get(self.metric), row.get("error") or "")
        self.ended(row["trial_key"], row["status"])


def _last_line(trial: TuneTrial) -> str:
    return str(trial.get_error() or "no reason known").strip().splitlines()[-1]


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
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address:
            excludes = [".git", ".venv", "results/tables", "datasets/cache"]
            ray.init(address=address, runtime_env={"working_dir": str(ROOT), "excludes": excludes}, **quiet)
        else:
            variables = {"PYTHONPATH": str(ROOT), "RAY_CHDIR_TO_TRIAL_DIR": "0"}
            cpus = config["cluster"]["cpus"]
            ray.init(
                address="local", num_cpus=cpus, include_dashboard=False, runtime_env={"env_vars": variables}, **quiet
            )
    except (ConnectionError, ValueError) as error:
        where = f"at RAY_ADDRESS={address}" if address else "on this machine"
        raise StudyError(f"No Ray answers {where}: {str(error).splitlines()[0]}") from error
    # Ray has put handlers of its own in place: to be terminated is to be interrupted, and not a crash with a stack.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A worker that dies is the recorder's to tell, in one line instead of a traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        _check_resources(config, scales=bool(address))
        yield
    finally:
        ray.shutdown()


def _check_resources(config: Config, scales: bool) -> None:
    """Raise StudyError where no node can hold a trial: Tune would wait for one without end. A cluster that scales may wait."""
    for name, resource in (("cpus_per_trial", "CPU"), ("gpus_per_trial", "GPU")):
        wanted = config["cluster"][name] or 0
        most = max(node["Resources"].get(resource, 0) for node in ray.nodes() if node["Alive"])
        if wanted > most and not scales:
            raise StudyError(
                f"Expected cluster.{name} to be at most {most:g}, the {resource}s of this machine, found {wanted}."
            )


def run(
    config: Config,
    store: Store,
    display: Display,
    metric: str,
    code: dict[str, Any],
    ended: Callable[[str, str], None],
    trials: list[dict[str, Any]] | StudySearch,
    scheduler: TrialScheduler | None = None,
    worker: type[Worker] = Worker,
) -> None:
    """Run trials until none is left.

    Args:
        config: the study's.
        store: where workers commit.
        display: progress.
        metric: column of `trials` that the display shows.
        code: git_commit and git_dirty.
        ended: called with the key and the status of every trial that ended.
        trials: {"spec", "index"} of each trial, in order, or a search that proposes them.
        scheduler: may stop trials early.
        worker: the class of the warm workers.

    Raises:
        StoreError: where the store refused a row; trials that it took are kept.

    """
    wanted = config["cluster"]
    gpus = wanted["gpus_per_trial"]
    if gpus is None:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
    context = {
        "store_root": str(store.root),
        "cache": config["dataset"]["cache"],
        "cpus": wanted["cpus_per_trial"],
        "gpus": gpus,
        "code": code,
        "metric": metric,
    }
    recorder = Recorder(store, code, display, metric, ended)
    search = trials if isinstance(trials, StudySearch) else None
    with tempfile.TemporaryDirectory(prefix="study-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(worker, context=context), {"cpu": wanted["cpus_per_trial"], "gpu": gpus}
            ),
            param_space=None if search else {"trial": tune.grid_search(trials)},
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=scheduler,
                num_samples=len(search.waiting) if search else 1,
                max_concurrent_trials=wanted["workers"],
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS),
                callbacks=[recorder],
                verbose=0,
            ),
        )
        tuner.fit()
    if recorder.refused is not None:
        raise recorder.refused

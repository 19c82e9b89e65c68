"""The engine: hands trials to warm workers through Ray Tune, and commits what ends without its worker's word."""

from __future__ import annotations

import logging
import os
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
if "RAY_ADDRESS" not in os.environ:
    # Ray's name for "no other machine joins this one": all its servers then listen on loopback alone.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler

from results import Store
from study.config import ROOT, Config
from study.errors import StudyError
from study.progress import Display
from study.search import StudySearch, spec_of
from study.trial import curves
from study.worker import Worker, failed_row

# A trial whose worker dies (lost node, memory of the host) is tried again this often before it is recorded as failed.
WORKER_DEATHS = 8


class Recorder(tune.Callback):
    """Commits trials that a scheduler stopped and trials whose worker died for good, and feeds the display.

    Args:
        store: where to.
        display: what to tell.
        metric: column of the trial's row to show.
        ended: called with the trial's number when its rows are committed.

    """

    def __init__(self, store: Store, display: Display, metric: str, ended: Callable[[int], None]) -> None:
        self.store, self.display, self.metric, self.ended = store, display, metric, ended
        self.results: dict[str, list[dict[str, Any]]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune's snapshots do not hold it: resuming is a query of the store."""
        return object, ()

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """Keep the curve; a trial that began anew on another worker begins anew here."""
        if result["training_iteration"] == 1:
            self.results[trial.trial_id] = []
        self.results[trial.trial_id].append(result)
        self.display.epoch(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The worker has committed, or the scheduler stopped it."""
        results = self.results.pop(trial.trial_id)
        last, row = results[-1], results[-1]["row"]
        if "committed" not in last:
            records = [result["record"] for result in results]
            self.store.commit(row["trial_key"], {"trials": [row], **curves(row["trial_key"], records)})
        self._end(trial, row)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The worker died too often."""
        self.results.pop(trial.trial_id, None)
        spec = spec_of(trial.config)
        row = failed_row(spec, f"Its worker died {WORKER_DEATHS + 1} times; the last time: {_last_line(trial)}")
        self.store.commit(spec.key, {"trials": [row]})
        self._end(trial, row)

    def _end(self, trial: TuneTrial, row: dict[str, Any]) -> None:
        self.display.ended(trial.trial_id, row["arm"], row["status"], row.get(self.metric), row.get("error") or "")
        self.ended(trial.config["trial"]["index"])


def _last_line(trial: TuneTrial) -> str:
    return str(trial.get_error() or "no reason known").strip().splitlines()[-1]


@contextmanager
def cluster(config: Config) -> Iterator[None]:
    """A Ray to run on: the cluster that RAY_ADDRESS names, else one of this process, on loopback.

    Raises:
        StudyError: where RAY_ADDRESS names no cluster that answers.

    """
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address:
            excludes = [".git", ".venv", "results/tables", "datasets/cache"]
            ray.init(address=address, runtime_env={"working_dir": str(ROOT), "excludes": excludes}, **quiet)
        else:
            variables = {"PYTHONPATH": str(ROOT), "RAY_CHDIR_TO_TRIAL_DIR": "0"}
            ray.init(
                address="local",
                num_cpus=config["cluster"]["cpus"],
                include_dashboard=False,
                runtime_env={"env_vars": variables},
                **quiet,
            )
    except (ConnectionError, ValueError) as error:
        raise StudyError(f"No Ray cluster answers at RAY_ADDRESS={address}: {str(error).splitlines()[0]}") from error
    # A worker that dies is the recorder's to tell, in one line instead of a traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def run(
    config: Config,
    store: Store,
    display: Display,
    metric: str,
    code: dict[str, Any],
    ended: Callable[[int], None],
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
        ended: called with the number of each trial that ended.
        trials: {"spec", "index"} of each trial, in order, or a search that proposes them.
        scheduler: may stop trials early.
        worker: the class of the warm workers.

    """
    wanted = config["cluster"]
    gpus = wanted["gpus_per_trial"]
    if gpus is None:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
    context = {
        "store_root": str(store.root),
        "cache": config["dataset"]["cache"],
        "cpus": wanted["cpus_per_trial"],
        "code": code,
        "metric": metric,
    }
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
                callbacks=[Recorder(store, display, metric, ended)],
                verbose=0,
            ),
        )
        tuner.fit()

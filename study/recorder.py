"""What the driver does beside handing out trials: it commits what ends without its worker's word, and ends workers that are silent."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import ray
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.progress_reporter import TrialProgressCallback

from results import StoreError
from study.checkpoint import Checkpoints
from study.config import ROOT
from study.growth import Demand
from study.progress import Display
from study.records import Row, curves
from study.spec import LOST_WORKER, TrialSpec
from study.spool import Spool
from study.trial_row import failed_row

# A trial whose worker dies although its node lives is tried again this often before it is recorded as failed.
WORKER_DEATHS = 8
# Trials between two compactions of the store.
COMPACT_EVERY = 500
# Trials that have ended which Tune keeps.
KEPT = 100
# How many times what a step may take is silence after which a worker is replaced: it ends itself before, unless it stands still.
SILENCE = 1.5


class Recorder(TrialProgressCallback):
    """Commits what no worker commits, notices what is silent, and feeds the display.

    It takes the place of Tune's own, which would keep every trial there was.

    Args:
        spool: where to.
        code: git_commit and git_dirty.
        display: what to tell.
        metric: column of the trial's row to show.
        ended: called with the row of every trial that ended.
        reasons: which rule stopped a trial, by Tune's id, where a scheduler keeps that.
        patience: seconds that a trial's first step may take; later ones come with the results.
        checkpoints: of the trials, of which those are removed that a scheduler stopped; None where none are kept.
        demand: of machines, which is looked after; None: there are as many as there are.

    """

    def __init__(
        self,
        spool: Spool,
        code: Row,
        display: Display,
        metric: str,
        ended: Callable[[Row], None],
        reasons: Mapping[str, str],
        patience: float,
        checkpoints: Checkpoints | None = None,
        demand: Demand | None = None,
    ) -> None:
        self.spool, self.code, self.display, self.metric, self.ended = spool, code, display, metric, ended
        self.reasons, self.patience, self.checkpoints, self.demand = reasons, patience, checkpoints, demand
        self.results: dict[str, dict[int, Row]] = {}  # of a running trial: its last result of each epoch
        self.due: dict[str, float] = {}  # when a running trial must have been heard from
        self.actors: dict[str, Any] = {}  # that runs a trial
        self.deaths: dict[str, list[str | None]] = {}  # nodes on which its workers died
        self.lacking: set[str] = set()  # models of GPU that trials wait for, of which there is none
        self.refused: StoreError | None = None
        self.compaction: Thread | None = None  # the last one
        self._looked = time.monotonic()
        self._count = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune's snapshots do not hold it: resuming is a query of the store."""
        return object, ()

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """A trial has a worker."""
        self.actors[trial.trial_id] = trial.temporary_state.ray_actor
        self.due[trial.trial_id] = time.monotonic() + SILENCE * self.patience
        self.display.started(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Row, **info: Any
    ) -> None:
        """Keep the curve; what a worker repeats that took the trial over stands in the place of what there was."""
        self.due[trial.trial_id] = time.monotonic() + SILENCE * result.get("patience", self.patience)
        if "waiting" in result:
            self.display.note(result["waiting"])
        elif "record" in result:
            self.results.setdefault(trial.trial_id, {})[result["record"].get("epoch", 0)] = result

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The worker has committed or could not, the scheduler stopped it, or its memory was full."""
        results = self.results.pop(trial.trial_id, {})
        last, row = trial.last_result, trial.last_result["row"]
        self._forget(trial)
        if self.reasons.get(trial.trial_id) == "budget":  # not committed, so that --resume trains it to its end
            self.display.dropped(trial.trial_id, f"{row['arm']} is cut off: the budget ends before it does.")
            return
        if "unwritable" in last:
            self.refused = StoreError(last["unwritable"])
            self.display.dropped(trial.trial_id, f"{row['arm']} is not recorded: its store refuses it.")
            return
        if said := last.get("refused") or last.get("said"):
            self.display.dropped(trial.trial_id, f"{row['arm']} runs again: {said}")
            return
        if "tables" in last:
            self._commit(row["trial_key"], last["tables"])
        elif "committed" not in last:
            row |= {"stopped_by": self.reasons.get(trial.trial_id)}
            records = [results[epoch]["record"] for epoch in sorted(results)]
            self._commit(row["trial_key"], {"trials": [row], **curves(row["trial_key"], records)})
            if self.checkpoints is not None and self.spool.reason is None and self.refused is None:
                self.checkpoints.remove([row["trial_key"]])  # its worker does not know that it ended
        self._end(trial, row)

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The worker died: the trial is tried again, after a moment that grows, unless it is what kills its workers."""
        self.display.note(f"The worker of a trial died, which is tried again: {_last_line(trial)}")
        deaths = self.deaths.setdefault(trial.trial_id, [])
        deaths.append(_node_of(self.actors.get(trial.trial_id)))
        trial.config["trial"]["attempt"] = trial.config["trial"].get("attempt", 0) + 1
        # Tune is told to try without end, and here when to stop. A node that is lost is not counted: Ray knows of that only many
        # seconds after the workers' death, so that all deaths are looked at again.
        lost = _lost_nodes() if len(deaths) >= WORKER_DEATHS else set()
        if sum(node not in lost for node in deaths) >= WORKER_DEATHS:
            trial.max_failures = trial.run_metadata.num_failures
        self._forget(trial)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The worker died too often."""
        self.results.pop(trial.trial_id, None)
        self._forget(trial)
        reason = f"{LOST_WORKER} {WORKER_DEATHS + 1} times; the last time: {_last_line(trial)}"
        row = failed_row(TrialSpec.parse(trial.config["trial"]["spec"]), reason, self.code)
        row["gpu_share"] = trial.config["trial"]["share"]
        self._commit(row["trial_key"], {"trials": [row]})
        self._end(trial, row)

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Once a second: catch up with what the store could not take, end workers that say nothing, and ask for machines."""
        now = time.monotonic()
        if now < self._looked + 1:
            return
        self._looked = now
        if self.demand is not None:
            self.demand.look()
        if len(trials) > 2 * KEPT:
            # Tune keeps what has ended and looks through it: only the last ones stay, or every trial would cost more than the one before.
            trials[:-KEPT] = [trial for trial in trials[:-KEPT] if not trial.is_finished()]
        with self._refusals():
            self.spool.catch_up()
        for trial in trials:
            actor = trial.temporary_state.ray_actor
            if actor is not None and now > self.due.get(trial.trial_id, now):
                self.display.note("A worker has said nothing for too long and is replaced.")
                self.due[trial.trial_id] = now + SILENCE * self.patience
                ray.kill(actor)
        wanted = {trial.config["trial"].get("model") for trial in trials if trial.status == TuneTrial.PENDING} - {None}
        lacking = wanted - ray.cluster_resources().keys() if wanted else set()
        if lacking and lacking != self.lacking:
            named = " or ".join(sorted(model.partition(":")[2] for model in lacking))
            self.display.note(
                f"A trial that needs a GPU with the memory of {named} waits for a machine that has one, and a search with it."
            )
        self.lacking = lacking

    def _commit(self, key: str, tables: dict[str, list[Row]]) -> None:
        with self._refusals():
            self.spool.commit(key, tables)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        # Tune takes an exception of a callback for one of the trial, so that it is kept here and raised after the run.
        begun = time.monotonic()
        try:
            yield
        except StoreError as error:
            self.refused = error
        finally:
            # What workers said while the store was waited for has not been read yet, which is no silence of theirs.
            waited = time.monotonic() - begun
            self.due = {name: due + waited for name, due in self.due.items()}

    def _forget(self, trial: TuneTrial) -> None:
        self.due.pop(trial.trial_id, None)
        self.actors.pop(trial.trial_id, None)

    def _end(self, trial: TuneTrial, row: Row) -> None:
        self.deaths.pop(trial.trial_id, None)
        self.display.ended(trial.trial_id, row["arm"], row["status"], row.get(self.metric), row.get("error") or "")
        self.ended(row)
        self._count += 1
        if self._count % COMPACT_EVERY == 0 and self.spool.reason is None:
            # Reading thousands of small files is slow, so that they do not become so many while a study runs.
            self.compaction = Thread(target=_compact, args=(self.spool.store.root,), daemon=True)
            self.compaction.start()


def _compact(root: Any) -> None:
    """In a process of its own: what it reads, and DuckDB, would stay with the driver. If it fails, its parts are left to the next."""
    code = "import sys; from results import Store; Store(sys.argv[1]).compact()"
    subprocess.run([sys.executable, "-c", code, str(root)], cwd=ROOT, capture_output=True, check=False)


def _node_of(actor: Any) -> str | None:
    """The node that an actor is or was on; None where it never was on one."""
    if actor is None:
        return None
    found: Row = ray._private.state.actors(actor._actor_id.hex())
    return found.get("Address", {}).get("NodeID")


def _lost_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if not node["Alive"]}


def _last_line(trial: TuneTrial) -> str:
    try:  # Tune's own get_error looks where the file will be copied to later
        lines = Path(trial.error_file or "").read_text().strip().splitlines()
        # Ray lists class, actor and process, indented, behind what happened.
        return [line for line in lines if not line[:1].isspace()][-1]
    except (OSError, IndexError):
        return "no reason known"

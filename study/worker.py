"""The warm worker: a Tune Trainable that lives through many trials and lets nothing leak from one to the next."""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from ray.tune import Trainable

from datasets import DatasetError
from mdml import MethodError
from mdml.train import TrainingError
from results import Store, StoreError
from results.errors import StoreUnavailable
from study import packing
from study.checkpoint import Checkpoints, Keeper
from study.errors import StudyError
from study.extras import open_other
from study.faces import Faces
from study.health import Health
from study.lease import lease, patience
from study.records import Row, curves
from study.spec import TrialSpec
from study.spool import FIRST_WAIT, LONGEST_WAIT
from study.staging import open_faces
from study.trial import Trial, use_device
from study.trial_row import failed_row, spec_row

# Errors that say something of the trial alone; after any other the process may be harmed, and is replaced.
_PLAIN = (TrainingError, MethodError, StudyError, DatasetError, StoreError)


class Worker(Trainable):
    """One step is one epoch. Torch, Kornia, the device's context, the faces and the trunk's start stay between trials.

    The config of a trial is {"trial": {"spec": canonical JSON of its TrialSpec, "index": its number, "share": of a GPU}}, with
    "model" and "largest" where GPUs differ (see packing.Shares), "retrained" where it is trained anew on purpose, and "attempt" after
    workers that were lost.

    A result holds `metric` (the search's objective), the record of the epoch and the row so far; the last one says `committed`
    once the trial's rows are in the store, and has them as `tables` where the store does not take them. `waiting` says that
    nothing could be done, `refused` that the trial must run again with more memory than its share of a GPU of `memory` bytes,
    `unwritable` that the store refuses for good what comes before its rows, `patience` how many seconds the next step may take.
    An error of the trial is a result too: it is committed as a failed row, and the worker goes on, or is replaced where it may have
    come to harm. A trial that finds its own checkpoint gives the records in it first, one a step.
    """

    def setup(self, config: dict[str, Any], context: dict[str, Any] | None = None) -> None:
        """Called once a process; `context` has store_root, cache, cpus, code, metric, checkpoint and lease."""
        self.context = context or {}
        share = config["trial"].get("share", 0.0)
        self.device = use_device(self.context["cpus"], share > 0)
        self.memory = 0  # bytes of the whole GPU
        if self.device.type == "cuda":
            self.memory = torch.cuda.get_device_properties(self.device).total_memory
            if share < 1:
                # The next trials of this process have the same share: Tune reuses it for equal resources alone.
                torch.cuda.set_per_process_memory_fraction(packing.fence(share, self.memory))
        self.store = Store(self.context["store_root"])
        self.faces: Faces | None = None
        self.others: dict[str, Faces] = {}
        self.trial: Trial | None = None
        self.records: Iterator[Row] = iter(())
        self.last: Row | None = None  # of a trial that is trained, what its last epoch gave
        kept = self.context["checkpoint"]
        self.checkpoints, self.health = Checkpoints(kept["root"]), Health()
        self.broken = False
        self.suspect: str | None = None  # why this process is to be replaced
        if TrialSpec.parse(config["trial"]["spec"]).search is None:
            import sklearn.cluster  # noqa: F401  # here, so that it is in no trial's seconds; only a table's trials are clustered
        # The libraries' million objects stay: collecting the garbage of a trial then takes a millisecond instead of 300.
        gc.collect()
        gc.freeze()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in this process, unless it is to be replaced: then it ends at the trial's first step.

        Here it could not: Tune tries a trial again whose worker dies in a step, but one that dies in here takes the trial with it.
        """
        if not self.suspect:
            self._begin(new_config)
            self.suspect = self.health.complaint()
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; after the last one evaluate and commit."""
        if self.suspect:
            print(f"This worker is replaced: {self.suspect}", file=sys.stderr, flush=True)
            os._exit(1)
        with lease(self._patience()):
            return self._step() | {"patience": self._patience()}

    def _step(self) -> dict[str, Any]:
        if self.probe:
            return self._measure()
        try:
            if self.trial is None:
                time.sleep(self._moment())
                self.trial = self._prepare()
                self.records = self.trial.run(self.keeper.found())
            if self.last is None:
                record = next(self.records)
                metric = record.get(self.context["metric"])
                result = {
                    "record": record,
                    "row": self.trial.row("stopped") | {"gpu_share": self.share},
                    "metric": metric,
                }
                if record["epoch"] < self.spec.epochs:
                    self.keeper.after(record["epoch"], self.trial.state)
                    return result
                self.last = result
            tables = self.trial.finish()
            tables["trials"][0]["retrained"] = self.retrained
            return self._commit(tables, self.last)
        except StoreUnavailable as error:
            return self._wait(error)
        except StoreError as error:
            self._release()
            # It says nothing of the trial, whose row it therefore does not become: the study ends, and can go on.
            row = failed_row(self.spec, str(error), self.context["code"])
            return {"row": row, "unwritable": str(error), "done": True}
        except Exception as error:
            # What failed is still named by its frames, the tensors of half a step among it: let go of before anything else is tried.
            traceback.clear_frames(error.__traceback__)
            if packing.is_full(error) and (0 < self.share < 1 or self.memory < self.largest):
                return self._refuse(error)
            return self._failed(error)

    def cleanup(self) -> None:
        """Let go of the trial."""
        self._release()

    # Tune's checkpoints are not used: those of study.checkpoint outlive it, and what is committed is done.
    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""

    def _begin(self, config: dict[str, Any]) -> None:
        self._release()
        asked = config["trial"]
        self.spec, self.share, self.attempt = (
            TrialSpec.parse(asked["spec"]),
            asked.get("share", 0.0),
            asked.get("attempt", 0),
        )
        self.largest = asked.get("largest", 0)
        self.retrained, self.wait, self.probe = asked.get("retrained"), FIRST_WAIT, asked.get("probe", False)
        if self.probe:
            self.spec = replace(self.spec, protocol="sealed")  # to be measured it opens no test fold
        self.keeper = Keeper(self.checkpoints, self.spec, self.device, self.context["checkpoint"]["every"])

    def _release(self) -> None:
        self.trial, self.records, self.last = None, iter(()), None
        gc.collect()
        if self.device.type == "cuda" and not self.broken:
            torch.cuda.empty_cache()

    def _prepare(self) -> Trial:
        if self.faces is None or self.faces.set.fingerprint != self.spec.fingerprint:
            wanted = self.spec.image_size, self.spec.channels, self.context["cache"], self.spec.fingerprint
            self.faces = Faces(open_faces(self.spec.dataset, *wanted), self.device)
        transfers = self.spec.evaluation.get("transfer", [])
        self.others = {
            one["fingerprint"]: self.others.get(one["fingerprint"]) or self._open_other(one) for one in transfers
        }
        key = self.spec.key
        # Every opening of a test fold is a row of its own, also that of a trial which begins again.
        audit = f"{key}-{uuid.uuid4().hex[:8]}"
        return Trial(
            self.spec,
            self.faces,
            self.context["code"],
            lambda row: self.store.write("audits", audit, [row]),
            [self.others[one["fingerprint"]] for one in transfers],
        )

    def _open_other(self, transfer: dict[str, Any]) -> Faces:
        wanted = self.spec.image_size, self.spec.channels, self.context["cache"], transfer["fingerprint"]
        return Faces(open_other(transfer["dataset"], *wanted), self.device)

    def _failed(self, error: Exception) -> dict[str, Any]:
        # An error of the device, but for its memory being full, leaves a context in which nothing runs any more.
        self.broken = isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError)
        reason = f"{type(error).__name__}: {error}"
        self.suspect = None if isinstance(error, _PLAIN) else f"a trial failed in it by {reason}"
        if self.trial is not None and not self.broken:
            row, records = self.trial.row("failed", reason), self.trial.records
        else:
            row, records = failed_row(self.spec, reason, self.context["code"]), []
        result = self._commit({"trials": [row], **curves(self.spec.key, records)})
        self._release()
        return result

    def _commit(self, tables: dict[str, list[Row]], result: Row | None = None) -> Row:
        """Write the rows of a trial that has ended; those that the store does not take travel to the driver, which keeps them."""
        row = tables["trials"][0]
        row["gpu_share"] = self.share
        ended = (result or {}) | {"row": row, "committed": row["status"], "done": True}
        try:
            self.store.commit(self.spec.key, tables)
        except StoreError:
            return ended | {"tables": tables}
        self.keeper.ended()
        return ended

    def _wait(self, error: StoreUnavailable) -> Row:
        """The test fold is not opened before its audit row is written: what is trained waits for that."""
        if self.last is None:
            self._release()
        time.sleep(self.wait)
        self.wait = min(2 * self.wait, LONGEST_WAIT)
        return {
            "row": spec_row(self.spec) | {"status": "stopped"},
            "waiting": f"A trial waits for its store or its faces: {error}",
        }

    def _refuse(self, error: Exception) -> Row:
        """Its share of the GPU's memory is too small, which says nothing of the trial."""
        row = failed_row(self.spec, f"{type(error).__name__}: {error}", self.context["code"])
        if not isinstance(error, torch.OutOfMemoryError):  # a library's, whose state nobody knows
            self.suspect = f"a trial was refused memory in it by {type(error).__name__}: {error}"
        self._release()
        of_it = "whole" if self.share >= 1 else f"share {self.share:g} of the"
        refused = f"its {of_it} GPU's memory was full."
        return {"row": row, "refused": refused, "memory": self.memory, "done": True}

    def _measure(self) -> Row:
        """Find out what trials like this one take of a GPU. An error is told when it is trained, and then is the trial's."""
        row, gib = spec_row(self.spec), 1 << 30
        try:
            measured = packing.measure(self._prepare(), self.device)
        except Exception as error:
            self.suspect = f"a measurement failed in it by {type(error).__name__}: {error}"
            return {"row": row, "measured": None, "said": f"it could not be measured: {error}", "done": True}
        self._release()
        said = f"it took {measured.peak / gib:.1f} GiB of the GPU's {measured.memory / gib:.0f} GiB in a step."
        return {"row": row, "measured": list(measured), "said": said, "done": True}

    def _moment(self) -> float:
        """Seconds to wait before a trial is tried again whose worker died, longer each time, and not all at once."""
        jitter = int(self.spec.key[:8], 16) / 2**32
        return (0.5 + jitter) * min(2.0 ** (self.attempt - 1), LONGEST_WAIT) if self.attempt else 0.0

    def _patience(self) -> float:
        """Seconds that the next step may take."""
        done = [] if self.trial is None else self.trial.records
        more = self.trial is None or len(done) + 1 >= self.spec.epochs
        return patience(self.context["lease"], (record["seconds"] for record in done), more)

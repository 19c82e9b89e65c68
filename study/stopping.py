"""Which trainings of a search are stopped early, and by what rule. Never those of a table, whose arms are always complete."""

from __future__ import annotations

import binascii
import math
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.records import Row
from study.spec import TrialSpec

# How near to a point an embedding, and how near to its threshold a loss, is called collapsed. A spread is at most sqrt(2) for
# balanced batches on the unit sphere; at 0.05 two images differ by three degrees.
COLLAPSED_SPREAD, COLLAPSED_LOSS = 0.05, 0.05


class Stopping:
    """The rules. They know neither Tune nor a clock: time is the epoch, so that an engine and a replay decide alike.

    asha: Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020), section 3.3, in the variant that stops and
    never pauses. A training that comes to a rung goes on unless it is below the quantile 1 - 1/reduction of those that were there.
    collapse: every slice is a point, and the loss of a slice with a threshold equals it (mdml.diagnostics.spread).
    nan: the metric is not a number; a loss that is none ends the training by itself.

    Args:
        epochs: that a training has.
        grace: epochs of the first rung; from `epochs` on there is none.
        reduction: ratio of a rung to the one before, and the inverse of the share that passes it.
        brackets: how many; bracket s begins s rungs later.
        metric: field of an epoch's record, the more the better.
        collapse: epochs in a row with a collapsed embedding that stop a training; 0 is never.

    """

    def __init__(
        self,
        epochs: int,
        grace: int,
        reduction: int,
        brackets: int = 1,
        metric: str = "val_accuracy",
        collapse: int = 0,
    ) -> None:
        self.reduction, self.brackets, self.metric, self.collapse = reduction, brackets, metric, collapse
        self.milestones = [grace]
        while self.milestones[-1] * reduction < epochs:
            self.milestones.append(self.milestones[-1] * reduction)
        if grace >= epochs:
            self.milestones.clear()
        self._values: dict[tuple[int, int], list[float]] = defaultdict(list)
        self._seen: set[tuple[str, int]] = set()
        self._collapsed_since: dict[str, int] = {}

    def bracket(self, key: str) -> int:
        """The bracket of a training: a hash of its key alone, in proportion to what Hyperband gives each.

        Source: optuna.pruners.HyperbandPruner, whose bracket s of S gets ceil(S reduction^(S-1-s) / (S - s)) shares.
        """
        shares = [
            math.ceil(self.brackets * self.reduction ** (self.brackets - 1 - s) / (self.brackets - s))
            for s in range(self.brackets)
        ]
        place = binascii.crc32(key.encode()) % sum(shares)
        return next(s for s in range(self.brackets) if place < sum(shares[: s + 1]))

    def look(self, key: str, bracket: int, record: Row) -> str | None:
        """The rule that stops the training `key` after the epoch of this record, or None.

        A record that was seen before, as a training that begins again shows it, changes nothing and stops nothing but a collapse.
        """
        value, epoch = record.get(self.metric), record["epoch"]
        if value is not None and math.isnan(value):
            return "nan"
        if self._has_collapsed(key, record):
            return "collapse"
        if value is None or epoch not in self.milestones[bracket:] or (key, epoch) in self._seen:
            return None
        self._seen.add((key, epoch))
        rung = self._values[bracket, epoch]
        below = bool(rung) and value < quantile(rung, 1 - 1 / self.reduction)
        insort(rung, value)
        return "asha" if below else None

    def _has_collapsed(self, key: str, record: Row) -> bool:
        if not self.collapse:
            return False
        if not collapsed(record.get("slices", [])):
            self._collapsed_since.pop(key, None)
            return False
        since = min(self._collapsed_since.get(key, record["epoch"]), record["epoch"])
        self._collapsed_since[key] = since
        return bool(record["epoch"] - since + 1 >= self.collapse)


def quantile(values: list[float], share: float) -> float:
    """The quantile of ascending values, by linear interpolation, to the last bit as numpy.percentile has it."""
    place = (len(values) - 1) * (share * 100 / 100)
    low = int(place)
    below, above, weight = values[low], values[min(low + 1, len(values) - 1)], place - low
    return below + (above - below) * weight if weight < 0.5 else above - (above - below) * (1 - weight)


def collapsed(slices: list[Row]) -> bool:
    """Whether every slice of an epoch's record is a point, and its loss, where it has a threshold above 0, equals that."""
    return bool(slices) and all(
        row["spread"] <= COLLAPSED_SPREAD
        and (
            not row.get("threshold")
            or row.get("metric_loss") is None
            or abs(row["metric_loss"] / row["threshold"] - 1) <= COLLAPSED_LOSS
        )
        for row in slices
    )


class Unhurried(FIFOScheduler):
    """Stops nothing before a limit of the study, and chooses nothing.

    Tune starts what is pending by itself, without a look at every trial there was.

    Attributes:
        limit: says why all trials must stop now; None while they need not.
        reasons: which rule stopped a Tune trial, by its id.

    """

    def __init__(self) -> None:
        super().__init__()
        self.limit: Callable[[], str | None] = lambda: None
        self.reasons = dict[str, str]()

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune's snapshots do not hold it: resuming is a query of the store."""
        return object, ()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Row) -> str:
        """Stop at the limit."""
        if self.limit() is None:
            return str(TrialScheduler.CONTINUE)
        self.reasons[trial.trial_id] = "budget"
        return str(TrialScheduler.STOP)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None in particular."""


class StoppingScheduler(Unhurried):
    """Tune asks the rules after every epoch.

    Args:
        stopping: the rules.
        past: (key, record) of epochs that committed trainings have gone through; the rungs are filled from them.
        first: whether ASHA looks at a training; not at those that an arm comes to only since its first one was good.

    """

    def __init__(
        self,
        stopping: Stopping,
        past: Iterable[tuple[str, Row]] = (),
        first: Callable[[TrialSpec], bool] = lambda spec: True,
    ) -> None:
        super().__init__()
        self.stopping = stopping
        self._keys: dict[str, tuple[str, int]] = {}
        self._first = first
        for key, record in past:
            stopping.look(key, stopping.bracket(key), record)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Note the key of its training."""
        spec = TrialSpec.parse(trial.config["trial"]["spec"])
        bracket = self.stopping.bracket(spec.key) if self._first(spec) else len(self.stopping.milestones)
        self._keys[trial.trial_id] = spec.key, bracket

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Row) -> str:
        """Go on or stop."""
        if super().on_trial_result(tune_controller, trial, result) == TrialScheduler.STOP:
            return str(TrialScheduler.STOP)
        record = part_of(result, "record")
        reason = self.stopping.look(*self._keys[trial.trial_id], record) if record else None
        if reason is None:
            return str(TrialScheduler.CONTINUE)
        self.reasons[trial.trial_id] = reason
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Row) -> None:
        """Forget its key."""
        self._keys.pop(trial.trial_id, None)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Forget its key."""
        self._keys.pop(trial.trial_id, None)


def part_of(result: Row, name: str) -> Row:
    """The "record" or the "row" in a result of the worker; Tune hands results on with "record/" before its names. Empty where none is."""
    found: Row = result.get(name) or {
        field.removeprefix(f"{name}/"): value for field, value in result.items() if field.startswith(f"{name}/")
    }
    return found

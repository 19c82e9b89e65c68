"""What a study may cost: its limits, what it has spent, and whether a further trial may start. Pure: it is told the time.

GPU-hours are those of GPUs that the study holds from its first trial to its last, whether they work or wait, since that is what is
paid for; on machines without a GPU they are hours of workers. Of earlier calls it is known what their trials took, and that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from study.errors import StudyError
from study.prices import price_of
from study.units import duration

Config = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What must not be exceeded; None is no limit.

    Args:
        gpu_hours: of GPUs held.
        money: USD.
        deadline: seconds since 1970.
        price: USD for an hour of a GPU, or of a worker where there is none; None: unknown.

    """

    gpu_hours: float | None = None
    money: float | None = None
    deadline: float | None = None
    price: float | None = None

    @property
    def hours(self) -> float | None:
        """The stricter one of gpu_hours and what money buys."""
        bought = None if self.money is None or not self.price else self.money / self.price
        return min((one for one in (self.gpu_hours, bought) if one is not None), default=None)

    @property
    def none(self) -> bool:
        """Whether there is no limit at all."""
        return self.gpu_hours is None and self.money is None and self.deadline is None


def limits_of(config: Config, now: float) -> Limits:
    """The limits in a configuration.

    Raises:
        StudyError: one line for everything that is wrong with them.

    """
    budget, problems = config["budget"], []
    for name in ("gpu_hours", "money", "price"):
        if budget[name] is not None and not budget[name] > 0:
            problems.append(f"Expected budget.{name} to be positive, found {budget[name]}.")
    if budget["price"] is not None and budget["instance"] is not None:
        problems.append("Expected budget.price or budget.instance, whose price is looked up, found both.")
    price, deadline = budget["price"], None
    try:
        if budget["instance"] is not None:
            found = price_of(budget["instance"], budget["region"])
            price = found.per_unit(budget["spot"], config["cluster"]["cpus_per_trial"])
        if budget["deadline"] is not None:
            deadline = moment(budget["deadline"], now)
    except StudyError as error:
        problems.append(str(error))
    if budget["money"] is not None and budget["price"] is None and budget["instance"] is None:
        problems.append("budget.money needs a price: add budget.price=USD, or budget.instance=TYPE.")
    if budget["equal"] and config["kind"] != "search":
        problems.append("budget.equal divides the time of a search among its methods: leave it out.")
    elif budget["equal"] and config["search"]["sampler"] not in ("tpe", "random"):
        problems.append(
            f"budget.equal chooses the method, and search.sampler={config['search']['sampler']} would, too: take tpe."
        )
    if problems:
        raise StudyError("\n".join(problems))
    return Limits(budget["gpu_hours"], budget["money"], deadline, price)


def moment(text: Any, now: float) -> float:
    """Seconds since 1970 of a UTC time such as 2026-11-24T08:00, or of a duration from now such as 8h.

    Raises:
        StudyError: where it is neither, or over.

    """
    try:
        found = datetime.fromisoformat(str(text).strip().replace("Z", "+00:00"))
    except ValueError:
        try:
            return now + duration(text, "budget.deadline")
        except StudyError:
            raise StudyError(
                f"Expected budget.deadline to be a UTC time such as 2026-11-24T08:00 or a duration such as 8h, found {str(text)!r}."
            ) from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found.timestamp() <= now:
        raise StudyError(
            f"Expected budget.deadline to be later than now, {_clock(now)}, found {_clock(found.timestamp())}."
        )
    return found.timestamp()


class Budget:
    """What is asked before a trial starts, and while trials run.

    Args:
        limits: of the study.
        earlier: GPU-seconds that trials of earlier calls took.
        by_method: of these, by method.

    """

    def __init__(self, limits: Limits, earlier: float = 0.0, by_method: dict[str, float] | None = None) -> None:
        self.limits, self._seconds = limits, earlier
        self._held: tuple[float, float] | None = None  # since when, how many
        self._by_method = dict(by_method or {})
        self._running: dict[str, tuple[float, float, str, float]] = {}  # start, end foreseen, method, share

    def hold(self, now: float, gpus: float) -> None:
        """From now on so many GPUs are held."""
        self._seconds = self._until(now)
        self._held = now, gpus

    def started(self, trial: str, now: float, method: str = "", share: float = 1.0, expected: float = 0.0) -> None:
        """A trial has started; it is expected to take so many seconds."""
        self._running[trial] = now, now + expected, method, share

    def ended(self, trial: str, now: float, took: float | None = None) -> None:
        """A trial has ended, which says that it took so many GPU-seconds, or has lost its worker.

        What a method is charged with is what its trials say: the start of a worker is no method's.
        """
        start, _, method, share = self._running.pop(trial)
        took = max(now - start, 0.0) * share if took is None else took
        self._by_method[method] = self._by_method.get(method, 0.0) + took

    def may_start(self, now: float, expected: float = 0.0) -> str | None:
        """Why a trial that takes `expected` seconds may not start now: it would end beyond a limit. None where it may."""
        if (reason := self.must_stop(now)) is not None:
            return reason
        end = max([now + expected, *(foreseen for _, foreseen, _, _ in self._running.values())])
        limits, held = self.limits, self._held[1] if self._held else 0.0
        if limits.deadline is not None and now + expected > limits.deadline:
            return f"another trial would end after {self._said('deadline')}"
        if limits.hours is not None and (self._until(now) + held * (end - now)) / 3600 > limits.hours:
            return f"another trial would exceed {self._said('hours')}"
        return None

    def must_stop(self, now: float) -> str | None:
        """Why what runs must stop: a limit is reached. None where none is."""
        limits = self.limits
        if limits.deadline is not None and now >= limits.deadline:
            return f"{self._said('deadline')} has come"
        if limits.hours is not None and self._until(now) / 3600 >= limits.hours:
            return f"{self._said('hours')} is spent"
        return None

    def method(self, methods: Sequence[str], now: float) -> str:
        """Whose turn it is where all methods are to have equal time.

        The one with the least GPU-seconds; of equal ones the one with the fewest running trials, and then the first.
        """
        took = {method: self._by_method.get(method, 0.0) for method in methods}
        runs = dict.fromkeys(methods, 0)
        for start, end, method, share in self._running.values():
            if method in took:
                # What it is expected to take counts at once, or all workers would begin with the same method.
                took[method] += max(now - start, end - start) * share
                runs[method] += 1
        return min(methods, key=lambda method: (took[method], runs[method], methods.index(method)))

    def _until(self, now: float) -> float:
        """GPU-seconds; a clock that was turned back takes nothing away."""
        if self._held is None:
            return self._seconds
        since, gpus = self._held
        return self._seconds + max(now - since, 0.0) * gpus

    def _said(self, which: str) -> str:
        limits = self.limits
        if which == "deadline":
            return f"budget.deadline={_clock(limits.deadline or 0.0)}"
        if limits.gpu_hours is not None and limits.gpu_hours == limits.hours:
            return f"budget.gpu_hours={limits.gpu_hours:g}"
        return f"budget.money={limits.money:g}"


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

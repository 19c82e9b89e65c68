"""Trials on machines that may be taken away, event by event on a clock of its own, decided by the engine's own rules.

Machines with room for several trials each; a queue in planned order; a trial's worker begins it, reports every epoch to the rules
(study.stopping.Stopping) and ends it, as the engine does. An event is a report, a machine that is reclaimed or one that is back:
a heap of them, with one entry for every trial that runs. Time is in seconds throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from statistics import fmean
from typing import NamedTuple, Protocol

import numpy as np

from study.errors import StudyError
from study.records import Row
from study.replay import Played

_NO_RUNGS = 1 << 30


class Rules(Protocol):
    """Decides after every epoch but the last, as study.stopping.Stopping does."""

    metric: str

    def bracket(self, key: str) -> int:
        """The bracket of a training."""

    def look(self, key: str, bracket: int, record: Row) -> str | None:
        """The reason to stop, or None."""


@dataclass(frozen=True)
class Machines:
    """What the trials run on: machines of one GPU each, of which the study holds no more than it has trials for.

    Args:
        gpus: at most this many.
        packing: trials at a time on one.
        slowdown: how many times longer an epoch takes where `packing` trials share a GPU; between one and that it is linear in the
            number of them when the epoch begins. None: `packing` times, so that sharing gains nothing but set-ups that overlap.
        speed: how many times faster a trial is than it was recorded.
        reclaims: of one machine, per hour it is held; their times are a Poisson process.
        startup: seconds until a machine that is asked for can be used; it is paid for meanwhile.
        idle: seconds for which a machine is kept, and paid for, when there is nothing for it to do.
        first: seconds that a new worker takes to start.
        gap: seconds between two trials of one worker.
        checkpoint: a trial that lost its machine goes on after the last epoch divisible by this; 0: it begins anew.

    """

    gpus: int = 1
    packing: int = 1
    slowdown: float | None = None
    speed: float = 1.0
    reclaims: float = 0.0
    startup: float = 0.0
    idle: float = 0.0
    first: float = 0.0
    gap: float = 0.0
    checkpoint: int = 0


class Decision(NamedTuple):
    """What was decided of a trial: start, done, failed, lost, or the rule that stopped it."""

    time: float
    trial: int
    what: str
    epoch: int


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        wall: seconds from the start to the end of the last trial.
        used: GPU-seconds of trials: their time in a worker's hands over `packing`, lost attempts included.
        billed: GPU-seconds that machines were held.
        lost: GPU-seconds between a trial's last checkpoint (or its start) and the reclaim of its machine.
        reclaimed: machines that were.
        epochs: that were trained, those that were lost included.
        events: that were played.
        reached: (time, GPU-seconds held until then) when the goal first was; None where it was not.
        best: (time, value) whenever a proposal (in a table a trial) that is done was better than all before.
        ended: how many trials ended, by how.
        decisions: in order, where they were asked for.

    """

    wall: float
    used: float
    billed: float
    lost: float
    reclaimed: int
    epochs: int
    events: int
    reached: tuple[float, float] | None
    best: list[tuple[float, float]]
    ended: dict[str, int]
    decisions: list[Decision]


Extend = Callable[[Played], tuple[list[float], list[float], float]]


def simulate(
    trials: Sequence[Played],
    machines: Machines,
    rules: Rules | None,
    extend: Extend,
    rng: np.random.Generator,
    goal: float = math.inf,
    log: bool = False,
    blocks: int = 1,
) -> Outcome:
    """Play trials in their order on machines.

    Args:
        trials: in planned order; one that comes twice counts as two trainings.
        machines: to run on.
        rules: may stop them; None: all are trained to their end.
        extend: gives values and seconds of all epochs of a trial that was cut, and the seconds of its last evaluation.
        rng: of the reclaims.
        goal: value whose first reaching is noted.
        log: whether to keep the decisions.
        blocks: trials of a proposal, whose value is their mean when all of them are done.

    Returns:
        What came of it; of equal times the event that was foreseen first comes first.

    """
    return _Play(trials, machines, rules, extend, rng, goal, log, blocks).run()


class _Play:
    def __init__(
        self,
        trials: Sequence[Played],
        machines: Machines,
        rules: Rules | None,
        extend: Extend,
        rng: np.random.Generator,
        goal: float,
        log: bool,
        blocks: int,
    ) -> None:
        self.trials, self.machines, self.rules, self.extend, self.rng = trials, machines, rules, extend, rng
        self.keys = _distinct([trial.key for trial in trials])
        # A bracket beyond all rungs has none: ASHA does not look.
        pairs = zip(self.keys, trials, strict=True)
        self.brackets = [rules.bracket(key) if trial.first else _NO_RUNGS for key, trial in pairs] if rules else []
        self.values = [trial.values for trial in trials]
        self.seconds = [trial.seconds for trial in trials]
        self.evaluation = [trial.evaluation for trial in trials]
        self.resumed = [0] * len(trials)  # epochs in the checkpoint
        self.queue = list(
            range(len(trials))
        )  # a heap: a trial that lost its machine comes before those planned after it
        count, packing = machines.gpus, machines.packing
        self.free = list(
            range(count * packing)
        )  # slot s is on machine s % count, so that trials spread over machines first
        self.trial = [-1] * (count * packing)
        self.epoch = [0] * (count * packing)
        self.taken = [0.0] * (count * packing)
        self.saved = [0.0] * (count * packing)  # when what a reclaim leaves was reached
        self.turn = [0] * (count * packing)  # an event of an earlier turn of its slot is void
        self.warm = [False] * (count * packing)
        self.load = [0] * count
        self.held = [math.nan] * count  # since when it is; NaN: it is not
        self.ready = [0.0] * count
        self.idle = [0.0] * count  # since when it has nothing to do
        self.down = [False] * count
        slowdown = packing if machines.slowdown is None else machines.slowdown
        share = (slowdown - 1) / (packing - 1) if packing > 1 else 0.0
        self.pace = [(1 + share * max(k - 1, 0)) / machines.speed for k in range(packing + 1)]
        self.heap: list[tuple[float, int, int, int]] = []
        self.pushed = 0
        self.used = self.billed = self.lost = 0.0
        self.reclaimed = self.epochs = 0
        self.goal, self.blocks = goal, blocks
        self.finals: dict[int, list[float]] = {}  # of proposals that are not complete
        self.reached: tuple[float, float] | None = None
        self.best: list[tuple[float, float]] = []
        self.ended: dict[str, int] = {}
        self.decisions: list[Decision] = []
        self.log, self.every = log, machines.checkpoint

    def run(self) -> Outcome:
        now, events, left, turns = 0.0, 0, len(self.trials), self.turn
        self._assign(now)
        if self.machines.reclaims:
            self._foresee_reclaim(now)
        while left:
            now, _, slot, turn = heappop(self.heap)
            if slot >= 0:
                if turn == turns[slot]:
                    events += 1
                    left -= self._report(now, slot)
            elif turn < 0:
                events += 1
                self._reclaim(now)
                self._foresee_reclaim(now)
            else:
                self._back(now, turn)
        packing = self.machines.packing
        return Outcome(
            now, self.used / packing, self._held(now), self.lost / packing, self.reclaimed, self.epochs, events, self.reached,
            self.best, self.ended, self.decisions,
        )  # fmt: skip

    def _held(self, now: float) -> float:
        """GPU-seconds that machines were held until now; one without trials is let go when it was idle for long enough."""
        found = self.billed
        for g, since in enumerate(self.held):
            if since == since:
                found += (now if self.load[g] else min(self.idle[g] + self.machines.idle, now)) - since
        return found

    def _report(self, now: float, slot: int) -> bool:
        """A worker reports an epoch; whether the trial has ended."""
        i, epoch = self.trial[slot], self.epoch[slot] + 1
        trial = self.trials[i]
        self.epoch[slot] = epoch
        if epoch >= trial.epochs:
            status = "done" if trial.cut else trial.status
            self.epochs += min(epoch, trial.epochs)
            final = self.values[i][-1] if trial.cut else trial.final
            if status == "done" and final is not None:
                self._complete(now, trial.proposal, final)
        else:
            rules, reason = self.rules, None
            if rules is not None:
                value = self.values[i][epoch - 1]
                record = {"epoch": epoch, rules.metric: value if value == value else None}
                reason = rules.look(self.keys[i], self.brackets[i], record)
            if reason is None:
                if epoch == len(self.values[i]):
                    self.values[i], self.seconds[i], self.evaluation[i] = self.extend(trial)
                if self.every and not epoch % self.every:
                    self.saved[slot] = now
                self._next(now, slot, i, epoch)
                return False
            status = reason
            self.epochs += epoch
        self._leave(now, slot)
        self.ended[status] = self.ended.get(status, 0) + 1
        if self.log:
            self.decisions.append(Decision(now, i, status, min(epoch, trial.epochs)))
        heappush(self.free, slot)
        self._assign(now)
        return True

    def _complete(self, now: float, proposal: int, final: float) -> None:
        """A trial is done; with the last one of a proposal its value is known."""
        if self.blocks > 1:
            finals = self.finals.setdefault(proposal, [])
            finals.append(final)
            if len(finals) < self.blocks:
                return
            final = fmean(self.finals.pop(proposal))
        if not self.best or final > self.best[-1][1]:
            self.best.append((now, final))
            if final >= self.goal and self.reached is None:
                self.reached = now, self._held(now)

    def _next(self, now: float, slot: int, i: int, epoch: int) -> None:
        """Foresee the report of the epoch after `epoch`; that of the last one comes after the evaluation."""
        seconds, trial = self.seconds[i], self.trials[i]
        taken = seconds[epoch] if epoch < len(seconds) else 0.0
        if epoch + 1 >= trial.epochs:
            taken += self.evaluation[i]
        self.pushed += 1
        pace = self.pace[self.load[slot % self.machines.gpus]]
        heappush(self.heap, (now + taken * pace, self.pushed, slot, self.turn[slot]))

    def _assign(self, now: float) -> None:
        """Hand trials out while there are trials and room."""
        machines = self.machines
        while self.queue and self.free:
            slot = heappop(self.free)
            g = slot % machines.gpus
            if self.down[g]:
                continue  # it is handed back with its machine
            i = heappop(self.queue)
            if not self.load[g] and self.held[g] == self.held[g] and now > self.idle[g] + machines.idle:
                self.billed += self.idle[g] + machines.idle - self.held[g]
                self._release(g)
            if self.held[g] != self.held[g]:
                self.held[g], self.ready[g] = now, now + machines.startup
            self.load[g] += 1
            self.trial[slot], self.epoch[slot] = i, self.resumed[i]
            self.taken[slot] = self.saved[slot] = now
            begin = max(now, self.ready[g]) + (machines.gap if self.warm[slot] else machines.first)
            self.warm[slot] = True
            if self.log:
                self.decisions.append(Decision(begin, i, "start", self.resumed[i]))
            if self.resumed[i] == len(self.values[i]) < self.trials[i].epochs:
                self.values[i], self.seconds[i], self.evaluation[i] = self.extend(self.trials[i])
            begin += self.trials[i].setup * self.pace[self.load[g]]
            self._next(begin, slot, i, self.resumed[i])

    def _leave(self, now: float, slot: int) -> None:
        g = slot % self.machines.gpus
        self.used += now - self.taken[slot]
        self.trial[slot] = -1
        self.load[g] -= 1
        if not self.load[g]:
            self.idle[g] = now

    def _release(self, g: int) -> None:
        self.held[g] = math.nan
        for slot in range(g, len(self.warm), self.machines.gpus):
            self.warm[slot] = False

    def _foresee_reclaim(self, now: float) -> None:
        """Poisson processes of equal machines together are one; what falls on a machine that is not held changes nothing."""
        rate = self.machines.reclaims * self.machines.gpus / 3600
        self.pushed += 1
        heappush(self.heap, (now + self.rng.exponential(1 / rate), self.pushed, -1, -1))

    def _reclaim(self, now: float) -> None:
        """One machine goes, and the trials on it; another one is asked for in its place."""
        machines = self.machines
        g = int(self.rng.integers(machines.gpus))
        if not self.load[g]:
            return  # not held, on its way, or without a trial to lose
        self.reclaimed += 1
        if self.reclaimed > 1000 + 100 * len(self.trials):
            raise StudyError(
                f"Machines that are reclaimed {machines.reclaims:g} times an hour do not let trials come to an end: expected a lower "
                "spot, or a checkpoint every few epochs."
            )
        self.down[g] = True
        for slot in range(g, len(self.trial), machines.gpus):
            self.warm[slot] = False
            if (i := self.trial[slot]) < 0:
                continue
            epoch = self.epoch[slot]
            kept = epoch - epoch % self.every if self.every else 0
            self.lost += now - self.saved[slot]
            self.epochs += epoch - kept
            self.resumed[i] = kept
            self.turn[slot] += 1
            self._leave(now, slot)
            heappush(self.queue, i)
            if self.log:
                self.decisions.append(Decision(now, i, "lost", kept))
        self.pushed += 1
        self.ready[g] = now + machines.startup
        heappush(self.heap, (self.ready[g], self.pushed, -1, g))
        self._assign(now)

    def _back(self, now: float, g: int) -> None:
        """A machine has come in the place of one that was reclaimed."""
        self.down[g], self.idle[g] = False, now
        there = set(self.free)
        self.free += [slot for slot in range(g, len(self.trial), self.machines.gpus) if slot not in there]
        heapify(self.free)
        self._assign(now)


def _distinct(keys: list[str]) -> list[str]:
    """The keys, those that come again numbered."""
    seen: dict[str, int] = {}
    found = []
    for key in keys:
        times = seen[key] = seen.get(key, -1) + 1
        found.append(f"{key}#{times}" if times else key)
    return found

"""Half-cycles and cycles of incomplete judgements among the mined triplets of one fixed batch, step after step.

An anchor A with the mined triplet (A, B, C) is judged incompletely; the step that should have pulled B away from C leaves B judged
incompletely with (B, A, C): a half-cycle. When the next step leads back to (A, B, C), the two half-cycles are a cycle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Judgement(NamedTuple):
    """Mined triplets of a batch in N slices: indices `p` and `n` into the batch, and whether `incomplete`; (N, B) each."""

    p: Tensor
    n: Tensor
    incomplete: Tensor


class CycleCounter:
    """Counts as it is shown a step after the other, on the device and without waiting for it.

    A half-cycle and a cycle count once for the unordered pair {A, B} and its C.

    Attributes:
        half_cycles: (N,) int64 of each step shown, the half-cycles that it completed.
        cycles: (N,) int64 of each step shown, the cycles that it completed.

    """

    def __init__(self) -> None:
        self.half_cycles: list[Tensor] = []
        self.cycles: list[Tensor] = []
        self._last: Judgement | None = None
        self._before: tuple[Judgement, Tensor] | None = None  # the judgement before the last, and its half-cycles

    @torch.no_grad()
    def show(self, now: Judgement) -> None:
        """The judgement after the next optimiser step."""
        half = cycle = torch.zeros_like(now.incomplete)
        if self._last is not None:
            last, anchors = self._last, torch.arange(now.p.shape[1], device=now.p.device)
            half = last.incomplete & now.incomplete.gather(1, last.p)
            half = half & (now.p.gather(1, last.p) == anchors) & (now.n.gather(1, last.p) == last.n)
            if self._before is not None:
                before, first_half = self._before
                cycle = _once(first_half & half.gather(1, before.p), before)
            self._before = last, half
            half = _once(half, last)
        self.half_cycles.append(half.sum(1))
        self.cycles.append(cycle.sum(1))
        self._last = now

    def state(self) -> dict[str, Any]:
        """What was shown so far, as plain data; at least one judgement was."""
        last, before = self._last, self._before
        return {
            "half_cycles": torch.stack(self.half_cycles),
            "cycles": torch.stack(self.cycles),
            "last": None if last is None else list(last),
            "before": None if before is None else [*before[0], before[1]],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.half_cycles, self.cycles = list(state["half_cycles"]), list(state["cycles"])
        last, before = state["last"], state["before"]
        self._last = None if last is None else Judgement(*last)
        self._before = None if before is None else (Judgement(*before[:3]), before[3])


def _once(marked: Tensor, judgement: Judgement) -> Tensor:
    """Without the second of two marked anchors that are each other's positive and share their negative: (N, B) bool."""
    p, n = judgement.p, judgement.n
    anchors = torch.arange(p.shape[1], device=p.device)
    twin = marked.gather(1, p) & (p.gather(1, p) == anchors) & (n.gather(1, p) == n) & (p < anchors)
    return marked & ~twin

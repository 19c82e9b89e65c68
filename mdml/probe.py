"""A fixed batch of training images that is looked at after every optimiser step: curves, incomplete judgements and their cycles.

The network sees it in evaluation mode, so that looking changes nothing. The curves are of this batch, not of the training batches, in
which every step has other images (our choice).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mdml.convergence import crossing_step, relative_area, smoothed
from mdml.cycles import CycleCounter, Judgement
from mdml.diagnostics import JUDGED_COMPLETE, RATES, triplet_rates
from mdml.evaluation import mixed_precision
from mdml.losses.triplet import BatchHard, Form, mean_over_valid, mine_batch_hard, normalize_slices, triplet_terms
from mdml.methods import Layout
from mdml.models import Network

CURVES = ("positive_distance", "negative_distance", "cross_distance")


class Probe:
    """Looks at a batch through a network that is being trained.

    Losses, incomplete judgements and cycles are of the methods whose slices have thresholds; the others have the distances alone.

    Args:
        network: that is trained.
        inputs: (B, C, S, S) float32 on its device, ready for it.
        labels: (B,) int64 on the device.
        layout: of the method.

    """

    def __init__(self, network: Network, inputs: Tensor, labels: Tensor, layout: Layout) -> None:
        self.network, self.labels, self.layout = network, labels, layout
        self.inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.thresholds = torch.tensor(layout.thresholds or [0.0] * layout.slices, device=labels.device)
        self._counter = CycleCounter()
        self._rates: list[Tensor] = []
        self._losses: list[Tensor] = []

    @torch.no_grad()
    def look(self) -> None:
        """Mine the batch as the network now embeds it; the network stays in the mode it was in."""
        training = self.network.training
        self.network.eval()
        with mixed_precision(self.inputs.device):
            slices = self.network(self.inputs).slices
        self.network.train(training)
        embeddings = normalize_slices(slices.float())
        p, n, valid = mine_batch_hard(embeddings, self.labels)
        positives, negatives = (torch.take_along_dim(embeddings, index[:, :, None], 1) for index in (p, n))
        ap, an, pn = (
            (one - other).norm(dim=-1)
            for one, other in ((embeddings, positives), (embeddings, negatives), (positives, negatives))
        )
        mined = BatchHard(ap, an, pn, valid)
        conventional = triplet_terms(mined, self.thresholds, "conventional")
        incomplete = valid & (conventional <= JUDGED_COMPLETE) & (mined.ap > mined.pn)
        self._counter.show(Judgement(p, n, incomplete))
        self._rates.append(triplet_rates(mined, self.thresholds))
        form: Form = "dual" if self.layout.form == "dual" else "conventional"
        self._losses.append(mean_over_valid(triplet_terms(mined, self.thresholds, form), valid))

    def state(self) -> dict[str, Any]:
        """What was seen so far, as plain data; it has looked at least once."""
        return {
            "rates": torch.stack(self._rates),
            "losses": torch.stack(self._losses),
            "counter": self._counter.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of a probe of the same images."""
        self._rates, self._losses = list(state["rates"]), list(state["losses"])
        self._counter.restore(state["counter"])

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What was seen: a summary of each slice, and a row for each slice and step, with smoothed curves."""
        rates = torch.stack(self._rates).double().cpu()  # (T, 7, N)
        means = rates[:, :-1] / rates[:, -1:].clamp_min(1)
        curves = dict(zip(RATES, smoothed(means).unbind(1), strict=True))
        losses = torch.stack(self._losses).double().cpu()
        counted = {name: torch.stack(getattr(self._counter, name)).cpu() for name in ("half_cycles", "cycles")}
        incomplete, steps = means[:, RATES.index("incomplete_rate")], len(means)
        summaries, looks = [], []
        for i in range(self.layout.slices):
            ap, an, pn = (curves[name][:, i] for name in CURVES)
            summary: dict[str, Any] = {"slice": i, "images": len(self.labels), "steps": steps}
            summary["cross_step"] = crossing_step(ap, an, pn)
            columns = {name: curves[name][:, i].tolist() for name in CURVES}
            if self.layout.thresholds:
                threshold = self.layout.thresholds[i]
                totals = {name: int(values[:, i].sum()) for name, values in counted.items()}
                summary |= {"threshold": threshold, **totals}
                summary["cycles_per_100_steps"] = 100 * totals["cycles"] / steps
                summary["incomplete_rate"] = incomplete[:, i].mean().item()
                summary["final_loss"] = losses[-1, i].item()
                summary["relative_loss_area"] = relative_area(losses[:, i], threshold)
                columns |= {name: values[:, i].tolist() for name, values in counted.items()}
                columns |= {"incomplete_rate": incomplete[:, i].tolist(), "metric_loss": losses[:, i].tolist()}
            summaries.append(summary)
            names = list(columns)
            looks += [
                {"slice": i, "step": step, **dict(zip(names, values, strict=True))}
                for step, values in enumerate(zip(*columns.values(), strict=True), 1)
            ]
        return summaries, looks

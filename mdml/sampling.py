"""Order of the training samples within an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

SAMPLERS = ("shuffle", "balanced")


def batches(labels: Tensor, batch_size: int, sampler: str, generator: torch.Generator) -> Iterator[Tensor]:
    """Index batches of one epoch, on the host.

    Args:
        labels: (M,) int64 on the host.
        batch_size: B.
        sampler: "shuffle", one pass in random order (the paper's); or "balanced", as many batches in which the classes take turns, so
            that each has B / C samples give or take one; a class that runs out begins again in a new order.
        generator: on the host.

    Yields:
        (B,) int64 positions into labels. The last batch is smaller where B does not divide M; a last batch of one sample, on which
        neither batch normalisation nor a triplet is defined, is dropped.

    """
    count = len(labels)
    order = torch.randperm(count, generator=generator) if sampler == "shuffle" else _in_turns(labels, generator)
    for batch in order.split(batch_size):
        if len(batch) > 1:
            yield batch


def _in_turns(labels: Tensor, generator: torch.Generator) -> Tensor:
    classes = labels.unique()
    turns = -(-len(labels) // len(classes))
    columns = []
    for label in classes:
        members = (labels == label).nonzero()[:, 0]
        passes = [members[torch.randperm(len(members), generator=generator)] for _ in range(-(-turns // len(members)))]
        columns.append(torch.cat(passes)[:turns])
    return torch.stack(columns, 1).flatten()[: len(labels)]

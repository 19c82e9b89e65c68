"""The two-branch head: a classifier and an embedding that start from one feature and meet once more."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdml.losses.radial import RadialMetric, RunningCenters
from mdml.models.head import Output

WIDTH = 256
SLOPE = 0.1


class Learned(NamedTuple):
    """What a metric loss keeps in the network: its `metric` in the adaptive form, its `centers` where they run over the batches."""

    metric: RadialMetric | None
    centers: RunningCenters | None


class TwoBranchHead(nn.Module):
    """Expression branch FC2 -> FC5 = logits; metric branch P [FC2; FC3] -> relu -> FC6 = f.

    P is the connecting layer, P1' FC2 + P2' FC3 without a bias: through P1 the metric loss also moves the expression branch, as
    intended. Source: Liu et al. 2019, after their two fully connected branches, "2B"; the widths of 256 and 64 are our choice. FC1 is
    the last layer of the trunk; its dropout is here.

    Args:
        in_features: width of the trunk's feature.
        classes: number of classes C.
        width: D of the embedding f.
        dropout: probability of dropping a unit of the trunk's feature.
        learned: what the metric loss keeps here.

    """

    def __init__(self, in_features: int, classes: int, width: int, dropout: float, learned: Learned) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.expression = nn.Linear(in_features, WIDTH)
        self.similarity = nn.Linear(in_features, WIDTH)
        self.connect = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        self.embed = nn.Linear(WIDTH, width)
        self.classify = nn.Linear(WIDTH, classes)
        self.metric, self.centers = learned

    def forward(self, features: Tensor) -> Output:
        """(B, in_features) float -> Output with slices (1, B, D), logits (B, C) and Learned as `extra`."""
        features = self.dropout(features)
        expression = F.leaky_relu(self.expression(features), SLOPE)
        similarity = F.leaky_relu(self.similarity(features), SLOPE)
        embedding = self.embed(F.relu(self.connect(torch.cat([expression, similarity], 1))))
        return Output(embedding[None], self.classify(expression), Learned(self.metric, self.centers))

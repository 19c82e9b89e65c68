"""Metric-learning losses: one family a file."""

from mdml.losses.radial import radial_loss
from mdml.losses.sgm import sgm
from mdml.losses.triplet import batch_hard_triplet
from mdml.losses.tuplet_clusters import tuplet_clusters

__all__ = ["batch_hard_triplet", "radial_loss", "sgm", "tuplet_clusters"]

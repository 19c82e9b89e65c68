"""Metric-learning losses: one family a file."""

from mdml.losses.arcface import arcface_logits, class_cosines
from mdml.losses.center import Centers, center_loss, island_term
from mdml.losses.circle import circle
from mdml.losses.contrastive import contrastive
from mdml.losses.coupled_clusters import coupled_clusters
from mdml.losses.npair import npair, tuplet
from mdml.losses.radial import radial_loss
from mdml.losses.sgm import sgm
from mdml.losses.triplet import batch_hard_triplet
from mdml.losses.tuplet_clusters import tuplet_clusters

__all__ = [
    "Centers",
    "arcface_logits",
    "batch_hard_triplet",
    "center_loss",
    "circle",
    "class_cosines",
    "contrastive",
    "coupled_clusters",
    "island_term",
    "npair",
    "radial_loss",
    "sgm",
    "tuplet",
    "tuplet_clusters",
]

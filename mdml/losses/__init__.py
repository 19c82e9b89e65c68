"""Metric-learning losses: one family a file."""

from mdml.losses.triplet import batch_hard_triplet

__all__ = ["batch_hard_triplet"]

"""Sub-spaces of an embedding: groups found by Gaussian mixtures, the images that stand for them, and a sheet to look at."""

from mdml.subspace.mixture import Mixture, fit_mixture
from mdml.subspace.representatives import medoid, nearest_to_medoid, representatives
from mdml.subspace.sheet import contact_sheet
from mdml.subspace.subclasses import SubClasses, merge_small, split_classes

__all__ = [
    "Mixture",
    "SubClasses",
    "contact_sheet",
    "fit_mixture",
    "medoid",
    "merge_small",
    "nearest_to_medoid",
    "representatives",
    "split_classes",
]

"""HNG, the generator of hard negatives of IDFERM: the neutral face of whoever shows an expression (Liu et al. 2019)."""

from mdml.hng.model import Hng, Recipe
from mdml.hng.training import Trained, train_generator

__all__ = ["Hng", "Recipe", "Trained", "train_generator"]
